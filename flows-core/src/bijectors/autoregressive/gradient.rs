//! Gradients of the forward direction of an autoregressive layer.
//!
//! The forward direction solves F(x; w) = z for x, where F is the inverse direction, one pass, and
//! w stands for weights and context; its log-determinant is -l(x; w) with l that of F. Let g and h be the gradients
//! with respect to x and to the log-determinant. By the implicit function theorem, the solution v of
//!
//! ```text
//! (dF/dx)^T v = g - h dl/dx
//! ```
//!
//! is the gradient with respect to z, and the gradients with respect to w are those of a pass of F at the fixed point
//! x, given the gradients -v of its value and -h of its log-determinant. The system is triangular in the order of
//! the dimensions, and is solved from the last to the first by one backward sweep of the network.

use super::Map;
use super::sequential::ROWS;
use crate::nn::{Mode, with_steps};
use crate::ops::cpu::{Real, with_slice, with_slices};
use crate::ops::kernel::{Backward, Precomputed};
use crate::ops::{BackwardMany, Gradients, apply_many, most};
use crate::{Result, ops};
use candle_core::{CpuStorage, DType, Shape, Tensor, Var};
use rayon::prelude::*;
use std::sync::Arc;

/// Attaches a solution `(x, log_det)` of the forward direction to the graph; `given` is the context's term of the
/// network's first layer.
///
/// Samples are mostly drawn without a backward pass, but whether one follows cannot be told, because weights are
/// always variables: the pass of F is deferred to the backward pass.
pub(super) fn attach(
    map: &Arc<Map>,
    z: &Tensor,
    given: Option<&Tensor>,
    solution: (Tensor, Tensor),
) -> Result<(Tensor, Tensor)> {
    // The weights of the family itself are only reached by a pass that is in the graph now.
    if map.univariate.structure().is_some() {
        return attach_now(map, z, given, &solution);
    }
    let weights: Vec<Tensor> = map.made.weights().into_iter().cloned().collect();
    let (z, none) = (z.contiguous()?, Tensor::zeros(0, z.dtype(), z.device())?);
    let (value, inputs) = (pack(&solution)?, [&z, given.unwrap_or(&none)]);
    unpack(&apply_many(value, inputs, &weights, Deferred { map: map.clone(), solution })?, z.dims2()?)
}

/// [`attach`] with the pass of F in the graph.
fn attach_now(
    map: &Arc<Map>,
    z: &Tensor,
    given: Option<&Tensor>,
    solution: &(Tensor, Tensor),
) -> Result<(Tensor, Tensor)> {
    let raw = map.made.run(&ops::limited(&solution.0)?, given, &mut Mode::evaluation())?;
    let (back, log) = map.inverse_given(&solution.0, &raw)?;
    let given = given.map(Tensor::detach);
    let backward = Solution { map: map.clone(), x: solution.0.clone(), raw: raw.detach(), given };
    let operation = Precomputed::new(pack(solution)?, backward);
    unpack(&z.contiguous()?.apply_op3(&back, &ops::sum_event(&log)?, operation)?, z.dims2()?)
}

/// The value that [`unpack`] takes apart.
fn pack((x, log_det): &(Tensor, Tensor)) -> candle_core::Result<(CpuStorage, Shape)> {
    fn values<T: Real>(x: &Tensor, log_det: &Tensor) -> candle_core::Result<CpuStorage> {
        let mut packed = with_slice::<T, _>(x, <[T]>::to_vec)?;
        with_slice::<T, _>(log_det, |log_det| packed.extend_from_slice(log_det))?;
        Ok(T::storage(packed))
    }
    let storage = match x.dtype() {
        DType::F32 => values::<f32>(x, log_det)?,
        _ => values::<f64>(x, log_det)?,
    };
    Ok((storage, Shape::from(x.elem_count() + log_det.elem_count())))
}

/// x (B, D) and its log-determinant (B), or their gradients, from their concatenation.
fn unpack(packed: &Tensor, (batch, d): (usize, usize)) -> Result<(Tensor, Tensor)> {
    Ok((packed.narrow(0, 0, batch * d)?.reshape((batch, d))?, packed.narrow(0, batch * d, batch)?))
}

/// The solution as a function of z, of the context's term and of all weights of the network.
struct Deferred {
    map: Arc<Map>,
    solution: (Tensor, Tensor),
}

impl Deferred {
    /// The gradients with respect to z, to the context's term (empty if there is none) and to the weights.
    fn sweep(&self, [z, given]: [&Tensor; 2], grad: &Tensor) -> Result<Gradients> {
        let made = &self.map.made;
        let vars = made.weights().into_iter().map(|weight| Var::from_tensor(&weight.detach()));
        let vars: Vec<Var> = vars.collect::<candle_core::Result<_>>()?;
        let weights: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let map = Map { univariate: self.map.univariate.clone(), made: made.with_weights(&weights) };
        let at = Var::from_tensor(&z.detach())?;
        let given = if given.elem_count() > 0 { Some(Var::from_tensor(&given.detach())?) } else { None };
        let tensor = given.as_ref().map(|given| given.as_tensor());
        let (x, log_det) = attach_now(&Arc::new(map), &at, tensor, &self.solution)?;
        let (gx, gl) = unpack(grad, z.dims2()?)?;
        let grads = ops::gradients(&((x * gx)?.sum_all()? + (log_det * gl)?.sum_all()?)?)?;
        let of_given = given.and_then(|given| grads.get(&given).cloned());
        Ok(Gradients {
            inputs: [grads.get(&at).cloned(), of_given],
            further: vars.iter().map(|var| grads.get(var).cloned()).collect(),
        })
    }
}

