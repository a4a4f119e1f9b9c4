//! A solve as one operation of candle's graph.

use super::{Gradient, adjoint, discrete};
use crate::field::{Batch, Evaluator, Number, Penalty, Probe, VectorField, Vectors, weights};
use crate::solver::{End, Solver, State, Stats, Step};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Shape, Tensor};
use flows_core::ops::kernel::with_slice;
use flows_core::{Error, Result};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};

/// What solves have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Solves.
    pub solves: usize,
    /// Evaluations of the field on the way to the value.
    pub forward: usize,
    /// Evaluations of the field's gradient on the way back.
    pub backward: usize,
    /// Steps that were taken.
    pub accepted: usize,
    /// Steps that were tried in vain.
    pub rejected: usize,
    /// The time that all solves went through.
    pub time: f64,
}

impl Cost {
    pub(super) fn add_forward(&mut self, stats: &Stats, times: [f64; 2]) {
        self.solves += 1;
        self.forward += stats.evaluations;
        self.accepted += stats.accepted;
        self.rejected += stats.rejected;
        self.time += (times[1] - times[0]).abs();
    }

    /// Both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            solves: self.solves + other.solves,
            forward: self.forward + other.forward,
            backward: self.backward + other.backward,
            accepted: self.accepted + other.accepted,
            rejected: self.rejected + other.rejected,
            time: self.time + other.time,
        }
    }

    /// The mean step.
    pub fn mean_step(&self) -> f64 {
        self.time / self.accepted as f64
    }
}

/// A solve to be done.
pub(super) struct Job<'a> {
    pub(super) field: &'a Arc<dyn VectorField>,
    pub(super) solver: Solver,
    pub(super) times: [f64; 2],
    pub(super) gradient: Gradient,
    pub(super) probe: Probe,
    pub(super) penalty: Penalty,
}

/// Points (B, D) and the integral of the divergence (B).
pub(super) type Point<T> = (Vec<T>, Vec<T>);

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

/// The points at `times` that move with the field from `start` (B, D) at the first.
pub(super) fn trace(
    field: &dyn VectorField,
    solver: &Solver,
    start: &Tensor,
    context: Option<&Tensor>,
    times: &[f64],
) -> Result<Vec<Tensor>> {
    match start.dtype() {
        DType::F32 => trace_in::<f32>(field, solver, start, context, times),
        _ => trace_in::<f64>(field, solver, start, context, times),
    }
}

fn trace_in<T: Number>(
    field: &dyn VectorField,
    solver: &Solver,
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
    let f = |t: f64, z: &Vec<T>| {
        let batch = Batch { z, context: &context, vectors: Vectors::None, penalty: Penalty::default() };
        Ok(evaluator.rates(t, batch)?.0)
    };
    let states = solver.solve(f, values(start)?, times)?.finished()?.states;
    states.into_iter().map(|z| Ok(T::tensor(z, start.shape())?)).collect()
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
    let keep = x.track_op() || weights.track_op() || context.track_op();
    let mut steps = Vec::new();
    let mut seen = |step| {
        if keep && job.gradient == Gradient::Discrete {
            steps.push(step);
        }
    };
    let f = |t: f64, (z, _): &Point<T>| system.rates(t, z);
    let start = (start, vec![T::zero(); rows]);
    let solution = job.solver.run(f, start, &job.times, End::Exact, &mut seen)?.finished()?;
    cost.lock().unwrap_or_else(PoisonError::into_inner).add_forward(&solution.stats, job.times);
    let Some((mut z, mut integral)) = solution.states.into_iter().next_back() else {
        return Err(Error::Config("a solve without an end".into()));
    };
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
        times: job.times,
        gradient: job.gradient,
        probe: job.probe,
        penalty: job.penalty,
        lost,
        steps,
        value: Mutex::new(Some(T::storage(z))),
        cost: cost.clone(),
    };
    split(&x.apply_op3(weights, &context, operation)?, rows, dim)
}

fn split(packed: &Tensor, rows: usize, dim: usize) -> Result<(Tensor, Tensor)> {
    Ok((packed.narrow(0, 0, rows * dim)?.reshape((rows, dim))?, packed.narrow(0, rows * dim, rows)?))
}

/// The numbers of a system, the weights aside.
struct Held<T> {
    context: Vec<T>,
    noise: Option<Vec<T>>,
}

impl<T: Number> Held<T> {
    fn of(probe: &Probe, x: &Tensor, context: &Tensor) -> Result<Self> {
        let values = |t: &Tensor| with_slice::<T, _>(t, <[T]>::to_vec);
        let noise = match probe {
            Probe::Basis => None,
            Probe::Noise(e) if e.dims() == x.dims() => Some(values(e)?),
            Probe::Noise(e) => {
                return Err(Error::shape("the noise of a divergence", e.dims(), format!("{:?}", x.dims())));
            }
        };
        Ok(Self { context: values(context)?, noise })
    }

    fn system<'a>(&'a self, evaluator: &'a Evaluator<'a, T>, penalty: Penalty) -> System<'a, T> {
        let vectors = self.noise.as_ref().map_or(Vectors::Basis, |e| Vectors::Noise(e));
        System { evaluator, context: &self.context, vectors, penalty }
    }
}

/// A solve that is done, and its gradient.
struct Solved<T> {
    field: Arc<dyn VectorField>,
    solver: Solver,
    times: [f64; 2],
    gradient: Gradient,
    probe: Probe,
    penalty: Penalty,
    /// Rows that could not be solved for.
    lost: Vec<bool>,
    /// Those that were taken, if the way back needs them.
    steps: Vec<Step<Point<T>>>,
    value: Mutex<Option<CpuStorage>>,
    cost: Arc<Mutex<Cost>>,
}

impl<T: Number> Solved<T>
where
    Vec<T>: State,
{
    fn backward(
        &self,
        [x, weights, context]: [&Tensor; 3],
        end: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
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
        let evaluator = Evaluator::new(&*self.field, weights)?;
        let system = held.system(&evaluator, self.penalty);
        let found = match self.gradient {
            Gradient::Adjoint => adjoint::gradients(&system, &self.solver, self.times, end, (values, of_integral))?,
            _ => discrete::gradients(&system, self.solver.method, &self.steps, (values, of_integral))?,
        };
        self.cost.lock().unwrap_or_else(PoisonError::into_inner).backward += found.evaluations;
        let tensor = |values: Vec<T>, like: &Tensor| T::tensor(values, like.shape());
        Ok([
            Some(tensor(found.z, x)?),
            Some(tensor(found.weights, weights)?),
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
pub(super) struct Known {
    pub(super) gradient: Tensor,
}

impl CustomOp2 for Known {
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
