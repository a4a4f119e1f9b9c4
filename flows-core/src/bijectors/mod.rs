//! Bijectors: invertible maps between a base space and the data, with log-determinants.
//!
//! `forward` goes from the base to the data (z -> x), `inverse` from the data to the base
//! (x -> z). Both return the value and the log|det Jacobian| of their own direction in one pass, so at a
//! point and its image the two log-determinants differ in sign alone.

use crate::shape::{batch_shape, check_event};
use crate::{Result, Structure};
use candle_core::{Device, Tensor};
use std::sync::Arc;

mod actnorm;
mod amortised;
mod autoregressive;
mod batch_norm;
mod block_neural;
mod chain;
mod concatenate;
mod conv1x1;
mod coupling;
mod elementwise;
mod embed;
mod equalize;
mod fixed_affine;
mod householder;
mod indexed;
mod inverse;
pub(crate) mod keep;
mod linear;
mod logit;
mod lu_linear;
mod matrix;
mod multi_scale;
mod orthogonal;
mod permutation;
mod planar;
mod radial;
mod reshape;
mod residual;
mod squeeze;
mod stack;
mod standardize;
pub mod support;
mod sylvester;
mod triangular;
pub mod univariate;
mod vjp;
mod whiten;

pub use actnorm::ActNorm;
pub use autoregressive::Autoregressive;
pub use batch_norm::BatchNorm;
pub use block_neural::BlockNeural;
pub use chain::Chain;
pub use concatenate::Concatenate;
pub use conv1x1::Conv1x1;
pub use coupling::{Coupling, Mask};
pub use elementwise::Elementwise;
pub use embed::Embed;
pub use equalize::Equalize;
pub use fixed_affine::FixedAffine;
pub use householder::Householder;
pub use indexed::Indexed;
pub use inverse::Inverse;
pub use linear::Start;
pub use logit::Logit;
pub use lu_linear::LuLinear;
pub use matrix::Matrix;
pub use multi_scale::{Level, MultiScale, SplitPrior};
pub use orthogonal::Orthogonal;
pub use permutation::{Order, Permutation};
pub use planar::Planar;
pub use radial::Radial;
pub use reshape::Reshape;
pub use residual::{Residual, ResidualSettings, Roulette};
pub use squeeze::Squeeze;
pub use stack::Stack;
pub use standardize::Standardize;
pub use support::{Bounds, Limit, Support};
pub use sylvester::{Sylvester, SylvesterBasis};
pub use triangular::Triangular;
pub use vjp::{Backward, Recompute, Upstream, Vjp, vjp};
pub(crate) use vjp::{add_gradients, leaf};
pub use whiten::Whiten;

pub use crate::nn::Mode;
pub use crate::ops::Direction;

/// An invertible, differentiable map z -> x, possibly conditioned on a context.
///
/// To write one, give its shapes, its map in either direction, and its [`Structure`]; the rest has defaults.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use flows_core::bijectors::{Bijector, Direction, Mode};
/// use flows_core::{Result, Structure};
///
/// /// `x = e^z` of D numbers.
/// #[derive(Debug)]
/// struct Exp([usize; 1]);
///
/// impl Bijector for Exp {
///     fn latent_shape(&self) -> &[usize] {
///         &self.0
///     }
///
///     fn map(
///         &self,
///         direction: Direction,
///         input: &Tensor,
///         _context: Option<&Tensor>,
///         _mode: &mut Mode<'_>,
///     ) -> Result<(Tensor, Tensor)> {
///         self.check_input(direction, input)?;
///         match direction {
///             Direction::Forward => Ok((input.exp()?, input.sum(1)?)),
///             Direction::Inverse => {
///                 // Not the exponential of any z.
///                 let outside = input.le(0.0)?;
///                 let z = outside.where_cond(&input.ones_like()?, input)?.log()?;
///                 let never = (z.zeros_like()? + f64::NEG_INFINITY)?;
///                 Ok((z.clone(), outside.where_cond(&never, &z.neg()?)?.sum(1)?))
///             }
///         }
///     }
///
///     fn structure(&self) -> Structure {
///         Structure::new("Exp", format!("of {}", self.0[0]))
///     }
/// }
///
/// let exp = Exp([2]);
/// let z = Tensor::new(&[[0.0f64, 1.0]], &Device::Cpu)?;
/// let (x, log_det) = exp.forward(&z, None)?;
/// assert_eq!(log_det.to_vec1::<f64>()?, [1.0]);
/// assert_eq!(exp.inverse(&x, None)?.0.to_vec2::<f64>()?, [[0.0, 1.0]]);
/// assert_eq!(exp.inverse(&x.neg()?, None)?.1.to_vec1::<f64>()?, [f64::NEG_INFINITY]);
/// # Ok::<(), flows_core::Error>(())
/// ```
pub trait Bijector: std::fmt::Debug + Send + Sync {
    /// The shape of one z, without the batch.
    fn latent_shape(&self) -> &[usize];

