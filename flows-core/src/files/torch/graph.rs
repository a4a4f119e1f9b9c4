//! The values that a pickle describes.

use super::Fault;
use super::element::Element;
use super::globals::Role;
use indexmap::IndexMap;
use std::collections::HashMap;

/// The index of a value in [`Graph::values`], by which values refer to each other: none is copied, and deep nesting
/// needs no recursion.
pub(super) type At = u32;

/// A value; what is larger than a number is in one of the tables of [`Graph`], at this index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Anything irrelevant, such as an integer of more than 64 bits.
    Other,
    /// The number at the start of a file that PyTorch wrote before version 1.6.
    Magic,
    Text(u32),
    Bytes(u32),
    Tuple(u32),
    List(u32),
    Set(u32),
    /// Keys and values alternate in its list.
    Dict(u32),
    Global(u32),
    Object(u32),
    Storage(u32),
    Tensor(u32),
    /// A NumPy array without its state.
    Array,
    NumpyType(u32),
}

/// Text or bytes in the file.
#[derive(Debug)]
pub(super) struct Blob {
    /// Where it is in the file.
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) code: Code,
    /// The text, unless it is long.
    pub(super) text: Option<Box<str>>,
}

/// How the bytes of a [`Blob`] are to be understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Code {
    Utf8,
    Raw,
    /// A line of protocol 0: what it stands for is not in the file as it is.
    Line,
    /// UTF-8 of characters that stand for one byte each.
    Latin1,
}

/// Where the numbers of a storage are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// In the record of this key, or in the file after the pickles.
    Keyed,
    /// In the file, from here on.
    File(u64),
    /// In a text of characters that stand for one byte each.
    Latin1 { start: u64, length: u64 },
}

#[derive(Debug)]
pub(super) struct Storage {
    pub(super) key: Box<str>,
    pub(super) element: Element,
    /// The number of elements.
    pub(super) count: u64,
    pub(super) place: Place,
}

impl Storage {
    /// The size in bytes; none if it overflows.
    pub(super) fn size(&self) -> Option<u64> {
        self.count.checked_mul(self.element.size)
    }
}

/// The description of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described {
    /// Its storage.
    pub(super) storage: u32,
    /// The type of its elements.
    pub(super) element: Element,
    /// The index of the first element in the storage.
    pub(super) offset: u64,
    /// The shape.
    pub(super) dims: Vec<usize>,
    /// The distance between neighbouring elements along each axis.
    pub(super) strides: Vec<usize>,
}

/// An object of a class, and what it was made of.
#[derive(Debug)]
pub(super) struct Object {
    /// An index of [`Graph::globals`].
    pub(super) class: u32,
    pub(super) state: Option<At>,
}

/// Values, and the tables of what they consist of.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) values: Vec<Value>,
    pub(super) lists: Vec<Vec<At>>,
    pub(super) blobs: Vec<Blob>,
    /// Functions and classes by name.
    pub(super) globals: IndexMap<String, Role>,
    pub(super) objects: Vec<Object>,
    pub(super) storages: Vec<Storage>,
    /// The storages that have keys.
    pub(super) keys: HashMap<Box<str>, u32>,
    pub(super) tensors: Vec<Described>,
    /// NumPy's types; none for those that are not numbers.
    pub(super) types: Vec<Option<Element>>,
    /// How many keys and values have been copied.
    pub(super) copied: usize,
}

/// How deep values may be nested; each module takes three levels.
const DEPTH: u32 = 256;

/// How many bytes the values may be when all that is shared is written out: for a million tensors.
const MOST: u64 = 1 << 26;

/// What a value is when all that it shares is written out.
#[derive(Clone, Copy)]
struct Measure {
    leaves: u64,
    bytes: u64,
    depth: u32,
}

impl Graph {
    pub(super) fn add(&mut self, value: Value) -> At {
        self.values.push(value);
        (self.values.len() - 1) as At
    }

    pub(super) fn value(&self, at: At) -> Value {
        self.values[at as usize]
    }

    pub(super) fn list(&mut self, items: Vec<At>) -> u32 {
        self.lists.push(items);
        (self.lists.len() - 1) as u32
    }

    pub(super) fn blob(&mut self, blob: Blob) -> u32 {
        self.blobs.push(blob);
        (self.blobs.len() - 1) as u32
    }

    /// The name of a function or class, and what it is for.
    pub(super) fn global(&self, index: u32) -> (&str, Role) {
        // Indices are given out by `insert` alone, and nothing is removed.
        self.globals.get_index(index as usize).map_or(("", Role::Object), |(name, role)| (name, *role))
    }

