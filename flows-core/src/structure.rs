//! The structure of a model as a tree for display.

use crate::text::count;
use candle_core::Tensor;
use std::fmt;

/// A node of the tree printed by a flow's `Display`: name, details, own parameters, parts.
///
/// ```
/// use flows_core::Structure;
/// let layer = Structure::new("Linear", "2 -> 3").with_parameters(9);
/// let text = Structure::new("Network", "").part(layer).to_string();
/// assert_eq!(text, "Network  9 parameters\n└ Linear 2 -> 3  9 parameters\n");
/// ```
#[derive(Clone, Debug)]
pub struct Structure {
    name: String,
    details: String,
    own: usize,
    parts: Vec<Structure>,
}

impl Structure {
    /// A node without parameters or parts.
    pub fn new(name: impl Into<String>, details: impl Into<String>) -> Self {
        Self { name: name.into(), details: details.into(), own: 0, parts: Vec::new() }
    }

    /// A node with only the name of a type, taken from its `Debug` output: the default for types without a structure.
    pub fn named_after(value: &dyn fmt::Debug) -> Self {
        let debug = format!("{value:?}");
        Self::new(debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default(), "")
    }

    /// Adds to the number of the node's own parameters.
    pub fn with_parameters(mut self, count: usize) -> Self {
        self.own += count;
        self
    }

    /// Adds the elements of `weights` to the node's own parameters.
    pub fn weights<'a>(self, weights: impl IntoIterator<Item = &'a Tensor>) -> Self {
        let count = weights.into_iter().map(Tensor::elem_count).sum();
        self.with_parameters(count)
    }

    /// Adds a part.
    pub fn part(mut self, part: Structure) -> Self {
        self.parts.push(part);
        self
    }

    /// Adds several parts, in order.
    pub fn parts(mut self, parts: impl IntoIterator<Item = Structure>) -> Self {
        self.parts.extend(parts);
        self
    }

    /// The number of parameters of the node and all its parts.
    pub fn total(&self) -> usize {
        self.own + self.parts.iter().map(Self::total).sum::<usize>()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, first: &str, rest: &str) -> fmt::Result {
        write!(f, "{first}{}", self.name)?;
        if !self.details.is_empty() {
            write!(f, " {}", self.details)?;
        }
        match self.total() {
            0 => writeln!(f)?,
            n => writeln!(f, "  {} parameters", count(n))?,
        }
        for (i, part) in self.parts.iter().enumerate() {
            let last = i + 1 == self.parts.len();
            let (head, tail) = if last { ("└ ", "  ") } else { ("├ ", "│ ") };
            part.write(f, &format!("{rest}{head}"), &format!("{rest}{tail}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "", "")
    }
}
