//! The commands around a run: `val`, `predict`, `hash`, `status`, and recipes from a file.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use data::{Limits, Picture};
use rustix::process::Signal;
use serde_json::Value;
use tests::{Cluster, Process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

/// Runs a command that is expected to succeed and returns what it wrote.
fn ringmaster(folder: &Path, arguments: &[&str]) -> String {
    let output = folder.join("output.log");
    let ended = Process::start(Path::new(PROGRAM), arguments, &output).wait(Duration::from_secs(180));
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    ended.output
}

/// Returns what stands behind a word at the start of a line.
fn value(text: &str, word: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.starts_with(word))
        .expect("the word is there");
    line.split_whitespace().nth(1).expect("a value").to_owned()
}

#[test]
fn a_run_from_a_recipe_file_can_be_measured_hashed_and_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(
        folder.path().join("recipe.toml"),
        "imgsz = 96\nepochs = 8\nbatch = 16\nnbs = 16\nclose_mosaic = 4\n",
    )
    .unwrap();
    // A flag wins over the file.
    let (recipe, project) = (path("recipe.toml"), path("runs"));
    let train = [
        "train",
        "--workers",
        "2",
        "--device",
        "cpu",
        "--config",
        &recipe,
        "--epochs",
        "10",
    ];
    ringmaster(folder.path(), &[&train[..], &["--project", &project]].concat());
    let (run, weights) = (path("runs/train"), path("runs/train/weights/best.safetensors"));
    assert!(
        fs::read_to_string(folder.path().join("runs/train/recipe.toml"))
            .unwrap()
            .contains("epochs = 10")
    );

    let hashes = ringmaster(folder.path(), &["hash", &run]);
    let results = fs::read_to_string(folder.path().join("runs/train/results.csv")).unwrap();
    assert_eq!(results.lines().count(), 11);
    assert!(
        results.trim_end().ends_with(&value(&hashes, "state")),
        "the hash of the last row of results.csv"
    );
    let last = ringmaster(
        folder.path(),
        &["hash", &path("runs/train/weights/last.safetensors")],
    );
    assert_eq!(value(&last, "together"), value(&hashes, "ema"));

    let json = ringmaster(
        folder.path(),
        &[
            "val",
            "--weights",
            &weights,
            "--json",
            "--no-plots",
            "--device",
            "cpu",
            "--project",
            &project,
        ],
    );
    let json: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    for key in ["precision", "recall", "map50", "map50_95"] {
        let figure = json[key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&figure), "{key} is {figure}");
    }
    assert!(json["map50"].as_f64().unwrap() > 0.1, "{json}");
    assert!(!folder.path().join("runs/val").exists(), "nothing was asked for");
    let table = ringmaster(
        folder.path(),
        &[
            "val",
            "--weights",
            &weights,
            "--device",
            "cpu",
            "--project",
            &project,
        ],
    );
    assert!(
        ["circle", "square", "triangle", "cross"]
            .iter()
            .all(|name| table.contains(name)),
        "{table}"
    );
    pictures(
        &folder.path().join("runs/val"),
        &[
            ("BoxPR_curve.png", [1350, 900]),
            ("BoxP_curve.png", [1350, 900]),
            ("BoxR_curve.png", [1350, 900]),
            ("BoxF1_curve.png", [1350, 900]),
            ("confusion_matrix.png", [1090, 1002]),
            ("confusion_matrix_normalized.png", [1090, 1002]),
            ("val_batch0_labels.jpg", [1280, 1280]),
            ("val_batch2_pred.jpg", [1280, 1280]),
        ],
    );
    pictures(
        &folder.path().join("runs/train"),
        &[
            ("results.png", [2000, 720]),
            ("labels.jpg", [1400, 1400]),
            ("train_batch0.jpg", [1280, 1280]),
            ("train_batch2.jpg", [1280, 1280]),
        ],
    );

    let predict = [
        "predict",
        "--weights",
        &weights,
        "--source",
        "shapes",
        "--save-json",
        "--save-txt",
        "--save-conf",
        "--device",
        "cpu",
    ];
    ringmaster(
        folder.path(),
        &[&predict[..], &["--conf", "0.05", "--project", &project]].concat(),
    );
    let found = fs::read_to_string(folder.path().join("runs/predict/detections.json")).unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 48);
    let detections = |picture: &Value| picture["detections"].as_array().unwrap().len();
    assert!(found.as_array().unwrap().iter().map(detections).sum::<usize>() > 0);
    assert!(folder.path().join("runs/predict/shapes-047.png").is_file());
    for picture in found.as_array().unwrap() {
        let name = Path::new(picture["image"].as_str().unwrap()).with_extension("txt");
        let lines = fs::read_to_string(folder.path().join("runs/predict/labels").join(name));
        assert_eq!(lines.unwrap_or_default().lines().count(), detections(picture));
    }
}

