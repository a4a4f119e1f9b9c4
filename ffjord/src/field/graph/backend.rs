//! The operations of a graph field, independent of the backend that executes them.

use crate::field::Activation;
use candle_core::Tensor;
use flows_core::ops;
use flows_core::ops::kernel::Real;

/// A smooth elementwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// `u / (1 + e^-u)`.
    Silu,
    /// `1 / (1 + e^-u)`.
    Sigmoid,
    /// `tanh u`.
    Tanh,
    /// `1 / sqrt(u + 1)`.
    InverseRoot,
}

impl Function {
    /// Computes `y = phi(u)` and `slope = phi'(u)`.
    pub(super) fn value<T: Real>(self, u: &[T], y: &mut [T], slope: &mut [T]) {
        let one = T::one();
        let mut each = |function: &dyn Fn(T) -> (T, T)| {
            for ((&u, y), slope) in u.iter().zip(y.iter_mut()).zip(slope.iter_mut()) {
                (*y, *slope) = function(u);
            }
        };
        match self {
            Self::Silu => Activation::Silu.value(one, u, y, slope),
            Self::Tanh => Activation::Tanh.value(one, u, y, slope),
            Self::Sigmoid => each(&|u| {
                let y = u.fast_sigmoid();
                (y, y * (one - y))
            }),
            Self::InverseRoot => each(&|u| {
                let y = one / (u + one).sqrt();
                (y, T::of(-0.5) * y * y * y)
            }),
        }
    }

    /// Computes `phi''(u)` from u, `y = phi(u)` and `slope = phi'(u)`.
    pub(super) fn curvature<T: Real>(self, u: &[T], y: &[T], slope: &[T], out: &mut [T]) {
        let one = T::one();
        let pairs = || y.iter().zip(slope);
        match self {
            Self::Silu => Activation::Silu.curvature(one, u, y, slope, out),
            Self::Tanh => Activation::Tanh.curvature(one, u, y, slope, out),
            Self::Sigmoid => out.iter_mut().zip(pairs()).for_each(|(out, (&y, &s))| *out = s * (one - y - y)),
            Self::InverseRoot => out.iter_mut().zip(pairs()).for_each(|(out, (&y, &s))| *out = T::of(-1.5) * s * y * y),
        }
    }

    /// `(phi(u), phi'(u))` in candle's operations.
    pub(super) fn composed(self, u: &Tensor) -> flows_core::Result<(Tensor, Tensor)> {
        match self {
            Self::Silu => Activation::Silu.composed(None, u),
            Self::Tanh => Activation::Tanh.composed(None, u),
            Self::Sigmoid => {
                let y = ops::sigmoid(u)?;
                let slope = (&y * y.affine(-1.0, 1.0)?)?;
                Ok((y, slope))
            }
            Self::InverseRoot => {
                let y = (u + 1.0)?.sqrt()?.recip()?;
                let slope = ((y.sqr()? * &y)? * -0.5)?;
                Ok((y, slope))
            }
        }
    }
}

/// A constant matrix of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Constant {
    /// From the coordinates of a configuration to the positions of its particles.
    Embed,
    /// From positions to coordinates: the transpose of [`Self::Embed`].
    Project,
}

/// Executes the operations of a graph field.
///
/// A value is a matrix with one row per configuration, particle or edge, along with its tangents. Edges are the
/// ordered pairs (i, j) of distinct particles in one configuration. Weights are referred to by their index among
/// the field's weights.
pub(super) trait Backend {
    /// A value with its tangents.
    type Value: Clone;
    /// The error of an operation.
    type Failure;

    /// `w t + b` for each particle.
    fn time_features(&mut self, weight: usize, bias: usize) -> Result<Self::Value, Self::Failure>;

    /// `h + W c` for each particle, where c is its context; h if there is no context.
    fn add_context(&mut self, h: Self::Value, weight: usize) -> Result<Self::Value, Self::Failure>;

    /// `W x + b`.
    fn linear(&mut self, x: &Self::Value, weight: usize, bias: Option<usize>) -> Result<Self::Value, Self::Failure>;

    /// A constant matrix times each configuration in x, as rows of `width` numbers.
    fn constant(&mut self, x: &Self::Value, matrix: Constant, width: usize) -> Result<Self::Value, Self::Failure>;

    /// `a_i + b_j + sum_c q_c W_c` for each edge, given two numbers q_c per edge.
    fn edge_inputs(
        &mut self,
        a: &Self::Value,
        b: &Self::Value,
        q: [&Self::Value; 2],
        weight: usize,
    ) -> Result<Self::Value, Self::Failure>;

    /// `x_i - x_j` for each edge.
    fn difference(&mut self, x: &Self::Value) -> Result<Self::Value, Self::Failure>;

    /// `factor sum_j x_ij` for each particle.
    fn aggregate(&mut self, x: &Self::Value, factor: f64) -> Result<Self::Value, Self::Failure>;

    /// Applies an elementwise function.
    fn map(&mut self, x: &Self::Value, function: Function) -> Result<Self::Value, Self::Failure>;

    /// Each row of x times the row's number in s.
    fn times(&mut self, x: &Self::Value, s: &Self::Value) -> Result<Self::Value, Self::Failure>;

    /// The squared norm of each row.
    fn squared_norm(&mut self, x: &Self::Value) -> Result<Self::Value, Self::Failure>;

    /// `a + factor b`.
    fn sum(&mut self, a: &Self::Value, b: &Self::Value, factor: f64) -> Result<Self::Value, Self::Failure>;
}
