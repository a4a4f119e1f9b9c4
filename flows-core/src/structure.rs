//! What a model is made of, as a tree for people to read.

use crate::text::count;
use candle_core::Tensor;
use std::fmt;

/// A node of the tree that `Display` of a flow prints: name, details, own parameters, parts.
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

    /// A node with the name of a type alone, as `Debug` gives it: what is shown of a type that says nothing else.
    pub fn named_after(value: &dyn fmt::Debug) -> Self {
        let debug = format!("{value:?}");
        Self::new(debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default(), "")
    }

    /// Adds parameters of the node's own.
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

    /// Adds parts in order.
    pub fn parts(mut self, parts: impl IntoIterator<Item = Structure>) -> Self {
        self.parts.extend(parts);
        self
    }

    /// The parameters of the node and all its parts.
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