impl BackwardMany for Deferred {
    const NAME: &'static str = "autoregressive-sample";

    fn gradients(&self, inputs: [&Tensor; 2], _: &Tensor, grad: &Tensor) -> candle_core::Result<Gradients> {
        self.sweep(inputs, grad).map_err(candle_core::Error::wrap)
    }
}

/// The solution x and its log-determinant as a function of z, F(x) and l(x).
struct Solution {
    map: Arc<Map>,
    x: Tensor,
    /// The network's output for x, (B, D P).
    raw: Tensor,
    /// The context's term of the network's first layer, (B, width).
    given: Option<Tensor>,
}

impl Solution {
    /// v, (B, D), and h, (B), from the concatenated gradients g and h.
    fn solve<T: Real>(&self, z: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, d) = z.dims2()?;
        let (g, h) = unpack(grad, (batch, d))?;
        let [dz_dx, dz_draw, dl_dx, dl_draw] = self.slopes(&self.x)?;
        let mut tensors = vec![self.x.clone(), g, h.clone(), dz_dx, dz_draw, dl_dx, dl_draw];
        tensors.extend(self.given.clone());
        let mut v = vec![T::zero(); batch * d];
        with_steps::<T, _>(&self.map.made, |steps| {
            with_slices::<T, _>(&tensors, |tensors| {
                let sequence = self.map.made.sequence();
                v.par_chunks_mut(ROWS * d).enumerate().for_each(|(i, v)| {
                    let rows = v.len() / d;
                    // The rows of the block.
                    let part = |tensor: usize| {
                        let width = tensors[tensor].len() / batch;
                        &tensors[tensor][i * ROWS * width..][..rows * width]
                    };
                    let [x, g, h] = [0, 1, 2].map(part);
                    let [dz_dx, dz_draw, dl_dx, dl_draw] = [3, 4, 5, 6].map(part);
                    let given = (tensors.len() > 7).then(|| part(7));
                    let sorted: Vec<T> = sequence.iter().flat_map(|&i| x[i..].iter().step_by(d).copied()).collect();
                    let p = steps.parameter_count();
                    steps.backward(&sorted, given, |i, through, raw| {
                        for row in 0..rows {
                            let at = row * d + sequence[i];
                            let rest = g[at] - h[row] * dl_dx[at] - through[row];
                            // Where x does not depend on z, the gradient is 0.
                            v[at] = if dz_dx[at] == T::zero() { T::zero() } else { bounded(rest / dz_dx[at]) };
                            for j in 0..p {
                                let gradient = v[at] * dz_draw[at * p + j] + h[row] * dl_draw[at * p + j];
                                raw[j * rows + row] = bounded(gradient);
                            }
                        }
                    });
                });
            })?;
            Ok(())
        })?;
        Ok((T::tensor(v, z.shape())?, h))
    }

    /// Derivatives of every dimension's z and l with respect to its x, (B, D), and its raw parameters, (B, D P):
    /// `[dz/dx, dz/draw, dl/dx, dl/draw]`.
    fn slopes(&self, x: &Tensor) -> Result<[Tensor; 4]> {
        let raw = Var::from_tensor(&self.raw)?;
        let x = Var::from_tensor(x)?;
        let (z, l) = self.map.inverse_given(&x, &raw)?;
        let slopes = |of: Tensor| -> Result<[Tensor; 2]> {
            let grads = ops::gradients(&of.sum_all()?)?;
            let slope = |at: &Var| match grads.get(at) {
                Some(grad) => grad.contiguous(),
                None => at.zeros_like(),
            };
            Ok([slope(&x)?, slope(&raw)?])
        };
        let ([dz_dx, dz_draw], [dl_dx, dl_draw]) = (slopes(z)?, slopes(l)?);
        Ok([dz_dx, dz_draw, dl_dx, dl_draw])
    }
}

/// A gradient, or the number of its sign that is the largest from which a network makes finite ones; a NaN stays.
fn bounded<T: Real>(gradient: T) -> T {
    if gradient.abs() > most() { gradient.signum() * most::<T>() } else { gradient }
}

impl Backward<3> for Solution {
    const NAME: &'static str = "autoregressive-solution";

    fn gradients(&self, [z, ..]: [&Tensor; 3], _: &Tensor, grad: &Tensor) -> candle_core::Result<[Option<Tensor>; 3]> {
        let grad = grad.contiguous()?;
        let solved = match z.dtype() {
            DType::F32 => self.solve::<f32>(z, &grad),
            _ => self.solve::<f64>(z, &grad),
        };
        let (v, h) = solved.map_err(candle_core::Error::wrap)?;
        let (back, log) = (v.neg()?, h.neg()?);
        Ok([Some(v), Some(back), Some(log)])
    }
}
