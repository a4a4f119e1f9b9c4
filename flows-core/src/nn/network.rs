//! Networks that compute the parameters of a bijector.

use super::Mode;
use crate::{Error, Result, Structure};
use candle_core::Tensor;
use std::fmt::Display;

/// A network from one batch of vectors to another, possibly conditioned on a context; or from channels to channels of
/// signals or images, at the same positions.
///
/// A [`NetworkConfig`](super::NetworkConfig) builds those of the library. One of your own creates its weights in a
/// [`Scope`](super::Scope), as [`Linear`](super::Linear) layers or one by one, and can be used wherever a boxed network
/// can:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use flows_core::bijectors::{Bijector, Coupling, Mask, univariate::Affine};
/// use flows_core::nn::{Linear, Mode, Network, Parameters};
/// use flows_core::{Result, Rng, Structure};
/// use std::sync::Arc;
///
/// /// A linear map of sines of linear maps.
/// #[derive(Debug)]
/// struct Sines(Linear, Linear);
///
/// impl Network for Sines {
///     fn forward(&self, x: &Tensor, _context: Option<&Tensor>, _mode: &mut Mode<'_>) -> Result<Tensor> {
///         self.1.forward(&self.0.forward(x)?.sin()?)
///     }
///
///     fn structure(&self) -> Structure {
///         Structure::new("Sines", "").parts([self.0.structure(), self.1.structure()])
///     }
/// }
///
/// let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
/// let scope = parameters.scope();
/// // Of three numbers the first two condition the third: by a shift and a scale, two outputs.
/// let network = Sines(Linear::new(2, 16, &scope.enter("first"))?, Linear::new(16, 2, &scope.enter("last"))?);
/// let (mask, affine) = (Mask::Halves { swap: false }, Arc::new(Affine::default()));
/// let coupling = Coupling::with_network(&[3], &mask, affine, Box::new(network), &scope)?;
/// let z = Tensor::zeros((4, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(coupling.forward(&z, None)?.0.dims(), [4, 3]);
/// # Ok::<(), flows_core::Error>(())
/// ```
pub trait Network: std::fmt::Debug + Send + Sync {
    /// The output, (B, outputs), for x of shape (B, inputs), or (B, outputs, positions...) for
    /// (B, inputs, positions...); with dropout, if the network has any, in training.
    ///
    /// # Errors
    /// When a shape is wrong, or a context that is needed is missing.
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor>;

    /// The widths of input (without the context) and output, if they are known: a layer that needs others then refuses
    /// the network when it is created rather than when it is first used.
    fn widths(&self) -> Option<[usize; 2]> {
        None
    }

    /// What this is made of, for display; by default its name.
    fn structure(&self) -> Structure {
        Structure::named_after(&self)
    }
}

/// Fails if `network` is known to have other widths than `part` needs: `inputs` numbers, and `parameters` numbers for
/// each element.
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

/// The output of the network of `part` for x (B, inputs), as (B, elements, parameters).
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
