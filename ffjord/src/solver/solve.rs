//! The solver itself.

use super::{Method, Solution, State, Stats, Status, Step, Tolerance, control, dense};
use flows_core::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A method and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Solver {
    /// The method.
    pub method: Method,
    /// Relative tolerance of an adaptive method.
    pub rtol: f64,
    /// Absolute tolerance of an adaptive method.
    pub atol: f64,
    /// The first step of an adaptive method, chosen from the equation unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_step: Option<f64>,
    /// The largest step of a method with fixed ones: the time between two outputs is cut into equal parts.
    pub step: f64,
    /// The most steps that a solve tries.
    pub max_steps: usize,
}

impl Default for Solver {
    fn default() -> Self {
        Self { method: Method::Dopri5, rtol: 1e-5, atol: 1e-5, first_step: None, step: 0.05, max_steps: 1_000 }
    }
}

/// What a solve does at the last time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// Steps over it, and interpolates.
    Interpolate,
    /// Shortens the last step to end there.
    Exact,
}

impl Solver {
    /// A method with one number for both tolerances.
    pub fn new(method: Method, tolerance: f64) -> Self {
        Self { method, rtol: tolerance, atol: tolerance, ..Self::default() }
    }

    /// The solution of `dy/dt = f(t, y)`, `y(times[0]) = y`, at `times`, which all rise or all fall.
    ///
    /// Steps, error and output between steps are those of torchdiffeq's dopri5: by that method the same
    /// equation takes the same number of evaluations. A solve that cannot go on is no error but a
    /// [`Status`].
    ///
    /// # Errors
    /// When a setting or the times cannot be used, and those of `f`.
    pub fn solve<S: State>(&self, f: impl FnMut(f64, &S) -> Result<S>, y: S, times: &[f64]) -> Result<Solution<S>> {
        self.run(f, y, times, End::Interpolate, &mut |_| ())
    }

    /// The same for many states, each solved by itself with steps of its own, side by side: a hard one
    /// neither spoils nor slows the steps of the others.
    ///
    /// # Errors
    /// As [`Self::solve`].
    pub fn solve_each<S: State + Send>(
        &self,
        f: impl Fn(f64, &S) -> Result<S> + Sync,
        states: Vec<S>,
        times: &[f64],
    ) -> Result<Vec<Solution<S>>> {
        states.into_par_iter().map(|y| self.solve(&f, y, times)).collect()
    }

    /// The same, showing `seen` every step that was taken.
    pub(crate) fn run<S: State>(
        &self,
        mut f: impl FnMut(f64, &S) -> Result<S>,
        y: S,
        times: &[f64],
        end: End,
        seen: &mut dyn FnMut(Step<S>),
    ) -> Result<Solution<S>> {
        self.check()?;
        let direction = direction(times)?;
        let mut stats = Stats::default();
        let mut counted = |t: f64, y: &S| {
            stats.evaluations += 1;
            f(t, y)
        };
        let mut states = vec![y];
        let (status, [accepted, rejected]) = if self.method.is_adaptive() {
            self.adaptive(&mut counted, &mut states, times, (direction, end), seen)?
        } else {
            self.fixed(&mut counted, &mut states, times, seen)?
        };
        Ok(Solution { states, stats: Stats { accepted, rejected, ..stats }, status })
    }

