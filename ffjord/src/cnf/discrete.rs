//! Discretise, then optimise: the exact gradient of the solver's accepted steps.

use super::operation::{Point, System};
use crate::field::{Gradients, Number};
use crate::solver::{Method, State, Step};
use flows_core::Result;
use flows_core::ops::kernel::Real;

/// The gradients of a solve with respect to its start, weights, context and end time.
pub(super) struct SolveGradients<T> {
    pub(super) z: Vec<T>,
    pub(super) weights: Vec<T>,
    pub(super) context: Vec<T>,
    /// The gradient with respect to the later time: the earlier one is fixed, and all steps scale with their distance.
    pub(super) end_time: f64,
    /// The number of evaluations of the field's gradient.
    pub(super) evaluations: usize,
}

impl<T: Real> SolveGradients<T> {
    /// The gradients of this solve and of one for the rows that follow, combined.
    pub(super) fn concat(mut self, other: Self) -> Self {
        self.z.extend(other.z);
        self.context.extend(other.context);
        add(&mut self.weights, &other.weights);
        self.end_time += other.end_time;
        self.evaluations += other.evaluations;
        self
    }
}

/// The gradients of a solve, given those with respect to its end and its integral, by backpropagation through the
/// `steps`: for each, last to first, `K_i = h b_i Y + h sum_{j>i} a_ji Z_j`, `Z_i = (df/dy)^T K_i`, and
/// `Y <- Y + sum_i Z_i`.
pub(super) fn gradients<T: Number>(
    system: &System<'_, T>,
    method: Method,
    times: [f64; 2],
    steps: &[Step<Point<T>>],
    (mut grad_z, grad_integral): (Vec<T>, Vec<T>),
) -> Result<SolveGradients<T>>
where
    Vec<T>: State,
{
    let tableau = method.tableau();
    let mut sums = SolveGradients {
        z: Vec::new(),
        weights: vec![T::zero(); system.evaluator.weights()],
        context: vec![T::zero(); system.context.len()],
        end_time: 0.0,
        evaluations: 0,
    };
    let (fixed, span) = (times[0].min(times[1]), (times[1] - times[0]).abs());
    for step in steps.iter().rev() {
        let stages = tableau.b.len();
        let mut grad_stages: Vec<Vec<T>> = vec![Vec::new(); stages];
        for i in (0..stages).rev() {
            // The end of the step and the later stages depend on the slope of stage i.
            let mut terms = vec![(step.h * tableau.b[i], &grad_z)];
            terms.extend((i + 1..stages).map(|j| (step.h * tableau.a[j][i], &grad_stages[j])));
            terms.retain(|(c, grad_stage)| *c != 0.0 && !grad_stage.is_empty());
            // No stage depends on the integral, only the end of the step does.
            let weight = T::of(step.h * tableau.b[i]);
            if terms.is_empty() {
                continue;
            }
            let grad_value = Vec::<T>::combine(None, &terms)?;
            let grad_divergence: Vec<T> = grad_integral.iter().map(|&g| g * weight).collect();
            let (z, _) = step.stage(tableau, i)?;
            let t = step.t + tableau.c[i] * step.h;
            let seeds = (&grad_value[..], &grad_divergence[..]);
            let gradients = system.evaluator.gradients(t, system.batch(&z), seeds)?;
            let Gradients { z, context, weights, t: grad_t, .. } = gradients;
            add(&mut sums.weights, &weights);
            add(&mut sums.context, &context);
            let (value, divergence) = &step.k[i];
            let along = dot(&grad_value, value) + dot(&grad_divergence, divergence);
            sums.end_time += (along + (t - fixed) * grad_t.wide()) / span;
            sums.evaluations += 1;
            grad_stages[i] = z;
        }
        grad_stages.iter().filter(|z| !z.is_empty()).for_each(|z| add(&mut grad_z, z));
    }
    sums.z = grad_z;
    Ok(sums)
}

/// `sum a b`, accumulated in f64.
pub(super) fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.wide() * b.wide()).sum()
}

/// `sum += part`.
fn add<T: Real>(sum: &mut [T], part: &[T]) {
    sum.iter_mut().zip(part).for_each(|(s, &v)| *s += v);
}
