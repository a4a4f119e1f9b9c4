//! A reader of Python's pickles that executes nothing: what they would call is described as data.
//!
//! The opcodes are those of Python's `pickletools`, protocols 0 to 5, as far as PyTorch and Paddle write them.

use super::Fault;
use super::calls::{build, call, persistent};
use super::globals::role;
use super::graph::{At, Blob, Code, Graph, Value};
use super::input::Input;
use crate::files::source::Source;
use std::collections::HashMap;

/// How many opcodes a pickle may have; those of a state dict have about fifty for each tensor.
const OPCODES: usize = 1 << 22;

/// How many values may be pushed, and how many remembered.
const VALUES: usize = 1 << 20;

/// Longer text stays in the file; and so does what exceeds the second number in total, unless it is short.
const LONG: u64 = 1 << 16;
const TOTAL: u64 = 1 << 24;
const SHORT: u64 = 1 << 8;

/// The magic number of PyTorch's files before version 1.6, 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

const EMPTY: &str = "the stack is empty";

/// What a pickle describes.
pub(super) struct Parsed {
    pub(super) graph: Graph,
    /// The value of the whole.
    pub(super) root: At,
    /// Where the pickle ends.
    pub(super) end: u64,
}

/// Reads the pickle that begins at `start`.
pub(super) fn parse(source: &Source, start: u64) -> Result<Parsed, Fault> {
    let mut machine = Machine {
        input: Input::new(source, start),
        graph: Graph::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        pushed: 0,
        kept: 0,
    };
    for _ in 0..OPCODES {
        let at = machine.input.position();
        let goes_on = machine.step().map_err(|fault| Fault(format!("at byte {at} of its pickle, {fault}")))?;
        if !goes_on {
            let root = machine.pop()?;
            return Ok(Parsed { graph: machine.graph, root, end: machine.input.position() });
        }
    }
    Err(format!("its pickle has more than {OPCODES} opcodes").into())
}

struct Machine<'a> {
    input: Input<'a>,
    graph: Graph,
    stack: Vec<At>,
    /// The lengths of the stack at the marks.
    marks: Vec<u32>,
    memo: HashMap<u32, At>,
    pushed: usize,
    /// The length of all text that is kept.
    kept: u64,
}

