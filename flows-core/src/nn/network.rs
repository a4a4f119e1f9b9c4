//! What computes the parameters of a bijector.

use crate::{Result, Rng, Structure};
use candle_core::Tensor;

/// A network from one batch of vectors to another, possibly conditioned on a context.
pub trait Network: std::fmt::Debug + Send + Sync {
    /// The output, (B, outputs), for x of shape (B, inputs).
    ///
    /// # Errors
    /// When a shape is wrong, or a context is missing that is needed.
    fn forward(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor>;

    /// [`Self::forward`] as a training step takes it, with dropout where the network has it.
    ///
    /// # Errors
    /// As [`Self::forward`].
    fn forward_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let _ = rng;
        self.forward(x, context)
    }

    /// What this is made of, for people to read.
    fn structure(&self) -> Structure;
}
