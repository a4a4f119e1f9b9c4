//! Saving a training run, and going on exactly where it was.

use super::{Checkpoint, Ema, Optimizer, SchedulerState, Trainer};
use crate::files::{TRAINING, metadata, read_tensors, save_model_at, write_tensors};
use crate::{Error, Result, Rng};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// Where a run is, the tensors aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Steps done. Batches drawn are `accumulate` times as many, so this is the place in the data as well.
    pub(super) step: u64,
    pub(super) seconds: f64,
    pub(super) rng: Rng,
    /// Each evaluation starts from this generator: all see the same noise.
    pub(super) evaluation_rng: Rng,
    /// The best evaluation as the bits of an f64: JSON would round it.
    pub(super) best: Option<u64>,
    /// The last evaluation likewise.
    #[serde(default)]
    pub(super) last: Option<u64>,
    /// Evaluations since the best.
    pub(super) stale: u64,
    pub(super) skipped: u64,
    pub(super) skipped_in_a_row: u64,
}

/// The JSON in the metadata of a training file.
#[derive(Serialize, Deserialize)]
struct State {
    progress: Progress,
    scheduler: SchedulerState,
    /// What the run is: see [`Checkpoint::of_run`].
    #[serde(default, skip_serializing_if = "Value::is_null")]
    run: Value,
}

impl Trainer {
    /// Saves the run, then the model to use, if there is a place for them; refuses weights that are
    /// not finite in any case.
    pub(super) fn save(&mut self) -> Result<()> {
        self.check_weights()?;
        let Some(checkpoint) = self.checkpoint.clone() else { return Ok(()) };
        let (scheduler, run) = (self.scheduler.state().clone(), checkpoint.run.clone());
        let state = State { progress: self.progress.clone(), scheduler, run };
        let state = serde_json::to_string(&state).map_err(|error| Error::unwritten(&checkpoint.training, error))?;
        let mut metadata = metadata(TRAINING, &checkpoint.kind, &checkpoint.config);
        metadata.insert("step", self.progress.step.to_string());
        metadata.insert("state", state);
        let mut tensors = prefixed("weights.", &self.parameters.tensors());
        tensors.extend(self.optimizer.state()?);
        if let Some(ema) = &self.ema {
            tensors.extend(ema.state()?);
        }
        if let Some(best) = &self.best {
            tensors.extend(prefixed("best.", best));
        }
        write_tensors(&checkpoint.training, &metadata, &tensors)?;
        let model = self.model_tensors()?;
        save_model_at(&checkpoint.model, &checkpoint.kind, &checkpoint.config, Some(self.progress.step), &model)
    }

    /// Goes back to where the run of this trainer's [`Checkpoint`] was saved last, and gives the
    /// number of steps done by then. Steps, schedule, and other settings may differ from those of
    /// the run as it was; with the same settings what follows is the same to the bit.
    ///
    /// # Errors
    /// When there is no checkpoint, the file is missing or broken, or it is of another model,
    /// other settings of the model that are not [`Checkpoint::changeable`], or another optimiser; then nothing is
    /// changed.
    pub fn resume(&mut self) -> Result<u64> {
        let Some(Checkpoint { training: path, kind, config, changeable, .. }) = self.checkpoint.clone() else {
            return Err(Error::Config("there is nothing to resume from: give the trainer a checkpoint".into()));
        };
        let remedy = "start the run anew, without resuming";
        let contents = read_tensors(&path, TRAINING, remedy)?;
        let found = |name: &str| contents.metadata.get(name).map(String::as_str).unwrap_or_default();
        if found("kind") != kind {
            let message = format!("is a run of a model of kind `{}`, not `{kind}`; {remedy}", found("kind"));
            return Err(Error::file(&path, message));
        }
        if fixed(found("config"), changeable) != fixed(&config, changeable) {
            let message = format!(
                "is a run of a model with other settings ({} there, {config} here): use the same, or {remedy}",
                found("config")
            );
            return Err(Error::file(&path, message));
        }
        let State { progress, scheduler, .. } = serde_json::from_str(found("state"))
            .map_err(|error| Error::file(&path, format!("does not say where the run was ({error}); {remedy}")))?;
        let of_run = |error: Error| match error {
            error @ Error::Candle(_) => error,
            error => Error::file(&path, format!("does not fit this run: {error}; use the same settings, or {remedy}")),
        };
        // Everything is made beside what is there, and taken only when all of it is.
        let tensors = contents.tensors;
        let mut optimizer = Optimizer::new(self.config.optimizer.clone(), &self.parameters)?;
        optimizer.load_state(&tensors).map_err(of_run)?;
        let mut ema = None;
        if let Some(config) = &self.config.ema {
            ema.insert(Ema::new(config.clone(), &self.parameters)?).load_state(&tensors).map_err(of_run)?;
        }
        let best = self.best_of(without_prefix("best.", &tensors)).map_err(of_run)?;
        self.parameters.load(&without_prefix("weights.", &tensors)).map_err(of_run)?;
        self.optimizer = optimizer;
        self.ema = ema;
        self.best = best;
        self.scheduler.load_state(scheduler);
        self.progress = progress;
        self.over = false;
        Ok(self.progress.step)
    }

    /// The best weights in the order and on the device of the model's; none if none were kept.
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

/// The settings in `text`, JSON, but those that may change; none if it is not JSON.
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

fn prefixed(prefix: &str, tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
}

fn without_prefix(prefix: &str, tensors: &HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let of_prefix = tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_string(), t.clone())));
    of_prefix.collect()
}
