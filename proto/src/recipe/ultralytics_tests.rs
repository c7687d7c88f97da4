//! Tests of reading `args.yaml`.

use super::*;
use crate::OptimizerKind;

/// What a training of version 8.4 with nothing but model and data given leaves behind, written by hand from the documented
/// names and defaults.
const TYPICAL: &str = "\
task: detect
mode: train
model: yolo11n.pt
data: /data/cells/data.yaml
epochs: 100
time: null
patience: 100
batch: 16
imgsz: 640
save: true
save_period: -1
cache: false
device: '0'
workers: 8
project: null
name: train
exist_ok: false
pretrained: true
cls_remap: true
optimizer: auto
verbose: true
seed: 0
deterministic: true
single_cls: false
rect: false
cos_lr: false
close_mosaic: 10
resume: false
amp: true
fraction: 1.0
profile: false
freeze: null
multi_scale: 0.0
compile: false
channels_last: null
overlap_mask: true
mask_ratio: 4
dropout: 0.0
val: true
split: val
save_json: false
conf: null
iou: 0.7
max_det: 300
quantize: null
dnn: false
plots: true
nms: null
source: null
vid_stride: 1
stream_buffer: false
visualize: false
augment: false
agnostic_nms: false
classes: null
retina_masks: false
embed: null
show: false
save_frames: false
save_txt: false
save_conf: false
save_crop: false
show_labels: true
show_conf: true
show_boxes: true
line_width: null
format: torchscript
optimize: false
dynamic: false
simplify: true
opset: null
workspace: null
lr0: 0.01
lrf: 0.01
momentum: 0.937
weight_decay: 0.0005
warmup_epochs: 3.0
warmup_momentum: 0.8
warmup_bias_lr: 0.1
distill_model: null
dis: 6.0
box: 7.5
cls: 0.5
cls_pw: 0.0
dfl: 1.5
pose: 12.0
kobj: 1.0
rle: 1.0
angle: 1.0
dlog: 1.0
dgrad: 0.5
dlam: 1.0
nbs: 64
hsv_h: 0.015
hsv_s: 0.7
hsv_v: 0.4
degrees: 0.0
translate: 0.1
scale: 0.5
shear: 0.0
perspective: 0.0
flipud: 0.0
fliplr: 0.5
bgr: 0.0
mosaic: 1.0
mixup: 0.0
cutmix: 0.0
copy_paste: 0.0
copy_paste_mode: flip
auto_augment: randaugment
erasing: 0.4
cfg: null
tracker: tracktrack.yaml
save_dir: /runs/detect/train
";

fn imported(text: &str) -> Imported {
    Recipe::from_args_yaml(text).unwrap()
}

/// The typical file with some lines in place of its own.
fn with(lines: &str) -> String {
    let key = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let own = TYPICAL
        .lines()
        .filter(|line| !lines.lines().any(|other| key(other) == key(line)));
    own.chain(lines.lines()).map(|line| format!("{line}\n")).collect()
}

fn refusal(lines: &str) -> String {
    Recipe::from_args_yaml(&with(lines)).unwrap_err().to_string()
}

#[test]
fn a_typical_file_is_the_default_recipe_from_its_weights() {
    let Imported {
        recipe,
        is_model_named,
        differing,
        ignored,
    } = imported(TYPICAL);
    let expected = Recipe {
        model: "yolo11n".into(),
        weights: Some("yolo11n.pt".into()),
        data: "/data/cells/data.yaml".into(),
        ..Recipe::default()
    };
    assert_eq!(recipe, expected);
    assert_eq!(recipe.validate(), Ok(()));
    assert!(is_model_named);
    assert_eq!(differing, [""; 0]);
    assert_eq!(ignored, ["device", "name", "save_dir"]);
}

#[test]
fn what_means_something_else_here_is_named_with_the_difference() {
    let differing = |lines: &str| imported(&with(lines)).differing;
    let named = differing("model: yolo11n\nsave_period: 5\ntime: 2");
    let expected = [
        ("model: yolo11n (", "nothing is downloaded here"),
        ("save_period: 5 (", "epochN.pt"),
        ("time: 2 (", "rates follow epochs"),
    ];
    assert_eq!(named.len(), expected.len(), "{named:?}");
    for (sentence, (start, part)) in named.iter().zip(expected) {
        assert!(
            sentence.starts_with(start) && sentence.contains(part),
            "{sentence}"
        );
    }
    for same in [
        "model: yolo11n\npretrained: false",
        "model: yolo11n\npretrained: runs/best.pt",
        "model: yolo11n.yaml",
        "model: ../w/yolo11n.pt",
        "save_period: -1\ntime: null",
    ] {
        assert_eq!(differing(same), [""; 0], "{same}");
    }
    assert_eq!(imported(&with("time: 2")).recipe.time, 2.0);
}

