//! The gate, shift, activation and skip connection that follow a convolution, for values and tangents together.

use super::super::Activation;
use super::super::kernel::{multiply, multiply_in_place, slope_backward};
use candle_core::{DType, Shape, Tensor};
use flows_core::Result;
use flows_core::ops::kernel::{Kernel, Operation, Real, View, dispatch, with_elements};
use rayon::prelude::*;

/// The inputs of [`activate`] besides the outputs of the convolution.
pub(super) struct ActivationInputs {
    /// m, (C, H, W), or (C) if it is the same at all positions.
    pub(super) shift: Tensor,
    /// g, (C).
    pub(super) gate: Option<Tensor>,
    /// The beta of the activation, (1).
    pub(super) beta: Option<Tensor>,
    /// s, of the shape of the convolution's outputs.
    pub(super) skip: Option<Tensor>,
}

/// Computes `phi(g u + m) + s` for values u and `phi'(g u + m) g v + s` for their tangents v, where the outputs
/// (N, C, H, W) of a convolution hold `rows` values and then, for each tangent direction, `rows` tangents.
/// Without an activation phi is the identity.
pub(super) fn activate(
    u: &Tensor,
    rows: usize,
    activation: Option<Activation>,
    inputs: ActivationInputs,
) -> Result<Tensor> {
    let ActivationInputs { shift, gate, beta, skip } = inputs;
    if !(u.device().is_cpu() && matches!(u.dtype(), DType::F32 | DType::F64)) {
        return composed(u, rows, activation, &ActivationInputs { shift, gate, beta, skip });
    }
    let (channels, positions) = (u.dim(1)?, u.dim(2)? * u.dim(3)?);
    let flat = shift.flatten_all()?;
    let per_position = flat.elem_count() == channels * positions && positions > 1;
    let (gated, learnt) = (gate.is_some(), beta.is_some());
    let parts: Vec<Tensor> = [flat].into_iter().chain(gate).chain(beta).collect();
    let packed = if let [one] = &parts[..] { one.clone() } else { Tensor::cat(&parts, 0)? };
    let skip = match skip {
        Some(skip) => skip.contiguous()?,
        None => Tensor::zeros(0, u.dtype(), u.device())?,
    };
    let op = Activate { activation, rows, channels, positions, per_position, gated, learnt };
    Ok(u.contiguous()?.apply_op3(&packed.contiguous()?, &skip, Operation(op))?)
}

/// [`activate`] in candle's operations, for devices without kernels and as the tests' reference.
fn composed(u: &Tensor, rows: usize, activation: Option<Activation>, inputs: &ActivationInputs) -> Result<Tensor> {
    let (stacked, channels, height, width) = u.dims4()?;
    let u = match &inputs.gate {
        Some(gate) => u.broadcast_mul(&gate.reshape((1, channels, 1, 1))?)?,
        None => u.clone(),
    };
    let shift = match inputs.shift.elem_count() {
        n if n == channels => inputs.shift.reshape((1, channels, 1, 1))?,
        _ => inputs.shift.reshape((1, channels, height, width))?,
    };
    let values = u.narrow(0, 0, rows)?.broadcast_add(&shift)?;
    let tangents = u.narrow(0, rows, stacked - rows)?;
    let (values, tangents) = match activation {
        None => (values, tangents),
        Some(activation) => {
            let (values, slope) = activation.composed(inputs.beta.as_ref(), &values)?;
            let tangents = tangents.reshape((stacked / rows - 1, rows, channels, height, width))?;
            (values, tangents.broadcast_mul(&slope.unsqueeze(0)?)?.flatten(0, 1)?)
        }
    };
    let all = if stacked == rows { values } else { Tensor::cat(&[values, tangents], 0)? };
    Ok(match &inputs.skip {
        Some(skip) => (all + skip)?,
        None => all,
    })
}

