//! The settings of a training run.

use super::{EmaConfig, Memory, OptimizerConfig, ParameterGroup, Schedule};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Steps of the optimiser.
    pub steps: u64,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Groups of weights with their own learning rate; where groups overlap, the last one applies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
    /// The schedule of the learning rate.
    pub schedule: Schedule,
    /// The largest norm of the gradient; larger gradients are scaled down.
    pub clip_norm: Option<f64>,
    /// Average the weights, and evaluate and keep the averages.
    pub ema: Option<EmaConfig>,
    /// Batches per step, whose mean loss is minimised.
    pub accumulate: u64,
    /// Whether the loss stores or recomputes activations, if it supports both.
    pub memory: Memory,
    /// Evaluate after every so many steps and after the last; if unset, after the last only.
    pub evaluate_every: Option<u64>,
    /// Stop after so many evaluations in a row without a new best.
    pub patience: Option<u64>,
    /// End with the weights of the best evaluation rather than the last weights.
    pub keep_best: bool,
    /// Save after every so many steps and at the end; if unset, at the end only.
    pub checkpoint_every: Option<u64>,
    /// How many steps in a row may be skipped because the loss or gradient is not finite.
    pub max_skipped: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            optimizer: OptimizerConfig::default(),
            groups: Vec::new(),
            schedule: Schedule::default(),
            clip_norm: None,
            ema: None,
            accumulate: 1,
            memory: Memory::Store,
            evaluate_every: None,
            patience: None,
            keep_best: true,
            checkpoint_every: None,
            max_skipped: 3,
        }
    }
}

impl TrainConfig {
    /// Makes the batch and the steps between evaluations and checkpoints smaller where there are few rows, so that an
    /// evaluation comes after at most four passes over them; returns the batch, a sixteenth of the rows, at least 32.
    ///
    /// With the defaults of many rows, a model of a few hundred has learned them by heart before it is first evaluated.
    #[must_use]
    pub fn fit_to_rows(&mut self, rows: usize, batch: usize) -> usize {
        let batch = batch.min((rows / 16).next_power_of_two().max(32));
        let most = (4 * rows).div_ceil(batch).max(10) as u64;
        for every in [&mut self.evaluate_every, &mut self.checkpoint_every].into_iter().flatten() {
            *every = (*every).min(most);
        }
        batch
    }

    pub(super) fn validate(&self) -> Result<()> {
        let bad = |message: &str| Err(Error::Config(message.into()));
        if self.accumulate == 0 {
            return bad("`accumulate` is 0, but a step needs at least 1 batch");
        }
        if self.evaluate_every == Some(0) || self.checkpoint_every == Some(0) || self.patience == Some(0) {
            return bad(
                "`evaluate_every`, `checkpoint_every` and `patience` must be at least 1; omit them to disable them",
            );
        }
        let plateau = matches!(self.schedule, Schedule::Plateau { .. });
        if (self.patience.is_some() || plateau) && self.evaluate_every.is_none() {
            return bad("`patience` and the plateau schedule need evaluations: set `evaluate_every`");
        }
        Ok(())
    }
}
