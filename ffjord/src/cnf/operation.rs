//! A solve as a single operation of candle's graph.

use super::discrete::SolveGradients;
use super::{Cost, Gradient, adjoint, discrete};
use crate::field::{Batch, Evaluator, Number, Penalty, Probe, VectorField, Vectors, weights};
use crate::solver::{End, Solution, Solver, State, Step};
use candle_core::{DType, Shape, Tensor};
use flows_core::ops::kernel::{Backward, Precomputed, with_slice};
use flows_core::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The settings of one solve.
pub(super) struct Job<'a> {
    pub(super) field: &'a Arc<dyn VectorField>,
    pub(super) solver: Solver,
    /// Whether each row has its own steps.
    pub(super) row_steps: bool,
    /// The first and the last time.
    pub(super) times: [f64; 2],
    /// The later of the times as a tensor, (1), if it is trained.
    pub(super) end_time: Option<Tensor>,
    pub(super) gradient: Gradient,
    pub(super) probe: Probe,
    pub(super) penalty: Penalty,
}

/// Points (B, D), and the integral of the divergence so far (B).
pub(super) type Point<T> = (Vec<T>, Vec<T>);

/// The rows of each solve: single rows, or the whole batch.
pub(super) fn parts(rows: usize, row_steps: bool) -> Vec<Range<usize>> {
    let size = if row_steps { 1 } else { rows };
    (0..rows).step_by(size).map(|first| first..first + size).collect()
}

/// The number of solves whose gradients are computed one after another, which limits the gradients in memory to 64; it
/// fixes the order of summation, whatever the number of threads.
fn group_size(parts: usize) -> usize {
    parts.div_ceil(64)
}

/// The differential equation of a solve: a field with its context, vectors and penalty.
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

    /// The equation for some of `all` rows, which have `dim` numbers each.
    pub(super) fn of_rows(&self, rows: &Range<usize>, all: usize, dim: usize) -> Self {
        let width = self.context.len() / all;
        let context = &self.context[rows.start * width..rows.end * width];
        Self { evaluator: self.evaluator, context, vectors: self.vectors.of_rows(rows.clone(), dim), ..*self }
    }

    /// The velocities (B, D) of points z, and the divergence (B) minus the penalty.
    pub(super) fn rates(&self, t: f64, z: &[T]) -> Result<Point<T>> {
        self.evaluator.rates(t, self.batch(z))
    }
}

/// Solves from `x` (B, D): the points at the last time (B, D), and the integral of the divergence (B).
pub(super) fn solve(
    job: Job<'_>,
    x: &Tensor,
    context: Option<&Tensor>,
    cost: &Arc<Mutex<Cost>>,
) -> Result<(Tensor, Tensor)> {
    let weights = weights(&**job.field)?;
    if weights.dtype() != x.dtype() || context.is_some_and(|c| c.dtype() != x.dtype()) {
        let (got, want) = (x.dtype(), weights.dtype());
        return Err(Error::Data(format!(
            "the data are {got:?}, but the weights {want:?}: convert data and context to {want:?}"
        )));
    }
    match x.dtype() {
        DType::F32 => solve_in::<f32>(job, &weights, x, context, cost),
        _ => solve_in::<f64>(job, &weights, x, context, cost),
    }
}

