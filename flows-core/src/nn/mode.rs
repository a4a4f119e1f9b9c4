//! Whether a pass is part of a training step.

use crate::Rng;

/// Whether a network or bijector is evaluated, or part of a training step, which has dropout, statistics of the batch
/// and random estimators.
///
/// ```
/// use flows_core::{Rng, nn::Mode};
/// let mut rng = Rng::seed(0);
/// assert!(Mode::training(&mut rng).is_training());
/// assert!(Mode::evaluation().rng().is_none());
/// ```
#[derive(Debug)]
pub struct Mode<'a> {
    rng: Option<&'a mut Rng>,
    recomputes: bool,
}

impl<'a> Mode<'a> {
    /// Evaluation: nothing is random, and running statistics take the place of the batch's.
    pub fn evaluation() -> Mode<'static> {
        Mode { rng: None, recomputes: false }
    }

    /// A training step, which draws from `rng`.
    pub fn training(rng: &'a mut Rng) -> Self {
        Self { rng: Some(rng), recomputes: false }
    }

    /// The pass that recomputes activations in the backward pass: of a training step if there is a generator, a copy of
    /// the one that the first pass used.
    pub(crate) fn recomputing(rng: Option<&'a mut Rng>) -> Self {
        Self { rng, recomputes: true }
    }

    /// Whether this is a pass of a training step.
    pub fn is_training(&self) -> bool {
        self.rng.is_some()
    }

    /// Whether buffers such as running means are to be updated: in the first pass of a training step, not when the
    /// backward pass recomputes activations. [`Buffer::update`](super::Buffer::update) checks this itself.
    pub fn updates_buffers(&self) -> bool {
        self.is_training() && !self.recomputes
    }

    /// The generator of a training step; `None` in evaluation.
    pub fn rng(&mut self) -> Option<&mut Rng> {
        self.rng.as_deref_mut()
    }
}
