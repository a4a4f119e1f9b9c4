//! Optimise, then discretise: the adjoint equation, solved backward in time.

use super::discrete::Found;
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

/// The gradients, given the end of the solve and its gradients.
pub(super) fn gradients<T: Number>(
    system: &System<'_, T>,
    solver: &Solver,
    times: [f64; 2],
    end: Vec<T>,
    (of_z, of_integral): (Vec<T>, Vec<T>),
) -> Result<Found<T>>
where
    Vec<T>: State,
{
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
    let evaluations = solution.stats.evaluations;
    match solution.states.into_iter().next_back() {
        Some(((_, z), Unmeasured((weights, context)))) => Ok(Found { z, weights, context, evaluations }),
        None => Err(Error::Config("a solve without an end".into())),
    }
}
