//! The monotone rational-quadratic spline: value and log-derivative in one pass, the backward pass in another.

pub(crate) mod bin;
mod kernel;
mod plain;

use super::Direction;
use super::cpu::Real;
use super::transformer::transform;
use crate::{Error, Result};
use candle_core::Tensor;

/// What happens at the ends of a spline's interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Slope 1 at both ends, and the identity outside.
    Linear,
    /// Free slopes; outside, the log-derivative is minus infinity.
    Closed,
    /// The same free slope at both ends: a map of the circle onto itself.
    Periodic,
}

/// The spline's settings, the same for all elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RqSplineSettings {
    /// Number of bins K.
    pub bins: usize,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
    /// What happens at the ends.
    pub ends: Ends,
    /// The smallest width and height of a bin, as a fraction of the interval.
    pub min_bin: f64,
    /// The smallest slope at a knot.
    pub min_slope: f64,
}

impl RqSplineSettings {
    /// The number of parameters of an element: K widths, K heights and the free slopes.
    pub fn parameter_count(&self) -> usize {
        2 * self.bins
            + match self.ends {
                Ends::Linear => self.bins.saturating_sub(1),
                Ends::Closed => self.bins + 1,
                Ends::Periodic => self.bins,
            }
    }

    /// The raw slope for which the slope is 1: `ln(e^(1 - min_slope) - 1)`.
    pub fn raw_unit_slope(&self) -> f64 {
        ((1.0 - self.min_slope).exp() - 1.0).ln()
    }

    /// The index of the raw slope at `knot`; `None` where the slope is fixed at 1.
    fn slope_index(&self, knot: usize) -> Option<usize> {
        match self.ends {
            Ends::Linear if knot == 0 || knot == self.bins => None,
            Ends::Linear => Some(knot - 1),
            Ends::Closed => Some(knot),
            Ends::Periodic => Some(knot % self.bins),
        }
    }
}

/// `(f(x), log|f'(x)|)`, both (B, N), of the spline f or its inverse.
///
/// `parameters` are (B, N, P) or (1, N, P): raw widths, heights and slopes. Widths and heights are
/// `min_bin + (1 - K min_bin) softmax(raw)` of the interval, slopes `min_slope + softplus(raw)`.
/// Inside bin k, with `s = h/w` and `xi = (x - x_k)/w`,
///
/// ```text
/// y = y_k + h (s xi^2 + d_k xi (1-xi)) / (s + (d_k + d_{k+1} - 2s) xi (1-xi))
/// ```
///
/// Durkan et al., Neural Spline Flows, 2019, equations 4 to 8.
///
/// # Errors
/// When shapes or types do not agree, or the settings do not describe a spline.
pub fn rq_spline(
    x: &Tensor,
    parameters: &Tensor,
    settings: RqSplineSettings,
    direction: Direction,
) -> Result<(Tensor, Tensor)> {
    let RqSplineSettings { bins, low, high, min_bin, min_slope, .. } = settings;
    let room = min_bin >= 0.0 && min_bin * (bins as f64) < 1.0 && min_slope >= 0.0;
    if bins == 0 || !(room && low < high && (high - low).is_finite()) {
        let remedy =
            "give at least one bin, bins times min_bin below 1, no negative slope, and low < high, both finite";
        return Err(Error::Config(format!("{settings:?} does not describe a spline: {remedy}")));
    }
    transform(RqSpline { settings, direction }, x, parameters)
}

impl RqSplineSettings {
    /// The values of points, followed by their log-derivatives; raw parameters are P for each point or, where there are
    /// fewer, P for each point of a row. Points may be of another type.
    pub(crate) fn values<T: Real, R: Real>(self, direction: Direction, x: &[T], raw: &[R]) -> Vec<T> {
        RqSpline { settings: self, direction }.values(x, raw)
    }

    /// The gradients with respect to the points and the raw parameters of [`Self::values`], given that with respect to
    /// its result.
    pub(crate) fn gradients<T: Real, R: Real>(
        self,
        direction: Direction,
        x: &[T],
        raw: &[R],
        grad: &[T],
    ) -> (Vec<T>, Vec<R>) {
        RqSpline { settings: self, direction }.differentiate(x, raw, grad)
    }
}

#[derive(Clone, Copy, Debug)]
struct RqSpline {
    settings: RqSplineSettings,
    direction: Direction,
}

#[cfg(test)]
mod tests;
