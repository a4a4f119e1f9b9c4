//! The interface between vector fields and continuous flows.

use super::{Dual, Penalty, Vectors};
use candle_core::Tensor;
use flows_core::ops::kernel::Real;
use flows_core::{Result, Structure};
use std::fmt::Debug;

/// A vector field `f(t, z)` for z of D numbers, with a context of C numbers if it is conditional.
///
/// To define a field, state its size and its weights, and write its evaluation in [`Dual`] numbers, from which
/// the exact divergence follows; solvers, gradients and flow matching then work without further code.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use ffjord::field::{Activation, Dual, VectorField};
/// use ffjord::{Cnf, CnfSettings};
/// use flows_core::bijectors::Bijector;
/// use flows_core::nn::{Init, Parameters, Scope};
/// use flows_core::{Result, Rng, Structure};
///
/// /// `f(t, z) = t W tanh(W^T z)`, the gradient of a potential.
/// #[derive(Debug)]
/// struct Slope {
///     weight: Tensor,
/// }
///
/// impl Slope {
///     fn new(dim: usize, width: usize, scope: &Scope) -> Result<Self> {
///         Ok(Self { weight: scope.weight("weight", (dim, width), Init::Normal(0.5))? })
///     }
/// }
///
/// impl VectorField for Slope {
///     fn dim(&self) -> usize {
///         self.weight.dims()[0]
///     }
///
///     fn tensors(&self) -> Vec<Tensor> {
///         vec![self.weight.clone()]
///     }
///
///     fn evaluate(&self, weights: &[Tensor], t: &Tensor, z: &Dual, _: Option<&Tensor>) -> Result<Dual> {
///         let hidden = z.linear(|z| Ok(z.matmul(&weights[0])?))?.activate(Activation::Tanh)?;
///         hidden.linear(|h| Ok(h.matmul(&weights[0].t()?)?))?.scale(t)
///     }
///
///     fn structure(&self) -> Structure {
///         Structure::new("Slope", "").weights([&self.weight])
///     }
/// }
///
/// let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
/// let field = Slope::new(3, 16, &parameters.scope())?;
/// let cnf = Cnf::with_field(field, &CnfSettings::default())?;
/// let x = Rng::seed(1).normal_tensor((5, 3), DType::F32, &Device::Cpu)?;
/// let (z, log_det) = cnf.inverse(&x, None)?;
/// assert_eq!((z.dims(), log_det.dims()), (&[5, 3][..], &[5][..]));
/// let gradients = log_det.sum_all()?.backward()?;
/// assert!(gradients.get(&parameters.trainable()[0].1).is_some());
/// # Ok::<(), flows_core::Error>(())
/// ```
pub trait VectorField: Debug + Send + Sync {
    /// The number of dimensions, D.
    fn dim(&self) -> usize;

    /// The width of the context, C; 0 if the field is not conditional.
    fn context(&self) -> usize {
        0
    }

    /// The largest absolute value of a coordinate that a solve may start from: far out, an unbounded field is so
    /// large that no step is small enough.
    fn reach(&self) -> f64 {
        1e12
    }

    /// All weights, always in the same order.
    fn tensors(&self) -> Vec<Tensor>;

    /// The field at time t (a scalar) for z (B, D) and a context (B, C): the value (B, D), and tangents
    /// (K, B, D) if z has them.
    ///
    /// `weights` take the place of [`Self::tensors`]. Rows must not depend on each other, and autograd must be
    /// able to differentiate the result once with respect to weights, t, z and context.
    ///
    /// # Errors
    /// When a shape is wrong or the device fails.
    fn evaluate(&self, weights: &[Tensor], t: &Tensor, z: &Dual, context: Option<&Tensor>) -> Result<Dual>;

    /// Moves z, a draw from the base, as close to x as a symmetry of the field and of the base allows, for flow
    /// matching; both have D numbers. Does nothing by default.
    fn align(&self, x: &[f64], z: &mut [f64]) {
        let _ = (x, z);
    }

