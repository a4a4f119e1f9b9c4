//! What a run ends with.

use crate::cli::{duration, plural};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a training came to: the part of `results.json` that is the same for every program.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Weights and buffers of the model.
    pub parameters: usize,
    /// Steps done.
    pub steps: u64,
    /// Whether it ended because evaluations did not get better any more.
    pub early_stopped: bool,
    /// Seconds of training.
    pub seconds: f64,
    /// The evaluation of the weights that were kept.
    pub validation: Option<f64>,
    /// What the losses in the metrics are, in the order of the steps.
    pub losses: Vec<Loss>,
    /// The folder of the run.
    pub out: PathBuf,
}

impl Trained {
    /// For people: how long it took, with what its program has to say of that, and where it is, with what there is to
    /// see.
    pub fn lines(&self, speed: &str, pictures: &str) -> [(&'static str, String); 2] {
        let (steps, time) = (plural(self.steps as usize, "step"), duration(self.seconds));
        let stopped = if self.early_stopped { ", when validation did not get better any more" } else { "" };
        [
            ("trained", format!("{steps} in {time}{speed}{stopped}")),
            ("written", format!("{}{pictures}", self.out.display())),
        ]
    }
}

/// What losses are, from the step after that of the one before on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// The last step with it; that of the run unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// What it is and its unit, as it stands at an axis: `negative log-likelihood (nats)`.
    pub unit: String,
}

impl Loss {
    /// The loss of all steps, or of all that are left.
    pub fn all(unit: impl Into<String>) -> Self {
        Self { until: None, unit: unit.into() }
    }

    /// The loss until a step, that included.
    pub fn until(step: u64, unit: impl Into<String>) -> Self {
        Self { until: Some(step), unit: unit.into() }
    }
}
