//! The results of a run.

use crate::cli::{duration, plural};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The outcome of training: the part of `results.json` that is the same for every program.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Number of parameters of the model.
    pub parameters: usize,
    /// Steps done.
    pub steps: u64,
    /// Whether it ended because the evaluations stopped improving.
    pub early_stopped: bool,
    /// Seconds of training.
    pub seconds: f64,
    /// The evaluation of the weights that were kept.
    pub validation: Option<f64>,
    /// What the losses in the metrics measure, in the order of the steps.
    pub losses: Vec<Loss>,
    /// The folder of the run.
    pub out: PathBuf,
}

impl Trained {
    /// Lines for the user: the training time, followed by `speed`, and the folder, followed by `pictures`.
    pub fn lines(&self, speed: &str, pictures: &str) -> [(&'static str, String); 2] {
        let (steps, time) = (plural(self.steps as usize, "step"), duration(self.seconds));
        let stopped = if self.early_stopped { ", when validation stopped improving" } else { "" };
        [
            ("trained", format!("{steps} in {time}{speed}{stopped}")),
            ("written", format!("{}{pictures}", self.out.display())),
        ]
    }
}

/// What the losses of a range of steps measure; a range begins after the end of the one before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// The last step of the range; the last step of the run unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The quantity and its unit, as on an axis label: `negative log-likelihood (nats)`.
    pub unit: String,
}

impl Loss {
    /// The loss of all remaining steps.
    pub fn all(unit: impl Into<String>) -> Self {
        Self { until: None, unit: unit.into() }
    }

    /// The loss up to and including `step`.
    pub fn until(step: u64, unit: impl Into<String>) -> Self {
        Self { until: Some(step), unit: unit.into() }
    }
}
