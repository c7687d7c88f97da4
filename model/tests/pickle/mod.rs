//! Pickles as PyTorch writes them, and as nobody should.

use proptest::prelude::*;

/// Remembers what is on top of the stack.
const PUT_OBJECT: &[u8] = b"q\x00";
const GET_OBJECT: &[u8] = b"h\x00";

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn number(number: i64) -> Vec<u8> {
    [b"\x8a\x08", &number.to_le_bytes()[..]].concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn tuple(elements: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &elements.concat()[..], b"t"].concat()
}

/// A tensor of a storage called 0, with rows one after the other.
fn tensor(kind: &str, shape: Vec<u8>, strides: Vec<u8>) -> Vec<u8> {
    let id = tuple(&[
        text("storage"),
        global("torch", kind),
        text("0"),
        text("cpu"),
        number(1),
    ]);
    let storage = [&id[..], b"Q"].concat();
    let arguments = tuple(&[storage, number(0), shape, strides]);
    [
        &global("torch._utils", "_rebuild_tensor_v2")[..],
        &arguments,
        b"R",
    ]
    .concat()
}

fn program(body: &[Vec<u8>]) -> Vec<u8> {
    [b"\x80\x02", &body.concat()[..], b"."].concat()
}

fn dict(entries: Vec<Vec<u8>>) -> Vec<u8> {
    [b"}(", &entries.concat()[..], b"u"].concat()
}

/// A state dict of these tensors: name, kind of storage, shape.
pub(crate) fn state_dict(tensors: &[(&str, &str, &[i64])]) -> Vec<u8> {
    let entry = |&(name, kind, shape): &(&str, &str, &[i64])| {
        let mut stride = 1_i64;
        let mut strides: Vec<Vec<u8>> = Vec::new();
        for side in shape.iter().rev() {
            strides.insert(0, number(stride));
            stride = stride.saturating_mul(*side);
        }
        let shape: Vec<Vec<u8>> = shape.iter().map(|&side| number(side)).collect();
        [text(name), tensor(kind, tuple(&shape), tuple(&strides))].concat()
    };
    program(&[dict(tensors.iter().map(entry).collect())])
}

/// Many modules, each with a tensor, below modules of one long name.
pub(crate) fn repeated_name(name: &str, count: usize) -> Vec<u8> {
    let entries = (0..count).map(|_| GET_OBJECT.to_vec()).map(|key| {
        let value = b"h\x01".to_vec();
        [key, value].concat()
    });
    let shape = tuple(&[number(1)]);
    let one = tensor("FloatStorage", shape.clone(), shape);
    program(&[
        text(name),
        PUT_OBJECT.to_vec(),
        b"0".to_vec(),
        one,
        b"q\x01".to_vec(),
        b"0".to_vec(),
        dict(entries.collect()),
    ])
}

/// Many tensors that all have one shape of so many sides.
pub(crate) fn repeated_shape(sides: usize, count: usize) -> Vec<u8> {
    let shape = tuple(&vec![b"K\x01".to_vec(); sides]);
    let kind = tensor("FloatStorage", GET_OBJECT.to_vec(), GET_OBJECT.to_vec());
    let entries = (0..count).map(|index| {
        let value = b"h\x01".to_vec();
        [text(&index.to_string()), value].concat()
    });
    program(&[
        shape,
        PUT_OBJECT.to_vec(),
        b"0".to_vec(),
        kind,
        b"q\x01".to_vec(),
        b"0".to_vec(),
        dict(entries.collect()),
    ])
}

/// A model with a tensor, and many classes of one name.
pub(crate) fn class_names(name: &str, count: usize) -> Vec<u8> {
    let numbers = (0..count as i64).rev();
    let names = dict(
        numbers
            .map(|class| [number(class), GET_OBJECT.to_vec()].concat())
            .collect(),
    );
    let shape = tuple(&[number(1)]);
    let weight = [
        text("model.22.cv3.0.2.bias"),
        tensor("FloatStorage", shape.clone(), shape),
    ];
    let parameters = dict(vec![weight.concat()]);
    let state = dict(vec![
        [text("_parameters"), parameters].concat(),
        [text("names"), names].concat(),
    ]);
    program(&[
        text(name),
        PUT_OBJECT.to_vec(),
        b"0".to_vec(),
        global("m", "Model"),
        b")\x81".to_vec(),
        state,
        b"b".to_vec(),
    ])
}

/// A module that is its own child, twice, and has so many attributes that nobody asks for.
pub(crate) fn module_of_itself(attributes: usize) -> Vec<u8> {
    let junk: Vec<u8> = b"NN".repeat(attributes);
    let children = dict(vec![
        [text("a"), GET_OBJECT.to_vec()].concat(),
        [text("b"), GET_OBJECT.to_vec()].concat(),
    ]);
    let state = dict(vec![[text("_modules"), children].concat(), junk]);
    program(&[
        global("m", "C"),
        b")\x81".to_vec(),
        PUT_OBJECT.to_vec(),
        state,
        b"b".to_vec(),
    ])
}

/// Operations of the machine, most with operands that fit, in any order.
pub(crate) fn any_operations() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let plain =
        prop::sample::select(b"N(012tldaesuRbQ)]}\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94\x81\x92".to_vec());
    let word = prop::sample::select(vec![
        "_modules",
        "_parameters",
        "_buffers",
        "model",
        "ema",
        "names",
        "train_args",
        "imgsz",
        "0",
        "a",
    ]);
    let name = prop::sample::select(vec![
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "FloatStorage"),
        ("torch", "LongStorage"),
        ("torch.nn.modules.batchnorm", "BatchNorm2d"),
    ]);
    let tensor_of = (
        any::<[i64; 2]>(),
        prop::sample::select(vec!["FloatStorage", "HalfStorage"]),
    );
    let operation = prop_oneof![
        6 => plain.prop_map(|code| vec![code]),
        2 => word.prop_map(text),
        2 => any::<i64>().prop_map(number),
        2 => any::<u8>().prop_map(|byte| vec![b'K', byte]),
        2 => name.prop_map(|(module, name)| global(module, name)),
        2 => (0..4_u8).prop_map(|place| vec![b'h', place]),
        2 => (0..4_u8).prop_map(|place| vec![b'q', place]),
        1 => tensor_of.prop_map(|([side, stride], kind)| {
            tensor(kind, tuple(&[number(side)]), tuple(&[number(stride)]))
        }),
        1 => prop::collection::vec(any::<u8>(), 1..10),
    ];
    prop::collection::vec(operation, 0..60)
}
