//! A checkpoint that Ultralytics saved, whole and damaged.

use super::*;
use crate::weights::stored::Numbers;
use crate::weights::{WeightsError, from_bytes};

/// A moving average, an optimizer's state and a loss, as training leaves them; made by `make_network.py`.
const UNSTRIPPED: &[u8] = include_bytes!("../../../tests/reference/unstripped.pt");

fn pickle_bytes() -> Vec<u8> {
    Archive::open(UNSTRIPPED).unwrap().pickle().unwrap()
}

/// The storage that all tensors of the file are views of: as `make.py` draws it, in half precision.
fn storage_value(index: u64) -> f32 {
    let mut bits = (70_u64 << 32 | index).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    let draw = ((bits ^ bits >> 31) >> 40) as f32 / (1_u32 << 24) as f32 - 0.5;
    half::f16::from_f32(draw + 1.0).to_f32()
}

#[test]
fn a_file_that_still_has_its_optimizer_and_loss_is_read() {
    let weights = from_bytes(UNSTRIPPED).unwrap();
    assert_eq!(weights.metadata.kind.to_string(), "yolo11n");
    assert_eq!(weights.metadata.names, ["a", "b", "a"]);
    assert_eq!(weights.metadata.image_size, 320);
    let checkpoint = read(UNSTRIPPED).unwrap();
    assert_eq!(checkpoint.tensors.len(), 499);
    for name in [
        "model.10.m.0.attn.qkv.conv.weight",
        "model.23.cv3.1.2.bias",
        "model.0.bn.running_var",
    ] {
        let Numbers::Floats(values) = &checkpoint.tensors[name].numbers else {
            panic!("{name} has no numbers")
        };
        for (index, &value) in values.iter().enumerate() {
            assert_eq!(value, storage_value(index as u64), "{name} at {index}");
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    for len in (4..UNSTRIPPED.len()).step_by(UNSTRIPPED.len() / 50) {
        let error = from_bytes(&UNSTRIPPED[..len]).unwrap_err();
        assert!(
            matches!(error, WeightsError::Torch(TorchError::Archive(_))),
            "{error}"
        );
    }
}

#[test]
fn a_pickle_cut_off_anywhere_is_refused() {
    let bytes = pickle_bytes();
    for len in (0..bytes.len()).step_by(97) {
        assert!(pickle::read(&bytes[..len]).is_err(), "{len}");
    }
}

#[test]
fn damaged_pickles_are_read_or_refused_and_never_followed_far() {
    let bytes = pickle_bytes();
    for at in (0..bytes.len()).step_by(211) {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= change;
            if let Ok((values, root)) = pickle::read(&bytes) {
                let mut walk = Walk {
                    values: &values,
                    found: Vec::new(),
                    visited: 0,
                };
                let _ = walk.module("", root, 0);
            }
        }
    }
}

#[test]
fn a_pickle_that_would_run_a_program_is_only_text() {
    // cos\nsystem\n(S... in protocol 2: os.system("touch ran") called by REDUCE.
    let bytes = b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00touch ran\x85R.";
    let (values, root) = pickle::read(bytes).unwrap();
    assert_eq!(values.callable(root), Some(("os", "system")));
    assert_eq!(values.text(values.arguments(root)[0]), Some("touch ran"));
}

#[test]
fn modules_that_contain_themselves_end() {
    // An object whose state is {"_modules": {"a": itself, "b": itself}}.
    let bytes = b"\x80\x02cm\nC\n)\x81q\x00}X\x08\x00\x00\x00_modules}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00usb.";
    let (values, root) = pickle::read(bytes).unwrap();
    let mut walk = Walk {
        values: &values,
        found: Vec::new(),
        visited: 0,
    };
    assert!(matches!(walk.module("", root, 0), Err(TorchError::Nesting)));
}

#[test]
fn operations_without_operands_are_refused() {
    for bytes in [
        &b"\x80\x02R."[..],
        b"\x80\x02t.",
        b"\x80\x02h\x07.",
        b"\x80\x02q\x00.",
        b"\x80\x02.",
        b"\x80\x02}(K\x01u.",
    ] {
        let error = pickle::read(bytes).unwrap_err();
        assert!(
            matches!(error, PickleError::Operand { .. } | PickleError::Truncated),
            "{error}"
        );
    }
    let unknown = pickle::read(b"\x80\x02ios\nsystem\n.").unwrap_err();
    assert_eq!(
        unknown,
        PickleError::Operation {
            code: b'i',
            position: 2
        }
    );
}

#[test]
fn other_parts_under_the_same_names_are_refused() {
    let replace = |from: &[u8], to: &[u8]| {
        let bytes = pickle_bytes();
        let at = bytes
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        let mut bytes = bytes;
        bytes.splice(at..at + from.len(), to.iter().copied());
        let (values, root) = pickle::read(&bytes).unwrap();
        let ema = values.entry(root, "ema").unwrap();
        let mut walk = Walk {
            values: &values,
            found: Vec::new(),
            visited: 0,
        };
        walk.module("", ema, 0).unwrap_err().to_string()
    };
    let text = replace(b"activation\nSiLU", b"activation\nReLU");
    assert_eq!(
        text,
        "`model.0.act` of the file is a ReLU, which no known model has"
    );
    let epsilon = [&b"G"[..], &1e-3_f64.to_be_bytes()].concat();
    let other = [&b"G"[..], &1e-5_f64.to_be_bytes()].concat();
    let text = replace(&epsilon, &other);
    assert!(text.contains("eps 0.00001"), "{text}");
}