    /// The field's layers and parameter counts, for display.
    fn structure(&self) -> Structure;

    /// The two halves of the field, if it has a bottleneck.
    fn bottleneck(&self) -> Option<&dyn Bottleneck> {
        None
    }

    /// Kernels for the CPU; a field without them is evaluated by [`Self::evaluate`] and differentiated by
    /// autograd.
    fn kernels(&self) -> Option<Kernels<'_>> {
        None
    }
}

/// The two halves of a field `f = g(h(z))` whose h has fewer dimensions than z, for
/// [`Divergence::BottleneckGaussian`](super::Divergence::BottleneckGaussian); the field's kernels, if any, must
/// support [`Vectors::Bottleneck`].
pub trait Bottleneck {
    /// The number of dimensions of h, H.
    fn width(&self) -> usize;

    /// h (B, H) for z (B, D); the arguments are those of [`VectorField::evaluate`].
    ///
    /// # Errors
    /// When a shape is wrong or the device fails.
    fn enter(&self, weights: &[Tensor], t: &Tensor, z: &Dual, context: Option<&Tensor>) -> Result<Dual>;

    /// g (B, D) for h (B, H).
    ///
    /// # Errors
    /// When a shape is wrong or the device fails.
    fn leave(&self, weights: &[Tensor], t: &Tensor, h: &Dual) -> Result<Dual>;
}

/// Computes a field's value, divergence and gradients on plain slices; `weights` holds all weights one after
/// another, in the order of [`VectorField::tensors`].
pub trait Kernel<T>: Sync {
    /// The value (B, D), and the divergence (B) minus the penalty.
    fn rates(&self, weights: &[T], t: f64, batch: Batch<'_, T>) -> (Vec<T>, Vec<T>);

    /// The gradients of `sum(grad_value * value) + sum(grad_divergence * divergence)`, where `seeds` holds
    /// `grad_value` (B, D) and `grad_divergence` (B).
    fn gradients(&self, weights: &[T], t: f64, batch: Batch<'_, T>, seeds: (&[T], &[T])) -> Gradients<T>;
}

/// The kernels of a field in both precisions.
#[derive(Clone, Copy)]
pub struct Kernels<'a> {
    single: &'a dyn Kernel<f32>,
    double: &'a dyn Kernel<f64>,
}

impl<'a> Kernels<'a> {
    /// The kernels of a type that implements them for both precisions.
    pub fn of<K: Kernel<f32> + Kernel<f64>>(kernels: &'a K) -> Self {
        Self { single: kernels, double: kernels }
    }
}

/// A floating-point type in which the CPU solves.
pub(crate) trait Number: Real {
    /// The kernels in this precision.
    fn kernel(kernels: Kernels<'_>) -> &dyn Kernel<Self>;
}

impl Number for f32 {
    fn kernel(kernels: Kernels<'_>) -> &dyn Kernel<Self> {
        kernels.single
    }
}

impl Number for f64 {
    fn kernel(kernels: Kernels<'_>) -> &dyn Kernel<Self> {
        kernels.double
    }
}

/// The rows at which kernels evaluate a field, and how they form the divergence.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    /// Points, (B, D).
    pub z: &'a [T],
    /// Context, (B, C); empty if the field is not conditional.
    pub context: &'a [T],
    /// The vectors e of the divergence `sum e^T J e`.
    pub vectors: Vectors<'a, T>,
    /// The penalty to subtract from the divergence.
    pub penalty: Penalty,
}

/// The value of a field, and the gradients that [`Kernel::gradients`] returns.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// The value, (B, D).
    pub value: Vec<T>,
    /// The gradient with respect to the points, (B, D).
    pub z: Vec<T>,
    /// The gradient with respect to the context, (B, C).
    pub context: Vec<T>,
    /// The gradient with respect to the weights, laid out as they are.
    pub weights: Vec<T>,
    /// The gradient with respect to the time.
    pub t: T,
}
