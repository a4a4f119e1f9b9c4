//! Optimise, then discretise: the adjoint equation, solved backward in time.

use super::discrete::{Found, dot};
use super::operation::System;
use crate::field::Number;
use crate::solver::{End, Solver, State, Tolerance};
use flows_core::{Error, Result};

/// A state whose error does not count: what no other part of the state depends on.
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

/// Points, their adjoints, and the gradients of weights and context so far.
type Augmented<T> = ((Vec<T>, Vec<T>), Unmeasured<(Vec<T>, Vec<T>)>);

/// The gradients, given the end of the solve and its gradients; that of the later time, which takes an
/// evaluation more, if `train_end_time`.
pub(super) fn gradients<T: Number>(
    system: &System<'_, T>,
    solver: &Solver,
    (times, train_end_time): ([f64; 2], bool),
    end: Vec<T>,
    (of_z, of_integral): (Vec<T>, Vec<T>),
) -> Result<Found<T>>
where
    Vec<T>: State,
{
    // Where a solve ends later, it goes on with the last slope; where it begins later, it lacks the first.
    let (later, sign) = if times[0] < times[1] { (times[1], 1.0) } else { (times[0], -1.0) };
    let of_time = |z: &[T], of_z: &[T]| -> Result<f64> {
        let (value, divergence) = system.rates(later, z)?;
        Ok(sign * (dot(of_z, &value) + dot(&of_integral, &divergence)))
    };
    let mut end_time = if train_end_time && sign > 0.0 { of_time(&end, &of_z)? } else { 0.0 };
    let zeros = |n: usize| vec![T::zero(); n];
    let start: Augmented<T> =
        ((end, of_z), Unmeasured((zeros(system.evaluator.weights()), zeros(system.context.len()))));
    let minus = |mut values: Vec<T>| {
        values.iter_mut().for_each(|v| *v = -*v);
        values
    };
    let f = |t: f64, ((z, of_z), _): &Augmented<T>| -> Result<Augmented<T>> {
        let found = system.evaluator.gradients(t, system.batch(z), (of_z, &of_integral))?;
        let of_parameters = (minus(found.weights), minus(found.context));
        Ok(((found.value, minus(found.z)), Unmeasured(of_parameters)))
    };
    let solution = solver.run(f, start, &[times[1], times[0]], End::Exact, &mut |_| ())?.finished()?;
    let Some(((start, z), Unmeasured((weights, context)))) = solution.states.into_iter().next_back() else {
        return Err(Error::Internal("a solve without an end".into()));
    };
    if train_end_time && sign < 0.0 {
        end_time = of_time(&start, &z)?;
    }
    let evaluations = solution.stats.evaluations + usize::from(train_end_time);
    Ok(Found { z, weights, context, end_time, evaluations })
}
