//! Saved tensors that are not trained.

use crate::Result;
use crate::nn::Mode;
use candle_core::{Tensor, Var};

/// A saved tensor that no optimiser touches: a permutation, a running mean, a flag.
#[derive(Clone, Debug)]
pub struct Buffer(pub(super) Var);

impl Buffer {
    /// The value as a constant of the graph; it shares memory with the buffer.
    pub fn get(&self) -> Tensor {
        self.0.as_detached_tensor()
    }

    /// Replaces the value in a training step, once: not when activations are recomputed, nor in evaluation.
    ///
    /// # Errors
    /// When shape or type differ.
    pub fn update(&self, value: &Tensor, mode: &Mode<'_>) -> Result<()> {
        if mode.updates_buffers() { self.set(value) } else { Ok(()) }
    }

    /// Replaces the value, to fit it to data outside of any pass.
    ///
    /// # Errors
    /// When shape or type differ.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        Ok(self.0.set(&value.detach())?)
    }
}
