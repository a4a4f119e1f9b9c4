//! Optimise, then discretise: gradients by solving the adjoint equation backward in time.

use super::discrete::{SolveGradients, dot};
use super::operation::System;
use crate::field::Number;
use crate::solver::{End, Solver, State, Tolerance, larger};
use flows_core::{Error, Result};

/// The state of the adjoint equation.
#[derive(Clone)]
struct Augmented<T> {
    /// Points, (B, D).
    z: Vec<T>,
    /// The gradient with respect to the points, (B, D).
    adjoint: Vec<T>,
    /// The gradient with respect to the weights so far.
    weights: Vec<T>,
    /// The gradient with respect to the context so far, (B, C).
    context: Vec<T>,
}

impl<T: Clone> State for Augmented<T>
where
    Vec<T>: State,
{
    fn combine(base: Option<&Self>, terms: &[(f64, &Self)]) -> Result<Self> {
        let combine = |part: fn(&Self) -> &Vec<T>| {
            let terms: Vec<_> = terms.iter().map(|(c, k)| (*c, part(k))).collect();
            State::combine(base.map(part), &terms)
        };
        Ok(Self {
            z: combine(|state| &state.z)?,
            adjoint: combine(|state| &state.adjoint)?,
            weights: combine(|state| &state.weights)?,
            context: combine(|state| &state.context)?,
        })
    }

    /// Leaves out the gradients with respect to weights and context, which nothing else depends on.
    fn norm(&self, a: &Self, b: &Self, tolerance: Tolerance) -> Result<f64> {
        let z = self.z.norm(&a.z, &b.z, tolerance)?;
        Ok(larger(z, self.adjoint.norm(&a.adjoint, &b.adjoint, tolerance)?))
    }
}

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
    let (weights, context) = (zeros(system.evaluator.weights()), zeros(system.context.len()));
    let start = Augmented { z: end, adjoint: grad_z, weights, context };
    let negated = |mut values: Vec<T>| {
        values.iter_mut().for_each(|v| *v = -*v);
        values
    };
    let f = |t: f64, state: &Augmented<T>| -> Result<Augmented<T>> {
        let gradients = system.evaluator.gradients(t, system.batch(&state.z), (&state.adjoint, &grad_integral))?;
        Ok(Augmented {
            z: gradients.value,
            adjoint: negated(gradients.z),
            weights: negated(gradients.weights),
            context: negated(gradients.context),
        })
    };
    let solution = solver.run(f, start, &[times[1], times[0]], End::Exact, &mut |_| ())?.finished()?;
    let Some(start) = solution.states.into_iter().next_back() else {
        return Err(Error::Internal("a solve returned no states".into()));
    };
    if train_end_time && sign < 0.0 {
        end_time = time_gradient(&start.z, &start.adjoint)?;
    }
    let evaluations = solution.stats.evaluations + usize::from(train_end_time);
    let Augmented { adjoint, weights, context, .. } = start;
    Ok(SolveGradients { z: adjoint, weights, context, end_time, evaluations })
}
