//! An export read back: its structure, and its numbers by a small interpreter against the network itself.
//!
//! The interpreter runs each operation on burn's tensors, in the order of the file and by the file's names, constants and
//! settings only.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::HashMap;

use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::module::{conv2d, interpolate, max_pool2d};
use burn::tensor::ops::{ConvOptions, InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};

use super::message::{Extent, FLOAT, GraphMessage, Node};
use super::*;
use crate::initial::initial_state;
use crate::kind::ModelKind;
use crate::weights::Metadata;
use crate::yolo::Yolo;

const SIDE: usize = 96;

fn weights(kind: &str, names: &[&str]) -> Weights {
    let kind: ModelKind = kind.parse().unwrap();
    let layout = Network::new(kind.with_classes(names.len())).1.layout;
    let mut state = initial_state(&layout, 4);
    // Statistics and scales unlike their start, so that folding counts.
    for (index, value) in state.buffers.iter_mut().enumerate() {
        *value += 0.2 + 0.1 * (index as f32).sin();
    }
    for spec in layout.parameters.iter().filter(|spec| spec.name.contains(".bn.")) {
        for value in &mut state.parameters[spec.range.clone()] {
            *value += 0.1;
        }
    }
    Weights {
        metadata: Metadata {
            kind,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            class_width: kind.with_classes(names.len()).class_width(),
            image_size: SIDE as u32,
        },
        state,
    }
}

fn exported(weights: &Weights) -> Model {
    let bytes = export(weights, &OnnxConfig::default()).unwrap();
    Model::decode(bytes.as_slice()).unwrap()
}

/// Tensors of rank four; those of lower rank have leading ones.
struct Interpreter<'a> {
    graph: &'a GraphMessage,
    values: HashMap<&'a str, (Tensor<4>, usize)>,
    integers: HashMap<&'a str, Vec<i64>>,
}

impl<'a> Interpreter<'a> {
    fn new(graph: &'a GraphMessage, images: Tensor<4>) -> Self {
        let mut values = HashMap::from([(graph.input[0].name.as_str(), (images, 4))]);
        let mut integers = HashMap::new();
        for constant in &graph.initializer {
            let name = constant.name.as_str();
            let rank = constant.dims.len();
            let mut shape = [1; 4];
            for (axis, &len) in constant.dims.iter().enumerate() {
                shape[4 - rank + axis] = len as usize;
            }
            if constant.data_type == FLOAT {
                let (bytes, _) = constant.raw_data.as_chunks();
                let floats: Vec<f32> = bytes.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
                let tensor = Tensor::from_data(TensorData::new(floats, shape), &Device::flex());
                values.insert(name, (tensor, rank));
            } else {
                let (bytes, _) = constant.raw_data.as_chunks();
                integers.insert(
                    name,
                    bytes.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect(),
                );
            }
        }
        Self {
            graph,
            values,
            integers,
        }
    }

    fn run(mut self) -> Tensor<4> {
        for node in &self.graph.node {
            let result = self.node(node);
            self.values.insert(&node.output[0], result);
        }
        self.values[self.graph.output[0].name.as_str()].0.clone()
    }

    fn node(&self, node: &Node) -> (Tensor<4>, usize) {
        let input = |index: usize| self.values[node.input[index].as_str()].clone();
        let constant = |index: usize| &self.integers[node.input[index].as_str()];
        let setting = |name: &str| {
            node.attribute
                .iter()
                .find(|setting| setting.name == name)
                .unwrap()
        };
        let ints =
            |name: &str| -> Vec<usize> { setting(name).ints.iter().map(|&value| value as usize).collect() };
        let (x, rank) = input(0);
        // Settings count axes from the first of the tensor's own.
        let axis = |axis: i64| 4 - rank + axis as usize;
        let both = || {
            let (y, other) = input(1);
            (y, rank.max(other))
        };
        match node.op_type.as_str() {
            "Conv" => {
                let (kernel, _) = input(1);
                let bias = input(2).0.flatten::<1>(0, 3);
                let (strides, pads) = (ints("strides"), ints("pads"));
                let groups = setting("group").i.unwrap() as usize;
                let options = ConvOptions::new([strides[0]; 2], [pads[0]; 2], [1; 2], groups);
                assert_eq!(ints("kernel_shape"), kernel.dims()[2..]);
                (conv2d(x, kernel, Some(bias), options), 4)
            }
            "MaxPool" => {
                let options = MaxPoolOptions::new([ints("kernel_shape")[0]; 2])
                    .with_stride([ints("strides")[0]; 2])
                    .with_padding([ints("pads")[0]; 2]);
                (max_pool2d(x, options), 4)
            }
            "Resize" => {
                let scales: Vec<f32> = input(2).0.into_data().try_into_vec().unwrap();
                assert_eq!(scales, [1.0, 1.0, 2.0, 2.0]);
                let [_, _, height, width] = x.dims();
                let options = InterpolateOptions::new(InterpolateMode::Nearest)
                    .with_output_size([2 * height, 2 * width]);
                (interpolate(x, options), 4)
            }
            "Sigmoid" => (sigmoid(x), rank),
            "Add" => (x + both().0, both().1),
            "Sub" => (x - both().0, both().1),
            "Mul" => (x * both().0, both().1),
            "MatMul" => (x.matmul(both().0), rank),
            "Softmax" => (softmax(x, axis(setting("axis").i.unwrap())), rank),
            "Transpose" => {
                assert_eq!(ints("perm"), [0, 1, 3, 2]);
                (x.swap_dims(2, 3), rank)
            }
            "Concat" => {
                let parts = (0..node.input.len()).map(|index| input(index).0).collect();
                (Tensor::cat(parts, axis(setting("axis").i.unwrap())), rank)
            }
            "Slice" => {
                let range = constant(1)[0] as usize..constant(2)[0] as usize;
                (x.slice_dim(axis(constant(3)[0]), range), rank)
            }
            "Reshape" => {
                let batch = x.dims()[4 - rank];
                let wanted = constant(1);
                let mut shape = [1; 4];
                for (index, &len) in wanted.iter().enumerate() {
                    shape[4 - wanted.len() + index] = if len < 1 { batch } else { len as usize };
                }
                (x.reshape(shape), wanted.len())
            }
            "ReduceSum" => {
                // Of `[batch, 4, bins, anchors]` over the bins, which then are no axis any more.
                assert_eq!((rank, constant(1), setting("keepdims").i), (4, &vec![2], Some(0)));
                let [batch, sides, _, anchors] = x.dims();
                (x.sum_dim(2).reshape([1, batch, sides, anchors]), 3)
            }
            other => panic!("unknown operation {other}"),
        }
    }
}

