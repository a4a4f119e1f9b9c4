//! The trajectories of points.

use super::operation::{System, finished, parts};
use crate::field::{Evaluator, Number, Penalty, VectorField, Vectors, weights};
use crate::solver::{Solver, State};
use candle_core::{DType, Tensor};
use flows_core::Result;
use flows_core::ops::kernel::with_slice;
use rayon::prelude::*;
use std::ops::Range;

/// The positions (B, D) at each of `times` of points that are at `start` (B, D) at the first time and move along the
/// field; with `row_steps` each row has its own steps.
pub(super) fn trace(
    field: &dyn VectorField,
    solver: &Solver,
    row_steps: bool,
    start: &Tensor,
    context: Option<&Tensor>,
    times: &[f64],
) -> Result<Vec<Tensor>> {
    match start.dtype() {
        DType::F32 => trace_in::<f32>(field, solver, row_steps, start, context, times),
        _ => trace_in::<f64>(field, solver, row_steps, start, context, times),
    }
}

fn trace_in<T: Number>(
    field: &dyn VectorField,
    solver: &Solver,
    row_steps: bool,
    start: &Tensor,
    context: Option<&Tensor>,
    times: &[f64],
) -> Result<Vec<Tensor>>
where
    Vec<T>: State,
{
    let values = |t: &Tensor| with_slice::<T, _>(t, <[T]>::to_vec);
    let evaluator = Evaluator::<T>::new(field, &weights(field)?)?;
    let context = context.map_or(Ok(Vec::new()), values)?;
    let (vectors, penalty) = (Vectors::None, Penalty::default());
    let system = System { evaluator: &evaluator, context: &context, vectors, penalty };
    let ((all, dim), start_values) = (start.dims2()?, values(start)?);
    let work = |rows: &Range<usize>| -> Result<_> {
        let system = system.of_rows(rows, all, dim);
        let f = |t: f64, z: &Vec<T>| Ok(system.rates(t, z)?.0);
        let start = start_values[rows.start * dim..rows.end * dim].to_vec();
        Ok(finished(solver.solve(f, start, times)?, rows, all)?.states)
    };
    let solved = parts(all, row_steps).par_iter().map(work).collect::<Result<Vec<_>>>()?;
    let at = |i: usize| Ok(T::tensor(solved.iter().flat_map(|states| &states[i]).copied().collect(), start.shape())?);
    (0..times.len()).map(at).collect()
}
