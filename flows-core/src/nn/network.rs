//! What computes the parameters of a bijector.

use super::Mode;
use crate::{Result, Structure};
use candle_core::Tensor;

/// A network from one batch of vectors to another, possibly conditioned on a context; or of signals or images, from
/// channels to channels, place by place.
///
/// The library's are made by a [`NetworkConfig`](super::NetworkConfig). One of your own takes its weights from a
/// [`Scope`](super::Scope), by [`Linear`](super::Linear) layers or one by one, and goes wherever a boxed network does:
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
    /// The output, (B, outputs), for x of shape (B, inputs), or (B, outputs, places...) for (B, inputs, places...);
    /// with dropout, if the network has any, in training.
    ///
    /// # Errors
    /// When a shape is wrong, or a context is missing that is needed.
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor>;

    /// What this is made of, for people to read; its name, if not said otherwise.
    fn structure(&self) -> Structure {
        Structure::named_after(&self)
    }
}
