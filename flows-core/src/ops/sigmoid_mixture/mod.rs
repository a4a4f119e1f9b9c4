//! The logit of a mixture of sigmoids: value and log-derivative in one pass, the backward pass in another, and the
//! inverse by a search inside the kernel.

// The loops index several arrays at once, which become vector registers.
#[allow(clippy::needless_range_loop)]
mod kernel;
mod plain;

use super::cpu::Real;
use super::simd::dispatch;
use super::transformer::{Transformer, transform};
use crate::Result;
use candle_core::Tensor;
use kernel::{Block, LANES, Lanes, number};
use rayon::prelude::*;

/// The parameterisation of a mixture `g(x) = logit(sum_k w_k sigmoid(u_k(x)))`, w being a softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mixture {
    /// `u_k = a_k x + b_k` with a = softplus(raw), and `y = g(x)`; the raw parameters are K for a, K for b, K for w.
    DeepSigmoid,
    /// `u_k = (x - m_k) e^-s_k` and `y = e^t g(x) + b`, where s and t are `c tanh(raw / c)`, c being this
    /// bound; the raw parameters are K for w, K for m, K for s, then t and b.
    Logistic(f64),
}

/// The smallest a of a deep sigmoid, far from underflow.
const LEAST: f64 = 1e-30;

/// `(y, ln dy/dx)`, both (B, N), of a mixture of `units` sigmoids at x (B, N); if `inverted`, the given numbers are the
/// y, and the result is `(x, ln dx/dy)`. The parameters are (B, N, P) or (1, N, P).
///
/// A value that overflows is the largest finite number, with log-derivative minus infinity and a gradient of 0. A
/// gradient beyond the square root of the largest number is that root.
///
/// # Errors
/// When shapes do not agree.
pub(crate) fn sigmoid_mixture(
    x: &Tensor,
    parameters: &Tensor,
    mixture: Mixture,
    units: usize,
    inverted: bool,
) -> Result<(Tensor, Tensor)> {
    transform(SigmoidMixture { mixture, units, inverted }, x, parameters)
}

#[derive(Clone, Copy, Debug)]
struct SigmoidMixture {
    mixture: Mixture,
    units: usize,
    inverted: bool,
}

/// About as many elements make a task.
const TASK: usize = 512;

impl SigmoidMixture {
    /// The number of elements of a task, which are whole rows where all rows have the same parameters; and the number
    /// of parameter sets.
    fn task(&self, elements: usize, parameters: usize) -> (usize, usize) {
        let sets = parameters / self.parameter_count();
        (if sets < elements { sets * (TASK / sets).max(1) } else { TASK }, sets)
    }
}

/// LANES numbers of a slice from `start`, with zeros after its end.
fn lanes<T: Real>(slice: &[T], start: usize) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (lane, value) in lanes.iter_mut().zip(&slice[start..]) {
        *lane = value.wide();
    }
    lanes
}

impl Transformer for SigmoidMixture {
    const NAME: &'static str = "sigmoid-mixture";

    fn parameter_count(&self) -> usize {
        match self.mixture {
            Mixture::DeepSigmoid => 3 * self.units,
            Mixture::Logistic(_) => 3 * self.units + 2,
        }
    }

    fn evaluate<T: Real>(&self, x: &[T], parameters: &[T]) -> Vec<T> {
        let (task, _) = self.task(x.len(), parameters.len());
        let mut packed = vec![T::zero(); 2 * x.len()];
        let (values, logs) = packed.split_at_mut(x.len());
        values.par_chunks_mut(task).zip(logs.par_chunks_mut(task)).enumerate().for_each(|(i, (values, logs))| {
            let mut block = Block::new(*self);
            for (j, (values, logs)) in values.chunks_mut(LANES).zip(logs.chunks_mut(LANES)).enumerate() {
                let start = i * task + j * LANES;
                block.load(parameters, start);
                let at = lanes(x, start);
                let (y, log) = dispatch(
                    #[inline(always)]
                    || block.evaluate::<T>(&at),
                );
                for (i, (value, out)) in values.iter_mut().zip(logs).enumerate() {
                    (*value, *out) = (T::of(y[i]), T::of(log[i]));
                    if value.is_infinite() || *out == T::infinity() {
                        (*value, *out) = (value.max(T::min_value()).min(T::max_value()), T::neg_infinity());
                    }
                }
            }
        });
        packed
    }

    fn gradients<T: Real>(&self, x: &[T], parameters: &[T], output: &[T], grad: &[T]) -> (Vec<T>, Vec<T>) {
        let (p, (task, sets)) = (self.parameter_count(), self.task(x.len(), parameters.len()));
        let (values, (gvalues, glogs)) = (&output[..x.len()], grad.split_at(x.len()));
        // Writes the gradients with respect to the x of a task, and adds those with respect to its parameters.
        let run = |i: usize, gx: &mut [T], gp: &mut [T]| {
            let mut block = Block::new(*self);
            for (j, gx) in gx.chunks_mut(LANES).enumerate() {
                let start = i * task + j * LANES;
                block.load(parameters, start);
                let at = [lanes(x, start), lanes(values, start)];
                let weights = [lanes(gvalues, start), lanes(glogs, start)];
                let g = dispatch(
                    #[inline(always)]
                    || block.gradient::<T>(&at, &weights),
                );
                for (l, out) in gx.iter_mut().enumerate() {
                    // A value that has overflowed is constant.
                    if values[start + l].abs() == T::max_value() {
                        continue;
                    }
                    *out = number(g[l]);
                    let set = (j * LANES + l) % sets;
                    block.add_gradients(l, &mut gp[set * p..(set + 1) * p]);
                }
            }
        };
        let mut gx = vec![T::zero(); x.len()];
        let mut gp = vec![T::zero(); parameters.len()];
        if sets < x.len() {
            // A sum for each task, added up in the order of the tasks.
            let sums = gx.par_chunks_mut(task).enumerate().map(|(i, gx)| {
                let mut sums = vec![T::zero(); parameters.len()];
                run(i, gx, &mut sums);
                sums
            });
            for sum in sums.collect::<Vec<_>>() {
                gp.iter_mut().zip(sum).for_each(|(total, g)| *total += g);
            }
        } else {
            let tasks = gx.par_chunks_mut(task).zip(gp.par_chunks_mut(task * p));
            tasks.enumerate().for_each(|(i, (gx, gp))| run(i, gx, gp));
        }
        (gx, gp)
    }

    fn plain(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        if self.inverted { self.plain_inverse(x, parameters) } else { self.composed(x, parameters) }
    }
}

#[cfg(test)]
mod tests;
