//! Rational-quadratic splines: on the line, on an interval, on the circle.

use super::Univariate;
use super::pointwise::{Kind, Pointwise};
use crate::bijectors::Bounds;
use crate::ops::{self, Direction, Ends, RqSplineSettings};
use crate::{Error, Result};
use candle_core::Tensor;

/// The monotone rational-quadratic spline of Durkan et al., Neural Spline Flows, 2019 (the formula
/// is at [`ops::rq_spline`]); on the circle after Rezende et al., Normalizing Flows on Tori and
/// Spheres, 2020.
///
/// Raw parameters of an element: K widths, K heights, then the free slopes; on the circle also a
/// phase by which the result is turned.
#[derive(Clone, Copy, Debug)]
pub struct RqSpline {
    settings: RqSplineSettings,
}

impl RqSpline {
    /// `bins` bins on [-`bound`, `bound`], the identity outside.
    ///
    /// # Errors
    /// When `bins` is not in 1..=500 or `bound` is not positive and finite.
    pub fn linear_tails(bins: usize, bound: f64) -> Result<Self> {
        Self::new(bins, -bound, bound, Ends::Linear)
    }

    /// `bins` bins on [`low`, `high`]; points outside have density zero.
    ///
    /// # Errors
    /// When `bins` is not in 1..=500 or the interval is empty or not finite.
    pub fn closed(bins: usize, low: f64, high: f64) -> Result<Self> {
        Self::new(bins, low, high, Ends::Closed)
    }

    /// `bins` bins on the circle [`low`, `high`), mapped onto itself; a number outside stands for the point
    /// of the circle that it wraps to.
    ///
    /// # Errors
    /// When `bins` is not in 1..=500 or the interval is empty or not finite.
    pub fn circular(bins: usize, low: f64, high: f64) -> Result<Self> {
        Self::new(bins, low, high, Ends::Periodic)
    }

    fn new(bins: usize, low: f64, high: f64, ends: Ends) -> Result<Self> {
        // Widths and heights are at least a thousandth of the interval each.
        if !(1..=500).contains(&bins) {
            return Err(Error::Config(format!("a spline of {bins} bins: choose 1 to 500")));
        }
        if !(low < high && (high - low).is_finite()) {
            return Err(Error::Config(format!(
                "a spline on [{low}, {high}]: choose a finite interval that is not empty"
            )));
        }
        Ok(Self { settings: RqSplineSettings { bins, low, high, ends, min_bin: 1e-3, min_slope: 1e-3 } })
    }

    fn is_circular(&self) -> bool {
        self.settings.ends == Ends::Periodic
    }

    /// The same point of the circle, in [low, high).
    fn wrap(&self, x: &Tensor) -> Result<Tensor> {
        let RqSplineSettings { low, high, .. } = self.settings;
        let turns = x.affine(1.0 / (high - low), -low / (high - low))?.floor()?.detach();
        // Rounding may leave a point just outside of the interval.
        let wrapped = (x - (turns * (high - low))?)?;
        Ok((&wrapped + (wrapped.clamp(low, high)? - &wrapped)?.detach())?)
    }

    fn split(&self, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let p = self.settings.parameter_count();
        Ok((parameters.narrow(2, 0, p)?, parameters.narrow(2, p, 1)?.squeeze(2)?))
    }
}

impl Univariate for RqSpline {
    fn name(&self) -> String {
        let RqSplineSettings { bins, low, high, .. } = self.settings;
        let kind = if self.is_circular() { "circular RQ-spline" } else { "RQ-spline" };
        format!("{kind}, {bins} bins on [{low}, {high}]")
    }

    fn parameter_count(&self) -> usize {
        self.settings.parameter_count() + usize::from(self.is_circular())
    }

    fn identity(&self) -> Vec<f64> {
        let RqSplineSettings { bins, .. } = self.settings;
        let slope = self.settings.raw_unit_slope();
        let mut raw: Vec<f64> =
            (0..self.settings.parameter_count()).map(|i| if i < 2 * bins { 0.0 } else { slope }).collect();
        raw.extend(self.is_circular().then_some(0.0));
        raw
    }

    fn domain(&self) -> Bounds {
        let RqSplineSettings { low, high, ends, .. } = self.settings;
        if ends == Ends::Closed { Bounds::between(low, high) } else { Bounds::NONE }
    }

    fn range(&self) -> Bounds {
        let RqSplineSettings { low, high, ends, .. } = self.settings;
        if ends == Ends::Linear { Bounds::NONE } else { Bounds::between(low, high) }
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        if !self.is_circular() {
            return ops::rq_spline(z, parameters, self.settings, Direction::Forward);
        }
        let (spline, phase) = self.split(parameters)?;
        let (x, log) = ops::rq_spline(&self.wrap(z)?, &spline, self.settings, Direction::Forward)?;
        Ok((self.wrap(&x.broadcast_add(&phase)?)?, log))
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        if !self.is_circular() {
            return ops::rq_spline(x, parameters, self.settings, Direction::Inverse);
        }
        let (spline, phase) = self.split(parameters)?;
        ops::rq_spline(&self.wrap(&x.broadcast_sub(&phase)?)?, &spline, self.settings, Direction::Inverse)
    }

    fn pointwise(&self) -> Option<Pointwise> {
        (!self.is_circular()).then_some(Pointwise(Kind::RqSpline(self.settings)))
    }
}
