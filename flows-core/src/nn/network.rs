//! What computes the parameters of a bijector.

use super::Mode;
use crate::{Error, Result, Structure};
use candle_core::Tensor;
use std::fmt::Display;

/// A network from one batch of vectors to another, possibly conditioned on a context.
pub trait Network: std::fmt::Debug + Send + Sync {
    /// The output, (B, outputs), for x of shape (B, inputs); with dropout, if the network has any, in training.
    ///
    /// # Errors
    /// When a shape is wrong, or a context is missing that is needed.
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor>;

    /// The widths of input (without the context) and output, if they are known: then a part that wants others refuses
    /// the network when it is made, else when it is first used.
    fn widths(&self) -> Option<[usize; 2]> {
        None
    }

    /// What this is made of, for people to read.
    fn structure(&self) -> Structure;
}

/// Passes unless `network` is known to have other widths than `part` wants: of `inputs` numbers, and of `parameters`
/// numbers for each of so many elements.
pub(crate) fn check_widths(
    part: impl Display,
    network: &dyn Network,
    inputs: usize,
    [elements, parameters]: [usize; 2],
) -> Result<()> {
    let Some([from, to]) = network.widths().filter(|widths| *widths != [inputs, elements * parameters]) else {
        return Ok(());
    };
    let outputs = elements * parameters;
    Err(Error::Config(format!(
        "the network of {part} goes from {from} to {to} numbers, but from {inputs} to {outputs} is wanted ({parameters} \
         for each of {elements} elements)"
    )))
}

/// What the network of `part` gives for x (B, inputs), as (B, elements, parameters).
pub(crate) fn raw_parameters(
    part: impl Display,
    network: &dyn Network,
    x: &Tensor,
    context: Option<&Tensor>,
    [elements, parameters]: [usize; 2],
    mode: &mut Mode<'_>,
) -> Result<Tensor> {
    let raw = network.forward(x, context, mode)?;
    let (batch, outputs) = (x.dim(0)?, elements * parameters);
    if raw.dims() != [batch, outputs] {
        let want = format!("({batch}, {outputs}), {parameters} numbers for each of {elements} elements,");
        return Err(Error::shape(format!("the output of the network of {part}"), raw.dims(), want));
    }
    Ok(raw.reshape((batch, elements, parameters))?)
}