#[test]
fn an_export_computes_what_the_network_computes() {
    for kind in ["yolov8n", "yolo11n"] {
        let weights = weights(kind, &["a", "b", "c"]);
        let model = exported(&weights);
        let mut yolo = Yolo::new(weights.metadata.architecture(), &Device::flex());
        yolo.load(&weights.state.parameters, &weights.state.buffers);
        let pixels: Vec<u8> = (0..2 * 3 * SIDE * SIDE)
            .map(|index| (index * 37 % 251) as u8)
            .collect();
        let images = yolo.images(&pixels, [2, SIDE, SIDE]);
        let candidates = yolo.candidates(&yolo.infer(images.clone()));
        let output = Interpreter::new(model.graph.as_ref().unwrap(), images).run();
        let [_, batch, rows, anchors] = output.dims();
        assert_eq!((batch, rows, anchors), (2, 7, 12 * 12 + 6 * 6 + 3 * 3), "{kind}");
        let values: Vec<f32> = output.into_data().try_into_vec().unwrap();
        for (image, expected) in candidates.iter().enumerate() {
            let at = |row: usize, anchor: usize| values[(image * rows + row) * anchors + anchor];
            for anchor in 0..anchors {
                let [x, y, w, h] = [0, 1, 2, 3].map(|row| at(row, anchor));
                let found = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
                for (found, expected) in found.into_iter().zip(expected.boxes[anchor]) {
                    assert!(
                        (found - expected).abs() < 1e-3,
                        "{kind} {anchor}: {found} {expected}"
                    );
                }
                for class in 0..3 {
                    let expected = expected.probabilities[anchor * 3 + class];
                    assert!((at(4 + class, anchor) - expected).abs() < 1e-5, "{kind} {anchor}");
                }
            }
        }
    }
}

#[test]
fn names_are_given_once_and_before_they_are_used() {
    let model = exported(&weights("yolo11n", &["a"]));
    let graph = model.graph.unwrap();
    let mut known: Vec<&str> = graph
        .initializer
        .iter()
        .map(|constant| constant.name.as_str())
        .collect();
    known.push(&graph.input[0].name);
    for node in &graph.node {
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            assert!(known.contains(&input.as_str()), "{input} of {}", node.name);
        }
        known.push(&node.output[0]);
    }
    let count = known.len();
    known.sort_unstable();
    known.dedup();
    assert_eq!(known.len(), count);
    assert_eq!(graph.output[0].name, "output0");
}

#[test]
fn shapes_and_metadata_are_those_readers_look_for() {
    let model = exported(&weights("yolov8n", &["it's", "a \"b\""]));
    let graph = model.graph.unwrap();
    let shape = |info: &message::ValueInfo| -> Vec<Option<Extent>> {
        let tensor = info.value_type.clone().unwrap().tensor.unwrap();
        let dims = tensor.shape.unwrap().dim.into_iter();
        dims.map(|dim| dim.extent).collect()
    };
    let value = |len| Some(Extent::Value(len));
    let batch = Some(Extent::Any("batch".to_owned()));
    assert_eq!(shape(&graph.input[0]), [batch, value(3), value(96), value(96)]);
    assert_eq!(shape(&graph.output[0]), [None, value(6), value(189)]);
    let property = |key: &str| {
        let found = model.metadata_props.iter().find(|property| property.key == key);
        found.unwrap().value.clone()
    };
    assert_eq!(property("names"), r#"{0: "it's", 1: "a \"b\""}"#);
    assert_eq!(property("imgsz"), "[96, 96]");
    assert_eq!(
        (property("stride"), property("task")),
        ("32".into(), "detect".into())
    );
    assert_eq!(model.opset_import[0].version, 17);
}

#[test]
fn sizes_and_opsets_that_cannot_be_are_refused() {
    let weights = weights("yolov8n", &["a"]);
    let config = OnnxConfig {
        image_size: Some(100),
        ..OnnxConfig::default()
    };
    assert_eq!(export(&weights, &config), Err(OnnxError::ImageSize { size: 100 }));
    let config = OnnxConfig {
        opset: 12,
        ..OnnxConfig::default()
    };
    let error = export(&weights, &config).unwrap_err();
    assert_eq!(error.to_string(), "opset 12 is not one of 13 to 21");
}
