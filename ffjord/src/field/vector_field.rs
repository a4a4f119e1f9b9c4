//! What a vector field is to a continuous flow.

use super::{Dual, Penalty, Vectors};
use candle_core::Tensor;
use flows_core::ops::kernel::Real;
use flows_core::{Result, Structure};
use std::fmt::Debug;

/// A field `f(t, z)` over vectors of D numbers, given a context of C numbers if it is conditional.
///
/// A field of your own says its size, its weights, and how it is evaluated over [`Dual`] numbers, which
/// makes Jacobian and divergence exact; solvers, gradients and flow matching take it from there.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use ffjord::field::{Activation, Dual, VectorField};
/// use ffjord::{Cnf, CnfSettings};
/// use flows_core::bijectors::Bijector;
/// use flows_core::nn::{Init, Parameters, Scope};
/// use flows_core::{Result, Rng, Structure};
///
/// /// `f(t, z) = t W tanh(W^T z)`: up and down a potential.
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
    /// D.
    fn dim(&self) -> usize;

    /// C, 0 for a field that is not conditional.
    fn context(&self) -> usize {
        0
    }

    /// The largest number from which a solver can start: a field without a bound moves so fast far out
    /// that no step is small enough.
    fn reach(&self) -> f64 {
        1e12
    }

    /// All weights, in an order that never changes.
    fn tensors(&self) -> Vec<Tensor>;

    /// The field at time t, a scalar, for z (B, D) and a context (B, C): value (B, D), with tangents
    /// (K, B, D) if z has any.
    ///
    /// `weights` stand for [`Self::tensors`], and each row goes by itself. What is computed must be
    /// differentiable once by autograd, for weights, t, z and context.
    ///
    /// # Errors
    /// When a shape is wrong or the device fails.
    fn evaluate(&self, weights: &[Tensor], t: &Tensor, z: &Dual, context: Option<&Tensor>) -> Result<Dual>;

    /// Turns z, a draw of the base, by a symmetry of the field into one as near to x as may be, for flow
    /// matching: the base finds both equally likely. By default there is no symmetry.
    fn align(&self, x: &[f64], z: &mut [f64]) {
        let _ = (x, z);
    }

    /// What it is made of.
    fn structure(&self) -> Structure;

    /// Kernels of its own for the CPU; without them every evaluation is one of [`Self::evaluate`], and
    /// its gradient one of autograd.
    fn kernels(&self) -> Option<Kernels<'_>> {
        None
    }
}

/// A field's value, divergence and gradients on plain slices; `weights` are all of them one after
/// another, in the order of [`VectorField::tensors`].
pub trait Kernel<T>: Sync {
    /// Value (B, D) and divergence (B), less the penalty.
    fn rates(&self, weights: &[T], t: f64, batch: Batch<'_, T>) -> (Vec<T>, Vec<T>);

    /// The gradients of `sum(of_value * value) + sum(of_divergence * divergence)`, given these two,
    /// (B, D) and (B).
    fn gradients(&self, weights: &[T], t: f64, batch: Batch<'_, T>, seeds: (&[T], &[T])) -> Gradients<T>;
}

/// The kernels of a field in both precisions.
#[derive(Clone, Copy)]
pub struct Kernels<'a> {
    single: &'a dyn Kernel<f32>,
    double: &'a dyn Kernel<f64>,
}

impl<'a> Kernels<'a> {
    /// Those of a type that has both.
    pub fn of<K: Kernel<f32> + Kernel<f64>>(kernels: &'a K) -> Self {
        Self { single: kernels, double: kernels }
    }
}

/// A number that solves on the CPU are done in.
pub(crate) trait Number: Real {
    /// The kernels for it.
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

/// Rows that a field is evaluated at, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    /// (B, D).
    pub z: &'a [T],
    /// (B, C), empty if the field is not conditional.
    pub context: &'a [T],
    /// The vectors of the divergence.
    pub vectors: Vectors<'a, T>,
    /// What is taken off the divergence.
    pub penalty: Penalty,
}

/// Gradients of the value (B, D) and the divergence (B), times what they were given.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// The value itself.
    pub value: Vec<T>,
    /// (B, D).
    pub z: Vec<T>,
    /// (B, C).
    pub context: Vec<T>,
    /// As the weights.
    pub weights: Vec<T>,
    /// Of the time.
    pub t: T,
}
