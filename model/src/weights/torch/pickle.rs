//! Reads a pickle as data, and runs nothing.
//!
//! A pickle is a program for a small stack machine that may ask its reader to import and call anything. This reader
//! imports and calls nothing: names stay names, calls stay their parts (see [`Value`]). Memory is bounded by the length
//! of the input: each operation makes one value, and moves or repeats references.
//!
//! # Source
//! The operations as documented in Python's `pickletools`, protocols 2 to 5, without those that PyTorch never writes.

use std::collections::HashMap;

use thiserror::Error;

use super::value::{Ref, Value, Values};

/// Why a pickle could not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PickleError {
    /// It ends before its end mark.
    #[error("the pickle is cut off")]
    Truncated,
    /// An operation that this reader does not know.
    #[error("operation {code:#04x} at byte {position} of the pickle is unknown")]
    Operation {
        /// The operation's byte.
        code: u8,
        /// Where it stands.
        position: usize,
    },
    /// An operation does not fit what came before it.
    #[error("operation {code:#04x} at byte {position} of the pickle lacks what it works on")]
    Operand {
        /// The operation's byte.
        code: u8,
        /// Where it stands.
        position: usize,
    },
    /// Too long to be a description of a model.
    #[error("the pickle has {len} bytes, more than {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The most that is read.
        max: usize,
    },
}

/// Descriptions of the largest models have a few hundred kilobytes, with their optimizers somewhat more. A byte can make a
/// value, so reading takes some two hundred times as much memory at worst.
const LEN_MAX: usize = 4 << 20;

/// Returns all values of a pickle, and the place of the one it is about.
pub(super) fn read(bytes: &[u8]) -> Result<(Values, Ref), PickleError> {
    if bytes.len() > LEN_MAX {
        return Err(PickleError::TooLong {
            len: bytes.len(),
            max: LEN_MAX,
        });
    }
    let mut machine = Machine {
        input: Input { bytes, position: 0 },
        values: Values::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run()?;
    Ok((machine.values, root))
}

struct Machine<'a> {
    input: Input<'a>,
    values: Values,
    stack: Vec<Ref>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Ref>,
}

/// What is missing on the stack.
struct Missing;

