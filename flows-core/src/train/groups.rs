//! Weights that are trained at a rate of their own.

use serde::{Deserialize, Serialize};

/// The settings of a part of the weights, chosen by name.
///
/// ```
/// use flows_core::train::TrainConfig;
/// let config: TrainConfig = toml::from_str("
///     optimizer = { kind = 'adamw', lr = 1e-3, weight_decay = 1e-2 }
///     groups = [
///         { prefix = 'embedding', lr_factor = 0.1 },
///         { prefix = 'base', lr_factor = 0.0 },
///         { prefix = 'flow.0', weight_decay = 0.0 },
///     ]
/// ").expect("settings");
/// assert!(config.groups[1].contains("base.loc"));
/// assert!(!config.groups[1].contains("baseline"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// The first parts of the names: `flow.0` is the weights `flow.0` and `flow.0.(anything)`.
    pub prefix: String,
    /// The learning rate, as a factor of the optimiser's; 0 freezes the weights.
    #[serde(default = "one")]
    pub lr_factor: f64,
    /// The weight decay in place of `adamw`'s, for those of the weights that it makes decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl ParameterGroup {
    /// The weights of a prefix at `lr_factor` times the optimiser's learning rate.
    pub fn new(prefix: impl Into<String>, lr_factor: f64) -> Self {
        Self { prefix: prefix.into(), lr_factor, weight_decay: None }
    }

    /// The weights of a prefix, which training leaves as they are.
    pub fn frozen(prefix: impl Into<String>) -> Self {
        Self::new(prefix, 0.0)
    }

    /// Whether the weight of this name is of the group.
    pub fn contains(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}
