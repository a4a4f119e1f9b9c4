//! The settings of a field.

use super::{Activation, ConvConfig, ConvField, Graph, GraphConfig, Mlp, VectorField};
use flows_core::Result;
use flows_core::nn::Scope;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The kind of a vector field and its settings; without a `kind` the settings are those of [`MlpConfig`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", remote = "Self")]
pub enum FieldConfig {
    /// A multi-layer perceptron.
    Mlp(MlpConfig),
    /// A convolutional network over images.
    Conv(ConvConfig),
    /// An equivariant graph network over the positions of particles.
    Graph(GraphConfig),
}

impl FieldConfig {
    /// Builds the field over vectors of `dim` numbers, conditional on a context of the given width if any.
    ///
    /// # Errors
    /// When a setting is invalid, or a name is already taken in `scope`.
    pub fn build(&self, dim: usize, context: Option<usize>, scope: &Scope) -> Result<Arc<dyn VectorField>> {
        Ok(match self {
            Self::Mlp(config) => Arc::new(Mlp::new(dim, context, config, scope)?),
            Self::Conv(config) => Arc::new(ConvField::with_dim(dim, context, config, scope)?),
            Self::Graph(config) => Arc::new(Graph::new(dim, context, config, scope)?),
        })
    }

    /// The dimension of the space that the particles move in, if the field is one over particles.
    pub fn space(&self) -> Option<usize> {
        match self {
            Self::Mlp(_) | Self::Conv(_) => None,
            Self::Graph(config) => Some(config.dimension),
        }
    }
}

impl Default for FieldConfig {
    fn default() -> Self {
        Self::Mlp(MlpConfig::default())
    }
}

impl From<MlpConfig> for FieldConfig {
    fn from(config: MlpConfig) -> Self {
        Self::Mlp(config)
    }
}

impl From<GraphConfig> for FieldConfig {
    fn from(config: GraphConfig) -> Self {
        Self::Graph(config)
    }
}

impl Serialize for FieldConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for FieldConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut settings = Map::deserialize(deserializer)?;
        settings.entry("kind").or_insert("mlp".into());
        Self::deserialize(Value::Object(settings)).map_err(D::Error::custom)
    }
}

/// How a layer depends on time t; W is its matrix, b its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeLayer {
    /// Not at all: `W x + b`.
    Ignore,
    /// As one more input: `W x + b + h t`.
    Concat,
    /// As a gate and a shift (FFJORD): `(W x + b) sigmoid(g t + c) + h t`.
    ConcatSquash,
    /// Through a network of t that produces W and b (FFJORD): `[W, b] + H tanh(g t + c)`, with g and c of 8
    /// numbers. As published, H and g start at 0, all else from a normal with standard deviation 0.01.
    Hyper,
}

/// The settings of an [`Mlp`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// How the layers depend on time.
    pub layer: TimeLayer,
    /// The activation after all layers but the last.
    pub activation: Activation,
    /// Factor on the first layer's initial weights: above 1 for data with sharp edges.
    pub gain: f64,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { hidden: vec![64, 64, 64], layer: TimeLayer::ConcatSquash, activation: Activation::Tanh, gain: 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_without_a_kind_are_those_of_an_mlp() {
        let read = |text: &str| toml::from_str::<FieldConfig>(text);
        let want: FieldConfig = MlpConfig { hidden: vec![8], ..MlpConfig::default() }.into();
        for text in ["hidden = [8]", "kind = 'mlp'\nhidden = [8]"] {
            assert_eq!(read(text).unwrap(), want);
        }
        assert_eq!(read("").unwrap(), FieldConfig::default());
        assert_eq!(read(&toml::to_string(&want).unwrap()).unwrap(), want);
        assert_eq!(serde_json::from_str::<FieldConfig>(&serde_json::to_string(&want).unwrap()).unwrap(), want);
        for (text, word) in [("width = 8", "width"), ("kind = 'graphs'", "graphs"), ("hidden = 8", "sequence")] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
