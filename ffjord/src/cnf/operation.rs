//! A solve as one operation of candle's graph.

use super::discrete::Found;
use super::{Cost, Gradient, adjoint, discrete};
use crate::field::{Batch, Evaluator, Number, Penalty, Probe, VectorField, Vectors, weights};
use crate::solver::{End, Solution, Solver, State, Step};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Shape, Tensor};
use flows_core::ops::kernel::with_slice;
use flows_core::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A solve to be done.
pub(super) struct Job<'a> {
    pub(super) field: &'a Arc<dyn VectorField>,
    pub(super) solver: Solver,
    /// Whether each row has steps of its own.
    pub(super) row_steps: bool,
    pub(super) times: [f64; 2],
    /// The later of them as a tensor, (1), if it is trained.
    pub(super) end_time: Option<Tensor>,
    pub(super) gradient: Gradient,
    pub(super) probe: Probe,
    pub(super) penalty: Penalty,
}

/// Points (B, D) and the integral of the divergence (B).
pub(super) type Point<T> = (Vec<T>, Vec<T>);

/// The rows of each solve.
pub(super) fn parts(rows: usize, row_steps: bool) -> Vec<Range<usize>> {
    let size = if row_steps { 1 } else { rows };
    (0..rows).step_by(size).map(|first| first..first + size).collect()
}

/// Parts that are worked on one after another, so that the gradients of as many are in memory; it decides
/// the order of sums, whatever the number of threads.
fn group(parts: usize) -> usize {
    parts.div_ceil(64)
}

/// A field with its weights, as the solver and the gradients need it.
pub(super) struct System<'a, T> {
    pub(super) evaluator: &'a Evaluator<'a, T>,
    pub(super) context: &'a [T],
    pub(super) vectors: Vectors<'a, T>,
    pub(super) penalty: Penalty,
}

impl<T: Number> System<'_, T> {
    pub(super) fn batch<'b>(&'b self, z: &'b [T]) -> Batch<'b, T> {
        Batch { z, context: self.context, vectors: self.vectors, penalty: self.penalty }
    }

    /// The same for some rows of `dim` numbers.
    pub(super) fn of_rows(&self, rows: &Range<usize>, all: usize, dim: usize) -> Self {
        let width = self.context.len() / all;
        let context = &self.context[rows.start * width..rows.end * width];
        Self { evaluator: self.evaluator, context, vectors: self.vectors.of_rows(rows.clone(), dim), ..*self }
    }

    pub(super) fn rates(&self, t: f64, z: &[T]) -> Result<Point<T>> {
        self.evaluator.rates(t, self.batch(z))
    }
}

/// The end of the solve from `x` (B, D), and the integral of the divergence (B).
pub(super) fn solve(
    job: Job<'_>,
    x: &Tensor,
    context: Option<&Tensor>,
    cost: &Arc<Mutex<Cost>>,
) -> Result<(Tensor, Tensor)> {
    let weights = weights(&**job.field)?;
    if weights.dtype() != x.dtype() || context.is_some_and(|c| c.dtype() != x.dtype()) {
        let (got, want) = (x.dtype(), weights.dtype());
        return Err(Error::Data(format!("data of {got:?} meets weights of {want:?}: convert data and context")));
    }
    match x.dtype() {
        DType::F32 => solve_in::<f32>(job, &weights, x, context, cost),
        _ => solve_in::<f64>(job, &weights, x, context, cost),
    }
}

/// A solution that is whole, else an error that says which row is at fault if that is known.
pub(super) fn finished<S>(solution: Solution<S>, rows: &Range<usize>, all: usize) -> Result<Solution<S>> {
    solution.finished().map_err(|error| match error {
        Error::Diverged(message) if rows.len() < all => {
            Error::Diverged(format!("row {} of the batch: {message}", rows.start + 1))
        }
        error => error,
    })
}