    /// Passes if the settings can be used.
    pub(crate) fn check(&self) -> Result<()> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        if !positive(self.step) || self.first_step.is_some_and(|step| !positive(step)) {
            return Err(Error::Config("a step must be a positive number: set `step` and `first_step` above 0".into()));
        }
        if self.max_steps == 0 {
            return Err(Error::Config("`max_steps` is 0, but a solve needs at least 1".into()));
        }
        self.tolerance().check()
    }

    pub(crate) fn tolerance(&self) -> Tolerance {
        Tolerance { rtol: self.rtol, atol: self.atol }
    }

    fn adaptive<S: State>(
        &self,
        f: &mut impl FnMut(f64, &S) -> Result<S>,
        states: &mut Vec<S>,
        times: &[f64],
        (direction, end): (f64, End),
        seen: &mut dyn FnMut(Step<S>),
    ) -> Result<(Status, [usize; 2])> {
        let (tableau, tolerance) = (self.method.tableau(), self.tolerance());
        let (mut t, last) = (times[0], times[times.len() - 1]);
        let [mut accepted, mut rejected] = [0; 2];
        let mut y = states[0].clone();
        let mut slope = f(t, &y)?;
        let mut h = match self.first_step {
            Some(h) => h,
            None => control::first_step(f, (t, direction), (&y, &slope), tableau.order, tolerance)?,
        };
        let finite = |slope: &S, y: &S| Ok::<_, Error>(slope.norm(y, y, tolerance)?.is_finite());
        if !finite(&slope, &y)? || !finite(&y, &y)? || !h.is_finite() {
            return Ok((Status::NotFinite { t }, [0, 0]));
        }
        let mut ratio = 0.0f64;
        while states.len() < times.len() {
            if accepted + rejected >= self.max_steps {
                return Ok((Status::TooManySteps { t, limit: self.max_steps, adaptive: true }, [accepted, rejected]));
            }
            if t + direction * h == t {
                let status = if ratio.is_finite() { Status::Underflow { t, step: h } } else { Status::NotFinite { t } };
                return Ok((status, [accepted, rejected]));
            }
            let shortened = end == End::Exact && (last - t) * direction <= h * (1.0 + 1e-9);
            let signed = if shortened { last - t } else { direction * h };
            let (step, next) = Step::take(f, tableau, (t, signed), y, Some(slope))?;
            ratio = step.error(tableau, &next, tolerance)?;
            // Of the step that was taken; a shortened one says little about the next, and is the last.
            h = signed.abs() * control::factor(ratio, tableau.order);
            // Written so that a NaN is rejected.
            if ratio <= 1.0 {
                accepted += 1;
                t = if shortened { last } else { t + signed };
                while let Some(&time) = times.get(states.len()).filter(|&&time| (t - time) * direction >= 0.0) {
                    let state = if time == t && end == End::Exact {
                        next.clone()
                    } else {
                        step.at(&dense::weights(self.method, (time - step.t) / step.h))?
                    };
                    states.push(state);
                }
                slope = match step.k.last() {
                    Some(last) if tableau.first_same_as_last => last.clone(),
                    _ if states.len() == times.len() => step.k[0].clone(),
                    _ => f(t, &next)?,
                };
                y = next;
                seen(step);
            } else {
                rejected += 1;
                let Step { y: before, k, .. } = step;
                y = before;
                slope = k.into_iter().next().ok_or_else(|| Error::Internal("a method without stages".into()))?;
            }
        }
        Ok((Status::Finished, [accepted, rejected]))
    }

    fn fixed<S: State>(
        &self,
        f: &mut impl FnMut(f64, &S) -> Result<S>,
        states: &mut Vec<S>,
        times: &[f64],
        seen: &mut dyn FnMut(Step<S>),
    ) -> Result<(Status, [usize; 2])> {
        let tableau = self.method.tableau();
        let mut taken = 0;
        let mut y = states[0].clone();
        for ends in times.windows(2) {
            let span = ends[1] - ends[0];
            let count = (span.abs() / self.step - 1e-9).ceil().max(1.0);
            let h = span / count;
            for i in 0..count as usize {
                let t = ends[0] + i as f64 * h;
                if taken == self.max_steps {
                    return Ok((Status::TooManySteps { t, limit: self.max_steps, adaptive: false }, [taken, 0]));
                }
                let (step, next) = Step::take(f, tableau, (t, h), y, None)?;
                taken += 1;
                if !next.norm(&next, &next, Tolerance { rtol: 0.0, atol: 1.0 })?.is_finite() {
                    return Ok((Status::NotFinite { t }, [taken, 0]));
                }
                seen(step);
                y = next;
            }
            states.push(y.clone());
        }
        Ok((Status::Finished, [taken, 0]))
    }
}

/// 1 for times that rise, -1 for times that fall.
fn direction(times: &[f64]) -> Result<f64> {
    let rises = times.windows(2).all(|w| w[0] < w[1]);
    let falls = times.windows(2).all(|w| w[0] > w[1]);
    if times.len() < 2 || times.iter().any(|t| !t.is_finite()) || !(rises || falls) {
        let message = "the times of a solve must be two or more finite numbers that all rise or all fall";
        return Err(Error::Config(format!("{message}; an end time of 0 leaves nothing to solve")));
    }
    Ok(if rises { 1.0 } else { -1.0 })
}