/// [`activate`] as a kernel of the CPU; its second input packs shift, gate and beta into one vector.
#[derive(Clone, Copy, Debug)]
struct Activate {
    activation: Option<Activation>,
    /// The number of values in the batch, tangents aside.
    rows: usize,
    channels: usize,
    /// H W.
    positions: usize,
    /// Whether each position has its own shift.
    per_position: bool,
    gated: bool,
    learnt: bool,
}

/// Shift, gate and beta, unpacked.
struct Unpacked<'a, T> {
    /// m at every position, (C, H, W).
    shift: Vec<T>,
    gate: Option<&'a [T]>,
    beta: T,
}

/// Buffers for one value, (C, H, W) each.
struct Scratch<T> {
    /// g u + m.
    preactivation: Vec<T>,
    value: Vec<T>,
    slope: Vec<T>,
    curvature: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(size: usize) -> Self {
        let zeros = || vec![T::zero(); size];
        Self { preactivation: zeros(), value: zeros(), slope: zeros(), curvature: zeros() }
    }
}

impl Activate {
    /// C H W.
    fn size(&self) -> usize {
        self.channels * self.positions
    }

    fn unpack<'a, T: Real>(&self, packed: &'a [T]) -> Unpacked<'a, T> {
        let (shift, rest) = packed.split_at(if self.per_position { self.size() } else { self.channels });
        let (gate, rest) = rest.split_at(if self.gated { self.channels } else { 0 });
        let shift = match self.per_position {
            true => shift.to_vec(),
            false => shift.iter().flat_map(|&m| std::iter::repeat_n(m, self.positions)).collect(),
        };
        Unpacked { shift, gate: self.gated.then_some(gate), beta: if self.learnt { rest[0] } else { T::one() } }
    }

    /// Groups a batch of values and tangents by value: each value, then its tangents.
    fn parts<'a, T>(&self, all: &'a mut [T]) -> Vec<Vec<&'a mut [T]>> {
        let mut parts: Vec<Vec<&mut [T]>> = (0..self.rows).map(|_| Vec::new()).collect();
        for (i, part) in all.chunks_mut(self.size()).enumerate() {
            parts[i % self.rows].push(part);
        }
        parts
    }

    /// Computes the value and the slope `phi'(g u + m)` at u; the slope does not include the gate.
    fn evaluate<T: Real>(&self, u: &[T], unpacked: &Unpacked<'_, T>, scratch: &mut Scratch<T>) {
        scratch.preactivation.copy_from_slice(u);
        self.gate(unpacked, &mut scratch.preactivation);
        add(&mut scratch.preactivation, &unpacked.shift);
        match self.activation {
            Some(activation) => {
                activation.value(unpacked.beta, &scratch.preactivation, &mut scratch.value, &mut scratch.slope);
            }
            None => {
                scratch.value.copy_from_slice(&scratch.preactivation);
                scratch.slope.fill(T::one());
            }
        }
    }

    /// Multiplies values (C, H, W) by the gate, if there is one.
    fn gate<T: Real>(&self, unpacked: &Unpacked<'_, T>, values: &mut [T]) {
        let Some(gate) = unpacked.gate else { return };
        for (values, &gate) in values.chunks_exact_mut(self.positions).zip(gate) {
            values.iter_mut().for_each(|v| *v *= gate);
        }
    }

    fn forward<T: Real>(&self, u: &[T], packed: &[T], skip: &[T]) -> Vec<T> {
        let (size, unpacked) = (self.size(), self.unpack(packed));
        let mut out = vec![T::zero(); u.len()];
        self.parts(&mut out).into_par_iter().enumerate().for_each_init(
            || Scratch::new(size),
            |scratch, (row, parts)| {
                self.evaluate(&u[row * size..][..size], &unpacked, scratch);
                self.gate(&unpacked, &mut scratch.slope);
                for (k, out) in parts.into_iter().enumerate() {
                    let at = (k * self.rows + row) * size;
                    match k {
                        0 => out.copy_from_slice(&scratch.value),
                        _ => multiply(out, &u[at..][..size], &scratch.slope),
                    }
                    if !skip.is_empty() {
                        add(out, &skip[at..][..size]);
                    }
                }
            },
        );
        out
    }

    /// The gradients with respect to u and to the packed parameters, given the one with respect to the result, which
    /// is also the one with respect to the skip.
    fn backward<T: Real>(&self, u: &[T], packed: &[T], grad: &[T]) -> (Vec<T>, Vec<T>) {
        let size = self.size();
        let unpacked = self.unpack(packed);
        let mut grad_u = grad.to_vec();
        // For each value, the gradients with respect to a shift and a gate per channel, and to beta.
        let row_gradients = |scratch: &mut Scratch<T>, (row, parts): (usize, Vec<&mut [T]>)| -> Vec<T> {
            let u_at = |k: usize| &u[(k * self.rows + row) * size..][..size];
            self.evaluate(u_at(0), &unpacked, scratch);
            let mut parts = parts.into_iter();
            let Some(grad_value) = parts.next() else { return Vec::new() };
            let tangents: Vec<_> = parts.collect();
            let mut grad_beta = T::zero();
            if let (Some(activation), false) = (self.activation, tangents.is_empty()) {
                let Scratch { preactivation, value, slope, curvature } = &mut *scratch;
                activation.curvature(unpacked.beta, preactivation, value, slope, curvature);
            }
            if self.learnt {
                grad_beta += Activation::beta_gradient(unpacked.beta, &scratch.preactivation, grad_value);
            }
            multiply_in_place(grad_value, &scratch.slope);
            let mut grad_gate = vec![T::zero(); if self.gated { self.channels } else { 0 }];
            for (k, grad_tangent) in tangents.iter().enumerate().filter(|_| self.gated) {
                for (c, grad_gate) in grad_gate.iter_mut().enumerate() {
                    let range = c * self.positions..(c + 1) * self.positions;
                    let [a, b, slope] = [&grad_tangent[..], u_at(1 + k), &scratch.slope].map(|v| &v[range.clone()]);
                    *grad_gate += total(a.iter().zip(b).zip(slope).map(|((&a, &b), &s)| a * b * s));
                }
            }
            self.gate(&unpacked, &mut scratch.slope);
            self.gate(&unpacked, &mut scratch.curvature);
            let along = |grad_value: &[T]| total(grad_value.iter().zip(&scratch.preactivation).map(|(&g, &a)| g * a));
            // The slope's derivative with respect to beta is argument / beta times the one with respect to its
            // argument.
            let before = if self.learnt { along(grad_value) } else { T::zero() };
            for (k, grad_tangent) in tangents.into_iter().enumerate() {
                match self.activation {
                    Some(_) => {
                        slope_backward(grad_value, grad_tangent, u_at(1 + k), &scratch.curvature, &scratch.slope)
                    }
                    None => multiply_in_place(grad_tangent, &scratch.slope),
                }
            }
            if self.learnt {
                grad_beta += (along(grad_value) - before) / unpacked.beta;
            }
            let mut grad_packed = Vec::new();
            if !self.per_position {
                grad_packed.extend(grad_value.chunks_exact(self.positions).map(|row| total(row.iter().copied())));
            }
            if self.gated {
                let rows = grad_value.chunks_exact(self.positions).zip(u_at(0).chunks_exact(self.positions));
                for (grad_gate, (g, u)) in grad_gate.iter_mut().zip(rows) {
                    *grad_gate += total(g.iter().zip(u).map(|(&g, &u)| g * u));
                }
                self.gate(&unpacked, grad_value);
                grad_packed.extend(grad_gate);
            }
            if self.learnt {
                grad_packed.push(grad_beta);
            }
            grad_packed
        };
        let parts = self.parts(&mut grad_u).into_par_iter().enumerate();
        let rows: Vec<Vec<T>> = parts.map_init(|| Scratch::new(size), row_gradients).collect();
        let mut grad_packed = vec![T::zero(); packed.len()];
        let (grad_shift, rest) = grad_packed.split_at_mut(if self.per_position { size } else { 0 });
        for (row, part) in rows.iter().enumerate() {
            if self.per_position {
                add(grad_shift, &grad_u[row * size..][..size]);
            }
            rest.iter_mut().zip(part).for_each(|(sum, &v)| *sum += v);
        }
        (grad_u, grad_packed)
    }
}

