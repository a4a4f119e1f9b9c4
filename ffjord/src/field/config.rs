//! The settings of a field.

use super::Activation;
use serde::{Deserialize, Serialize};

/// How a layer sees time; W is its matrix, b its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeLayer {
    /// Not at all: `W x + b`.
    Ignore,
    /// As one more input: `W x + b + h t`.
    Concat,
    /// As a gate and a shift (FFJORD): `(W x + b) sigmoid(g t + c) + h t`.
    ConcatSquash,
}

/// Which network a field is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// How the layers see time.
    pub layer: TimeLayer,
    /// The activation after all layers but the last.
    pub activation: Activation,
    /// Size of the first layer's starting weights beside the usual ones: larger for data with sharp edges.
    pub gain: f64,
}

impl Default for FieldConfig {
    fn default() -> Self {
        Self { hidden: vec![64, 64, 64], layer: TimeLayer::ConcatSquash, activation: Activation::Tanh, gain: 1.0 }
    }
}