/// Checks that pictures are there, of these sizes, and hold more than one colour.
fn pictures(folder: &Path, expected: &[(&str, [u32; 2])]) {
    for (name, size) in expected {
        let picture = Picture::read(&folder.join(name), &Limits::default()).expect(name);
        assert_eq!([picture.width, picture.height], *size, "{name}");
        let mut pixels = picture.rgb.chunks_exact(3);
        let other = pixels.clone().filter(|pixel| *pixel != &picture.rgb[..3]).count();
        assert!(other * 100 > pixels.len(), "{name} is nearly blank");
        assert!(
            pixels.any(|pixel| pixel[0] != pixel[1] || pixel[1] != pixel[2]),
            "{name} is grey"
        );
    }
}

#[test]
fn a_run_on_a_part_of_the_data_is_measured_the_same_way_and_drawn_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let data = tests::write_shapes(&folder.path().join("data"), 24);
    let args = format!(
        "task: detect\nmode: train\nmodel: yolov8n.yaml\ndata: {}\nepochs: 1\nimgsz: 64\nbatch: 4\nfraction: 0.5\n\
         device: '0'\npretrained: true\nplots: true\n",
        data.display()
    );
    fs::write(folder.path().join("args.yaml"), args).unwrap();
    let (args, project, data) = (path("args.yaml"), path("runs"), data.display().to_string());
    let train = [
        "train",
        "--workers",
        "2",
        "--device",
        "cpu",
        "--cfg",
        &args,
        "--classes",
        "0,2",
        "--single-cls",
    ];
    let output = ringmaster(
        folder.path(),
        &[&train[..], &["--project", &project, "--no-plots"]].concat(),
    );
    assert!(output.contains("do not matter here: device"), "{output}");
    assert!(output.contains("12 train images"), "half of them: {output}");
    let run = folder.path().join("runs/train");
    let recipe = fs::read_to_string(run.join("recipe.toml")).unwrap();
    for line in [
        "fraction = 0.5",
        "classes = [0, 2]",
        "single_cls = true",
        "epochs = 1",
    ] {
        assert!(recipe.contains(line), "{line} in {recipe}");
    }
    assert!(!run.join("results.png").exists() && !run.join("labels.jpg").exists());
    ringmaster(folder.path(), &["plot", &path("runs/train")]);
    pictures(
        &run,
        &[("results.png", [2000, 720]), ("labels.jpg", [1400, 1400])],
    );

    let weights = path("runs/train/weights/last.safetensors");
    let val = [
        "val",
        "--weights",
        &weights,
        "--data",
        &data,
        "--device",
        "cpu",
        "--project",
        &project,
        "--save-json",
        "--no-plots",
        "--json",
        "--conf",
        "0.0001",
        "--max-det",
        "5",
    ];
    let selected = ringmaster(
        folder.path(),
        &[&val[..], &["--single-cls", "--classes", "0,2"]].concat(),
    );
    let report: Value = serde_json::from_str(selected.lines().last().unwrap()).unwrap();
    let all: usize = labels(&folder.path().join("data/labels"), &["0", "2"]);
    assert_eq!(report["instances"], all, "objects of the selected classes");
    let results = fs::read_to_string(folder.path().join("runs/val/predictions.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    for result in results.as_array().unwrap() {
        assert_eq!(result["category_id"], 1);
        assert_eq!(result["bbox"].as_array().unwrap().len(), 4);
        assert!(result["image_id"].as_u64().unwrap() < 24 && result["score"].as_f64().unwrap() <= 1.0);
    }
    assert!(!folder.path().join("runs/val/BoxPR_curve.png").exists());
    let ended = Process::start(Path::new(PROGRAM), &val, &folder.path().join("refused.log"));
    let ended = ended.wait(Duration::from_secs(60));
    assert_ne!(ended.code, Some(0));
    assert!(
        ended.output.contains("the weights were trained on item"),
        "{}",
        ended.output
    );
}