    /// The shape of one x, without the batch; by default the latent's.
    fn data_shape(&self) -> &[usize] {
        self.latent_shape()
    }

    /// The image of a batch in a direction, and the log-determinant of the map in that direction: of z of shape
    /// (B, latent...) it is `(x, log|det dx/dz|)`, of x of shape (B, data...) it is `(z, log|det dz/dx|)`.
    ///
    /// A row outside the map's domain (for the inverse, outside its range) has log-determinant minus infinity, so that
    /// its density is zero, and preferably a finite image. The bijector must detect such a row from the input itself: a
    /// NaN is not such a row but stays NaN, so that a fault, of a weight for example, is seen.
    ///
    /// In training a bijector may drop units, take statistics of the batch or estimate its log-determinant, drawing
    /// from the generator of the mode; buffers are changed by [`Buffer::update`](crate::nn::Buffer::update) alone.
    ///
    /// # Errors
    /// When a shape is wrong ([`Self::check_input`]), or a context that is needed is missing.
    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)>;

    /// Checks that `input` is a batch of what a direction takes, z (B, latent...) or x (B, data...), and returns B.
    /// Implementations of [`Self::map`] begin with it.
    ///
    /// # Errors
    /// When it has another shape or no rows, or is not of floating-point numbers.
    fn check_input(&self, direction: Direction, input: &Tensor) -> Result<usize> {
        match direction {
            Direction::Forward => check_event("z", input, self.latent_shape()),
            Direction::Inverse => check_event("x", input, self.data_shape()),
        }
    }

    /// `(x, log|det dx/dz|)` for z of shape (B, latent...), in evaluation; shapes (B, data...) and (B).
    ///
    /// # Errors
    /// As [`Self::map`].
    fn forward(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.map(Direction::Forward, z, context, &mut Mode::evaluation())
    }

    /// `(z, log|det dz/dx|)` for x of shape (B, data...), in evaluation; shapes (B, latent...) and (B).
    ///
    /// # Errors
    /// As [`Self::map`].
    fn inverse(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.map(Direction::Inverse, x, context, &mut Mode::evaluation())
    }

    /// Sets what depends on data (actnorm's scale and shift) from a first batch, unless that was
    /// done before, and returns the batch's z.
    ///
    /// # Errors
    /// As [`Self::map`].
    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.inverse(x, context)?.0)
    }

    /// The bijector inside and the context that it sees, where the context of one row or more passes through a network
    /// first, as in [`Embed`]: evaluating the network once serves all events at that context. `None` for any other
    /// bijector.
    ///
    /// # Errors
    /// When the context is of a wrong shape.
    fn embed<'a>(&'a self, context: &Tensor) -> Result<Option<(&'a dyn Bijector, Tensor)>> {
        let _ = context;
        Ok(None)
    }

    /// A set that contains every x, if one smaller than the whole space is known.
    fn support(&self) -> Option<Support> {
        None
    }

    /// A set that holds the x of every z of `latent`, up to rounding, if one smaller than all of the reals is known:
    /// [`Self::support`], if not said otherwise.
    ///
    /// Known are those of maps element by element, of what reorders elements, and of what combines such maps. Those of
    /// maps that mix elements, such as linear ones or those with batch statistics, are not: they make no box of a box.
    fn image(&self, latent: &Support) -> Option<Support> {
        let _ = latent;
        self.support()
    }

    /// A set that holds the z of every x of `data`, as [`Self::image`] does the x: what the [`Inverse`] makes of it.
    fn preimage(&self, data: &Support) -> Option<Support> {
        let _ = data;
        None
    }

    /// Its own vector-Jacobian product, for training that recomputes activations; combinators have one.
    fn recompute(&self) -> Option<&dyn Recompute> {
        None
    }

    /// What this is made of, for display; by default its name.
    fn structure(&self) -> Structure {
        Structure::named_after(&self)
    }
}

