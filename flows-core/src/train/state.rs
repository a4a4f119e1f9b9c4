//! Saving and exactly resuming a training run.

use super::snapshot::REMEDY;
use super::{Checkpoint, Snapshot, Trainer};
use crate::files::save_model_at;
use crate::{Error, Result, Rng};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// The state of a run, apart from its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Steps done; the number of batches drawn is `accumulate` times as large, so this gives the place in the data too.
    pub(super) step: u64,
    pub(super) seconds: f64,
    pub(super) rng: Rng,
    /// Every evaluation starts from this generator, so all use the same noise.
    pub(super) evaluation_rng: Rng,
    /// The best evaluation as the bits of an f64, since JSON would round it.
    pub(super) best: Option<u64>,
    /// The last evaluation as the bits of an f64.
    #[serde(default)]
    pub(super) last: Option<u64>,
    /// Number of evaluations since the best.
    pub(super) stale: u64,
    pub(super) skipped: u64,
    pub(super) skipped_in_a_row: u64,
}

impl Trainer {
    /// Saves the run, then the model to use, if there is a checkpoint to write. Non-finite tensors are an error even
    /// without one.
    pub(super) fn save(&mut self) -> Result<()> {
        self.check_finite()?;
        let Some(checkpoint) = self.checkpoint.clone().filter(|checkpoint| checkpoint.writes) else { return Ok(()) };
        let Checkpoint { model: path, training, kind, config, run, .. } = checkpoint;
        let step = self.progress.step;
        let mut snapshot = Snapshot::new(&kind, &config)?
            .at_step(step)
            .with_value("progress", &self.progress)?
            .with_value("scheduler", self.scheduler.state())?
            .with_tensors("weights", self.parameters.tensors())?
            .with_named(self.training.state()?);
        if !run.is_null() {
            snapshot = snapshot.with_value("run", &run)?;
        }
        if let Some(best) = &self.best {
            snapshot = snapshot.with_tensors("best", best.clone())?;
        }
        snapshot.write(&training)?;
        save_model_at(&path, &kind, &config, Some(step), &self.model_tensors()?)
    }

    /// Restores the last saved state of the run from this trainer's [`Checkpoint`], and returns the
    /// number of steps done. Steps, schedule, and other settings may differ from the saved run's;
    /// with the same settings the rest of the run is bit for bit that of an uninterrupted one.
    ///
    /// # Errors
    /// When there is no checkpoint, the file is missing or malformed, or it belongs to another model, to
    /// model settings that differ and are not [`Checkpoint::changeable`], or to another optimiser; then nothing is
    /// changed.
    pub fn resume(&mut self) -> Result<u64> {
        let Some(Checkpoint { training: path, kind, config, changeable, .. }) = self.checkpoint.clone() else {
            return Err(Error::Config("there is nothing to resume from: give the trainer a checkpoint".into()));
        };
        let snapshot = Snapshot::read(&path, &kind)?;
        let found = snapshot.config();
        if fixed(found, changeable) != fixed(&config, changeable) {
            let message = format!(
                "holds a run of a model with other settings ({found} there, {config} here): use the same, or {REMEDY}"
            );
            return Err(Error::file(&path, message));
        }
        let (progress, scheduler) = (snapshot.value("progress")?, snapshot.value("scheduler")?);
        let of_run = |error: Error| match error {
            error @ Error::Candle(_) => error,
            error => Error::file(&path, format!("does not fit this run: {error}; use the same settings, or {REMEDY}")),
        };
        // Read everything before changing anything.
        let state = self.training.read_state(&snapshot.named()).map_err(of_run)?;
        let best = self.best_of(snapshot.tensors("best")).map_err(of_run)?;
        self.parameters.load(&snapshot.tensors("weights")).map_err(of_run)?;
        self.training.set_state(state);
        self.best = best;
        self.scheduler.load_state(scheduler);
        self.progress = progress;
        self.over = false;
        Ok(self.progress.step)
    }

    /// The saved best weights, in the model's order and on its device; none if none were kept.
    fn best_of(&self, mut saved: HashMap<String, Tensor>) -> Result<Option<Vec<(String, Tensor)>>> {
        if saved.is_empty() || !self.config.keep_best {
            return Ok(None);
        }
        let take = |(name, now): (String, Tensor)| match saved.remove(&name) {
            Some(best) if best.shape() == now.shape() => {
                Ok((name, best.to_dtype(now.dtype())?.to_device(now.device())?))
            }
            _ => Err(Error::Config(format!("`best.{name}` is missing or has another shape"))),
        };
        Ok(Some(self.parameters.tensors().into_iter().map(take).collect::<Result<_>>()?))
    }
}

/// The settings in the JSON `text`, except those that may change; none if it is not JSON.
fn fixed(text: &str, changeable: &[&str]) -> Option<Value> {
    let mut settings: Value = serde_json::from_str(text).ok()?;
    for path in changeable {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        let parent: String = parent.split('.').filter(|name| !name.is_empty()).map(|name| format!("/{name}")).collect();
        if let Some(Value::Object(parent)) = settings.pointer_mut(&parent) {
            parent.remove(name);
        }
    }
    Some(settings)
}
