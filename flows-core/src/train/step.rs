//! One training step: gradients, clipping, optimiser and weight averages.

use super::ema::EmaState;
use super::optimizer::OptimizerState;
use super::slices::assign;
use super::{Ema, Loss, LossGradients, Optimizer, clip_by_norm, gradient_norm};
use crate::nn::Parameters;
use crate::{Error, Result};
use candle_core::{Tensor, Var};
use std::collections::HashMap;

/// A step of gradient descent on one loss, the building block of the [`Trainer`](super::Trainer)'s loop and of
/// custom ones.
///
/// [`Self::minimize`] computes the gradients of a loss, clips them to the largest
/// allowed norm, updates the weights, and then their averages. If the loss or a gradient is not
/// finite, the step is skipped: weights, averages and the optimiser stay as they were, and buffers that
/// the loss has changed (such as a running mean) are restored.
///
/// ```
/// use candle_core::{DType, Device};
/// use flows_core::nn::{Init, Parameters};
/// use flows_core::train::{Optimizer, OptimizerConfig, Step};
/// use flows_core::Rng;
/// let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
/// let x = parameters.scope().weight("x", 2, Init::Constant(3.0))?;
/// let optimizer = Optimizer::new(OptimizerConfig::sgd(0.1), &parameters)?;
/// let mut step = Step::new(optimizer, &parameters)?.with_clip_norm(1.0)?;
/// for _ in 0..100 {
///     step.minimize(|| Ok(x.sqr()?.sum_all()?))?;
/// }
/// assert!(x.to_vec1::<f64>()?[0].abs() < 1e-3);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Step {
    optimizer: Optimizer,
    clip_norm: Option<f64>,
    ema: Option<Ema>,
    weights: Vec<(String, Var)>,
    buffers: Vec<Tensor>,
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// The loss.
    pub loss: f64,
    /// The norm of its gradient before clipping; NaN where the loss is not finite.
    pub grad_norm: f64,
}

impl StepOutcome {
    /// Whether the weights were updated; otherwise the step was skipped.
    pub fn taken(&self) -> bool {
        self.grad_norm.is_finite()
    }
}

/// The state of a step that was read and validated but not applied yet.
pub(super) struct StepState(OptimizerState, Option<EmaState>);

impl Step {
    /// Steps of an optimiser over weights of `parameters`, whose buffers are restored when a step is
    /// skipped.
    ///
    /// # Errors
    /// When all weights are frozen.
    pub fn new(optimizer: Optimizer, parameters: &Parameters) -> Result<Self> {
        let weights = optimizer.moving();
        if weights.is_empty() {
            return Err(Error::Config("the model has no weights to train".into()));
        }
        Ok(Self { optimizer, clip_norm: None, ema: None, weights, buffers: parameters.buffers() })
    }

    /// Clips gradients whose norm, over all weights together, exceeds `norm`.
    ///
    /// # Errors
    /// When `norm` is not above 0.
    pub fn with_clip_norm(mut self, norm: f64) -> Result<Self> {
        if norm.is_nan() || norm <= 0.0 {
            return Err(Error::Config("`clip_norm` must be above 0; omit it for no clipping".into()));
        }
        self.clip_norm = Some(norm);
        Ok(self)
    }

    /// Updates these averages after each step.
    #[must_use]
    pub fn with_ema(mut self, ema: Ema) -> Self {
        self.ema = Some(ema);
        self
    }

    /// The optimiser.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The averages, if there are any.
    pub fn ema(&self) -> Option<&Ema> {
        self.ema.as_ref()
    }

    /// The averages, to evaluate them ([`Ema::applied`]).
    pub fn ema_mut(&mut self) -> Option<&mut Ema> {
        self.ema.as_mut()
    }

    /// Takes one step down the gradient of `loss` at the optimiser's own learning rate.
    ///
    /// # Errors
    /// Any error from `loss`, or when it depends on none of the weights.
    pub fn minimize<L: Loss>(&mut self, loss: impl FnOnce() -> Result<L>) -> Result<StepOutcome> {
        self.minimize_at(self.optimizer.config().lr(), loss)
    }

    /// [`Self::minimize`] at another learning rate, for example a schedule's.
    ///
    /// # Errors
    /// Same as [`Self::minimize`].
    pub fn minimize_at<L: Loss>(&mut self, lr: f64, loss: impl FnOnce() -> Result<L>) -> Result<StepOutcome> {
        // Whatever made the loss non-finite has often spoilt a running mean as well.
        let buffers = self.buffers.iter().map(Tensor::copy).collect::<candle_core::Result<Vec<_>>>()?;
        let LossGradients { value, gradients } = loss()?.gradients()?;
        let mut outcome = StepOutcome { loss: value, grad_norm: f64::NAN };
        if let Some(mut grads) = gradients {
            outcome.grad_norm = match self.clip_norm {
                Some(max_norm) => clip_by_norm(&self.weights, &mut grads, max_norm)?,
                None => gradient_norm(&self.weights, &grads)?,
            };
            if outcome.taken() {
                self.optimizer.step_finite(&grads, lr)?;
                if let Some(ema) = &mut self.ema {
                    ema.update()?;
                }
                return Ok(outcome);
            }
        }
        for (buffer, before) in self.buffers.iter().zip(&buffers) {
            assign(buffer, before)?;
        }
        Ok(outcome)
    }

    /// The state of the optimiser and of the averages; see [`Optimizer::state`] and [`Ema::state`].
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = self.optimizer.state()?;
        if let Some(ema) = &self.ema {
            state.extend(ema.state()?);
        }
        Ok(state)
    }

    /// Restores a state returned by [`Self::state`]; other names are ignored.
    ///
    /// # Errors
    /// When the state belongs to another optimiser or another model, or has no averages; then nothing is
    /// changed.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let state = self.read_state(state)?;
        self.set_state(state);
        Ok(())
    }

    pub(super) fn read_state(&self, state: &HashMap<String, Tensor>) -> Result<StepState> {
        let ema = self.ema.as_ref().map(|ema| ema.read_state(state)).transpose()?;
        Ok(StepState(self.optimizer.read_state(state)?, ema))
    }

    pub(super) fn set_state(&mut self, StepState(optimizer, averages): StepState) {
        self.optimizer.set_state(optimizer);
        if let (Some(ema), Some(averages)) = (&mut self.ema, averages) {
            ema.set_state(averages);
        }
    }
}
