//! The training loop.

use super::state::Progress;
use super::{Checkpoint, Ema, Loss, Observer, Optimizer, Scheduler, Step, StepEvent, StepOutcome, TrainConfig};
use crate::files::is_finite;
use crate::nn::Parameters;
use crate::{Error, Result, Rng};
use candle_core::Tensor;
use std::time::Instant;

/// Computes a validation figure, lower being better; the generator is in the same state at every call.
pub type Evaluate<'a> = &'a mut dyn FnMut(&mut Rng) -> Result<f64>;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// The evaluations stopped improving.
    EarlyStopped,
    /// An [`Observer`] asked to stop.
    Interrupted,
}

/// Trains the weights of one store.
///
/// Each step evaluates the loss on `accumulate` batches and minimises the mean by a [`Step`]. Steps whose loss or
/// gradient is not finite are skipped; too many in a row are an [`Error::Diverged`].
///
/// When a run ends, whatever the [`Outcome`], the model has the weights to use: those of the best
/// evaluation (`keep_best`), else the averages (`ema`), else the last weights.
#[derive(Debug)]
pub struct Trainer {
    pub(super) parameters: Parameters,
    pub(super) config: TrainConfig,
    pub(super) training: Step,
    pub(super) scheduler: Scheduler,
    pub(super) progress: Progress,
    pub(super) best: Option<Vec<(String, Tensor)>>,
    pub(super) checkpoint: Option<Checkpoint>,
    /// Whether the run has ended, so that the model has the weights to use rather than those of the last step.
    pub(super) over: bool,
}

impl Trainer {
    /// A trainer of the weights currently in `parameters`; `rng` is passed to the loss.
    ///
    /// # Errors
    /// When a setting cannot be used, or there is nothing to train.
    pub fn new(parameters: &Parameters, config: TrainConfig, mut rng: Rng) -> Result<Self> {
        config.validate()?;
        let optimizer = Optimizer::new(config.optimizer.clone(), parameters)?.with_groups(&config.groups)?;
        let mut training = Step::new(optimizer, parameters)?;
        if let Some(norm) = config.clip_norm {
            training = training.with_clip_norm(norm)?;
        }
        if let Some(ema) = config.ema.clone() {
            training = training.with_ema(Ema::new(ema, parameters)?);
        }
        let evaluation_rng = rng.fork();
        let progress = Progress {
            step: 0,
            seconds: 0.0,
            rng,
            evaluation_rng,
            best: None,
            last: None,
            stale: 0,
            skipped: 0,
            skipped_in_a_row: 0,
        };
        Ok(Self {
            training,
            scheduler: Scheduler::new(config.schedule.clone(), config.steps)?,
            parameters: parameters.clone(),
            config,
            progress,
            best: None,
            checkpoint: None,
            over: false,
        })
    }

    /// Saves the run to `checkpoint`.
    #[must_use]
    pub fn with_checkpoint(mut self, checkpoint: Checkpoint) -> Self {
        self.checkpoint = Some(checkpoint);
        self
    }

    /// The parameters that are trained.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Seconds of training, including those before an interruption.
    pub fn seconds(&self) -> f64 {
        self.progress.seconds
    }

    /// The best evaluation so far.
    pub fn best(&self) -> Option<f64> {
        self.progress.best.map(f64::from_bits)
    }

    /// The evaluation of the weights that are kept: the best one if `keep_best`, else the last.
    pub fn kept(&self) -> Option<f64> {
        if self.config.keep_best { self.best() } else { self.progress.last.map(f64::from_bits) }
    }

