//! The solver.

use super::{Method, Solution, State, Stats, Status, Step, Tolerance, control, dense};
use flows_core::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A Runge-Kutta method and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Solver {
    /// The method.
    pub method: Method,
    /// Relative tolerance of an adaptive method.
    pub rtol: f64,
    /// Absolute tolerance of an adaptive method.
    pub atol: f64,
    /// The first step of an adaptive method; by default it is estimated from the equation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_step: Option<f64>,
    /// The largest step of a fixed-step method, which divides the time between two outputs into equal steps.
    pub step: f64,
    /// The most steps that a solve may attempt.
    pub max_steps: usize,
}

impl Default for Solver {
    fn default() -> Self {
        Self { method: Method::Dopri5, rtol: 1e-5, atol: 1e-5, first_step: None, step: 0.05, max_steps: 1_000 }
    }
}

/// How a solve reaches the last time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// By stepping past it and interpolating.
    Interpolate,
    /// By shortening the last step to end there.
    Exact,
}

impl Solver {
    /// A method with the same relative and absolute tolerance.
    pub fn new(method: Method, tolerance: f64) -> Self {
        Self { method, rtol: tolerance, atol: tolerance, ..Self::default() }
    }

    /// Solves `dy/dt = f(t, y)` with `y(times[0]) = y`, and returns the states at `times`, which must be strictly
    /// increasing or decreasing.
    ///
    /// Step size control, error norm and interpolation follow torchdiffeq, so that its dopri5 takes the same number
    /// of evaluations. A solve that stops early is not an error: see [`Status`].
    ///
    /// # Errors
    /// When a setting is invalid, the times are not monotonic, or `f` fails.
    pub fn solve<S: State>(&self, f: impl FnMut(f64, &S) -> Result<S>, y: S, times: &[f64]) -> Result<Solution<S>> {
        self.run(f, y, times, End::Interpolate, &mut |_| ())
    }

    /// Solves from many states in parallel, each with its own steps, so that a stiff one does not slow down the others.
    ///
    /// # Errors
    /// Those of [`Self::solve`].
    pub fn solve_each<S: State + Send>(
        &self,
        f: impl Fn(f64, &S) -> Result<S> + Sync,
        states: Vec<S>,
        times: &[f64],
    ) -> Result<Vec<Solution<S>>> {
        states.into_par_iter().map(|y| self.solve(&f, y, times)).collect()
    }

    /// [`Self::solve`] with a choice of [`End`], calling `on_step` with every accepted step.
    pub(crate) fn run<S: State>(
        &self,
        mut f: impl FnMut(f64, &S) -> Result<S>,
        y: S,
        times: &[f64],
        end: End,
        on_step: &mut dyn FnMut(Step<S>),
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
            self.adaptive(&mut counted, &mut states, times, (direction, end), on_step)?
        } else {
            self.fixed(&mut counted, &mut states, times, on_step)?
        };
        Ok(Solution { states, stats: Stats { accepted, rejected, ..stats }, status })
    }

    /// Checks the settings.
    pub(crate) fn check(&self) -> Result<()> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        if !positive(self.step) || self.first_step.is_some_and(|step| !positive(step)) {
            return Err(Error::Config("steps must be positive numbers: set `step` and `first_step` above 0".into()));
        }
        if self.max_steps == 0 {
            return Err(Error::Config("`max_steps` is 0, but a solve needs at least 1".into()));
        }
        self.tolerance().check()
    }

    pub(crate) fn tolerance(&self) -> Tolerance {
        Tolerance { rtol: self.rtol, atol: self.atol }
    }

    /// Solves with adaptive steps; returns the status and the numbers of accepted and rejected steps.
    fn adaptive<S: State>(
        &self,
        f: &mut impl FnMut(f64, &S) -> Result<S>,
        states: &mut Vec<S>,
        times: &[f64],
        (direction, end): (f64, End),
        on_step: &mut dyn FnMut(Step<S>),
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
            // Scaled from the step as taken: a shortened one says little about the next, but it is the last.
            h = signed.abs() * control::factor(ratio, tableau.order);
            // This form of the comparison rejects NaN.
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
                on_step(step);
            } else {
                rejected += 1;
                let Step { y: before, k, .. } = step;
                y = before;
                slope = k.into_iter().next().ok_or_else(|| Error::Internal("a method has no stages".into()))?;
            }
        }
        Ok((Status::Finished, [accepted, rejected]))
    }

    /// Solves with fixed steps; returns the status and the numbers of accepted and rejected steps.
    fn fixed<S: State>(
        &self,
        f: &mut impl FnMut(f64, &S) -> Result<S>,
        states: &mut Vec<S>,
        times: &[f64],
        on_step: &mut dyn FnMut(Step<S>),
    ) -> Result<(Status, [usize; 2])> {
        let tableau = self.method.tableau();
        let mut accepted = 0;
        let mut y = states[0].clone();
        for ends in times.windows(2) {
            let span = ends[1] - ends[0];
            let count = (span.abs() / self.step - 1e-9).ceil().max(1.0);
            let h = span / count;
            for i in 0..count as usize {
                let t = ends[0] + i as f64 * h;
                if accepted == self.max_steps {
                    return Ok((Status::TooManySteps { t, limit: self.max_steps, adaptive: false }, [accepted, 0]));
                }
                let (step, next) = Step::take(f, tableau, (t, h), y, None)?;
                accepted += 1;
                if !next.norm(&next, &next, Tolerance { rtol: 0.0, atol: 1.0 })?.is_finite() {
                    return Ok((Status::NotFinite { t }, [accepted, 0]));
                }
                on_step(step);
                y = next;
            }
            states.push(y.clone());
        }
        Ok((Status::Finished, [accepted, 0]))
    }
}

/// 1 for increasing times, -1 for decreasing ones.
fn direction(times: &[f64]) -> Result<f64> {
    let increasing = times.windows(2).all(|w| w[0] < w[1]);
    let decreasing = times.windows(2).all(|w| w[0] > w[1]);
    if times.len() < 2 || times.iter().any(|t| !t.is_finite()) || !(increasing || decreasing) {
        let message = "the times of a solve must be two or more finite numbers that increase or decrease strictly";
        return Err(Error::Config(format!("{message}; so an end time of 0 is not possible")));
    }
    Ok(if increasing { 1.0 } else { -1.0 })
}