fn solve_in<T: Number>(
    job: Job<'_>,
    weights: &Tensor,
    x: &Tensor,
    context: Option<&Tensor>,
    cost: &Arc<Mutex<Cost>>,
) -> Result<(Tensor, Tensor)>
where
    Vec<T>: State,
{
    let (rows, dim) = x.dims2()?;
    let context = match context {
        Some(context) => context.contiguous()?,
        None => Tensor::zeros((rows, 0), x.dtype(), x.device())?,
    };
    let x = x.contiguous()?;
    let mut held = Held::<T>::of(&job.probe, &x, &context)?;
    // A row that cannot be solved for rests at 0, and its result is NaN.
    let limit = T::of(job.field.reach());
    let usable = |t: &Tensor| -> Result<Vec<bool>> {
        let width = t.dim(1)?;
        if width == 0 {
            return Ok(vec![true; rows]);
        }
        Ok(with_slice::<T, _>(t, |v| {
            v.chunks(width).map(|row| row.iter().all(|v| v.is_finite() && v.abs() <= limit)).collect()
        })?)
    };
    let lost: Vec<bool> = usable(&x)?.into_iter().zip(usable(&context)?).map(|(a, b)| !(a && b)).collect();
    let mut start = with_slice::<T, _>(&x, <[T]>::to_vec)?;
    for r in (0..rows).filter(|r| lost[*r]) {
        start[r * dim..(r + 1) * dim].fill(T::zero());
        let width = held.context.len() / rows;
        held.context[r * width..(r + 1) * width].fill(T::zero());
    }
    let evaluator = Evaluator::new(&**job.field, weights)?;
    let system = held.system(&evaluator, job.penalty);
    // An operation has three inputs at most: the end time goes behind the weights.
    let inputs = match &job.end_time {
        Some(end_time) => Tensor::cat(&[weights, end_time], 0)?,
        None => weights.clone(),
    };
    let keep = x.track_op() || inputs.track_op() || context.track_op();
    let parts = parts(rows, job.row_steps);
    let work = |part: &Range<usize>| -> Result<_> {
        let system = system.of_rows(part, rows, dim);
        let mut steps = Vec::new();
        let mut seen = |step| {
            if keep && job.gradient == Gradient::Discrete {
                steps.push(step);
            }
        };
        let f = |t: f64, (z, _): &Point<T>| system.rates(t, z);
        let start = (start[part.start * dim..part.end * dim].to_vec(), vec![T::zero(); part.len()]);
        let solution = job.solver.run(f, start, &job.times, End::Exact, &mut seen)?;
        Ok((finished(solution, part, rows)?, steps))
    };
    let begun = Instant::now();
    let solved = parts.par_iter().map(work).collect::<Result<Vec<_>>>()?;
    cost.lock().unwrap_or_else(PoisonError::into_inner).seconds_forward += begun.elapsed().as_secs_f64();
    let (mut z, mut integral, mut steps) = (Vec::with_capacity(rows * (dim + 1)), Vec::new(), Vec::new());
    for (solution, taken) in solved {
        cost.lock().unwrap_or_else(PoisonError::into_inner).add_forward(&solution.stats, job.times);
        let Some(end) = solution.states.into_iter().next_back() else {
            return Err(Error::Internal("a solve without an end".into()));
        };
        z.extend(end.0);
        integral.extend(end.1);
        steps.push(taken);
    }
    for r in (0..rows).filter(|r| lost[*r]) {
        z[r * dim..(r + 1) * dim].fill(T::nan());
        integral[r] = T::nan();
    }
    z.extend(integral);
    if !keep {
        return split(&T::tensor(z, &Shape::from(rows * (dim + 1)))?, rows, dim);
    }
    let operation = Solved {
        field: job.field.clone(),
        solver: job.solver,
        row_steps: job.row_steps,
        times: job.times,
        train_end_time: job.end_time.is_some(),
        gradient: job.gradient,
        probe: job.probe,
        penalty: job.penalty,
        lost,
        steps,
        value: Mutex::new(Some(T::storage(z))),
        cost: cost.clone(),
    };
    split(&x.apply_op3(&inputs, &context, operation)?, rows, dim)
}

fn split(packed: &Tensor, rows: usize, dim: usize) -> Result<(Tensor, Tensor)> {
    Ok((packed.narrow(0, 0, rows * dim)?.reshape((rows, dim))?, packed.narrow(0, rows * dim, rows)?))
}

/// The numbers of a system, the weights aside.
struct Held<T> {
    context: Vec<T>,
    noise: Option<Vec<T>>,
    /// The width of the noise, if that is at a bottleneck.
    narrow: Option<usize>,
}

impl<T: Number> Held<T> {
    fn of(probe: &Probe, x: &Tensor, context: &Tensor) -> Result<Self> {
        let values = |t: &Tensor| with_slice::<T, _>(t, <[T]>::to_vec);
        let noise = match probe {
            Probe::Basis => None,
            Probe::Noise(e) if e.dims() == x.dims() => Some(values(e)?),
            Probe::Bottleneck(e) if e.rank() == 2 && e.dim(0)? == x.dim(0)? => Some(values(e)?),
            Probe::Noise(e) | Probe::Bottleneck(e) => {
                return Err(Error::shape("the noise of a divergence", e.dims(), format!("{:?}", x.dims())));
            }
        };
        let narrow = if let Probe::Bottleneck(e) = probe { Some(e.dim(1)?) } else { None };
        Ok(Self { context: values(context)?, noise, narrow })
    }

    fn system<'a>(&'a self, evaluator: &'a Evaluator<'a, T>, penalty: Penalty) -> System<'a, T> {
        let vectors = match (&self.noise, self.narrow) {
            (None, _) => Vectors::Basis,
            (Some(e), None) => Vectors::Noise(e),
            (Some(noise), Some(width)) => Vectors::Bottleneck { noise, width },
        };
        System { evaluator, context: &self.context, vectors, penalty }
    }
}

