//! A parser for the subset of Python's pickle format in which PyTorch describes tensors; it executes nothing.
//!
//! The opcodes are those of Python's `pickletools`, protocols 2 to 5.

use super::Fault;
use candle_core::DType;
use std::collections::HashMap;

/// The description of a tensor, whose elements are in an entry of the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The entry in the folder `data` of the archive.
    pub key: String,
    /// The type of its elements.
    pub dtype: DType,
    /// The index of the first element in the entry.
    pub offset: usize,
    /// The shape.
    pub dims: Vec<usize>,
    /// The distance between neighbouring elements along each axis.
    pub strides: Vec<usize>,
}

/// The index of a value in [`Machine::values`], by which values refer to each other: none is copied, and deep nesting
/// needs no recursion.
type At = usize;

#[derive(Clone, Debug)]
enum Value {
    /// Anything irrelevant, such as a float or an object of some class.
    Other,
    Int(i64),
    Text(String),
    Sequence(Vec<At>),
    Dict(Vec<(At, At)>),
    /// Module and name, joined by a dot.
    Global(String),
    /// An entry of the archive and the type of its elements.
    Storage(String, DType),
    Tensor(Described),
}

struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value>,
    stack: Vec<At>,
    /// The lengths of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<usize, At>,
}

/// The tensors of a pickled dictionary by name; other values are ignored.
pub fn tensors(pickle: &[u8]) -> Result<Vec<(String, Described)>, Fault> {
    let mut machine =
        Machine { rest: pickle, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    while machine.step().map_err(|fault| {
        let at = pickle.len() - machine.rest.len();
        Fault::from(format!("its pickle is malformed before byte {at}: {fault}"))
    })? {}
    let Some(Value::Dict(items)) = machine.stack.last().map(|at| &machine.values[*at]) else {
        return Err("it holds no dictionary of tensors".into());
    };
    let named = |(name, value): &(At, At)| match (&machine.values[*name], &machine.values[*value]) {
        (Value::Text(name), Value::Tensor(tensor)) => Some((name.clone(), tensor.clone())),
        _ => None,
    };
    Ok(items.iter().filter_map(named).collect())
}

impl<'a> Machine<'a> {
    /// Executes one opcode; returns false after the last.
    fn step(&mut self) -> Result<bool, Fault> {
        match self.number::<1>()? as u8 {
            b'.' => return Ok(false),
            // The version of the protocol, and the length of a frame.
            0x80 => self.skip(1)?,
            0x95 => self.skip(8)?,
            b'N' => self.push(Value::Other),
            0x88 | 0x89 => self.push(Value::Other),
            b'G' => {
                self.skip(8)?;
                self.push(Value::Other);
            }
            b'K' => self.int::<1>()?,
            b'M' => self.int::<2>()?,
            b'J' => {
                let n = self.number::<4>()? as u32 as i32;
                self.push(Value::Int(n.into()));
            }
            0x8a => {
                let length = self.number::<1>()?;
                let bytes = self.take(length)?;
                // Little-endian and signed; larger numbers are irrelevant.
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 255 } else { 0 }; 8];
                match wide.get_mut(..bytes.len()) {
                    Some(low) => {
                        low.copy_from_slice(bytes);
                        self.push(Value::Int(i64::from_le_bytes(wide)));
                    }
                    None => self.push(Value::Other),
                }
            }
            b'X' => self.text::<4>()?,
            0x8c => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            b'B' => self.bytes::<4>()?,
            b'C' => self.bytes::<1>()?,
            0x8e => self.bytes::<8>()?,
            b'(' => self.marks.push(self.stack.len()),
            // The second sets the state of an object: the metadata of a dictionary, the hooks of a parameter.
            b'0' | b'b' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b']' | b')' | 0x8f => self.push(Value::Sequence(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b't' | b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::Sequence(items));
            }
            n @ 0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(n - 0x84)).ok_or(EMPTY)?;
                let items = self.stack.split_off(start);
                self.push(Value::Sequence(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend(items)?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()));
                self.set(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(&items)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(format!("{module}.{name}")));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
                    return Err("a class has no name".into());
                };
                self.push(Value::Global(format!("{module}.{name}")));
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let value = self.call(function, arguments)?;
                self.push(value);
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage);
            }
            b'q' => self.put::<1>()?,
            b'r' => self.put::<4>()?,
            0x94 => {
                let top = *self.stack.last().ok_or(EMPTY)?;
                self.memo.insert(self.memo.len(), top);
            }
            b'h' => self.get::<1>()?,
            b'j' => self.get::<4>()?,
            other => return Err(format!("unsupported opcode {other:#04x}").into()),
        }
        Ok(true)
    }

    /// Consumes the next bytes.
    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("it is truncated")?;
        self.rest = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), Fault> {
        self.take(length).map(|_| ())
    }

    /// A little-endian number of N bytes.
    fn number<const N: usize>(&mut self) -> Result<usize, Fault> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "a number is too large for this machine".into())
    }

    fn line(&mut self) -> Result<String, Fault> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or("it is truncated")?;
        let line = &self.take(end + 1)?[..end];
        Ok(String::from_utf8_lossy(line).trim_end_matches('\r').to_string())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn int<const N: usize>(&mut self) -> Result<(), Fault> {
        let n = self.number::<N>()?;
        self.push(Value::Int(n as i64));
        Ok(())
    }

    fn text<const N: usize>(&mut self) -> Result<(), Fault> {
        let length = self.number::<N>()?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a string is not UTF-8")?;
        self.push(Value::Text(text.into()));
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<(), Fault> {
        let length = self.number::<N>()?;
        self.skip(length)?;
        self.push(Value::Other);
        Ok(())
    }

    fn put<const N: usize>(&mut self) -> Result<(), Fault> {
        let (place, top) = (self.number::<N>()?, *self.stack.last().ok_or(EMPTY)?);
        self.memo.insert(place, top);
        Ok(())
    }

    fn get<const N: usize>(&mut self) -> Result<(), Fault> {
        let place = self.number::<N>()?;
        self.stack.push(*self.memo.get(&place).ok_or("it refers to a value that is not in the memo")?);
        Ok(())
    }

    fn pop(&mut self) -> Result<At, Fault> {
        self.stack.pop().ok_or_else(|| EMPTY.into())
    }

    /// Pops the values that were pushed since the last mark.
    fn pop_mark(&mut self) -> Result<Vec<At>, Fault> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    /// Appends to the list on top of the stack; another value is left unchanged.
    fn extend(&mut self, items: Vec<At>) -> Result<(), Fault> {
        if let Value::Sequence(list) = &mut self.values[*self.stack.last().ok_or(EMPTY)?] {
            list.extend(items);
        }
        Ok(())
    }

    /// Inserts alternating keys and values into the dictionary on top of the stack; another value is left unchanged.
    fn set(&mut self, items: &[At]) -> Result<(), Fault> {
        if let Value::Dict(dict) = &mut self.values[*self.stack.last().ok_or(EMPTY)?] {
            dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn sequence(&self, at: At) -> Result<&[At], Fault> {
        match &self.values[at] {
            Value::Sequence(items) => Ok(items),
            _ => Err("a value is not a tuple".into()),
        }
    }

    /// The first N arguments of a call or a storage.
    fn arguments<const N: usize>(&self, at: At) -> Result<[At; N], Fault> {
        let items = self.sequence(at)?;
        let first = items.get(..N).and_then(|items| items.try_into().ok());
        first.ok_or_else(|| format!("a tuple of {} values should have {N}", items.len()).into())
    }

    fn size(&self, at: At) -> Result<usize, Fault> {
        match self.values[at] {
            Value::Int(n) => usize::try_from(n).map_err(|_| format!("a size of {n}").into()),
            _ => Err("a size is not an integer".into()),
        }
    }

    fn sizes(&self, at: At) -> Result<Vec<usize>, Fault> {
        self.sequence(at)?.iter().map(|at| self.size(*at)).collect()
    }

    /// The result of a function that state dicts use; that of any other is irrelevant.
    fn call(&self, function: At, arguments: At) -> Result<Value, Fault> {
        let (mut function, mut arguments) = (function, arguments);
        // Each iteration unwraps a subclass of tensors; the limit stops cycles.
        for _ in 0..8 {
            let Value::Global(name) = &self.values[function] else { return Ok(Value::Other) };
            match name.as_str() {
                "torch._tensor._rebuild_from_type_v2" => {
                    [function, _, arguments] = self.arguments(arguments)?;
                }
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
                    let [tensor] = self.arguments(arguments)?;
                    return Ok(self.values[tensor].clone());
                }
                "torch._utils._rebuild_tensor_v2" => {
                    let [storage, offset, dims, strides] = self.arguments(arguments)?;
                    let Value::Storage(key, dtype) = &self.values[storage] else {
                        return Err("a tensor has no storage".into());
                    };
                    let (offset, dims, strides) = (self.size(offset)?, self.sizes(dims)?, self.sizes(strides)?);
                    if dims.len() != strides.len() {
                        return Err("a tensor has different numbers of sizes and strides".into());
                    }
                    return Ok(Value::Tensor(Described { key: key.clone(), dtype: *dtype, offset, dims, strides }));
                }
                "collections.OrderedDict" | "collections.defaultdict" => return Ok(Value::Dict(Vec::new())),
                _ => return Ok(Value::Other),
            }
        }
        Err("a tensor is nested too deeply".into())
    }

    /// The storage of a persistent id, `("storage", class, key, device, elements)`.
    fn storage(&self, id: At) -> Result<Value, Fault> {
        let [_, class, key, ..] = self.arguments::<5>(id)?;
        let (Value::Global(class), Value::Text(key)) = (&self.values[class], &self.values[key]) else {
            return Err("a storage has no class or no key".into());
        };
        let dtype = match class.rsplit('.').next().unwrap_or_default() {
            "FloatStorage" => DType::F32,
            "DoubleStorage" => DType::F64,
            "HalfStorage" => DType::F16,
            "BFloat16Storage" => DType::BF16,
            "ByteStorage" | "BoolStorage" => DType::U8,
            "LongStorage" => DType::I64,
            _ => return Err(format!("tensors of `{class}` are not supported").into()),
        };
        Ok(Value::Storage(key.clone(), dtype))
    }
}

const EMPTY: &str = "the stack is empty";