/// A pointer to a bijector is a bijector, so that models can share parts.
macro_rules! pointer {
    ($pointer:ident) => {
        impl<B: Bijector + ?Sized> Bijector for $pointer<B> {
            fn latent_shape(&self) -> &[usize] {
                (**self).latent_shape()
            }

            fn data_shape(&self) -> &[usize] {
                (**self).data_shape()
            }

            fn map(
                &self,
                direction: Direction,
                input: &Tensor,
                context: Option<&Tensor>,
                mode: &mut Mode<'_>,
            ) -> Result<(Tensor, Tensor)> {
                (**self).map(direction, input, context, mode)
            }

            fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
                (**self).initialize(x, context)
            }

            fn embed<'a>(&'a self, context: &Tensor) -> Result<Option<(&'a dyn Bijector, Tensor)>> {
                (**self).embed(context)
            }

            fn support(&self) -> Option<Support> {
                (**self).support()
            }

            fn image(&self, latent: &Support) -> Option<Support> {
                (**self).image(latent)
            }

            fn preimage(&self, data: &Support) -> Option<Support> {
                (**self).preimage(data)
            }

            fn recompute(&self) -> Option<&dyn Recompute> {
                (**self).recompute()
            }

            fn structure(&self) -> Structure {
                (**self).structure()
            }
        }
    };
}

pointer!(Box);
pointer!(Arc);

/// [`Bijector::check_input`] of a bijector that errors name: "the latent of a planar flow".
fn check_input_of(name: &str, bijector: &impl Bijector, direction: Direction, input: &Tensor) -> Result<usize> {
    match direction {
        Direction::Forward => check_event(format_args!("the latent of {name}"), input, bijector.latent_shape()),
        Direction::Inverse => check_event(format_args!("the data of {name}"), input, bijector.data_shape()),
    }
}

/// The box that a map which only moves elements makes of the box that holds `support`, if that is smaller than all of
/// the reals.
fn moved_box(bijector: &impl Bijector, direction: Direction, support: &Support) -> Option<Support> {
    let bounds = support.bounds();
    let moved = |end: fn(&Bounds) -> Option<f64>| -> Option<(Vec<usize>, Vec<Option<f64>>)> {
        let ends: Vec<f64> = bounds.iter().map(|bounds| end(bounds).unwrap_or(f64::NAN)).collect();
        let ends = Tensor::from_vec(ends, batch_shape(1, &support.shape()), &Device::Cpu).ok()?;
        let (ends, _) = bijector.map(direction, &ends, None, &mut Mode::evaluation()).ok()?;
        let numbers: Vec<f64> = ends.flatten_all().and_then(|ends| ends.to_vec1()).ok()?;
        Some((ends.dims()[1..].to_vec(), numbers.into_iter().map(|v| Some(v).filter(|v| !v.is_nan())).collect()))
    };
    let ((shape, lower), (_, upper)) = (moved(|bounds| bounds.lower)?, moved(|bounds| bounds.upper)?);
    let bounds = lower.into_iter().zip(upper).map(|(lower, upper)| Bounds { lower, upper }).collect();
    Support::in_box(&shape, bounds)
}
