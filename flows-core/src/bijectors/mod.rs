//! Bijectors: invertible maps between a base space and the data, with log-determinants.
//!
//! `forward` goes from the base to the data (z -> x), `inverse` from the data to the base
//! (x -> z). Both return the value and their own log|det Jacobian| in one pass, so the second of
//! the one is minus the second of the other.

use crate::ops::Direction;
use crate::{Error, Result, Rng, Structure};
use candle_core::Tensor;

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
mod linear;
mod logit;
mod lu_linear;
mod matrix;
mod multi_scale;
mod orthogonal;
mod pass;
mod permutation;
mod planar;
mod radial;
mod reshape;
mod residual;
mod squeeze;
mod stack;
mod standardize;
mod sylvester;
mod triangular;
pub mod univariate;
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
pub use multi_scale::{Level, MultiScale};
pub use orthogonal::Orthogonal;
pub use pass::{Back, Pass, Sweep};
pub(crate) use pass::{add_gradients, leaf};
pub use permutation::{Order, Permutation};
pub use planar::Planar;
pub use radial::Radial;
pub use reshape::Reshape;
pub use residual::{Residual, ResidualSettings, Roulette};
pub use squeeze::Squeeze;
pub use stack::Stack;
pub use standardize::Standardize;
pub use sylvester::{Sylvester, SylvesterBasis};
pub use triangular::Triangular;
pub use whiten::Whiten;

/// An invertible, differentiable map z -> x, possibly conditioned on a context.
///
/// To write one, say its shapes, its two directions and its [`Structure`]; the rest has defaults.
pub trait Bijector: std::fmt::Debug + Send + Sync {
    /// The shape of one z, without the batch.
    fn latent_shape(&self) -> &[usize];

    /// The shape of one x, without the batch; the latent's if not said otherwise.
    fn data_shape(&self) -> &[usize] {
        self.latent_shape()
    }

    /// `(x, log|det dx/dz|)` for z of shape (B, latent...); shapes (B, data...) and (B).
    ///
    /// # Errors
    /// When a shape is wrong, or a context is missing that is needed.
    fn forward(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)>;

    /// `(z, log|det dz/dx|)` for x of shape (B, data...); shapes (B, latent...) and (B).
    ///
    /// # Errors
    /// When a shape is wrong, or a context is missing that is needed.
    fn inverse(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)>;

    /// The inverse as a step of maximum likelihood takes it: with dropout, statistics of the
    /// batch and random estimators of the log-determinant, where a bijector has them.
    ///
    /// # Errors
    /// As [`Self::inverse`].
    fn inverse_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let _ = rng;
        self.inverse(x, context)
    }

    /// Sets what depends on data (actnorm's scale and shift) from a first batch, unless that was
    /// done before, and returns the batch's z.
    ///
    /// # Errors
    /// As [`Self::inverse`].
    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.inverse(x, context)?.0)
    }

    /// A direction as a step of training takes it that is to keep no activations: `inverse` (or, with
    /// a generator, `inverse_training`) or `forward`, without the graph, and the way back.
    ///
    /// By default the input is kept, and the way back runs the direction again. A bijector whose
    /// training changes buffers needs a pass of its own, that does so once.
    ///
    /// # Errors
    /// As [`Self::inverse`].
    fn pass<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        rng: Option<&mut Rng>,
    ) -> Result<Pass<'a>> {
        Pass::step(self, direction, input, context, rng)
    }

    /// The [`Embed`] that this is, if it is one: as the prior of a split it can be given more.
    fn as_embed(&self) -> Option<&Embed> {
        None
    }

    /// What this is made of, for people to read.
    fn structure(&self) -> Structure;
}

/// Passes if `tensor`, which the message calls `what`, is a batch of `event`s of floating point numbers; gives the
/// batch size.
///
/// # Errors
/// When it is not.
pub fn check_event(what: &str, tensor: &Tensor, event: &[usize]) -> Result<usize> {
    // Candle panics at functions of whole numbers.
    if !tensor.dtype().is_float() {
        return Err(Error::Data(format!("{what} is of type {:?}: convert it to f32 or f64", tensor.dtype())));
    }
    check_shape(what, tensor, event)
}

/// [`check_event`] for events of any type.
pub(crate) fn check_shape(what: &str, tensor: &Tensor, event: &[usize]) -> Result<usize> {
    match tensor.dims() {
        // Candle panics at sums over nothing.
        [0, ..] => Err(Error::Data(format!("{what} has no row: give at least one"))),
        [batch, rest @ ..] if rest == event => Ok(*batch),
        got => {
            let want: String = event.iter().map(|d| format!(", {d}")).collect();
            Err(Error::shape(what, got, format!("(B{want})")))
        }
    }
}

/// The context, or an error that says which part needs one; its width is checked to be `width`.
pub(crate) fn check_context(context: Option<&Tensor>, width: usize, batch: usize) -> Result<&Tensor> {
    let Some(context) = context else {
        return Err(Error::Config(format!("this flow is conditional: give a context of shape ({batch}, {width})")));
    };
    match context.dims() {
        [rows, w] if *w == width && *rows == batch => Ok(context),
        got => Err(Error::shape("the context", got, format!("({batch}, {width})"))),
    }
}