/// Returns the number of objects of these classes in a folder of label files.
fn labels(folder: &Path, classes: &[&str]) -> usize {
    let files = fs::read_dir(folder).unwrap();
    let count = |text: String| {
        let of_line = |line: &str| classes.contains(&line.split(' ').next().unwrap());
        text.lines().filter(|line| of_line(line)).count()
    };
    files
        .map(|file| count(fs::read_to_string(file.unwrap().path()).unwrap()))
        .sum()
}

#[test]
fn workers_that_share_decoded_pictures_train_what_others_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = tests::write_shapes(&folder.path().join("data"), 16)
        .display()
        .to_string();
    let shared = folder.path().join("shared");
    let cache = shared.display().to_string();
    let hash = |name: &str, more: &[&str]| {
        let recipe = [
            "--imgsz", "64", "--epochs", "2", "--batch", "8", "--device", "cpu",
        ];
        let project = folder.path().join("runs");
        let (run, project) = (
            project.join(name).display().to_string(),
            project.display().to_string(),
        );
        let train = [
            "train",
            "--workers",
            "2",
            "--no-plots",
            "--name",
            name,
            "--data",
            &data,
        ];
        let train = [&train[..], &["--project", &project], &recipe, more].concat();
        ringmaster(folder.path(), &train);
        value(&ringmaster(folder.path(), &["hash", &run]), "state")
    };
    let expected = hash("apart", &[]);
    // The second run finds what the first has left.
    for name in ["first", "second"] {
        assert_eq!(hash(name, &["--cache", &cache]), expected);
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 16);
    }
}

#[test]
fn benchmarks_measure_something() {
    let folder = tempfile::tempdir().unwrap();
    for (sum, wire, link) in [
        ("exact", "f32", None),
        ("f32", "f32", Some("--tcp")),
        ("f32", "bf16", None),
    ] {
        // A number of values that no number of ranks divides.
        let arguments = ["bench", "allreduce", "--workers", "3", "--bytes", "4000012"];
        let rest = ["--sum", sum, "--wire", wire, "--iterations", "4", "--json"];
        let arguments = arguments.into_iter().chain(rest).chain(link);
        let report = ringmaster(folder.path(), &arguments.collect::<Vec<_>>());
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["workers"], &report["sum"]), (&3.into(), &sum.into()));
        assert_eq!(report["wire"], wire);
        assert!(report["milliseconds_min"].as_f64().unwrap() > 0.0, "{report}");
    }
    let step = [
        "bench", "step", "--imgsz", "64", "--batch", "5", "--steps", "3", "--json",
    ];
    let report: Value = serde_json::from_str(&ringmaster(folder.path(), &step)).unwrap();
    // A slot of three images for one worker, and one of two for the other.
    assert_eq!(
        (&report["workers"], &report["micro_batch"]),
        (&2.into(), &3.into())
    );
    assert!(report["images_per_second"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["peak_megabytes"].as_f64().unwrap() > 10.0, "{report}");
    let guarded = [
        "bench",
        "step",
        "--guarded",
        "--imgsz",
        "64",
        "--steps",
        "6",
        "--checkpoint-every",
        "2",
        "--json",
    ];
    let report: Value = serde_json::from_str(&ringmaster(folder.path(), &guarded)).unwrap();
    assert_eq!((&report["guarded"], &report["steps"]), (&true.into(), &6.into()));
    assert!(report["milliseconds_mean"].as_f64().unwrap() > 0.0, "{report}");
    let loader = ["bench", "loader", "--imgsz", "96", "--json"];
    let report: Value = serde_json::from_str(&ringmaster(folder.path(), &loader)).unwrap();
    assert!(report["images_per_second"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn the_status_of_a_run_names_its_members() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = [
        "--data", "shapes", "--imgsz", "64", "--epochs", "5000", "--batch", "16",
    ];
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder.path(), 2, &recipe);
    cluster
        .coordinator
        .wait_for_output("epoch 1/", Duration::from_secs(120));
    let status = ringmaster(
        folder.path(),
        &["status", "--insecure", "--coordinator", cluster.address()],
    );
    assert!(status.contains("running, generation 1"), "{status}");
    assert!(status.contains("rank 0") && status.contains("rank 1"), "{status}");
    cluster.coordinator.signal(Signal::TERM);
    cluster.wait(Duration::from_secs(60));
}
