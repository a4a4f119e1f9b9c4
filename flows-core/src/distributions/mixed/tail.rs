//! The tails of the columns' flows.

use super::layout::BOUND;
use crate::ops::kernel::Real;

/// The shape of the tails.
const SHAPE: f64 = 0.03;

/// A number outside of the interval of splines, moved towards it: `B + ln(1 + xi (y - B)) / xi` for y > B, and its mirror
/// image.
///
/// The tails of y are then those of generalised Pareto distributions, not exponential. Where the network is certain, a
/// row that is far from what it expects would otherwise count for hundreds of others.
#[derive(Clone, Copy)]
pub(super) struct Bent<T> {
    pub(super) value: T,
    pub(super) log_derivative: T,
    /// The derivatives of both.
    pub(super) slope: T,
    pub(super) log_slope: T,
}

impl<T: Real> Bent<T> {
    #[inline(always)]
    pub(super) fn at(y: T) -> Self {
        let excess = y.abs() - T::of(BOUND);
        // NaN stays.
        if excess <= T::zero() || excess.is_nan() {
            return Self { value: y, log_derivative: T::zero(), slope: T::one(), log_slope: T::zero() };
        }
        let (shape, sign) = (T::of(SHAPE), if y < T::zero() { -T::one() } else { T::one() });
        let log = (shape * excess).fast_ln_1p();
        let slope = T::one() / (T::one() + shape * excess);
        Self {
            value: sign * (T::of(BOUND) + log / shape),
            log_derivative: -log,
            slope,
            log_slope: -sign * shape * slope,
        }
    }
}

/// The y of which [`Bent`] has this value.
pub(super) fn straight(value: f64) -> f64 {
    let excess = value.abs() - BOUND;
    if excess <= 0.0 { value } else { value.signum() * (BOUND + (SHAPE * excess).exp_m1() / SHAPE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_smooth_and_inverted() {
        for y in [-1e12, -300.0, -8.01, -8.0, 0.0, 7.9, 8.0, 8.1, 40.0, 1e5] {
            let Bent { value, log_derivative, slope, log_slope } = Bent::at(y);
            assert!((straight(value) - y).abs() <= 1e-9 * f64::abs(y).max(1.0), "{y}");
            assert!((log_derivative - f64::ln(slope)).abs() < 1e-9, "{y}");
            let step = 1e-5 * f64::abs(y).max(1.0);
            let [low, high] = [y - step, y + step].map(Bent::at);
            assert!(((high.value - low.value) / (2.0 * step) / slope - 1.0).abs() < 1e-4, "{y}");
            let curvature = (high.log_derivative - low.log_derivative) / (2.0 * step);
            // It jumps at the ends.
            assert!((curvature - log_slope).abs() < 1e-4 || (f64::abs(y) - BOUND).abs() < step, "{y}");
        }
        assert!(Bent::at(f32::NAN).value.is_nan());
    }
}
