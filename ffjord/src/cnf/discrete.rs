//! Discretise, then optimise: the exact gradient of the steps that were taken.

use super::operation::{Point, System};
use crate::field::{Gradients, Number};
use crate::solver::{Method, State, Step};
use flows_core::Result;
use flows_core::ops::kernel::Real;

/// The gradients of a solve.
pub(super) struct Found<T> {
    pub(super) z: Vec<T>,
    pub(super) weights: Vec<T>,
    pub(super) context: Vec<T>,
    /// Evaluations of the field's gradient.
    pub(super) evaluations: usize,
}

/// The gradients, given those of the end: for each step, last to first,
/// `K_i = h b_i Y + h sum_{j>i} a_ji Z_j`, `Z_i = (df/dy)^T K_i`, and `Y <- Y + sum_i Z_i`.
pub(super) fn gradients<T: Number>(
    system: &System<'_, T>,
    method: Method,
    steps: &[Step<Point<T>>],
    (mut of_z, of_integral): (Vec<T>, Vec<T>),
) -> Result<Found<T>>
where
    Vec<T>: State,
{
    let tableau = method.tableau();
    let mut found = Found {
        z: Vec::new(),
        weights: vec![T::zero(); system.evaluator.weights()],
        context: vec![T::zero(); system.context.len()],
        evaluations: 0,
    };
    for step in steps.iter().rev() {
        let stages = tableau.b.len();
        let mut of_stages: Vec<Vec<T>> = vec![Vec::new(); stages];
        for i in (0..stages).rev() {
            // The slope of stage i is in the end and in the stages after it.
            let mut terms = vec![(step.h * tableau.b[i], &of_z)];
            terms.extend((i + 1..stages).map(|j| (step.h * tableau.a[j][i], &of_stages[j])));
            terms.retain(|(c, of_stage)| *c != 0.0 && !of_stage.is_empty());
            // Of the integral, the end alone depends on.
            let weight = T::of(step.h * tableau.b[i]);
            if terms.is_empty() {
                continue;
            }
            let of_value = Vec::<T>::combine(None, &terms)?;
            let of_divergence: Vec<T> = of_integral.iter().map(|&g| g * weight).collect();
            let (z, _) = step.stage(tableau, i)?;
            let t = step.t + tableau.c[i] * step.h;
            let seeds = (&of_value[..], &of_divergence[..]);
            let Gradients { z, context, weights, .. } = system.evaluator.gradients(t, system.batch(&z), seeds)?;
            add(&mut found.weights, &weights);
            add(&mut found.context, &context);
            found.evaluations += 1;
            of_stages[i] = z;
        }
        of_stages.iter().filter(|z| !z.is_empty()).for_each(|z| add(&mut of_z, z));
    }
    found.z = of_z;
    Ok(found)
}

fn add<T: Real>(sum: &mut [T], part: &[T]) {
    sum.iter_mut().zip(part).for_each(|(s, &v)| *s += v);
}
