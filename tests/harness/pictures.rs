//! Small data sets on disk, in the form that users bring.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use data::{Dataset, Limits, SampleId, Split};

/// Writes the first `count` pictures of the built-in set with labels and a `data.yaml`, for training and validation
/// alike, and returns the path of the `data.yaml`.
///
/// # Panics
/// When a file cannot be written.
pub fn write_shapes(folder: &Path, count: u32) -> PathBuf {
    let shapes = Dataset::open("shapes", Split::Train, &Limits::default()).expect("the built-in set");
    let (images, labels) = (folder.join("images"), folder.join("labels"));
    fs::create_dir_all(&images).expect("a folder");
    fs::create_dir_all(&labels).expect("a folder");
    for index in 0..count {
        let id = SampleId(index);
        let picture = shapes.picture(id).expect("a drawn picture");
        picture
            .write(&images.join(format!("{index:03}.png")))
            .expect("a written picture");
        let mut rows = String::new();
        for label in &shapes.sample(id).labels {
            let [x, y, width, height] = label.bounds;
            writeln!(rows, "{} {x} {y} {width} {height}", label.class).expect("text");
        }
        fs::write(labels.join(format!("{index:03}.txt")), rows).expect("a written label");
    }
    let mut yaml = String::from("path: .\ntrain: images\nval: images\nnames:\n");
    for (class, name) in shapes.names.iter().enumerate() {
        writeln!(yaml, "  {class}: {name}").expect("text");
    }
    let path = folder.join("data.yaml");
    fs::write(&path, yaml).expect("a written data.yaml");
    path
}
