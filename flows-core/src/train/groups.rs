//! Groups of weights with their own learning rate.

use serde::{Deserialize, Serialize};

/// Optimiser settings for the weights under a name prefix.
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
    /// The leading parts of the names: `flow.0` selects the weights `flow.0` and `flow.0.(anything)`.
    pub prefix: String,
    /// The factor on the optimiser's learning rate; 0 freezes the weights.
    #[serde(default = "one")]
    pub lr_factor: f64,
    /// Replaces the weight decay of `adamw`, for those of the weights to which it applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl ParameterGroup {
    /// Trains the weights under a prefix at `lr_factor` times the optimiser's learning rate.
    pub fn new(prefix: impl Into<String>, lr_factor: f64) -> Self {
        Self { prefix: prefix.into(), lr_factor, weight_decay: None }
    }

    /// Freezes the weights under a prefix.
    pub fn frozen(prefix: impl Into<String>) -> Self {
        Self::new(prefix, 0.0)
    }

    /// Whether the weight of this name is in the group.
    pub fn contains(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}
