//! What computes the parameters of a bijector.

use super::Mode;
use crate::{Result, Structure};
use candle_core::Tensor;

/// A network from one batch of vectors to another, possibly conditioned on a context; or of signals or images, from
/// channels to channels, place by place.
pub trait Network: std::fmt::Debug + Send + Sync {
    /// The output, (B, outputs), for x of shape (B, inputs), or (B, outputs, places...) for (B, inputs, places...);
    /// with dropout, if the network has any, in training.
    ///
    /// # Errors
    /// When a shape is wrong, or a context is missing that is needed.
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor>;

    /// What this is made of, for people to read.
    fn structure(&self) -> Structure;
}