impl Machine<'_> {
    /// Takes in one opcode; returns false after the last.
    fn step(&mut self) -> Result<bool, Fault> {
        match self.input.byte()? {
            b'.' => return Ok(false),
            0x80 => match self.input.byte()? {
                0..=5 => {}
                version => return Err(format!("the protocol is {version}, but the newest is 5").into()),
            },
            // The length of a frame.
            0x95 => self.input.skip(8)?,
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'I' => {
                let value = match self.input.line()?.as_str() {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    digits => digits.parse().map_or(Value::Other, Value::Int),
                };
                self.push(value)?;
            }
            b'L' => {
                let digits = self.input.line()?;
                self.push(digits.trim_end_matches('L').parse().map_or(Value::Other, Value::Int))?;
            }
            b'F' => {
                let number = self.input.line()?.parse().map_err(|_| "a number is malformed")?;
                self.push(Value::Float(number))?;
            }
            b'G' => {
                let number = f64::from_be_bytes(self.input.array()?);
                self.push(Value::Float(number))?;
            }
            b'K' => self.int::<1>()?,
            b'M' => self.int::<2>()?,
            b'J' => {
                let number = i32::from_le_bytes(self.input.array()?);
                self.push(Value::Int(number.into()))?;
            }
            0x8a => self.long::<1>()?,
            0x8b => self.long::<4>()?,
            b'V' => {
                let text = unescape(&self.input.line()?)?;
                self.text(text)?;
            }
            b'S' => {
                let line = self.input.line()?;
                let quoted = ['\'', '"'].iter().find_map(|q| line.strip_prefix(*q)?.strip_suffix(*q));
                let plain = quoted.filter(|text| !text.contains('\\'));
                self.text(plain.ok_or("a string is not quoted, or has escapes")?.into())?;
            }
            b'X' => self.blob::<4>(Code::Utf8)?,
            0x8c => self.blob::<1>(Code::Utf8)?,
            0x8d => self.blob::<8>(Code::Utf8)?,
            // Python 2's strings, which may be text or bytes.
            b'T' => self.blob::<4>(Code::Raw)?,
            b'U' => self.blob::<1>(Code::Raw)?,
            b'B' => self.bytes::<4>()?,
            b'C' => self.bytes::<1>()?,
            0x8e | 0x96 => self.bytes::<8>()?,
            b'(' => self.marks.push(self.stack.len() as u32),
            b'0' if self.marks.last() == Some(&(self.stack.len() as u32)) => {
                self.marks.pop();
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push_again(top)?;
            }
            b')' => self.collect(Vec::new(), Value::Tuple)?,
            b']' => self.collect(Vec::new(), Value::List)?,
            b'}' => self.collect(Vec::new(), Value::Dict)?,
            0x8f => self.collect(Vec::new(), Value::Set)?,
            b't' => self.collect_mark(Value::Tuple)?,
            b'l' => self.collect_mark(Value::List)?,
            0x91 => self.collect_mark(Value::Set)?,
            n @ 0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(n - 0x84)).ok_or(EMPTY)?;
                let items = self.stack.split_off(start);
                self.collect(items, Value::Tuple)?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.collect(Vec::new(), Value::Dict)?;
                self.set(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(items)?;
            }
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let words = self.graph.text(module).zip(self.graph.text(name));
                let (module, name) = words.map(|(m, n)| (m.to_string(), n.to_string())).ok_or("a name is not text")?;
                self.global(&module, &name)?;
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let value = call(&mut self.graph, &self.input, function, arguments)?;
                self.push(value)?;
            }
            b'b' => {
                let state = self.pop()?;
                let top = self.top()?;
                build(&mut self.graph, top, state)?;
            }
            b'Q' => {
                let id = self.pop()?;
                let value = persistent(&mut self.graph, id)?;
                self.push(value)?;
            }
            b'q' => {
                let place = self.input.byte()?;
                self.put(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.input.array()?);
                self.put(place)?;
            }
            b'p' => {
                let place = self.place()?;
                self.put(place)?;
            }
            0x94 => self.put(self.memo.len() as u32)?,
            b'h' => {
                let place = self.input.byte()?;
                self.get(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.input.array()?);
                self.get(place)?;
            }
            b'g' => {
                let place = self.place()?;
                self.get(place)?;
            }
            other => return Err(format!("the opcode {other:#04x} is none that checkpoints have").into()),
        }
        Ok(true)
    }

    fn push(&mut self, value: Value) -> Result<(), Fault> {
        let at = self.graph.add(value);
        self.push_again(at)
    }

    fn push_again(&mut self, at: At) -> Result<(), Fault> {
        self.pushed += 1;
        if self.pushed > VALUES {
            return Err(format!("there are more than {VALUES} values").into());
        }
        self.stack.push(at);
        Ok(())
    }

    fn int<const N: usize>(&mut self) -> Result<(), Fault> {
        let number = self.input.number::<N>()?;
        self.push(Value::Int(number as i64))
    }

    /// A little-endian signed integer, after its length of N bytes.
    fn long<const N: usize>(&mut self) -> Result<(), Fault> {
        let length = self.input.number::<N>()?;
        // Of four bytes, the length is signed.
        if length >> 31 != 0 {
            return Err("an integer has a negative length".into());
        }
        if length > 255 {
            self.input.skip(length)?;
            return self.push(Value::Other);
        }
        let bytes = self.input.take(length as usize)?;
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 255 } else { 0 };
        let (low, high) = bytes.split_at(bytes.len().min(8));
        let mut wide = [sign; 8];
        wide[..low.len()].copy_from_slice(low);
        let number = i64::from_le_bytes(wide);
        let fits = high.iter().all(|byte| *byte == sign) && (number < 0) == (sign == 255);
        let value = match fits {
            true => Value::Int(number),
            false if bytes == MAGIC => Value::Magic,
            false => Value::Other,
        };
        self.push(value)
    }

    /// Text that has been read from a line.
    fn text(&mut self, text: String) -> Result<(), Fault> {
        let (start, length) = (self.input.position(), text.len() as u64);
        let blob = Blob { start, length, code: Code::Line, text: Some(text.into()) };
        let text = Value::Text(self.graph.blob(blob));
        self.push(text)
    }

    /// Text, after its length of N bytes.
    fn blob<const N: usize>(&mut self, code: Code) -> Result<(), Fault> {
        let length = self.input.number::<N>()?;
        let start = self.input.position();
        let keep = length <= LONG && (length <= SHORT || self.kept + length <= TOTAL);
        let text = if keep {
            self.kept += length;
            match std::str::from_utf8(self.input.take(length as usize)?) {
                Ok(text) => Some(text.into()),
                Err(_) if code == Code::Raw => None,
                Err(_) => return Err("a string is not UTF-8".into()),
            }
        } else {
            self.input.skip(length)?;
            None
        };
        let text = Value::Text(self.graph.blob(Blob { start, length, code, text }));
        self.push(text)
    }

    /// Bytes, after their length of N bytes.
    fn bytes<const N: usize>(&mut self) -> Result<(), Fault> {
        let length = self.input.number::<N>()?;
        let start = self.input.position();
        self.input.skip(length)?;
        let bytes = Value::Bytes(self.graph.blob(Blob { start, length, code: Code::Raw, text: None }));
        self.push(bytes)
    }

    /// A place in the memo, in digits.
    fn place(&mut self) -> Result<u32, Fault> {
        self.input.line()?.parse().map_err(|_| "a place in the memo is no number".into())
    }

    fn put(&mut self, place: u32) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(place, top);
        if self.memo.len() > VALUES { Err(format!("there are more than {VALUES} values").into()) } else { Ok(()) }
    }

    fn get(&mut self, place: u32) -> Result<(), Fault> {
        let at = *self.memo.get(&place).ok_or("a value is referred to that is not in the memo")?;
        self.push_again(at)
    }

    fn top(&self) -> Result<At, Fault> {
        self.stack.last().copied().ok_or_else(|| EMPTY.into())
    }

    fn pop(&mut self) -> Result<At, Fault> {
        self.stack.pop().ok_or_else(|| EMPTY.into())
    }

    /// Pops the values that were pushed since the last mark.
    fn pop_mark(&mut self) -> Result<Vec<At>, Fault> {
        let mark = self.marks.pop().filter(|mark| *mark as usize <= self.stack.len()).ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark as usize))
    }

    fn collect(&mut self, items: Vec<At>, kind: fn(u32) -> Value) -> Result<(), Fault> {
        let list = self.graph.list(items);
        self.push(kind(list))
    }

    fn collect_mark(&mut self, kind: fn(u32) -> Value) -> Result<(), Fault> {
        let items = self.pop_mark()?;
        self.collect(items, kind)
    }

    /// Appends to the list or set on top of the stack.
    fn extend(&mut self, items: Vec<At>) -> Result<(), Fault> {
        let top = self.top()?;
        match self.graph.value(top) {
            Value::List(list) | Value::Set(list) => self.graph.lists[list as usize].extend(items),
            _ => return Err("something is appended to what is no list".into()),
        }
        Ok(())
    }

    /// Inserts alternating keys and values into the dictionary on top of the stack.
    fn set(&mut self, items: Vec<At>) -> Result<(), Fault> {
        let Value::Dict(list) = self.graph.value(self.top()?) else {
            return Err("a key is set in what is no dictionary".into());
        };
        if !items.len().is_multiple_of(2) {
            return Err("a key has no value".into());
        }
        let is_mutable = |key: &At| matches!(self.graph.value(*key), Value::List(_) | Value::Dict(_) | Value::Set(_));
        if items.iter().step_by(2).any(is_mutable) {
            return Err("a list, a dictionary or a set is a key".into());
        }
        self.graph.lists[list as usize].extend(items);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        let name = format!("{module}.{name}");
        let index = match self.graph.globals.get_index_of(&name) {
            Some(index) => index,
            None => {
                let role = role(&name).ok_or_else(|| {
                    let shown: String = name.chars().take(100).collect();
                    let shown = shown.escape_debug();
                    format!("it names `{shown}`, which is not among what checkpoints may name; nothing was executed")
                })?;
                self.graph.globals.insert_full(name, role).0
            }
        };
        self.push(Value::Global(index as u32))
    }
}

/// Text with `\uXXXX` and `\UXXXXXXXX` for other characters.
fn unescape(line: &str) -> Result<String, Fault> {
    let mut parts = line.split('\\');
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let digits = match part.as_bytes().first() {
            Some(b'u') => 5,
            Some(b'U') => 9,
            _ => {
                text.push('\\');
                text.push_str(part);
                continue;
            }
        };
        let code = part.get(1..digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        text.push(code.and_then(char::from_u32).ok_or("a string has a malformed escape")?);
        text.push_str(&part[digits..]);
    }
    Ok(text)
}