/// `to += values`.
fn add<T: Real>(to: &mut [T], values: &[T]) {
    dispatch(
        #[inline(always)]
        || {
            for (to, &v) in to.iter_mut().zip(values) {
                *to += v;
            }
        },
    );
}

/// The sum, accumulated in f64.
fn total<T: Real>(values: impl Iterator<Item = T>) -> T {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    for (i, v) in values.enumerate() {
        lanes[i % LANES] += v.wide();
    }
    T::of(lanes.iter().sum())
}

impl Kernel<3> for Activate {
    const NAME: &'static str = "conv-activation";

    fn value<T: Real>(&self, [u, packed, skip]: [View<'_, T>; 3]) -> candle_core::Result<(Vec<T>, Shape)> {
        Ok((self.forward(u.values, packed.values, skip.values), u.shape.clone()))
    }

    fn gradients<T: Real>(
        &self,
        [u, packed, skip]: [&Tensor; 3],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let (grad_u, grad_packed) =
            with_elements::<T, _, _>([u, packed, grad], |[u, packed, grad]| self.backward(u, packed, grad))?;
        let grad_skip = (skip.elem_count() > 0).then(|| grad.clone());
        Ok([Some(T::tensor(grad_u, u.shape())?), Some(T::tensor(grad_packed, packed.shape())?), grad_skip])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use flows_core::{Error, Rng, testing::difference};

    #[test]
    fn kernels_agree_with_the_composition() -> Result<()> {
        let rng = &mut Rng::seed(0);
        let activations = [None, Some(Activation::Tanh), Some(Activation::Softplus), Some(Activation::Swish)];
        for (i, activation) in activations.into_iter().enumerate() {
            for (tangents, gated, per_position, skipped) in
                [(0, false, true, false), (1, true, false, true), (3, false, true, true), (2, false, false, false)]
            {
                let (rows, shape) = (3, [2 + i, 3, 4]);
                let mut var = |shape: &[usize]| {
                    Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(shape, DType::F64, &Device::Cpu)?)?)
                };
                let stacked = [&[rows * (1 + tangents)], &shape[..]].concat();
                let (u, skip, cotangent) = (var(&stacked)?, var(&stacked)?, var(&stacked)?);
                let (shift, gate) = (var(if per_position { &shape } else { &shape[..1] })?, var(&shape[..1])?);
                let beta = Var::new(&[1.3], &Device::Cpu)?;
                let learnt = activation == Some(Activation::Swish);
                let given = || ActivationInputs {
                    shift: shift.as_tensor().clone(),
                    gate: gated.then(|| gate.as_tensor().clone()),
                    beta: learnt.then(|| beta.as_tensor().clone()),
                    skip: skipped.then(|| skip.as_tensor().clone()),
                };
                let (want, got) = (composed(&u, rows, activation, &given())?, activate(&u, rows, activation, given())?);
                assert!(difference(&want, &got)? < 1e-13, "{activation:?}");
                let gradients = |y: &Tensor| (y * cotangent.as_tensor())?.sum_all()?.backward();
                let (want, got) = (gradients(&want)?, gradients(&got)?);
                for (var, used) in [(&u, true), (&shift, true), (&gate, gated), (&beta, learnt), (&skip, skipped)] {
                    match (want.get(var), got.get(var)) {
                        (Some(want), Some(got)) => assert!(difference(want, got)? < 1e-12, "{activation:?}"),
                        _ => assert!(!used, "no gradient"),
                    }
                }
            }
        }
        Ok(())
    }
}
