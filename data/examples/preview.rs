//! Writes training pictures with their boxes, to look at: `cargo run --release -p data --example preview -- DATA FOLDER`.

use std::{env, error::Error, fs, path::Path, sync::Arc};

use data::{
    AugmentConfig, Augmenter, Dataset, Limits, Picture, PictureCache, SampleId, SampleRequest, Split,
    TargetBox,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, folder] = arguments.as_slice() else {
        return Err("usage: preview DATA FOLDER".into());
    };
    fs::create_dir_all(folder)?;
    let dataset = Arc::new(Dataset::open(path, Split::Train, &Limits::default())?);
    println!("{}", dataset.description());
    dataset
        .skipped
        .iter()
        .for_each(|skipped| println!("skipped {skipped}"));
    let cache = PictureCache::new(Arc::clone(&dataset), IMAGE_SIZE, 0);
    for (name, config, mosaic) in [
        ("plain", AugmentConfig::off(), false),
        ("mosaic", AugmentConfig::default(), true),
        ("letterbox", AugmentConfig::default(), false),
    ] {
        let mut augmenter = Augmenter::new(config, 0);
        let mut sheet = Sheet::new();
        for index in 0..COLUMNS * ROWS {
            let sample = SampleId(index % dataset.len() as u32);
            let request = SampleRequest {
                epoch: 0,
                sample,
                mosaic,
                image_size: IMAGE_SIZE,
            };
            let image = augmenter.image(&cache, request);
            sheet.add(index, &image.pixels, &image.boxes);
        }
        sheet.0.write(&Path::new(folder).join(format!("{name}.png")))?;
    }
    Ok(())
}

/// Pictures in rows and columns.
struct Sheet(Picture);

impl Sheet {
    fn new() -> Self {
        Self(Picture::filled(COLUMNS * IMAGE_SIZE, ROWS * IMAGE_SIZE, [0; 3]))
    }

    fn add(&mut self, index: u32, planes: &[u8], boxes: &[TargetBox]) {
        let (left, top) = (index % COLUMNS * IMAGE_SIZE, index / COLUMNS * IMAGE_SIZE);
        let plane = (IMAGE_SIZE * IMAGE_SIZE) as usize;
        for y in 0..IMAGE_SIZE {
            for x in 0..IMAGE_SIZE {
                let from = (y * IMAGE_SIZE + x) as usize;
                self.set(
                    left + x,
                    top + y,
                    [0, 1, 2].map(|channel| planes[channel * plane + from]),
                );
            }
        }
        for target in boxes {
            let [x1, y1, x2, y2] = target.xyxy.map(|value| (value as u32).min(IMAGE_SIZE - 1));
            let colour = COLOURS[target.class as usize % COLOURS.len()];
            (x1..=x2).for_each(|x| [y1, y2].iter().for_each(|y| self.set(left + x, top + y, colour)));
            (y1..=y2).for_each(|y| [x1, x2].iter().for_each(|x| self.set(left + x, top + y, colour)));
        }
    }

    fn set(&mut self, x: u32, y: u32, colour: [u8; 3]) {
        let start = (y * self.0.width + x) as usize * 3;
        self.0.rgb[start..start + 3].copy_from_slice(&colour);
    }
}

const IMAGE_SIZE: u32 = 320;
const COLUMNS: u32 = 4;
const ROWS: u32 = 3;
const COLOURS: [[u8; 3]; 6] = [
    [255, 255, 255],
    [0, 0, 0],
    [255, 0, 255],
    [0, 255, 255],
    [255, 128, 0],
    [0, 0, 160],
];
