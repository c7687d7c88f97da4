//! Round trips, foreign files, and what an error says.

use super::*;
use crate::initial::initial_state;

fn metadata(classes: usize) -> Metadata {
    let kind = ModelKind::ALL[0];
    Metadata {
        kind,
        class_width: kind.with_classes(classes).class_width(),
        names: (0..classes).map(|class| format!("class {class}")).collect(),
        image_size: 320,
    }
}

fn bytes(classes: usize) -> (Metadata, FlatState, Vec<u8>) {
    let metadata = metadata(classes);
    let state = initial_state(&layout(metadata.architecture()), 5);
    let bytes = to_bytes(&metadata, &state.parameters, &state.buffers).unwrap();
    (metadata, state, bytes)
}

/// The same file after a change to its tensors, without metadata.
fn edited(bytes: &[u8], edit: impl Fn(&str, &mut Vec<usize>) -> bool) -> Vec<u8> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        let mut shape = view.shape().to_vec();
        if edit(&name, &mut shape) {
            let size = shape.iter().product::<usize>() * view.dtype().bitsize() / 8;
            let data = vec![0; size];
            let data = if shape == view.shape() {
                view.data().to_vec()
            } else {
                data
            };
            tensors.push((name, view.dtype(), shape, data));
        }
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    serialize(views, None).unwrap()
}

#[test]
fn a_state_comes_back_with_its_metadata_and_bits() {
    let (metadata, state, bytes) = bytes(3);
    let weights = from_bytes(&bytes).unwrap();
    assert_eq!(weights.metadata, metadata);
    assert_eq!(weights.state, state);
    assert_eq!(
        bytes,
        to_bytes(&metadata, &state.parameters, &state.buffers).unwrap()
    );
}

#[test]
fn a_file_has_every_entry_that_a_strict_load_asks_for() {
    let (_, _, bytes) = bytes(80);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 355);
    let counter = file.tensor("model.0.bn.num_batches_tracked").unwrap();
    assert_eq!((counter.dtype(), counter.shape()), (Dtype::I64, &[][..]));
    let fixed = file.tensor("model.22.dfl.conv.weight").unwrap();
    assert_eq!(fixed.shape(), [1, 16, 1, 1]);
    assert_eq!(fixed.data()[60..], 15.0_f32.to_le_bytes());
}

#[test]
fn a_file_without_metadata_is_recognised_by_its_shapes() {
    let (_, state, bytes) = bytes(7);
    let weights = from_bytes(&edited(&bytes, |_, _| true)).unwrap();
    assert_eq!(weights.metadata.kind, ModelKind::ALL[0]);
    assert_eq!(weights.metadata.names.len(), 7);
    assert_eq!(weights.state, state);
}

#[test]
fn a_class_branch_of_another_width_is_recognised() {
    let wide = Metadata {
        class_width: 80,
        ..metadata(2)
    };
    let state = initial_state(&layout(wide.architecture()), 5);
    let bytes = to_bytes(&wide, &state.parameters, &state.buffers).unwrap();
    for bytes in [edited(&bytes, |_, _| true), bytes] {
        let weights = from_bytes(&bytes).unwrap();
        assert_eq!((weights.metadata.class_width, &weights.state), (80, &state));
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let (_, _, bytes) = bytes(2);
    let changed = edited(&bytes, |name, shape| {
        if name == "model.1.bn.bias" {
            shape[0] = 33;
        }
        name != "model.0.conv.weight"
    });
    let text = from_bytes(&changed).unwrap_err().to_string();
    assert_eq!(
        text,
        "the weights do not fit yolov8n with 2 classes: `model.0.conv.weight` is missing, \
         `model.1.bn.bias` is [33] in the file and [32] in the model"
    );
}

#[test]
fn many_mismatches_are_counted_and_not_all_listed() {
    let (_, _, bytes) = bytes(2);
    let changed = edited(&bytes, |name, _| !name.starts_with("model.0."));
    let text = from_bytes(&changed).unwrap_err().to_string();
    assert!(
        text.ends_with("`model.0.bn.running_mean` is missing, and 1 more"),
        "{text}"
    );
}

#[test]
fn truncated_and_foreign_files_are_refused() {
    let (_, _, bytes) = bytes(1);
    let cut = from_bytes(&bytes[..bytes.len() - 1]);
    assert!(matches!(cut, Err(WeightsError::Format(_))));
    assert!(matches!(from_bytes(b"no"), Err(WeightsError::Format(_))));
    let foreign = edited(&bytes, |name, _| name.starts_with("model.0."));
    assert!(matches!(from_bytes(&foreign), Err(WeightsError::Unrecognised)));
}

#[test]
fn what_lies_in_the_place_of_a_file_is_named() {
    for (bytes, named) in [
        (&b"<!DOCTYPE html>"[..], "a web page"),
        (&b"version https://git-lfs.github.com/spec/v1\n"[..], "Git LFS"),
        (&b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"[..], "before 1.6"),
    ] {
        let text = from_bytes(bytes).unwrap_err().to_string();
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn a_saved_file_loads_and_a_missing_one_is_named() {
    let (metadata, state, _) = bytes(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.safetensors");
    save(&path, &metadata, &state.parameters, &state.buffers).unwrap();
    assert_eq!(load(&path).unwrap().state, state);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let missing = load(&folder.path().join("none")).unwrap_err();
    assert!(missing.to_string().contains("none"));
}
