//! A graph in the making: layers append their operations and get the names of the results.

use crate::declare::{Declaration, Handle, NormedKernel, Place};
use crate::layout::{FlatState, TensorSpec};
use crate::onnx::message::{
    Attribute, Dimension, Extent, FLOAT, GraphMessage, INT, INT64, INTS, Node, STRING, ShapeMessage,
    TensorMessage, TensorType, ValueInfo, ValueType,
};
use crate::pass::NORM_EPSILON;

/// A map `[batch, channels, height, width]` by name; the batch may have any size.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) name: String,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// The geometry of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) groups: usize,
}

/// A graph in the making, with the state that its constants come from.
pub(crate) struct Graph<'a> {
    message: GraphMessage,
    state: &'a FlatState,
    kernels: Vec<&'a TensorSpec>,
    vectors: Vec<&'a TensorSpec>,
    /// Means and variances in turn.
    statistics: &'a [TensorSpec],
}

/// A setting of an operation.
pub(crate) enum Setting<'a> {
    Int(i64),
    Ints(&'a [usize]),
    Text(&'a str),
}

impl<'a> Graph<'a> {
    pub(super) fn new(declaration: &'a Declaration, state: &'a FlatState) -> Self {
        let (mut kernels, mut vectors) = (Vec::new(), Vec::new());
        for (spec, place) in declaration.layout.parameters.iter().zip(&declaration.places) {
            match place {
                Place::Kernel(_) => kernels.push(spec),
                Place::Vector(_) => vectors.push(spec),
            }
        }
        Self {
            message: GraphMessage {
                name: "detector".to_owned(),
                ..GraphMessage::default()
            },
            state,
            kernels,
            vectors,
            statistics: &declaration.layout.buffers,
        }
    }

    /// Appends an operation and returns the name of its result.
    pub(crate) fn add(
        &mut self,
        operation: &str,
        inputs: &[&str],
        settings: &[(&str, Setting<'_>)],
    ) -> String {
        let name = format!("{}_{}", operation.to_lowercase(), self.message.node.len());
        self.message.node.push(Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operation.to_owned(),
            attribute: settings.iter().map(attribute).collect(),
        });
        name
    }

    /// Appends a convolution with the running statistics worked into it.
    pub(crate) fn normed_convolution(&mut self, x: &Map, tensors: NormedKernel, geometry: Geometry) -> Map {
        let value = |spec: &TensorSpec| &self.state.parameters[spec.range.clone()];
        let running = |index: usize| &self.state.buffers[self.statistics[index].range.clone()];
        let spec = self.kernels[tensors.kernel.0];
        let (gamma, beta) = (self.vectors[tensors.gamma.0], self.vectors[tensors.beta.0]);
        let (mean, variance) = (running(2 * tensors.norm), running(2 * tensors.norm + 1));
        let scales: Vec<f64> = (value(gamma).iter().zip(variance))
            .map(|(&gamma, &variance)| f64::from(gamma) / (f64::from(variance) + NORM_EPSILON).sqrt())
            .collect();
        let row = spec.range.len() / scales.len();
        let kernel: Vec<f32> = (value(spec).chunks(row).zip(&scales))
            .flat_map(|(row, scale)| row.iter().map(move |&weight| (f64::from(weight) * scale) as f32))
            .collect();
        let bias: Vec<f32> = (value(beta).iter().zip(mean).zip(&scales))
            .map(|((&beta, &mean), scale)| (f64::from(beta) - f64::from(mean) * scale) as f32)
            .collect();
        let (name, shape) = (spec.name.clone(), spec.shape.clone());
        self.convolution(x, (&name, &shape, &kernel), &bias, geometry)
    }

    /// Appends a pointwise convolution with a bias.
    pub(crate) fn projection(&mut self, x: &Map, kernel: Handle<4>, bias: Handle<1>) -> Map {
        let spec = self.kernels[kernel.0];
        let state = self.state;
        let values = &state.parameters[spec.range.clone()];
        let bias = &state.parameters[self.vectors[bias.0].range.clone()];
        let geometry = Geometry {
            stride: 1,
            padding: 0,
            groups: 1,
        };
        self.convolution(x, (&spec.name, &spec.shape, values), bias, geometry)
    }

    fn convolution(
        &mut self,
        x: &Map,
        (name, shape, kernel): (&str, &[usize], &[f32]),
        bias: &[f32],
        geometry: Geometry,
    ) -> Map {
        let Geometry {
            stride,
            padding,
            groups,
        } = geometry;
        let weight = self.floats(name.to_owned(), shape, kernel);
        let bias = self.floats(format!("{name}.folded_bias"), &[bias.len()], bias);
        let settings = [
            ("kernel_shape", Setting::Ints(&shape[2..])),
            ("strides", Setting::Ints(&[stride; 2])),
            ("pads", Setting::Ints(&[padding; 4])),
            ("dilations", Setting::Ints(&[1; 2])),
            ("group", Setting::Int(groups as i64)),
        ];
        let result = self.add("Conv", &[&x.name, &weight, &bias], &settings);
        let side = |len: usize| (len + 2 * padding - shape[2]) / stride + 1;
        Map {
            name: result,
            channels: shape[0],
            height: side(x.height),
            width: side(x.width),
        }
    }

    /// Appends `x * sigmoid(x)`.
    pub(crate) fn silu(&mut self, x: Map) -> Map {
        let gate = self.add("Sigmoid", &[&x.name], &[]);
        let name = self.add("Mul", &[&x.name, &gate], &[]);
        Map { name, ..x }
    }

    /// Appends the sum of two maps.
    pub(crate) fn sum(&mut self, x: &Map, y: &Map) -> Map {
        let name = self.add("Add", &[&x.name, &y.name], &[]);
        Map { name, ..x.clone() }
    }

    /// Appends maps side by side along the channels.
    pub(crate) fn concatenate(&mut self, parts: &[Map]) -> Map {
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        let name = self.add("Concat", &names, &[("axis", Setting::Int(1))]);
        Map {
            name,
            channels: parts.iter().map(|part| part.channels).sum(),
            ..parts[0].clone()
        }
    }

    /// Appends a range of the channels of a map.
    pub(crate) fn channels(&mut self, x: &Map, start: usize, end: usize) -> Map {
        Map {
            name: self.slice(&x.name, 1, start, end),
            channels: end - start,
            ..x.clone()
        }
    }

    /// Appends a range along an axis of any tensor.
    pub(crate) fn slice(&mut self, x: &str, axis: usize, start: usize, end: usize) -> String {
        let [start, end, axis] = [start, end, axis].map(|number| self.integers(&[number as i64]));
        self.add("Slice", &[x, &start, &end, &axis], &[])
    }

    /// Appends the same values in another shape; the first axis stays.
    pub(crate) fn reshape(&mut self, x: &str, rest: &[usize]) -> String {
        // Zero keeps the axis of that place.
        let shape: Vec<i64> = std::iter::once(0)
            .chain(rest.iter().map(|&len| len as i64))
            .collect();
        let shape = self.integers(&shape);
        self.add("Reshape", &[x, &shape], &[])
    }

    /// Adds a constant of small integers.
    pub(crate) fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("integers_{}", self.message.initializer.len());
        self.message.initializer.push(TensorMessage {
            dims: vec![values.len() as i64],
            data_type: INT64,
            name: name.clone(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
        name
    }

    /// Adds a constant.
    pub(crate) fn floats(&mut self, name: String, shape: &[usize], values: &[f32]) -> String {
        self.message.initializer.push(TensorMessage {
            dims: shape.iter().map(|&len| len as i64).collect(),
            data_type: FLOAT,
            name: name.clone(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
        name
    }

    /// Declares an input with a batch of any size.
    pub(super) fn input(&mut self, name: &str, rest: &[usize]) {
        let batch = Extent::Any("batch".to_owned());
        self.message.input.push(value_info(name, Some(batch), rest));
    }

    /// Returns the whole graph, whose one output is `value` under the name `name`.
    ///
    /// Its batch has no name: Ultralytics takes a file whose output has one for a file that takes images of any size, and
    /// feeds it such. The last operation keeps runtimes from finding the name out.
    pub(super) fn finish(mut self, value: &str, name: &str, rest: &[usize]) -> GraphMessage {
        let shape: Vec<i64> = (std::iter::once(-1).chain(rest.iter().map(|&len| len as i64))).collect();
        let shape = self.integers(&shape);
        self.message.node.push(Node {
            input: vec![value.to_owned(), shape],
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: "Reshape".to_owned(),
            attribute: Vec::new(),
        });
        self.message.output.push(value_info(name, None, rest));
        self.message
    }
}

fn attribute((name, setting): &(&str, Setting<'_>)) -> Attribute {
    let empty = Attribute {
        name: (*name).to_owned(),
        ..Attribute::default()
    };
    match setting {
        Setting::Int(value) => Attribute {
            i: Some(*value),
            kind: INT,
            ..empty
        },
        Setting::Ints(values) => Attribute {
            ints: values.iter().map(|&value| value as i64).collect(),
            kind: INTS,
            ..empty
        },
        Setting::Text(text) => Attribute {
            s: Some(text.as_bytes().to_vec()),
            kind: STRING,
            ..empty
        },
    }
}

fn value_info(name: &str, batch: Option<Extent>, rest: &[usize]) -> ValueInfo {
    let rest = rest.iter().map(|&len| Some(Extent::Value(len as i64)));
    let extents = std::iter::once(batch).chain(rest);
    let dim = extents.map(|extent| Dimension { extent }).collect();
    ValueInfo {
        name: name.to_owned(),
        value_type: Some(ValueType {
            tensor: Some(TensorType {
                elem_type: FLOAT,
                shape: Some(ShapeMessage { dim }),
            }),
        }),
    }
}
