//! Optimise, then discretise: gradients by solving the adjoint equation backward in time.

use super::discrete::{SolveGradients, dot};
use super::operation::System;
use crate::field::Number;
use crate::solver::{End, Solver, State, Tolerance};
use flows_core::{Error, Result};

/// A part of a state that nothing else depends on, excluded from the error estimate.
#[derive(Clone)]
struct Unmeasured<S>(S);

impl<S: State> State for Unmeasured<S> {
    fn combine(base: Option<&Self>, terms: &[(f64, &Self)]) -> Result<Self> {
        let terms: Vec<_> = terms.iter().map(|(c, k)| (*c, &k.0)).collect();
        Ok(Self(S::combine(base.map(|b| &b.0), &terms)?))
    }

    fn norm(&self, _: &Self, _: &Self, _: Tolerance) -> Result<f64> {
        Ok(0.0)
    }
}

/// Points (B, D), their adjoints (B, D), and the integrals so far of the gradients with respect to weights and context.
type Augmented<T> = ((Vec<T>, Vec<T>), Unmeasured<(Vec<T>, Vec<T>)>);

/// The gradients of a solve, given its end and the gradients with respect to the end and the integral; with
/// `train_end_time` also the one with respect to the later time, at the cost of one more evaluation.
pub(super) fn gradients<T: Number>(
    system: &System<'_, T>,
    solver: &Solver,
    (times, train_end_time): ([f64; 2], bool),
    end: Vec<T>,
    (grad_z, grad_integral): (Vec<T>, Vec<T>),
) -> Result<SolveGradients<T>>
where
    Vec<T>: State,
{
    // Delaying the last time extends the solve along its last slope; delaying the first time shortens it along its
    // first.
    let (later, sign) = if times[0] < times[1] { (times[1], 1.0) } else { (times[0], -1.0) };
    let time_gradient = |z: &[T], grad_z: &[T]| -> Result<f64> {
        let (value, divergence) = system.rates(later, z)?;
        Ok(sign * (dot(grad_z, &value) + dot(&grad_integral, &divergence)))
    };
    let mut end_time = if train_end_time && sign > 0.0 { time_gradient(&end, &grad_z)? } else { 0.0 };
    let zeros = |n: usize| vec![T::zero(); n];
    let start: Augmented<T> =
        ((end, grad_z), Unmeasured((zeros(system.evaluator.weights()), zeros(system.context.len()))));
    let negated = |mut values: Vec<T>| {
        values.iter_mut().for_each(|v| *v = -*v);
        values
    };
    let f = |t: f64, ((z, grad_z), _): &Augmented<T>| -> Result<Augmented<T>> {
        let gradients = system.evaluator.gradients(t, system.batch(z), (grad_z, &grad_integral))?;
        let parameters = (negated(gradients.weights), negated(gradients.context));
        Ok(((gradients.value, negated(gradients.z)), Unmeasured(parameters)))
    };
    let solution = solver.run(f, start, &[times[1], times[0]], End::Exact, &mut |_| ())?.finished()?;
    let Some(((start, z), Unmeasured((weights, context)))) = solution.states.into_iter().next_back() else {
        return Err(Error::Internal("a solve returned no states".into()));
    };
    if train_end_time && sign < 0.0 {
        end_time = time_gradient(&start, &z)?;
    }
    let evaluations = solution.stats.evaluations + usize::from(train_end_time);
    Ok(SolveGradients { z, weights, context, end_time, evaluations })
}
