//! The operations that a graph field is made of, whoever carries them out.

use crate::field::Activation;
use candle_core::Tensor;
use flows_core::ops;
use flows_core::ops::kernel::Real;

/// A smooth function of each number.
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
    /// `y = phi(u)` and `slope = phi'(u)`.
    pub(super) fn value<T: Real>(self, u: &[T], y: &mut [T], slope: &mut [T]) {
        let one = T::one();
        let mut each = |jet: &dyn Fn(T) -> (T, T)| {
            for ((&u, y), slope) in u.iter().zip(y.iter_mut()).zip(slope.iter_mut()) {
                (*y, *slope) = jet(u);
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

    /// `phi''(u)`, given `y = phi(u)` and `slope = phi'(u)` as well.
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

    /// The same as operations of candle: `(phi(u), phi'(u))`.
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
    /// From the coordinates of a configuration to those of its particles.
    Embed,
    /// Back: the transpose.
    Project,
}

/// Values are rows of numbers with their tangents: one row for each configuration, particle or edge.
/// Edges are the ordered pairs (i, j) of different particles of one configuration. Weights go by their
/// index among those of the field.
pub(super) trait Machine {
    type Value: Clone;
    /// Why an operation fails.
    type Failure;

    /// `w t + b`, a row for each particle.
    fn of_time(&mut self, weight: usize, bias: usize) -> Result<Self::Value, Self::Failure>;

    /// `h + W c`, c being what the context says of each particle, if there is one.
    fn given(&mut self, h: Self::Value, weight: usize) -> Result<Self::Value, Self::Failure>;

    /// `W x + b`.
    fn linear(&mut self, x: &Self::Value, weight: usize, bias: Option<usize>) -> Result<Self::Value, Self::Failure>;

    /// A constant matrix times each configuration of x; rows of `width` numbers.
    fn constant(&mut self, x: &Self::Value, matrix: Constant, width: usize) -> Result<Self::Value, Self::Failure>;

    /// `a_i + b_j + sum_c q_c W_c` for each edge, given two numbers q of each edge.
    fn pairs(
        &mut self,
        a: &Self::Value,
        b: &Self::Value,
        q: [&Self::Value; 2],
        weight: usize,
    ) -> Result<Self::Value, Self::Failure>;

    /// `x_i - x_j` for each edge.
    fn difference(&mut self, x: &Self::Value) -> Result<Self::Value, Self::Failure>;

    /// `factor sum_j x_ij` for each particle.
    fn collect(&mut self, x: &Self::Value, factor: f64) -> Result<Self::Value, Self::Failure>;

    /// A function of each number.
    fn map(&mut self, x: &Self::Value, function: Function) -> Result<Self::Value, Self::Failure>;

    /// Each row of x times its number s.
    fn times(&mut self, x: &Self::Value, s: &Self::Value) -> Result<Self::Value, Self::Failure>;

    /// The square of each row's length.
    fn square(&mut self, x: &Self::Value) -> Result<Self::Value, Self::Failure>;

    /// `a + factor b`.
    fn sum(&mut self, a: &Self::Value, b: &Self::Value, factor: f64) -> Result<Self::Value, Self::Failure>;
}
