//! How supports are made.

use super::{Bounds, Limit, Link, Part, Support};

impl Support {
    /// All real numbers, in events of this shape.
    pub fn real(shape: impl Into<Vec<usize>>) -> Self {
        Self::Real { shape: shape.into() }
    }

    /// The positive numbers, in events of this shape.
    pub fn positive(shape: impl Into<Vec<usize>>) -> Self {
        Self::bounded(shape, [Bounds::above(0.0)])
    }

    /// The numbers between `lower` and `upper`, in events of this shape.
    pub fn interval(shape: impl Into<Vec<usize>>, lower: f64, upper: f64) -> Self {
        Self::bounded(shape, [Bounds::between(lower, upper)])
    }

    /// Numbers within bounds, one pair for each element or one for all.
    pub fn bounded(shape: impl Into<Vec<usize>>, bounds: impl Into<Vec<Bounds>>) -> Self {
        Self::Bounded { shape: shape.into(), bounds: bounds.into(), link: Link::default() }
    }

    /// Numbers above a bound, in events of this shape: the `name` of an earlier part of [`Self::named`], or a
    /// [`Limit`] made of one.
    ///
    /// The parameters `phi` for which an autoregressive process of order 2 is stationary, `|phi2| < 1` and
    /// `|phi1| < 1 - phi2`, are a triangle; `sigma` is above `tau`:
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use flows_core::bijectors::{Limit, Support};
    ///
    /// let phi2 = || Limit::part("phi2");
    /// let support = Support::named([
    ///     ("phi2", Support::interval([], -1.0, 1.0)),
    ///     ("phi1", Support::within([], phi2().plus(-1.0), phi2().times(-1.0).plus(1.0))),
    ///     ("tau", Support::positive([])),
    ///     ("sigma", Support::above([], "tau")),
    /// ]);
    /// let onto = support.bijector(DType::F64, &Device::Cpu)?;
    /// let z = flows_core::Rng::seed(0).normal_tensor((100, 4), DType::F64, &Device::Cpu)?;
    /// let (x, _) = onto.forward(&z, None)?;
    /// for row in x.to_vec2::<f64>()? {
    ///     let [phi2, phi1, tau, sigma] = row[..] else { unreachable!() };
    ///     assert!(phi2.abs() < 1.0 && phi1.abs() < 1.0 - phi2 && 0.0 < tau && tau < sigma);
    /// }
    /// # Ok::<(), flows_core::Error>(())
    /// ```
    pub fn above(shape: impl Into<Vec<usize>>, lower: impl Into<Limit>) -> Self {
        Self::limited(shape, Some(lower.into()), None)
    }

    /// Numbers below a bound, in events of this shape; see [`Self::above`].
    pub fn below(shape: impl Into<Vec<usize>>, upper: impl Into<Limit>) -> Self {
        Self::limited(shape, None, Some(upper.into()))
    }

    /// Numbers between two bounds, in events of this shape; see [`Self::above`].
    pub fn within(shape: impl Into<Vec<usize>>, lower: impl Into<Limit>, upper: impl Into<Limit>) -> Self {
        Self::limited(shape, Some(lower.into()), Some(upper.into()))
    }

    fn limited(shape: impl Into<Vec<usize>>, lower: Option<Limit>, upper: Option<Limit>) -> Self {
        if lower.iter().chain(&upper).any(|limit| limit.part.is_some()) {
            return Self::Dependent { shape: shape.into(), lower, upper, link: Link::default() };
        }
        let number = |limit: Option<Limit>| limit.map(|limit| limit.shift);
        Self::bounded(shape, [Bounds { lower: number(lower), upper: number(upper) }])
    }

    /// Parts by name, in this order.
    pub fn named<N: Into<String>>(parts: impl IntoIterator<Item = (N, Support)>) -> Self {
        let part = |(name, support): (N, Support)| Part { name: name.into(), support };
        Self::Named { parts: parts.into_iter().map(part).collect() }
    }
}
