//! Draws each picture once, to look at: `cargo run --release --example gallery -- FOLDER`.

use std::path::PathBuf;

use plots::{
    Curve, CurveChart, LabelStatistics, LabelledBox, Panel, RgbImage, Tile, draw_curves, draw_labels,
    draw_matrix, draw_sheet, draw_training,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: gallery FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    let names = ["WBC", "RBC", "Platelets", "a class with a long name"].map(str::to_owned);
    draw_curves(&chart(&names)).save(folder.join("curves.png"))?;
    let cells: Vec<Vec<f64>> = (0..5)
        .map(|found| {
            (0..5)
                .map(|there| {
                    f64::from(if found == there {
                        120
                    } else {
                        (found * 7 + there) % 30
                    })
                })
                .collect()
        })
        .collect();
    draw_matrix("Confusion matrix", &names, &cells, false).save(folder.join("matrix.png"))?;
    let many: Vec<String> = (0..80).map(|class| format!("class {class}")).collect();
    let wide: Vec<Vec<f64>> = (0..81)
        .map(|found| {
            (0..81)
                .map(|there| if found == there { 0.8 } else { 0.01 })
                .collect()
        })
        .collect();
    draw_matrix("Confusion matrix, normalised", &many, &wide, true).save(folder.join("matrix80.png"))?;
    let panel = |title: &str, scale: f64| Panel {
        title: title.into(),
        points: (1..=50)
            .map(|epoch| {
                (
                    f64::from(epoch),
                    scale / f64::from(epoch).sqrt() + f64::from(epoch * 7919 % 13) * scale / 200.0,
                )
            })
            .collect(),
    };
    let titles = [
        "train/box_loss",
        "train/cls_loss",
        "train/dfl_loss",
        "metrics/precision(B)",
        "metrics/recall(B)",
    ];
    let panels: Vec<Panel> = titles
        .iter()
        .chain(&titles)
        .enumerate()
        .map(|(number, title)| panel(title, 0.02 * 4f64.powi(number as i32)))
        .collect();
    draw_training(&panels).save(folder.join("training.png"))?;
    let boxes = (0..900).map(|index| {
        let at = |step: u32| (index * step % 101) as f32 / 101.0;
        (index % 4, [at(13), at(29), at(7) * 0.5, at(31) * 0.4])
    });
    let statistics = LabelStatistics {
        names: names.to_vec(),
        boxes: boxes.collect(),
    };
    draw_labels(&statistics).save(folder.join("labels.png"))?;
    let crowd = LabelStatistics {
        names: many,
        boxes: (0..2000)
            .map(|index| (index * index % 80, [0.5, 0.5, 0.3, 0.3]))
            .collect(),
    };
    draw_labels(&crowd).save(folder.join("labels80.png"))?;
    let tile = |number: u32| Tile {
        picture: RgbImage::from_fn(96, 64, |x, y| {
            image::Rgb([(x * 2) as u8, (y * 3) as u8, (number * 16) as u8])
        }),
        boxes: vec![LabelledBox {
            xyxy: [10.0, 20.0, 60.0, 50.0],
            class: number,
            label: format!("cell 0.{number}"),
        }],
        title: format!("photo-{number:03}.png"),
    };
    draw_sheet(&(0..16).map(tile).collect::<Vec<_>>()).save(folder.join("sheet.png"))?;
    Ok(())
}

fn chart(names: &[String]) -> CurveChart {
    let curve = |name: String, bend: f64| Curve {
        name,
        values: (0..1000)
            .map(|x| 1.0 - (f64::from(x) / 999.0).powf(bend))
            .collect(),
    };
    CurveChart {
        title: "Precision-recall curve".into(),
        x_label: "Recall".into(),
        y_label: "Precision".into(),
        classes: names
            .iter()
            .zip(2..)
            .map(|(name, bend)| curve(format!("{name} 0.{bend}12"), f64::from(bend)))
            .collect(),
        all: curve("all classes 0.912 mAP@0.5".into(), 3.5),
    }
}