#[test]
fn training_for_integers_is_refused_and_other_kinds_of_numbers_do_not_matter() {
    for lines in ["quantize: 8", "quantize: INT8", "quantize: w8a8"] {
        let sentence = refusal(lines);
        assert!(
            sentence.contains(&format!("{lines} (training for 8-bit integers)")),
            "{sentence}"
        );
    }
    for lines in ["quantize: 16", "quantize: fp32", "quantize: w8a16", "int8: true"] {
        let key = lines.split(':').next().unwrap();
        assert!(
            imported(&with(lines)).ignored.contains(&key.to_owned()),
            "{lines}"
        );
    }
    // A file of an older version, which has no `quantize`.
    let sentence = Recipe::from_args_yaml("int8: true\n").unwrap_err().to_string();
    assert!(sentence.contains("int8: true (training"), "{sentence}");
    assert_eq!(imported("int8: false\nhalf: true\n").ignored, ["half"]);
}

#[test]
fn every_key_that_a_recipe_shares_is_used() {
    let lines = "epochs: 7\nbatch: 32\nlr0: 1e-3\noptimizer: SGD\nmixup: 0.2\nclasses: [0, 2]\nfraction: 0.5\n\
                 single_cls: true\nsave_period: 5\nfreeze: 10\nmulti_scale: 0.25\ncos_lr: true\nseed: 3\nbox: 5";
    let recipe = imported(&with(lines)).recipe;
    assert_eq!((recipe.epochs, recipe.batch, recipe.lr0), (7, 32, 0.001));
    assert_eq!((recipe.optimizer, recipe.mixup), (OptimizerKind::Sgd, 0.2));
    assert_eq!((recipe.classes, recipe.fraction), (vec![0, 2], 0.5));
    assert!(recipe.single_cls && recipe.cos_lr);
    assert_eq!((recipe.save_period, recipe.freeze, recipe.seed), (5, 10, 3));
    assert_eq!((recipe.multi_scale, recipe.box_gain), (0.25, 5.0));
}

#[test]
fn shared_keys_are_keys_of_a_recipe() {
    let full = Recipe {
        weights: Some("w".into()),
        ..Recipe::default()
    };
    let table: toml::Table = toml::from_str(&full.resolved().to_toml()).unwrap();
    for key in SAME {
        assert!(table.contains_key(key), "{key}");
    }
}

#[test]
fn no_key_is_of_two_kinds() {
    let ours = SAME.iter().chain(&OTHERWISE).copied();
    let theirs = NOT_HERE.iter().chain(&NO_MATTER).map(|(key, _)| *key);
    let mut keys: Vec<&str> = ours.chain(theirs).collect();
    keys.sort_unstable();
    let before = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), before);
    for (key, default) in NOT_HERE.iter().chain(&NO_MATTER) {
        assert!(serde_json::from_str::<Value>(default).is_ok(), "{key}");
    }
}

#[test]
fn models_are_understood_as_they_are_written() {
    let start = |lines: &str| {
        let recipe = imported(&with(lines)).recipe;
        (recipe.model, recipe.weights)
    };
    let owned = |model: &str, weights: Option<&str>| (model.to_owned(), weights.map(str::to_owned));
    assert_eq!(start("model: yolov8s.yaml"), owned("yolov8s", None));
    assert_eq!(
        start("model: /w/YOLO11x.pt"),
        owned("yolo11x", Some("/w/YOLO11x.pt"))
    );
    assert_eq!(
        start("model: yolov8m.pt\npretrained: false"),
        owned("yolov8m", None)
    );
    assert_eq!(
        start("model: yolov8n.yaml\npretrained: runs/best.pt"),
        owned("yolov8n", Some("runs/best.pt"))
    );
    assert!(refusal("model: yolo26n.yaml").contains("no model of this name here"));
}

#[test]
fn weights_under_a_name_of_their_own_name_no_model() {
    let Imported {
        recipe,
        is_model_named,
        ..
    } = imported(&with("model: runs/detect/train/weights/best.pt"));
    assert_eq!(
        recipe.weights.as_deref(),
        Some("runs/detect/train/weights/best.pt")
    );
    assert!(!is_model_named);
}

#[test]
fn everything_that_would_change_the_training_is_named_at_once() {
    let sentence =
        refusal("rect: true\ncopy_paste: 0.3\nbatch: -1\ntask: segment\nlearning_rate: 1\nworkers: 2");
    for part in [
        "rect: true",
        "copy_paste: 0.3",
        "batch: -1",
        "task: segment",
        "learning_rate: 1 (an unknown key)",
    ] {
        assert!(sentence.contains(part), "{part} in: {sentence}");
    }
    assert!(
        !sentence.contains("workers") && sentence.lines().count() == 1,
        "{sentence}"
    );
}

#[test]
fn what_does_not_matter_is_named_only_when_it_was_changed() {
    let ignored = imported(&with("workers: 2\nconf: null\namp: false\ntracker: botsort.yaml")).ignored;
    assert_eq!(
        ignored,
        ["amp", "device", "name", "save_dir", "tracker", "workers"]
    );
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    assert!(refusal("epochs: many").contains("epochs: many"));
    assert!(refusal("imgsz: [640, 480]").contains("images are square here"));
    assert!(refusal("freeze: [3, 4]").contains("only the first layers"));
    assert_eq!(
        imported(&with("freeze: [0, 1, 2]\nimgsz: [320, 320]"))
            .recipe
            .freeze,
        3
    );
    assert!(matches!(
        Recipe::from_args_yaml("a: [1"),
        Err(RecipeError::ArgsSyntax { .. })
    ));
}
