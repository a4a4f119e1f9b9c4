//! One step of a Runge-Kutta method.

use super::tableau::Tableau;
use super::{State, Tolerance};
use flows_core::Result;

/// A step of size `h`, negative if time runs backward, from the state `y` at time `t`, with the slopes `k` of its
/// stages.
#[derive(Clone, Debug)]
pub(crate) struct Step<S> {
    pub(crate) t: f64,
    pub(crate) h: f64,
    pub(crate) y: S,
    pub(crate) k: Vec<S>,
}

impl<S: State> Step<S> {
    /// Evaluates the stages, the first being `slope` if known, and returns the step with its final state.
    pub(super) fn take(
        f: &mut impl FnMut(f64, &S) -> Result<S>,
        tableau: &Tableau,
        (t, h): (f64, f64),
        y: S,
        slope: Option<S>,
    ) -> Result<(Self, S)> {
        let mut step = Self { t, h, y, k: Vec::with_capacity(tableau.b.len()) };
        let mut end = None;
        step.k.extend(slope);
        for i in step.k.len()..tableau.b.len() {
            let at = step.stage(tableau, i)?;
            let slope = f(t + tableau.c[i] * h, &at)?;
            step.k.push(slope);
            // With first-same-as-last, the point of the last stage is the final state.
            end = Some(at).filter(|_| tableau.first_same_as_last && i + 1 == tableau.b.len());
        }
        let end = match end {
            Some(end) => end,
            None => step.at(tableau.b)?,
        };
        Ok((step, end))
    }

    /// The state at which stage `i` is evaluated.
    pub(crate) fn stage(&self, tableau: &Tableau, i: usize) -> Result<S> {
        self.at(tableau.a[i])
    }

    /// `y + h sum w_i k_i`.
    pub(super) fn at(&self, weights: &[f64]) -> Result<S> {
        S::combine(Some(&self.y), &self.terms(weights))
    }

    /// The ratio of the estimated error to the tolerance; the step is acceptable if it is at most 1.
    pub(super) fn error(&self, tableau: &Tableau, end: &S, tolerance: Tolerance) -> Result<f64> {
        S::combine(None, &self.terms(tableau.error))?.norm(&self.y, end, tolerance)
    }

    fn terms(&self, weights: &[f64]) -> Vec<(f64, &S)> {
        weights.iter().zip(&self.k).map(|(w, k)| (w * self.h, k)).collect()
    }
}