    /// Trains until all steps are done, patience runs out, or the observer asks to stop; then saves.
    ///
    /// `loss` takes the index of its batch (0, 1, 2, ..., continuing after a resume) and returns a
    /// scalar, or a value with its gradients ([`LossGradients::of_pieces`](super::LossGradients::of_pieces)). If its
    /// batch depends only on that index and the generator, a resumed run is bit for bit an uninterrupted one.
    ///
    /// # Errors
    /// Any error from `loss`, `evaluate` or the observer, [`Error::Diverged`], or when a file cannot be
    /// written. The last checkpoint is then left as it was.
    pub fn run<L: Loss>(
        &mut self,
        mut loss: impl FnMut(u64, &mut Rng) -> Result<L>,
        mut evaluate: Option<Evaluate<'_>>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        if self.over {
            return Err(Error::Config("the run has ended: create a new trainer, or resume".into()));
        }
        if evaluate.is_none() && (self.config.patience.is_some() || self.scheduler.needs_evaluation()) {
            return Err(Error::Config("`patience` and the plateau schedule need data to evaluate on".into()));
        }
        let (start, first, before) = (Instant::now(), self.progress.step, self.progress.seconds);
        let steps = self.config.steps;
        let mut outcome = Outcome::Finished;
        while self.progress.step < steps {
            if self.config.patience.is_some_and(|patience| self.progress.stale >= patience) {
                outcome = Outcome::EarlyStopped;
                break;
            }
            let lr = self.config.optimizer.lr() * self.scheduler.factor(self.progress.step);
            let StepOutcome { loss, grad_norm } = self.advance(&mut loss, lr)?;
            let step = self.progress.step;
            let due = |every: Option<u64>| every.is_some_and(|every| step.is_multiple_of(every));
            let validation = match &mut evaluate {
                Some(evaluate) if due(self.config.evaluate_every) || step == steps => Some(self.evaluate(evaluate)?),
                _ => None,
            };
            let elapsed = start.elapsed().as_secs_f64();
            self.progress.seconds = before + elapsed;
            let event = StepEvent {
                step,
                steps,
                loss,
                lr,
                grad_norm,
                validation,
                best: self.best(),
                skipped: self.progress.skipped,
                seconds: self.progress.seconds,
                steps_per_second: (step - first) as f64 / elapsed.max(f64::MIN_POSITIVE),
            };
            if observer.step(&event)?.is_break() && step < steps {
                outcome = Outcome::Interrupted;
                break;
            }
            // Not after a skipped step: the run may be about to diverge.
            if due(self.config.checkpoint_every) && step < steps && self.progress.skipped_in_a_row == 0 {
                self.save()?;
            }
        }
        self.save()?;
        self.over = true;
        if self.best.is_some() || self.training.ema().is_some() {
            let model = self.model_tensors()?.into_iter().collect();
            self.parameters.load(&model)?;
        }
        Ok(outcome)
    }

    /// One step.
    fn advance<L: Loss>(&mut self, loss: &mut impl FnMut(u64, &mut Rng) -> Result<L>, lr: f64) -> Result<StepOutcome> {
        let (batches, progress) = (self.config.accumulate, &mut self.progress);
        let outcome = self.training.minimize_at(lr, || {
            let first = progress.step * batches;
            let mut total = loss(first, &mut progress.rng)?.gradients()?;
            for i in 1..batches {
                total.add(loss(first + i, &mut progress.rng)?.gradients()?)?;
            }
            if batches > 1 { total.times(1.0 / batches as f64) } else { Ok(total) }
        })?;
        progress.step += 1;
        if outcome.taken() {
            progress.skipped_in_a_row = 0;
            return Ok(outcome);
        }
        progress.skipped += 1;
        progress.skipped_in_a_row += 1;
        if progress.skipped_in_a_row > self.config.max_skipped {
            let StepOutcome { loss, grad_norm } = outcome;
            // If a weight is NaN it is the cause: name it.
            self.check_finite()?;
            let what = match loss {
                loss if loss.is_finite() => "the gradient is not finite",
                loss if loss.is_nan() => "the loss is NaN",
                _ => "the loss is infinite, as when a row lies outside the support of the flow,",
            };
            return Err(self.diverged(what, &format!("loss {loss}, learning rate {lr:e}, gradient norm {grad_norm}")));
        }
        Ok(outcome)
    }

    /// Evaluates the averaged weights, if there are any, else the weights, and keeps the best.
    fn evaluate(&mut self, evaluate: &mut Evaluate<'_>) -> Result<f64> {
        let mut rng = self.progress.evaluation_rng.clone();
        let best = self.best();
        let (parameters, keep) = (&self.parameters, self.config.keep_best);
        let mut work = || {
            let value = evaluate(&mut rng)?;
            let better = value.is_finite() && best.is_none_or(|best| value < best);
            let weights = if better && keep { Some(parameters.snapshot()?) } else { None };
            Ok((value, better, weights))
        };
        let (value, better, weights) = match self.training.ema_mut() {
            Some(ema) => ema.applied(work)?,
            None => work()?,
        };
        self.scheduler.observe(value);
        self.progress.last = Some(value.to_bits());
        if better {
            self.progress.best = Some(value.to_bits());
            self.progress.stale = 0;
            self.best = weights;
        } else {
            self.progress.stale += 1;
        }
        Ok(value)
    }

    /// The weights and buffers of the model to use.
    pub(super) fn model_tensors(&mut self) -> Result<Vec<(String, Tensor)>> {
        match (&self.best, self.training.ema_mut()) {
            (Some(best), _) => Ok(best.clone()),
            (None, Some(ema)) => ema.applied(|| self.parameters.snapshot()),
            (None, None) => Ok(self.parameters.tensors()),
        }
    }

    /// Refuses non-finite weights and buffers, so that they are never saved over good ones.
    pub(super) fn check_finite(&self) -> Result<()> {
        for (name, tensor) in self.parameters.tensors() {
            if !is_finite(&tensor)? {
                let figures = format!("learning rate {:e}", self.config.optimizer.lr());
                return Err(self.diverged(&format!("the tensor `{name}` is not finite"), &figures));
            }
        }
        Ok(())
    }

    fn diverged(&self, what: &str, figures: &str) -> Error {
        let step = self.progress.step;
        let row = match self.progress.skipped_in_a_row {
            0 => String::new(),
            row => format!(" after {} steps skipped for the same reason", row - 1),
        };
        Error::Diverged(format!(
            "training diverged: {what} at step {step} ({figures}){row}. No checkpoint was overwritten. Try a lower \
             learning rate (`optimizer.lr`), a warm-up (`schedule.warmup`) or clipping (`clip_norm`), and check the \
             data for non-finite values"
        ))
    }
}

#[cfg(test)]
mod tests;
