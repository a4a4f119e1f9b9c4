//! Observers of a training run.

use crate::Result;
use serde::Serialize;
use std::ops::ControlFlow;

/// What happened in one step of training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepEvent {
    /// Steps done, this one included.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// The loss, the mean over the batches of the step; it may be non-finite in a skipped step.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// The norm of the gradient before clipping; NaN where the loss is not finite.
    pub grad_norm: f64,
    /// The value of the evaluation, at steps that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// The best evaluation so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<f64>,
    /// Number of steps skipped so far because the loss or gradient was not finite.
    pub skipped: u64,
    /// Seconds of training, including those before an interruption.
    pub seconds: f64,
    /// Steps per second since the run was started or resumed.
    pub steps_per_second: f64,
}

/// Watches a training run and may end it.
pub trait Observer {
    /// Called after each step, before any checkpoint; `Break` makes the run save and end.
    ///
    /// # Errors
    /// An error ends the run at once.
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>>;
}

/// Observes nothing.
impl Observer for () {
    fn step(&mut self, _: &StepEvent) -> Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }
}

/// A closure is an observer:
///
/// ```
/// use flows_core::train::{Observer, StepEvent};
/// use std::ops::ControlFlow::{Break, Continue};
/// let mut losses = Vec::new();
/// let observer: &mut dyn Observer = &mut |event: &StepEvent| {
///     losses.push(event.loss);
///     Ok(if event.loss < 0.1 { Break(()) } else { Continue(()) })
/// };
/// ```
impl<F: FnMut(&StepEvent) -> Result<ControlFlow<()>>> Observer for F {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        self(event)
    }
}

/// All of them observe each step; any one can end the run.
impl Observer for Vec<Box<dyn Observer + '_>> {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        self.iter_mut().try_fold(ControlFlow::Continue(()), |so_far, observer| {
            let now = observer.step(event)?;
            Ok(if so_far.is_break() { so_far } else { now })
        })
    }
}