/// The solution if it is complete, else an error that names the failing row if rows are solved one by one.
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
    let mut system_inputs = SystemInputs::<T>::of(&job.probe, &x, &context)?;
    // Invalid rows are solved from 0 with a context of 0 so that they do not disturb the others; their result is NaN.
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
    let invalid: Vec<bool> = usable(&x)?.into_iter().zip(usable(&context)?).map(|(a, b)| !(a && b)).collect();
    let mut start = with_slice::<T, _>(&x, <[T]>::to_vec)?;
    for r in (0..rows).filter(|r| invalid[*r]) {
        start[r * dim..(r + 1) * dim].fill(T::zero());
        let width = system_inputs.context.len() / rows;
        system_inputs.context[r * width..(r + 1) * width].fill(T::zero());
    }
    let evaluator = Evaluator::new(&**job.field, weights)?;
    let system = system_inputs.system(&evaluator, job.penalty);
    // A custom operation has at most three inputs, so the end time is appended to the weights.
    let inputs = match &job.end_time {
        Some(end_time) => Tensor::cat(&[weights, end_time], 0)?,
        None => weights.clone(),
    };
    let keep = x.track_op() || inputs.track_op() || context.track_op();
    let parts = parts(rows, job.row_steps);
    let work = |part: &Range<usize>| -> Result<_> {
        let system = system.of_rows(part, rows, dim);
        let mut steps = Vec::new();
        let mut on_step = |step| {
            if keep && job.gradient == Gradient::Discrete {
                steps.push(step);
            }
        };
        let f = |t: f64, (z, _): &Point<T>| system.rates(t, z);
        let start = (start[part.start * dim..part.end * dim].to_vec(), vec![T::zero(); part.len()]);
        let solution = job.solver.run(f, start, &job.times, End::Exact, &mut on_step)?;
        Ok((finished(solution, part, rows)?, steps))
    };
    let begun = Instant::now();
    let solutions = parts.par_iter().map(work).collect::<Result<Vec<_>>>()?;
    cost.lock().unwrap_or_else(PoisonError::into_inner).seconds_forward += begun.elapsed().as_secs_f64();
    let (mut z, mut integral, mut steps) = (Vec::with_capacity(rows * (dim + 1)), Vec::new(), Vec::new());
    for (solution, accepted) in solutions {
        cost.lock().unwrap_or_else(PoisonError::into_inner).add_forward(&solution.stats, job.times);
        let Some(end) = solution.states.into_iter().next_back() else {
            return Err(Error::Internal("a solve returned no states".into()));
        };
        z.extend(end.0);
        integral.extend(end.1);
        steps.push(accepted);
    }
    for r in (0..rows).filter(|r| invalid[*r]) {
        z[r * dim..(r + 1) * dim].fill(T::nan());
        integral[r] = T::nan();
    }
    z.extend(integral);
    if !keep {
        return split(&T::tensor(z, &Shape::from(rows * (dim + 1)))?, rows, dim);
    }
    let backward = Solved {
        field: job.field.clone(),
        solver: job.solver,
        row_steps: job.row_steps,
        times: job.times,
        train_end_time: job.end_time.is_some(),
        gradient: job.gradient,
        probe: job.probe,
        penalty: job.penalty,
        invalid,
        steps,
        cost: cost.clone(),
    };
    let operation = Precomputed::new((T::storage(z), Shape::from(rows * (dim + 1))), backward);
    split(&x.apply_op3(&inputs, &context, operation)?, rows, dim)
}

/// Splits the packed result of an operation into points (B, D) and integrals (B).
fn split(packed: &Tensor, rows: usize, dim: usize) -> Result<(Tensor, Tensor)> {
    Ok((packed.narrow(0, 0, rows * dim)?.reshape((rows, dim))?, packed.narrow(0, rows * dim, rows)?))
}

/// The numbers of a [`System`] besides the weights.
struct SystemInputs<T> {
    context: Vec<T>,
    /// Random vectors of the divergence, (B, D), or (B, H) at a bottleneck; none if it is exact.
    noise: Option<Vec<T>>,
    /// The width of the bottleneck, H, if the vectors are there.
    bottleneck: Option<usize>,
}

impl<T: Number> SystemInputs<T> {
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
        let bottleneck = if let Probe::Bottleneck(e) = probe { Some(e.dim(1)?) } else { None };
        Ok(Self { context: values(context)?, noise, bottleneck })
    }

    fn system<'a>(&'a self, evaluator: &'a Evaluator<'a, T>, penalty: Penalty) -> System<'a, T> {
        let vectors = match (&self.noise, self.bottleneck) {
            (None, _) => Vectors::Basis,
            (Some(e), None) => Vectors::Noise(e),
            (Some(noise), Some(width)) => Vectors::Bottleneck { noise, width },
        };
        System { evaluator, context: &self.context, vectors, penalty }
    }
}