/// A solve that is done, and its gradient.
struct Solved<T> {
    field: Arc<dyn VectorField>,
    solver: Solver,
    row_steps: bool,
    times: [f64; 2],
    /// Whether the later of them is the last of the weights.
    train_end_time: bool,
    gradient: Gradient,
    probe: Probe,
    penalty: Penalty,
    /// Rows that could not be solved for.
    lost: Vec<bool>,
    /// Those that were taken in each solve, if the way back needs them.
    steps: Vec<Vec<Step<Point<T>>>>,
    value: Mutex<Option<CpuStorage>>,
    cost: Arc<Mutex<Cost>>,
}

impl<T: Number> Solved<T>
where
    Vec<T>: State,
{
    fn backward(
        &self,
        [x, inputs, context]: [&Tensor; 3],
        end: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let begun = Instant::now();
        let (rows, dim) = x.dims2()?;
        let mut held = Held::<T>::of(&self.probe, x, context)?;
        let width = held.context.len() / rows;
        let mut values = with_slice::<T, _>(gradient, <[T]>::to_vec)?;
        let mut end = with_slice::<T, _>(end, |v| v[..rows * dim].to_vec())?;
        for r in (0..rows).filter(|r| self.lost[*r]) {
            values[r * dim..(r + 1) * dim].fill(T::zero());
            values[rows * dim + r] = T::zero();
            end[r * dim..(r + 1) * dim].fill(T::zero());
            held.context[r * width..(r + 1) * width].fill(T::zero());
        }
        let of_integral = values.split_off(rows * dim);
        let count = inputs.elem_count() - usize::from(self.train_end_time);
        let evaluator = Evaluator::new(&*self.field, &inputs.narrow(0, 0, count)?)?;
        let system = held.system(&evaluator, self.penalty);
        let work = |(part, steps): (&Range<usize>, &Vec<Step<Point<T>>>)| {
            let system = system.of_rows(part, rows, dim);
            let points = part.start * dim..part.end * dim;
            let seeds = (values[points.clone()].to_vec(), of_integral[part.clone()].to_vec());
            match self.gradient {
                Gradient::Adjoint => {
                    let times = (self.times, self.train_end_time);
                    adjoint::gradients(&system, &self.solver, times, end[points].to_vec(), seeds)
                }
                _ => discrete::gradients(&system, self.solver.method, self.times, steps, seeds),
            }
        };
        let both =
            |found: Result<Found<T>>, next: Result<Found<T>>| -> Result<Found<T>> { Ok(found?.followed_by(next?)) };
        let parts: Vec<_> = parts(rows, self.row_steps);
        let solves: Vec<_> = parts.iter().zip(&self.steps).collect();
        // In the order of the rows, whichever thread was first.
        let groups = solves.par_chunks(group(solves.len())).map(|group| group.iter().copied().map(&work).reduce(both));
        let found: Vec<_> = groups.collect();
        let Some(mut found) = found.into_iter().flatten().reduce(both).transpose()? else {
            return Err(Error::Config("a solve without rows".into()));
        };
        if self.train_end_time {
            found.weights.push(T::of(found.end_time));
        }
        let mut cost = self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        cost.backward += found.evaluations;
        cost.seconds_backward += begun.elapsed().as_secs_f64();
        drop(cost);
        let tensor = |values: Vec<T>, like: &Tensor| T::tensor(values, like.shape());
        Ok([
            Some(tensor(found.z, x)?),
            Some(tensor(found.weights, inputs)?),
            if context.track_op() { Some(tensor(found.context, context)?) } else { None },
        ])
    }
}

impl<T: Number> CustomOp3 for Solved<T>
where
    Vec<T>: State,
{
    fn name(&self) -> &'static str {
        "continuous-flow"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        x: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (rows, dim) = x.shape().dims2()?;
        match self.value.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(value) => Ok((value, Shape::from(rows * (dim + 1)))),
            None => candle_core::bail!("a solve is evaluated once"),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        weights: &Tensor,
        context: &Tensor,
        end: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let inputs = [x, weights, context];
        let found = self.backward(inputs, end, gradient);
        let [x, weights, context] = found.map_err(|error| candle_core::Error::Msg(error.to_string()))?;
        Ok((x, weights, context))
    }
}

/// A scalar, the second input, whose gradient for the first is known.
pub(super) struct KnownGradient {
    pub(super) gradient: Tensor,
}

impl CustomOp2 for KnownGradient {
    fn name(&self) -> &'static str {
        "known-gradient"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        value: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((value.clone(), Shape::from(())))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(self.gradient.broadcast_mul(gradient)?), None))
    }
}