impl Machine<'_> {
    fn run(&mut self) -> Result<Ref, PickleError> {
        loop {
            let position = self.input.position;
            let code = self.input.byte()?;
            if code == b'.' {
                return self
                    .pop()
                    .map_err(|Missing| PickleError::Operand { code, position });
            }
            let handled = self.constant(code)? || self.reference(code)?;
            if !handled {
                match self.build(code) {
                    Ok(true) => {}
                    Ok(false) => return Err(PickleError::Operation { code, position }),
                    Err(Missing) => return Err(PickleError::Operand { code, position }),
                }
            }
        }
    }

    /// Operations that push a value out of the input.
    fn constant(&mut self, code: u8) -> Result<bool, PickleError> {
        let value = match code {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Integer(i64::from(i32::from_le_bytes(self.input.array()?))),
            b'K' => Value::Integer(i64::from(self.input.byte()?)),
            b'M' => Value::Integer(i64::from(u16::from_le_bytes(self.input.array()?))),
            0x8a => {
                let len = usize::from(self.input.byte()?);
                self.long(len)?
            }
            0x8b => {
                let len = self.input.length::<4>()?;
                self.long(len)?
            }
            b'G' => Value::Float(f64::from_be_bytes(self.input.array()?)),
            b'X' => self.text::<4>()?,
            0x8c => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            b'B' | b'T' => self.bytes::<4>()?,
            b'C' | b'U' => self.bytes::<1>()?,
            0x8e | 0x96 => self.bytes::<8>()?,
            b')' => Value::Tuple(Vec::new()),
            b']' => Value::List(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            0x8f => Value::Set(Vec::new()),
            b'c' => Value::Global {
                module: self.input.line()?,
                name: self.input.line()?,
            },
            _ => return Ok(false),
        };
        self.push(value);
        Ok(true)
    }

    /// Operations that mark, remember, recall, or mean nothing here.
    fn reference(&mut self, code: u8) -> Result<bool, PickleError> {
        let position = self.input.position;
        match code {
            // Protocol number and frames.
            0x80 => drop(self.input.byte()?),
            0x95 => drop(self.input.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'q' | b'r' | 0x94 => {
                let index = match code {
                    b'q' => self.input.length::<1>()? as u64,
                    b'r' => self.input.length::<4>()? as u64,
                    _ => self.memo.len() as u64,
                };
                let top = *self.stack.last().ok_or(PickleError::Operand { code, position })?;
                self.memo.insert(index, top);
            }
            b'h' | b'j' => {
                let index = match code {
                    b'h' => self.input.length::<1>()?,
                    _ => self.input.length::<4>()?,
                };
                let remembered = self.memo.get(&(index as u64));
                let place = *remembered.ok_or(PickleError::Operand { code, position })?;
                self.stack.push(place);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Operations that make or change values out of those on the stack.
    fn build(&mut self, code: u8) -> Result<bool, Missing> {
        match code {
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = *self.stack.last().ok_or(Missing)?;
                self.stack.push(top);
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or(Missing)?;
                let elements = self.stack.split_off(start);
                self.push(Value::Tuple(elements));
            }
            b't' | b'l' => {
                let elements = self.since_mark()?;
                self.push(if code == b't' {
                    Value::Tuple(elements)
                } else {
                    Value::List(elements)
                });
            }
            0x91 => {
                let elements = self.since_mark()?;
                self.push(Value::Set(elements));
            }
            b'd' => {
                let entries = pairs(self.since_mark()?)?;
                self.push(Value::Dict(entries));
            }
            b'a' => {
                let element = self.pop()?;
                self.extend(vec![element])?;
            }
            b'e' | 0x90 => {
                let elements = self.since_mark()?;
                self.extend(elements)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(vec![(key, value)])?;
            }
            b'u' => {
                let entries = pairs(self.since_mark()?)?;
                self.set_items(entries)?;
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                let text = |place| self.values.text(place).map(str::to_owned).ok_or(Missing);
                let global = Value::Global {
                    module: text(module)?,
                    name: text(name)?,
                };
                self.push(global);
            }
            b'R' | 0x81 | 0x92 => {
                if code == 0x92 {
                    // Keyword arguments.
                    self.pop()?;
                }
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.push(Value::Object {
                    callable,
                    arguments,
                    state: None,
                    items: Vec::new(),
                });
            }
            b'b' => {
                let new = self.pop()?;
                let object = *self.stack.last().ok_or(Missing)?;
                if let Value::Object { state, .. } = self.values.get_mut(object) {
                    *state = Some(new);
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn push(&mut self, value: Value) {
        let place = self.values.push(value);
        self.stack.push(place);
    }

    fn pop(&mut self) -> Result<Ref, Missing> {
        self.stack.pop().ok_or(Missing)
    }

    fn since_mark(&mut self) -> Result<Vec<Ref>, Missing> {
        let mark = self.marks.pop().ok_or(Missing)?;
        if mark > self.stack.len() {
            return Err(Missing);
        }
        Ok(self.stack.split_off(mark))
    }

    /// Appends to the list or set on top. What is appended to an object is of no interest.
    fn extend(&mut self, elements: Vec<Ref>) -> Result<(), Missing> {
        let top = *self.stack.last().ok_or(Missing)?;
        match self.values.get_mut(top) {
            Value::List(list) | Value::Set(list) => list.extend(elements),
            Value::Object { .. } => {}
            _ => return Err(Missing),
        }
        Ok(())
    }

    fn set_items(&mut self, entries: Vec<(Ref, Ref)>) -> Result<(), Missing> {
        let top = *self.stack.last().ok_or(Missing)?;
        match self.values.get_mut(top) {
            Value::Dict(items) | Value::Object { items, .. } => items.extend(entries),
            _ => return Err(Missing),
        }
        Ok(())
    }

    /// A number of any length; longer ones than 64 bits are hashes and ids of no interest.
    fn long(&mut self, len: usize) -> Result<Value, PickleError> {
        let bytes = self.input.take(len)?;
        if bytes.len() > 8 {
            return Ok(Value::None);
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        Ok(Value::Integer(i64::from_le_bytes(whole)))
    }

    fn text<const N: usize>(&mut self) -> Result<Value, PickleError> {
        let len = self.input.length::<N>()?;
        let bytes = self.input.take(len)?;
        Ok(Value::Text(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn bytes<const N: usize>(&mut self) -> Result<Value, PickleError> {
        let len = self.input.length::<N>()?;
        self.input.take(len)?;
        Ok(Value::Bytes)
    }
}

fn pairs(flat: Vec<Ref>) -> Result<Vec<(Ref, Ref)>, Missing> {
    let (pairs, rest) = flat.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Missing);
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

struct Input<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], PickleError> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..len).ok_or(PickleError::Truncated)?;
        self.position += len;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let taken = self.take(N)?;
        // Invariant: `take` returns as many bytes as asked for.
        Ok(*taken.first_chunk().expect("as many bytes as taken"))
    }

    /// A length or index of `N` bytes, little-endian.
    fn length<const N: usize>(&mut self) -> Result<usize, PickleError> {
        let mut whole = [0; 8];
        whole[..N].copy_from_slice(self.take(N)?);
        usize::try_from(u64::from_le_bytes(whole)).map_err(|_| PickleError::Truncated)
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.bytes[self.position..];
        let len = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(len.ok_or(PickleError::Truncated)?)?;
        self.position += 1;
        Ok(String::from_utf8_lossy(line).into_owned())
    }
}
