//! What a checkpoint holds, as a tree.

use super::Checkpoint;
use super::graph::{At, Value};
use super::stored::StoredTensor;
use crate::{Error, Result};
use candle_core::Tensor;
use std::collections::{HashMap, HashSet};

/// A value in a checkpoint: a tensor, a plain value, a dictionary, a list, a module, or another object.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) at: At,
}

impl<'a> Entry<'a> {
    /// The entry of a dictionary, an attribute of an object, or an item of a list (by its number).
    ///
    /// Parameters, buffers and children of a module are attributes of it.
    pub fn get(&self, key: &str) -> Option<Self> {
        let graph = &self.checkpoint.contents.graph;
        if let Some(items) = graph.items(self.at) {
            return items.get(key.parse::<usize>().ok()?).map(|at| self.of(*at));
        }
        let dict = graph.state(self.at).unwrap_or(self.at);
        let own = graph.pairs(dict)?.rev().find(|(k, _)| self.of(*k).key().as_deref() == Some(key));
        own.map(|(_, at)| self.of(at)).or_else(|| {
            let state = graph.module(self.at)?;
            let parts = PARTS.iter().filter_map(|part| graph.field(state, part));
            parts.into_iter().find_map(|part| self.of(part).get(key))
        })
    }

    /// The module and the name of its class, such as `glow.WaveGlow`; none if it is no object.
    pub fn class(&self) -> Option<&'a str> {
        let graph = &self.checkpoint.contents.graph;
        match graph.value(self.at) {
            Value::Object(i) => Some(graph.global(graph.objects[i as usize].class).0),
            _ => None,
        }
    }

    /// What is directly below it, by name, in the order of the file: the entries of a dictionary, the items of a list,
    /// the attributes of an object.
    ///
    /// Of a module these are what its `state_dict()` is made of: its parameters, then its persistent buffers, then its
    /// children. Other attributes of it, such as the `weight` that PyTorch keeps beside `weight_g` and `weight_v`, are
    /// only available through [`Self::get`].
    pub fn entries(&self) -> Vec<(String, Self)> {
        let graph = &self.checkpoint.contents.graph;
        if let Some(items) = graph.items(self.at) {
            return items.iter().enumerate().map(|(i, at)| (i.to_string(), self.of(*at))).collect();
        }
        let named = |dict: At| -> Vec<(String, Self)> {
            let pairs: Vec<_> = graph.pairs(dict).into_iter().flatten().collect();
            let named = |(key, value): &(At, At)| Some((self.of(*key).key()?, self.of(*value)));
            // Of two entries with one key, the last holds.
            let mut seen = HashSet::new();
            let mut named: Vec<_> =
                pairs.iter().rev().filter_map(named).filter(|(key, _)| seen.insert(key.clone())).collect();
            named.reverse();
            named
        };
        let Some(state) = graph.module(self.at) else { return named(graph.state(self.at).unwrap_or(self.at)) };
        let passing = graph.field(state, "_non_persistent_buffers_set").and_then(|set| graph.items(set));
        let passing: HashSet<&str> = passing.unwrap_or_default().iter().filter_map(|at| graph.text(*at)).collect();
        let mut entries = Vec::new();
        for part in PARTS {
            let part_entries = graph.field(state, part).map(named).unwrap_or_default();
            let is_kept = |name: &str| part != "_buffers" || !passing.contains(name);
            entries.extend(part_entries.into_iter().filter(|(name, _)| is_kept(name)));
        }
        entries
    }

    /// Itself, if it is a tensor.
    pub fn tensor(&self) -> Option<StoredTensor<'a>> {
        self.named_tensor("")
    }

    /// The tensors below it in dictionaries, lists and modules, with their names from here on, in the file's order.
    ///
    /// Those of a module are the ones of its `state_dict()`, with the same names.
    pub fn tensors(&self) -> Vec<StoredTensor<'a>> {
        let mut tensors = Vec::new();
        self.collect("", &mut tensors);
        tensors
    }

    /// Reads all [tensors](Self::tensors) below it; those that are stored as one share its memory.
    ///
    /// # Errors
    /// When one cannot be read, two have one name, or they are together much larger than the file.
    pub fn read_tensors(&self) -> Result<HashMap<String, Tensor>> {
        let (mut read, mut tensors) = (HashMap::new(), HashMap::new());
        let mut left = self.checkpoint.most;
        for stored in self.tensors() {
            let described = stored.described;
            let key =
                (described.storage, described.element.name, described.offset, &described.dims, &described.strides);
            let tensor = match read.get(&key) {
                Some(tensor) => Tensor::clone(tensor),
                None => {
                    let enough = left.checked_sub(stored.cost());
                    left =
                        enough.ok_or_else(|| self.error("describes more numbers than it holds; download it again"))?;
                    let tensor = stored.read()?;
                    read.insert(key, tensor.clone());
                    tensor
                }
            };
            if tensors.insert(stored.name.clone(), tensor).is_some() {
                return Err(self.error(&format!("has two tensors with the name `{}`", stored.name)));
            }
        }
        Ok(tensors)
    }

    /// A plain value as JSON: nothing, a boolean, a number or a text; or a list, a dictionary or an object of such.
    ///
    /// # Errors
    /// When there is something else in it, such as a tensor or NaN; the message names it.
    pub fn to_json(&self) -> Result<serde_json::Value> {
        self.json("the value")
    }

    pub(super) fn of(&self, at: At) -> Self {
        Self { at, ..*self }
    }

    /// Itself as a key of a dictionary.
    fn key(&self) -> Option<String> {
        let graph = &self.checkpoint.contents.graph;
        match graph.value(self.at) {
            Value::Int(n) => Some(n.to_string()),
            _ => graph.text(self.at).map(String::from),
        }
    }

    fn named_tensor(&self, name: &str) -> Option<StoredTensor<'a>> {
        let graph = &self.checkpoint.contents.graph;
        match graph.value(self.at) {
            Value::Tensor(i) => {
                let described = &graph.tensors[i as usize];
                Some(StoredTensor { checkpoint: self.checkpoint, name: name.into(), described })
            }
            _ => None,
        }
    }

    /// Appends the tensors below it; the depth is limited when the file is opened.
    fn collect(&self, name: &str, tensors: &mut Vec<StoredTensor<'a>>) {
        let graph = &self.checkpoint.contents.graph;
        match graph.value(self.at) {
            Value::Tensor(_) => tensors.extend(self.named_tensor(name)),
            Value::Dict(_) | Value::List(_) | Value::Tuple(_) => {}
            Value::Object(_) if graph.module(self.at).is_some() => {}
            _ => return,
        }
        for (key, entry) in self.entries() {
            let name = if name.is_empty() { key } else { format!("{name}.{key}") };
            entry.collect(&name, tensors);
        }
    }

    /// Itself as JSON, called `name` in errors.
    fn json(&self, name: &str) -> Result<serde_json::Value> {
        let contents = &self.checkpoint.contents;
        let graph = &contents.graph;
        let other = |what: &str| Err(self.error(&format!("`{name}` is {what}, where a plain value is required")));
        Ok(match graph.value(self.at) {
            Value::None => serde_json::Value::Null,
            Value::Bool(value) => value.into(),
            Value::Int(value) => value.into(),
            Value::Float(value) if value.is_finite() => value.into(),
            Value::Float(value) => return other(&value.to_string()),
            Value::Text(i) => {
                let blob = &graph.blobs[i as usize];
                match &blob.text {
                    Some(text) => (**text).into(),
                    None => {
                        let read = contents.source.read(blob.start, blob.length);
                        let text = read.ok().and_then(|bytes| String::from_utf8(bytes).ok());
                        text.ok_or_else(|| self.error(&format!("`{name}` is not UTF-8")))?.into()
                    }
                }
            }
            Value::List(_) | Value::Tuple(_) | Value::Set(_) => {
                let items = self.entries().into_iter().map(|(key, entry)| entry.json(&key));
                items.collect::<Result<Vec<_>>>()?.into()
            }
            Value::Object(_) if graph.module(self.at).is_some() => return other("a module"),
            Value::Dict(_) | Value::Object(_) => {
                let fields = self.entries().into_iter().map(|(key, entry)| Ok((key.clone(), entry.json(&key)?)));
                fields.collect::<Result<serde_json::Map<_, _>>>()?.into()
            }
            Value::Tensor(_) => return other("a tensor"),
            _ => return other("of another kind"),
        })
    }

    fn error(&self, what: &str) -> Error {
        Error::file(&self.checkpoint.path, what)
    }
}

/// The dictionaries in the state of a module of which its `state_dict()` is made, in this order.
const PARTS: [&str; 3] = ["_parameters", "_buffers", "_modules"];
