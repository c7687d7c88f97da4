//! `ringmaster predict`: finds objects in pictures, and writes the pictures with boxes on them.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use coordinator::run_directory::claim;
use data::{Dataset, FORMATS, Limits, NamedAs, Picture, SampleId, Split, letterbox_around};
use image::{ImageFormat, RgbImage};
use model::device::open_device;
use model::nms::{Detection, NmsConfig, nms};
use model::yolo::{MAX_STRIDE, Yolo};
use plots::{LabelledBox, draw_boxes};
use serde::Serialize;

use crate::outputs::label_file::label_lines;
use crate::outputs::tiles::labelled;
use crate::{check_classes, check_fractions, image_size, load_weights, remarks};

/// Arguments of `predict`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Weights file (.safetensors or .pt)
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Picture, folder of pictures, or `shapes` for those of the built-in validation set
    #[arg(long, value_name = "FILE|DIR")]
    source: PathBuf,
    /// Image size in pixels, a multiple of 32 [default: that of the training]
    #[arg(long, value_name = "PIXELS")]
    imgsz: Option<u32>,
    /// Lowest score of a detection
    #[arg(long, default_value_t = 0.25)]
    conf: f32,
    /// Overlap above which of two boxes of a class the weaker one is dropped
    #[arg(long, default_value_t = 0.7)]
    iou: f32,
    /// Most detections per picture
    #[arg(long, alias = "max_det", default_value_t = 300)]
    max_det: usize,
    /// Only these classes, by number
    #[arg(long, value_name = "N", value_delimiter = ',')]
    classes: Option<Vec<u32>>,
    /// Also write detections.json
    #[arg(long, alias = "save_json")]
    save_json: bool,
    /// Also write labels/NAME.txt for each picture: class x y width height, as fractions of the picture
    #[arg(long, alias = "save_txt")]
    save_txt: bool,
    /// Write the score behind each of these lines
    #[arg(long, alias = "save_conf")]
    save_conf: bool,
    /// Folder that holds the results' folder
    #[arg(long, value_name = "DIR", default_value = coordinator::DEFAULT_PROJECT)]
    project: PathBuf,
    /// Name of the results' folder; a number is added when it is taken
    #[arg(long, default_value = "predict")]
    name: String,
    /// Device to compute on, as for `worker`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// One picture's entry in detections.json.
#[derive(Serialize)]
struct PictureReport {
    /// File name of the picture.
    image: String,
    /// The detections by descending score.
    detections: Vec<DetectionReport>,
}

#[derive(Serialize)]
struct DetectionReport {
    class: u32,
    name: String,
    score: f32,
    /// Left, top, right, bottom in pixels of the picture.
    xyxy: [f32; 4],
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let weights = load_weights(&args.weights)?;
    let names = &weights.metadata.names;
    let image_size = image_size(args.imgsz, &weights)?;
    check_fractions(&[("--conf", args.conf), ("--iou", args.iou)])?;
    check_classes(args.classes.as_deref(), names)?;
    ensure!(
        args.save_txt || !args.save_conf,
        "--save-conf adds to what --save-txt writes; give that, too"
    );
    let pictures = Pictures::find(&args.source)?;
    let device = open_device(&args.device, args.threads)?;
    let mut yolo = Yolo::new(weights.metadata.architecture(), &device);
    yolo.load(&weights.state.parameters, &weights.state.buffers);
    let config = NmsConfig {
        confidence: args.conf,
        iou: args.iou,
        max_detections: args.max_det,
        classes: args.classes.clone(),
        ..NmsConfig::prediction()
    };

    let mut folder = None;
    let mut reports = Vec::with_capacity(pictures.len());
    for index in 0..pictures.len() {
        let name = pictures.name(index);
        let picture = match pictures.read(index) {
            Ok(picture) => picture,
            Err(error) => {
                eprintln!("skipped {name}: {error:#}");
                continue;
            }
        };
        let detections = detect(&yolo, &picture, image_size, &config);
        println!("{name}: {}", summary(&detections, names));
        let folder = match &mut folder {
            Some(folder) => folder,
            none => none.insert(claim(&args.project, &args.name)?),
        };
        if args.save_txt {
            let lines = label_lines(&detections, (picture.width, picture.height), args.save_conf);
            write_labels(folder, &name, &lines)?;
        }
        write_picture(&folder.join(drawn_name(&name)), picture, &detections, names)?;
        reports.push(report(name, &detections, names));
    }
    // A folder is made for the first picture that can be read.
    let folder =
        folder.with_context(|| format!("none of the pictures in {} can be read", args.source.display()))?;
    if args.save_json {
        let path = folder.join("detections.json");
        let json = serde_json::to_vec_pretty(&reports).context("cannot write JSON")?;
        fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    eprintln!("results are in {}", folder.display());
    Ok(())
}

/// Returns what is found in a picture, in its pixels.
fn detect(yolo: &Yolo, picture: &Picture, image_size: u32, config: &NmsConfig) -> Vec<Detection> {
    let (input, placed) = letterbox_around(picture, image_size, MAX_STRIDE as u32);
    let images = yolo.images(
        &input.to_planes(),
        [1, input.height as usize, input.width as usize],
    );
    let candidates = yolo.candidates(&yolo.infer(images));
    let detections = candidates.iter().flat_map(|candidates| nms(candidates, config));
    detections
        .map(|found| Detection {
            xyxy: placed.to_original(found.xyxy),
            ..found
        })
        .collect()
}

fn summary(detections: &[Detection], names: &[String]) -> String {
    let counts = names.iter().enumerate().filter_map(|(class, name)| {
        let count = detections
            .iter()
            .filter(|found| found.class as usize == class)
            .count();
        (count > 0).then(|| format!("{count} {name}"))
    });
    let text = counts.collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        "nothing found".to_owned()
    } else {
        text
    }
}