/// The backward pass of a finished solve.
struct Solved<T> {
    field: Arc<dyn VectorField>,
    solver: Solver,
    row_steps: bool,
    times: [f64; 2],
    /// Whether the later time is trained, and then the last number of the weights.
    train_end_time: bool,
    gradient: Gradient,
    probe: Probe,
    penalty: Penalty,
    /// The rows whose values or context are not finite or too large to solve from.
    invalid: Vec<bool>,
    /// The accepted steps of each solve, if the backward pass needs them.
    steps: Vec<Vec<Step<Point<T>>>>,
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
        let mut system_inputs = SystemInputs::<T>::of(&self.probe, x, context)?;
        let width = system_inputs.context.len() / rows;
        let mut values = with_slice::<T, _>(gradient, <[T]>::to_vec)?;
        let mut end = with_slice::<T, _>(end, |v| v[..rows * dim].to_vec())?;
        for r in (0..rows).filter(|r| self.invalid[*r]) {
            values[r * dim..(r + 1) * dim].fill(T::zero());
            values[rows * dim + r] = T::zero();
            end[r * dim..(r + 1) * dim].fill(T::zero());
            system_inputs.context[r * width..(r + 1) * width].fill(T::zero());
        }
        let grad_integral = values.split_off(rows * dim);
        let count = inputs.elem_count() - usize::from(self.train_end_time);
        let evaluator = Evaluator::new(&*self.field, &inputs.narrow(0, 0, count)?)?;
        let system = system_inputs.system(&evaluator, self.penalty);
        let work = |(part, steps): (&Range<usize>, &Vec<Step<Point<T>>>)| {
            let system = system.of_rows(part, rows, dim);
            let points = part.start * dim..part.end * dim;
            let seeds = (values[points.clone()].to_vec(), grad_integral[part.clone()].to_vec());
            match self.gradient {
                Gradient::Adjoint => {
                    let times = (self.times, self.train_end_time);
                    adjoint::gradients(&system, &self.solver, times, end[points].to_vec(), seeds)
                }
                _ => discrete::gradients(&system, self.solver.method, self.times, steps, seeds),
            }
        };
        let join = |sum: Result<SolveGradients<T>>, next: Result<SolveGradients<T>>| -> Result<SolveGradients<T>> {
            Ok(sum?.concat(next?))
        };
        let parts: Vec<_> = parts(rows, self.row_steps);
        let solves: Vec<_> = parts.iter().zip(&self.steps).collect();
        // Combined in the order of the rows, whichever thread finishes first.
        let groups =
            solves.par_chunks(group_size(solves.len())).map(|group| group.iter().copied().map(&work).reduce(join));
        let groups: Vec<_> = groups.collect();
        let Some(mut gradients) = groups.into_iter().flatten().reduce(join).transpose()? else {
            return Err(Error::Config("there are no rows to solve for: give at least one".into()));
        };
        if self.train_end_time {
            gradients.weights.push(T::of(gradients.end_time));
        }
        let mut cost = self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        cost.backward += gradients.evaluations;
        cost.seconds_backward += begun.elapsed().as_secs_f64();
        drop(cost);
        let tensor = |values: Vec<T>, like: &Tensor| T::tensor(values, like.shape());
        Ok([
            Some(tensor(gradients.z, x)?),
            Some(tensor(gradients.weights, inputs)?),
            if context.track_op() { Some(tensor(gradients.context, context)?) } else { None },
        ])
    }
}

impl<T: Number> Backward<3> for Solved<T>
where
    Vec<T>: State,
{
    const NAME: &'static str = "continuous-flow";

    fn gradients(
        &self,
        inputs: [&Tensor; 3],
        end: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        self.backward(inputs, end, gradient).map_err(|error| candle_core::Error::Msg(error.to_string()))
    }
}

/// The backward pass of a scalar whose gradient with respect to the input is known.
pub(super) struct PrecomputedGradient {
    pub(super) gradient: Tensor,
}

impl Backward<1> for PrecomputedGradient {
    const NAME: &'static str = "precomputed-gradient";

    fn gradients(&self, _: [&Tensor; 1], _: &Tensor, grad: &Tensor) -> candle_core::Result<[Option<Tensor>; 1]> {
        Ok([Some(self.gradient.broadcast_mul(grad)?)])
    }
}
