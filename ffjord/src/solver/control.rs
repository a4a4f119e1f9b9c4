//! Step size control.

use super::State;
use flows_core::{Error, Result};

/// The tolerated error of a step: `atol + rtol |y|` for each component, in the root mean square over the state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The relative tolerance.
    pub rtol: f64,
    /// The absolute tolerance.
    pub atol: f64,
}

impl Tolerance {
    pub(super) fn check(self) -> Result<()> {
        let usable = |v: f64| v.is_finite() && v >= 0.0;
        if usable(self.rtol) && usable(self.atol) && self.atol > 0.0 {
            return Ok(());
        }
        let Self { rtol, atol } = self;
        Err(Error::Config(format!(
            "a relative tolerance of {rtol} and an absolute one of {atol} cannot be met: give numbers such as 1e-5, \
             the absolute one above 0, since the relative error of a component near 0 is unbounded"
        )))
    }
}

const SAFETY: f64 = 0.9;
const SHRINK: f64 = 0.2;
const GROW: f64 = 10.0;

/// The factor from this step's size to the next one's, given the ratio of its error to the tolerance; an accepted step
/// (with a ratio of at most 1) is not followed by a smaller one.
pub(super) fn factor(ratio: f64, order: u32) -> f64 {
    if ratio == 0.0 {
        return GROW;
    }
    if !ratio.is_finite() {
        return SHRINK;
    }
    let least = if ratio < 1.0 { 1.0 } else { SHRINK };
    (SAFETY * ratio.powf(-1.0 / f64::from(order))).max(least).min(GROW)
}

/// The size of the first step (Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4), with one
/// evaluation of `f`. `direction` is 1 or -1, the sign of steps; `f0 = f(t, y)`; `order` is the method's order.
pub(super) fn first_step<S: State>(
    f: &mut impl FnMut(f64, &S) -> Result<S>,
    (t, direction): (f64, f64),
    (y, f0): (&S, &S),
    order: u32,
    tolerance: Tolerance,
) -> Result<f64> {
    let (d0, d1) = (y.norm(y, y, tolerance)?, f0.norm(y, y, tolerance)?);
    let h0 = if d0 < 1e-5 || d1 < 1e-5 { 1e-6 } else { 0.01 * d0 / d1 };
    let f1 = f(t + direction * h0, &S::combine(Some(y), &[(direction * h0, f0)])?)?;
    let d2 = S::combine(Some(&f1), &[(-1.0, f0)])?.norm(y, y, tolerance)? / h0;
    let steepest = d1.max(d2);
    let h1 = if steepest <= 1e-15 { (1e-3 * h0).max(1e-6) } else { (0.01 / steepest).powf(1.0 / f64::from(order)) };
    Ok(h1.min(100.0 * h0))
}