    pub(super) fn object(&mut self, class: u32, state: Option<At>) -> Value {
        self.objects.push(Object { class, state });
        Value::Object((self.objects.len() - 1) as u32)
    }

    pub(super) fn tensor(&mut self, tensor: Described) -> Value {
        self.tensors.push(tensor);
        Value::Tensor((self.tensors.len() - 1) as u32)
    }

    /// A text of at most the length that is kept.
    pub(super) fn text(&self, at: At) -> Option<&str> {
        match self.value(at) {
            Value::Text(i) => self.blobs[i as usize].text.as_deref(),
            _ => None,
        }
    }

    /// The items of a list, a tuple or a set.
    pub(super) fn items(&self, at: At) -> Option<&[At]> {
        match self.value(at) {
            Value::Tuple(i) | Value::List(i) | Value::Set(i) => Some(&self.lists[i as usize]),
            _ => None,
        }
    }

    /// The keys and values of a dictionary.
    pub(super) fn pairs(&self, at: At) -> Option<impl DoubleEndedIterator<Item = (At, At)>> {
        match self.value(at) {
            Value::Dict(i) => Some(self.lists[i as usize].chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => None,
        }
    }

    /// The value of a key; the last of several holds.
    pub(super) fn field(&self, dict: At, key: &str) -> Option<At> {
        self.pairs(dict)?.rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, value)| value)
    }

    pub(super) fn state(&self, at: At) -> Option<At> {
        match self.value(at) {
            Value::Object(i) => self.objects[i as usize].state,
            _ => None,
        }
    }

    /// The state of a module of PyTorch.
    pub(super) fn module(&self, at: At) -> Option<At> {
        self.state(at).filter(|state| self.field(*state, "_modules").is_some())
    }

    /// Checks that what is below `root` is a tree of plausible size and depth when all that is shared is written out,
    /// so that it can be walked.
    pub(super) fn check(&self, root: At) -> Result<(), Fault> {
        #[derive(Clone, Copy)]
        enum Visit {
            New,
            Open,
            Done(Measure),
        }
        let mut visits = vec![Visit::New; self.values.len()];
        let mut path = vec![(root, 0)];
        visits[root as usize] = Visit::Open;
        while let Some((at, next)) = path.last_mut() {
            let at = *at;
            if let Some(child) = self.child(at, *next) {
                *next += 1;
                match visits[child as usize] {
                    Visit::New => path.push((child, 0)),
                    Visit::Open => return Err("one of its values contains itself".into()),
                    Visit::Done(_) => continue,
                }
                visits[child as usize] = Visit::Open;
                if path.len() > DEPTH as usize {
                    return Err(format!("its values are nested more than {DEPTH} deep").into());
                }
                continue;
            }
            let of = |child: At| match visits[child as usize] {
                Visit::Done(measure) => measure,
                _ => Measure { leaves: 0, bytes: 0, depth: 0 },
            };
            let measure = self.measure(at, of);
            if measure.bytes > MOST || measure.depth > DEPTH {
                return Err("its values refer to each other so often that they are too many to be read".into());
            }
            visits[at as usize] = Visit::Done(measure);
            path.pop();
        }
        Ok(())
    }

    /// A value directly below another, by its number.
    fn child(&self, at: At, number: usize) -> Option<At> {
        match self.value(at) {
            Value::Tuple(i) | Value::List(i) | Value::Set(i) | Value::Dict(i) => {
                self.lists[i as usize].get(number).copied()
            }
            Value::Object(_) if number == 0 => self.state(at),
            _ => None,
        }
    }

    /// The measure of a value whose children have these measures.
    fn measure(&self, at: At, of: impl Fn(At) -> Measure) -> Measure {
        let length = |at: At| match self.value(at) {
            Value::Text(i) => self.blobs[i as usize].length,
            _ => 8,
        };
        let (mut sum, mut number) = (Measure { leaves: 0, bytes: length(at), depth: 0 }, 0);
        let is_dict = matches!(self.value(at), Value::Dict(_));
        while let Some(child) = self.child(at, number) {
            let measure = of(child);
            sum.leaves = sum.leaves.saturating_add(measure.leaves);
            sum.bytes = sum.bytes.saturating_add(measure.bytes);
            sum.depth = sum.depth.max(measure.depth);
            // A leaf is named after all the keys above it.
            let key = if is_dict && !number.is_multiple_of(2) { self.child(at, number - 1) } else { None };
            let named = key.map_or(0, |key| measure.leaves.saturating_mul(length(key)));
            sum.bytes = sum.bytes.saturating_add(named);
            number += 1;
        }
        Measure { leaves: sum.leaves.max(1), depth: sum.depth + 1, ..sum }
    }
}
