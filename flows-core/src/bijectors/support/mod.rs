//! Supports: where the values of a distribution or a parameter lie, and bijectors onto them from the reals.
//!
//! A [`Support`] can be written into a config; [`Support::bijector`] makes the map. A flow over unconstrained z with
//! that map as its last step is a flow over the support ([`FlowConfig::over`](crate::flows::FlowConfig::over)); a normal
//! distribution with it is a prior:
//!
//! ```
//! use candle_core::{DType, Device};
//! use flows_core::Rng;
//! use flows_core::bijectors::{Bijector, Support};
//! use flows_core::distributions::{Distribution, StandardNormal, Transformed};
//!
//! let support = Support::named([
//!     ("weights", Support::Simplex { size: 3 }),
//!     ("scale", Support::positive([2])),
//!     ("correlation", Support::Correlation { size: 2 }),
//! ]);
//! let text = serde_json::to_string(&support).unwrap();
//! assert_eq!(serde_json::from_str::<Support>(&text).unwrap(), support);
//!
//! let onto = support.bijector(DType::F64, &Device::Cpu)?;
//! assert_eq!((onto.latent_shape(), onto.data_shape()), (&[5][..], &[9][..]));
//! let base = StandardNormal::new([5], DType::F64, &Device::Cpu)?;
//! let prior = Transformed::new(base, onto)?;
//! let x = prior.sample(10, None, &mut Rng::seed(0))?;
//! assert_eq!(support.part(&x, "correlation")?.dims(), [10, 2, 2]);
//! assert_eq!(prior.support(), support);
//! # Ok::<(), flows_core::Error>(())
//! ```
//!
//! # What is exact
//!
//! `forward` gives x strictly inside of the support: where the exact x would round onto its boundary, it is the number
//! next to the boundary, or a few roundings from it. The log-determinant is that of the exact map at z all the same.
//! (Bounds that depend on other parts are computed from them in the type at hand, and rounded as that is.)
//! `inverse` of an x outside, or on the boundary, gives a log-determinant of minus infinity, so that its density is 0;
//! an equation that defines the support (elements that add up to 1) may fail by the root of the type's precision,
//! 1.5e-8 in f64 and 3.5e-4 in f32. A row with a NaN gives NaN.
//!
//! # Volumes
//!
//! Where x has more numbers than z, densities are with respect to the coordinates that the support's documentation
//! names, those of the Stan Reference Manual (chapter Constraint Transforms).

mod bounded;
mod bounds;
mod boxes;
mod check;
mod dependent;
mod edges;
mod factor;
mod make;
mod matrix;
mod named;
mod onto;
mod ordered;
mod stick_breaking;
mod sum_to_zero;
mod unit_vector;

use super::Bijector;
use crate::shape::batch_shape;
use crate::{Error, Result};
pub use bounds::{Bounds, Limit, Link};
use candle_core::{DType, Device, Tensor};
use named::Piece;
use onto::{Limits, Map, Onto, check_dtype};
use serde::{Deserialize, Serialize};

