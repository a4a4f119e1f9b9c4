//! The training loop.

use super::slices::assign;
use super::state::Progress;
use super::{
    Checkpoint, Ema, Loss, LossGradients, Observer, Optimizer, Scheduler, StepEvent, TrainConfig, clip_by_norm,
    gradient_norm,
};
use crate::nn::Parameters;
use crate::{Error, Result, Rng};
use candle_core::{Tensor, Var, backprop::GradStore};
use std::time::Instant;

/// A validation figure, lower is better; the generator is the same at every call.
pub type Evaluate<'a> = &'a mut dyn FnMut(&mut Rng) -> Result<f64>;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Evaluations did not get better any more.
    EarlyStopped,
    /// An [`Observer`] asked to stop.
    Interrupted,
}

/// Trains the weights of one store.
///
/// A step draws `accumulate` batches, takes the gradient of their mean loss, clips it, moves the
/// weights and averages them. A step whose loss or gradient is not finite is left out: weights,
/// buffers and averages stay as they were; too many in a row are an [`Error::Diverged`].
///
/// At its end, whatever the [`Outcome`], the model has the weights to use: those of the best
/// evaluation (`keep_best`), else the averages (`ema`), else the last.
#[derive(Debug)]
pub struct Trainer {
    pub(super) parameters: Parameters,
    pub(super) config: TrainConfig,
    pub(super) optimizer: Optimizer,
    pub(super) scheduler: Scheduler,
    pub(super) ema: Option<Ema>,
    pub(super) progress: Progress,
    pub(super) best: Option<Vec<(String, Tensor)>>,
    pub(super) checkpoint: Option<Checkpoint>,
    /// The weights are those to use, no longer those of the last step.
    pub(super) over: bool,
    weights: Vec<(String, Var)>,
    buffers: Vec<Tensor>,
}