/// Writes `labels/NAME.txt`, or nothing for a picture in which nothing was found.
fn write_labels(folder: &Path, picture: &str, lines: &str) -> anyhow::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let labels = folder.join("labels");
    let path = labels.join(picture).with_extension("txt");
    fs::create_dir_all(&labels)
        .and_then(|()| fs::write(&path, lines))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Returns the name of a picture with boxes: that of the picture, with `.jpg` behind it when it names no format that is written.
fn drawn_name(picture: &str) -> String {
    if ImageFormat::from_path(picture).is_ok_and(|format| format.writing_enabled()) {
        picture.to_owned()
    } else {
        format!("{picture}.jpg")
    }
}

fn write_picture(
    path: &Path,
    picture: Picture,
    detections: &[Detection],
    names: &[String],
) -> anyhow::Result<()> {
    let boxes: Vec<LabelledBox> = detections
        .iter()
        // The best is drawn last, on top.
        .rev()
        .map(|found| labelled(names, found.class, found.xyxy, Some(found.score)))
        .collect();
    // Invariant: a picture holds three bytes a pixel.
    let mut canvas = RgbImage::from_raw(picture.width, picture.height, picture.rgb).expect("a whole picture");
    draw_boxes(&mut canvas, &boxes);
    canvas
        .save(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn report(image: String, detections: &[Detection], names: &[String]) -> PictureReport {
    let detections = detections
        .iter()
        .map(|found| DetectionReport {
            class: found.class,
            name: names[found.class as usize].clone(),
            score: found.score,
            xyxy: found.xyxy,
        })
        .collect();
    PictureReport { image, detections }
}

/// The pictures to look at.
enum Pictures {
    Files(Vec<PathBuf>),
    BuiltIn(Dataset),
}

impl Pictures {
    fn find(source: &Path) -> anyhow::Result<Self> {
        if source == Path::new(data::SHAPES) && !source.exists() {
            return Ok(Self::BuiltIn(Dataset::open(
                data::SHAPES,
                Split::Val,
                &Limits::default(),
            )?));
        }
        if source.is_file() {
            return Ok(Self::Files(vec![source.to_owned()]));
        }
        let entries = fs::read_dir(source)
            .with_context(|| format!("--source {} cannot be opened", source.display()))?;
        let (mut files, mut unread) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry
                .with_context(|| format!("cannot list {}", source.display()))?
                .path();
            match NamedAs::of(&path) {
                NamedAs::Picture => files.push(path),
                NamedAs::UnreadPicture(extension) => unread.push(extension),
                NamedAs::Other => {}
            }
        }
        files.sort();
        let unread = remarks::unread_formats(unread.iter().map(String::as_str));
        if files.is_empty() {
            let unread = unread.map_or_else(String::new, |unread| format!("; {unread}"));
            bail!("--source {} holds no {FORMATS} picture{unread}", source.display());
        }
        if let Some(unread) = unread {
            eprintln!("{unread}");
        }
        Ok(Self::Files(files))
    }

    fn len(&self) -> usize {
        match self {
            Self::Files(files) => files.len(),
            Self::BuiltIn(dataset) => dataset.len(),
        }
    }

    fn name(&self, index: usize) -> String {
        match self {
            Self::Files(files) => files[index]
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            Self::BuiltIn(_) => format!("shapes-{index:03}.png"),
        }
    }

    fn read(&self, index: usize) -> anyhow::Result<Picture> {
        Ok(match self {
            Self::Files(files) => Picture::read(&files[index], &Limits::default())?,
            Self::BuiltIn(dataset) => dataset.picture(SampleId(index as u32))?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;

    #[test]
    fn a_picture_with_boxes_has_a_name_that_can_be_written() {
        for (picture, drawn) in [
            ("a.PNG", "a.PNG"),
            ("a.webp", "a.webp"),
            ("a.tif", "a.tif"),
            ("a.mpo", "a.mpo.jpg"),
            ("a.b.heic", "a.b.heic.jpg"),
            ("a", "a.jpg"),
        ] {
            assert_eq!(drawn_name(picture), drawn);
        }
    }

    #[test]
    fn a_folder_gives_its_pictures_and_a_word_about_others() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        for name in ["1.heic", "2.HEIC", "notes.txt"] {
            write(name);
        }
        let Err(error) = Pictures::find(folder.path()) else {
            panic!("there is no picture")
        };
        let error = error.to_string();
        assert!(
            error.contains("holds no JPEG, PNG, WebP, BMP or TIFF picture"),
            "{error}"
        );
        assert!(error.contains("2 .heic"), "{error}");
        for name in ["b.webp", "a.JPG"] {
            write(name);
        }
        let pictures = Pictures::find(folder.path()).unwrap();
        assert_eq!([0, 1].map(|index| pictures.name(index)), ["a.JPG", "b.webp"]);
        assert_eq!(pictures.len(), 2);
    }
}