/// A set of events, told apart by `kind` when written down. K is the `size` of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Support {
    /// All real numbers: `x = z`.
    Real {
        /// The shape of an event.
        shape: Vec<usize>,
    },
    /// Elements with a lower bound a, an upper bound b, both or none; the bounds themselves are outside.
    ///
    /// `x = a + e^z`, `x = b - e^z`, `ln|dx/dz| = z`; `x = a + (b - a) s(z)`, s being the sigmoid,
    /// `ln|dx/dz| = ln(b - a) + ln s(z) + ln s(-z)`; `x = z`. (For a = -1, b = 1 that is `tanh(z / 2)`.) With
    /// [`Link::Softplus`] one-sided bounds have `ln(1 + e^z)` for `e^z`, `ln|dx/dz| = ln s(z)`.
    Bounded {
        /// The shape of an event.
        shape: Vec<usize>,
        /// The bounds of each element in row-major order, or one pair for all.
        bounds: Vec<Bounds>,
        /// The map of elements with one bound.
        #[serde(default, skip_serializing_if = "Link::is_default")]
        link: Link,
    },
    /// Vectors with `x_1 < x_2 < ... < x_K`: `x_1 = z_1`, `x_k = x_{k-1} + e^{z_k}`, `log|det| = sum_{k>1} z_k`.
    Ordered {
        /// Elements of a vector.
        size: usize,
    },
    /// Vectors with `0 < x_1 < x_2 < ... < x_K`: `x_1 = e^{z_1}`, `x_k = x_{k-1} + e^{z_k}`, `log|det| = sum_k z_k`.
    PositiveOrdered {
        /// Elements of a vector.
        size: usize,
    },
    /// Positive numbers that add up to 1, from K - 1 numbers, each element treated alike: the softmax of the vector that
    /// [`Self::SumToZero`] makes of z (the isometric log-ratio, as in Stan since version 2.37).
    ///
    /// `log|det| = sum_k ln x_k + 1/2 ln K` for the coordinates `x_1, ..., x_{K-1}`.
    Simplex {
        /// Elements of a vector, 2 or more.
        size: usize,
    },
    /// Positive numbers that add up to 1, from K - 1 numbers, by breaking a stick (as in Stan before version 2.37):
    /// `x_k = t_k r_k`, `t_k = s(z_k - ln(K - k))`, `r_k = 1 - sum_{j<k} x_j`, so that z = 0 gives equal elements.
    ///
    /// `log|det| = sum_{k<K} ln t_k + ln(1 - t_k) + ln r_k` for the coordinates `x_1, ..., x_{K-1}`.
    StickBreaking {
        /// Elements of a vector, 2 or more.
        size: usize,
    },
    /// Vectors that add up to 0, from K - 1 numbers: `x = H^T z`, row i of H being 1 in its first i positions and -i in
    /// the next, over `sqrt(i (i + 1))`. An isometry: `log|det| = 0`, for lengths within the plane.
    SumToZero {
        /// Elements of a vector, 2 or more.
        size: usize,
    },
    /// Vectors of length 1, from K - 1 numbers: the stereographic projection `x = (2z, |z|^2 - 1) / (|z|^2 + 1)`, which
    /// reaches all of the sphere but the one point (0, ..., 0, 1).
    ///
    /// `log|det| = (K - 1) (ln 2 - ln(1 + |z|^2))`, for areas on the sphere. Stan's map, `z / |z|` of K numbers, is
    /// not invertible, so it is none of a bijector.
    UnitVector {
        /// Elements of a vector, 2 or more.
        size: usize,
    },
    /// Lower-triangular K x K matrices L of positive diagonal, the Cholesky factors of covariances, from K (K + 1) / 2
    /// numbers row after row: entries below the diagonal are z, those on it `e^z`.
    ///
    /// `log|det| = sum_k ln L_kk` for the coordinates L_ij, `i >= j`.
    CovarianceFactor {
        /// Rows of a matrix.
        size: usize,
    },
    /// Lower-triangular K x K matrices L of positive diagonal and rows of length 1, the Cholesky factors of
    /// correlations, from K (K - 1) / 2 numbers row after row: with `t = tanh z`,
    /// `L_ij = t_ij sqrt(1 - sum_{k<j} L_ik^2)`, `L_ii = sqrt(1 - sum_{k<i} L_ik^2)`.
    ///
    /// `log|det| = sum_{i>j} ln(1 - t_ij^2) + 1/2 ln(1 - sum_{k<j} L_ik^2)` for the coordinates L_ij, `i > j`.
    CorrelationFactor {
        /// Rows of a matrix, 2 or more.
        size: usize,
    },
    /// Correlation matrices, `L L^T` of a [`Self::CorrelationFactor`] whose numbers lie column after column.
    ///
    /// `log|det| = sum_{i>j} (1 + (K - j - 1) / 2) ln(1 - t_ij^2)`, j from 1, for the coordinates x_ij, `i > j`.
    Correlation {
        /// Rows of a matrix, 2 or more.
        size: usize,
    },
    /// Covariance matrices, `L L^T` of a [`Self::CovarianceFactor`].
    ///
    /// `log|det| = K ln 2 + sum_k (K - k + 2) ln L_kk`, k from 1, for the coordinates x_ij, `i >= j`.
    Covariance {
        /// Rows of a matrix.
        size: usize,
    },
    /// Elements between bounds that depend on parts declared before in the same [`Self::Named`], as
    /// `shift + scale p` for such a part p ([`Limit`]); the maps are those of [`Self::Bounded`]. The Jacobian of all
    /// parts is triangular, so log-determinants still add up.
    ///
    /// The lower bound must not lie above the upper one whatever the parts before are. Where rounding leaves no number
    /// between them x is the middle, rounded.
    Dependent {
        /// The shape of an event.
        shape: Vec<usize>,
        /// The lower bound of all elements, or of each, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lower: Option<Limit>,
        /// The upper bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upper: Option<Limit>,
        /// The map of elements with one bound.
        #[serde(default, skip_serializing_if = "Link::is_default")]
        link: Link,
    },
    /// Named parts, each with a support of its own, behind each other in one vector; [`Self::part`] takes them out.
    /// Log-determinants add up.
    Named {
        /// The parts in order.
        parts: Vec<Part>,
    },
    /// Whole numbers of `[low, high]`: the support of a discrete distribution, onto which there is no bijector.
    Integers {
        /// The shape of an event.
        shape: Vec<usize>,
        /// The smallest.
        low: i64,
        /// The largest.
        high: i64,
    },
}

/// A part of [`Support::Named`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name, unlike the others'.
    pub name: String,
    /// Where it lies.
    pub support: Support,
}