impl Trainer {
    /// A trainer of the weights that `parameters` has by now; `rng` is what the loss draws from.
    ///
    /// # Errors
    /// When a setting cannot be used, or there is nothing to train.
    pub fn new(parameters: &Parameters, config: TrainConfig, mut rng: Rng) -> Result<Self> {
        config.validate()?;
        let weights = parameters.trainable();
        if weights.is_empty() {
            return Err(Error::Config("the model has no weights to train".into()));
        }
        let is_buffer = |name: &str| !weights.iter().any(|(weight, _)| weight == name);
        let buffers = parameters.tensors().into_iter().filter(|(name, _)| is_buffer(name)).map(|(_, t)| t).collect();
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
            optimizer: Optimizer::new(config.optimizer.clone(), parameters)?,
            scheduler: Scheduler::new(config.schedule.clone(), config.steps)?,
            ema: config.ema.clone().map(|ema| Ema::new(ema, parameters)).transpose()?,
            parameters: parameters.clone(),
            config,
            progress,
            best: None,
            checkpoint: None,
            over: false,
            weights,
            buffers,
        })
    }

    /// Has the run saved in `checkpoint`.
    #[must_use]
    pub fn with_checkpoint(mut self, checkpoint: Checkpoint) -> Self {
        self.checkpoint = Some(checkpoint);
        self
    }

    /// What it trains.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Seconds of training, those before an interruption included.
    pub fn seconds(&self) -> f64 {
        self.progress.seconds
    }

    /// The best evaluation so far.
    pub fn best(&self) -> Option<f64> {
        self.progress.best.map(f64::from_bits)
    }

    /// The evaluation of the weights that are kept: the best if `keep_best`, else the last.
    pub fn kept(&self) -> Option<f64> {
        if self.config.keep_best { self.best() } else { self.progress.last.map(f64::from_bits) }
    }

    /// Trains to the end, to the patience's end, or until the observer asks to stop; then saves.
    ///
    /// `loss` gets the number of its batch (0, 1, 2, ..., going on after a resume) and gives a
    /// scalar, or one with its gradients ([`LossGradients::of_pieces`]). A loss that takes its batch from that number and the generator alone makes a resumed
    /// run the same to the bit.
    ///
    /// # Errors
    /// Those of `loss`, `evaluate` and the observer; [`Error::Diverged`]; files that cannot be
    /// written. The last checkpoint is then as it was.
    pub fn run<L: Loss>(
        &mut self,
        mut loss: impl FnMut(u64, &mut Rng) -> Result<L>,
        mut evaluate: Option<Evaluate<'_>>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        if self.over {
            return Err(Error::Config("the run is over: make a new trainer, or resume".into()));
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
            let (loss, grad_norm) = self.advance(&mut loss, lr)?;
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
            // Not amid steps that are left out: the run may be about to diverge.
            if due(self.config.checkpoint_every) && step < steps && self.progress.skipped_in_a_row == 0 {
                self.save()?;
            }
        }
        self.save()?;
        self.over = true;
        if self.best.is_some() || self.ema.is_some() {
            let model = self.model_tensors()?.into_iter().collect();
            self.parameters.load(&model)?;
        }
        Ok(outcome)
    }

    /// One step: the loss and the norm of its gradient.
    fn advance<L: Loss>(&mut self, loss: &mut impl FnMut(u64, &mut Rng) -> Result<L>, lr: f64) -> Result<(f64, f64)> {
        // A loss that is not finite has often spoilt a running mean as well.
        let buffers = self.buffers.iter().map(Tensor::copy).collect::<candle_core::Result<Vec<_>>>()?;
        let LossGradients { value, gradients } = self.gradients(loss)?;
        let mut norm = f64::NAN;
        self.progress.step += 1;
        if let Some(mut grads) = gradients {
            norm = match self.config.clip_norm {
                Some(max_norm) => clip_by_norm(&self.weights, &mut grads, max_norm)?,
                None => gradient_norm(&self.weights, &grads)?,
            };
            if norm.is_finite() {
                self.optimizer.step(&grads, lr)?;
                if let Some(ema) = &mut self.ema {
                    ema.update()?;
                }
                self.progress.skipped_in_a_row = 0;
                return Ok((value, norm));
            }
        }
        for (buffer, before) in self.buffers.iter().zip(&buffers) {
            assign(buffer, before)?;
        }
        self.progress.skipped += 1;
        self.progress.skipped_in_a_row += 1;
        if self.progress.skipped_in_a_row > self.config.max_skipped {
            let what = if value.is_finite() { "the gradient is not finite" } else { "the loss is not finite" };
            return Err(self.diverged(what, &format!("loss {value}, learning rate {lr:e}, gradient norm {norm}")));
        }
        Ok((value, norm))
    }

    /// The mean loss over the batches of a step, and its gradients if it is finite.
    fn gradients<L: Loss>(&mut self, loss: &mut impl FnMut(u64, &mut Rng) -> Result<L>) -> Result<LossGradients> {
        let batches = self.config.accumulate;
        let first = self.progress.step * batches;
        let mut total = loss(first, &mut self.progress.rng)?.gradients()?;
        for i in 1..batches {
            total.add(loss(first + i, &mut self.progress.rng)?.gradients()?)?;
        }
        if batches > 1 { total.times(1.0 / batches as f64) } else { Ok(total) }
    }

    /// Evaluates the averages if there are any, and keeps the best.
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
        let (value, better, weights) = match &mut self.ema {
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

    /// The tensors of the model to use.
    pub(super) fn model_tensors(&mut self) -> Result<Vec<(String, Tensor)>> {
        match (&self.best, &mut self.ema) {
            (Some(best), _) => Ok(best.clone()),
            (None, Some(ema)) => ema.applied(|| self.parameters.snapshot()),
            (None, None) => Ok(self.parameters.tensors()),
        }
    }

    /// Refuses weights that are not finite, so that they are never saved over good ones.
    pub(super) fn check_weights(&self) -> Result<()> {
        let mut values = GradStore::default();
        for (_, var) in &self.weights {
            values.insert(var, var.as_detached_tensor());
        }
        if gradient_norm(&self.weights, &values)?.is_finite() {
            return Ok(());
        }
        Err(self.diverged("the weights are not finite", &format!("learning rate {:e}", self.config.optimizer.lr())))
    }

    fn diverged(&self, what: &str, figures: &str) -> Error {
        let step = self.progress.step;
        let row = match self.progress.skipped_in_a_row {
            0 => String::new(),
            row => format!(" after {} steps left out for the same reason", row - 1),
        };
        Error::Diverged(format!(
            "training diverged: {what} at step {step} ({figures}){row}. No checkpoint was overwritten. Try a lower \
             learning rate (`optimizer.lr`), a warm-up (`schedule.warmup`) or clipping (`clip_norm`), and look for \
             values that are not finite in the data"
        ))
    }
}

#[cfg(test)]
#[path = "trainer_tests.rs"]
mod tests;