impl Support {
    /// The shape of x.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Real { shape }
            | Self::Bounded { shape, .. }
            | Self::Dependent { shape, .. }
            | Self::Integers { shape, .. } => shape.clone(),
            Self::Ordered { size }
            | Self::PositiveOrdered { size }
            | Self::Simplex { size }
            | Self::StickBreaking { size }
            | Self::SumToZero { size }
            | Self::UnitVector { size } => vec![*size],
            Self::CovarianceFactor { size }
            | Self::CorrelationFactor { size }
            | Self::Correlation { size }
            | Self::Covariance { size } => vec![*size, *size],
            Self::Named { parts } => vec![parts.iter().map(|part| count(&part.support.shape())).sum()],
        }
    }

    /// The shape of the z that [`Self::bijector`] takes to x.
    pub fn latent_shape(&self) -> Vec<usize> {
        match self {
            Self::Simplex { size }
            | Self::StickBreaking { size }
            | Self::SumToZero { size }
            | Self::UnitVector { size } => vec![size.saturating_sub(1)],
            Self::CovarianceFactor { size } | Self::Covariance { size } => vec![triangle(size.saturating_add(1))],
            Self::CorrelationFactor { size } | Self::Correlation { size } => vec![triangle(*size)],
            Self::Named { parts } => vec![parts.iter().map(|part| count(&part.support.latent_shape())).sum()],
            Self::Real { .. }
            | Self::Bounded { .. }
            | Self::Dependent { .. }
            | Self::Integers { .. }
            | Self::Ordered { .. }
            | Self::PositiveOrdered { .. } => self.shape(),
        }
    }

    /// The bijector from unconstrained z onto this support, for z and x of `dtype` on `device`. It has no weights and
    /// ignores a context.
    ///
    /// # Errors
    /// When a size or a bound cannot be, the type is neither f32 nor f64, or the support is discrete.
    pub fn bijector(&self, dtype: DType, device: &Device) -> Result<Box<dyn Bijector>> {
        Ok(Box::new(self.onto(dtype, device)?))
    }

    fn onto(&self, dtype: DType, device: &Device) -> Result<Onto> {
        self.check()?;
        check_dtype(dtype)?;
        let map: Box<dyn Map> = match self {
            Self::Real { shape } => {
                Box::new(bounded::Bounded::new(&vec![Bounds::NONE; count(shape)], Link::Exp, dtype, device)?)
            }
            Self::Bounded { shape, bounds, link } => {
                let bounds: Vec<Bounds> = bounds.iter().cycle().take(count(shape)).copied().collect();
                Box::new(bounded::Bounded::new(&bounds, *link, dtype, device)?)
            }
            Self::Ordered { size } => Box::new(ordered::Ordered::new(*size, false, dtype)),
            Self::PositiveOrdered { size } => Box::new(ordered::Ordered::new(*size, true, dtype)),
            Self::Simplex { size } => Box::new(sum_to_zero::Simplex::new(*size, dtype, device)?),
            Self::StickBreaking { size } => Box::new(stick_breaking::StickBreaking::new(*size, dtype, device)?),
            Self::SumToZero { size } => Box::new(sum_to_zero::SumToZero::new(*size, dtype, device)?),
            Self::UnitVector { size } => Box::new(unit_vector::UnitVector::new(*size, dtype)),
            Self::CovarianceFactor { size } => Box::new(factor::CovarianceFactor::new(*size, dtype, device)?),
            Self::CorrelationFactor { size } => Box::new(factor::CorrelationFactor::new(*size, dtype, device)?),
            Self::Correlation { size } => Box::new(matrix::Correlation::new(*size, dtype, device)?),
            Self::Covariance { size } => Box::new(matrix::Covariance::new(*size, dtype, device)?),
            Self::Named { parts } => {
                let piece = |(index, part): (usize, &Part)| match &part.support {
                    Self::Dependent { shape, .. } => {
                        let dependent = dependent::Dependent::new(parts, index, Limits::of(dtype))?;
                        Ok(Piece::Dependent(count(shape), dependent))
                    }
                    support => Ok(Piece::Alone(support.onto(dtype, device)?)),
                };
                Box::new(named::Named(parts.iter().enumerate().map(piece).collect::<Result<_>>()?))
            }
            Self::Dependent { .. } => return Err(Error::Internal("a support that depends on others is alone".into())),
            Self::Integers { .. } => {
                return Err(Error::Config(format!(
                    "there is no bijector from the reals onto {self}: add noise of [0, 1) to the numbers and use bounds"
                )));
            }
        };
        let latent = self.latent_shape();
        let (centre, _) = map.forward(&Tensor::zeros(batch_shape(1, &latent), dtype, device)?)?;
        Ok(Onto { support: self.clone(), latent, data: self.shape(), map, centre: centre.detach() })
    }
}

/// The number of elements of a shape.
fn count(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, d| n.saturating_mul(*d))
}

/// How many entries a triangle beside the diagonal of n x n has.
fn triangle(n: usize) -> usize {
    n.saturating_mul(n.saturating_sub(1)) / 2
}
