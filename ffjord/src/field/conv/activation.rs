//! What follows a convolution: gate, shift, activation and a skip, of values and tangents in one pass.

use super::super::Activation;
use super::super::kernel::{multiply, multiply_in_place, through};
use candle_core::{DType, Shape, Tensor};
use flows_core::Result;
use flows_core::ops::kernel::{Kernel, Operation, Real, View, dispatch, with_elements};
use rayon::prelude::*;

/// What the activation of a layer is given beside the convolution's outputs.
pub(super) struct Given {
    /// m: (C, H, W), or (C) where it is the same in all places.
    pub(super) shift: Tensor,
    /// g, (C).
    pub(super) gate: Option<Tensor>,
    /// Of a learnt activation, (1).
    pub(super) beta: Option<Tensor>,
    /// s, of the shape of the outputs.
    pub(super) skip: Option<Tensor>,
}

/// `phi(g u + m) + s` of values u, and `phi'(g u + m) g v + s` of their tangents v, for outputs
/// (N, C, H, W) of a convolution of which the first `rows` are values, then as many tangents each time;
/// without an activation phi is the identity.
pub(super) fn activate(u: &Tensor, rows: usize, activation: Option<Activation>, given: Given) -> Result<Tensor> {
    let Given { shift, gate, beta, skip } = given;
    if !(u.device().is_cpu() && matches!(u.dtype(), DType::F32 | DType::F64)) {
        return composed(u, rows, activation, &Given { shift, gate, beta, skip });
    }
    let (channels, places) = (u.dim(1)?, u.dim(2)? * u.dim(3)?);
    let flat = shift.flatten_all()?;
    let by_place = flat.elem_count() == channels * places && places > 1;
    let (gated, learnt) = (gate.is_some(), beta.is_some());
    let parts: Vec<Tensor> = [flat].into_iter().chain(gate).chain(beta).collect();
    let further = if let [one] = &parts[..] { one.clone() } else { Tensor::cat(&parts, 0)? };
    let skip = match skip {
        Some(skip) => skip.contiguous()?,
        None => Tensor::zeros(0, u.dtype(), u.device())?,
    };
    let op = Activate { activation, rows, channels, places, by_place, gated, learnt };
    Ok(u.contiguous()?.apply_op3(&further.contiguous()?, &skip, Operation(op))?)
}

/// The same by candle's operations, for other devices and as the tests' reference.
fn composed(u: &Tensor, rows: usize, activation: Option<Activation>, given: &Given) -> Result<Tensor> {
    let (stacked, channels, height, width) = u.dims4()?;
    let u = match &given.gate {
        Some(gate) => u.broadcast_mul(&gate.reshape((1, channels, 1, 1))?)?,
        None => u.clone(),
    };
    let shift = match given.shift.elem_count() {
        n if n == channels => given.shift.reshape((1, channels, 1, 1))?,
        _ => given.shift.reshape((1, channels, height, width))?,
    };
    let values = u.narrow(0, 0, rows)?.broadcast_add(&shift)?;
    let tangents = u.narrow(0, rows, stacked - rows)?;
    let (values, tangents) = match activation {
        None => (values, tangents),
        Some(activation) => {
            let (values, slope) = activation.composed(given.beta.as_ref(), &values)?;
            let tangents = tangents.reshape((stacked / rows - 1, rows, channels, height, width))?;
            (values, tangents.broadcast_mul(&slope.unsqueeze(0)?)?.flatten(0, 1)?)
        }
    };
    let all = if stacked == rows { values } else { Tensor::cat(&[values, tangents], 0)? };
    Ok(match &given.skip {
        Some(skip) => (all + skip)?,
        None => all,
    })
}

#[derive(Clone, Copy, Debug)]
struct Activate {
    activation: Option<Activation>,
    rows: usize,
    channels: usize,
    places: usize,
    /// Whether each place has a shift of its own.
    by_place: bool,
    gated: bool,
    learnt: bool,
}

/// The further input taken apart.
struct Further<'a, T> {
    /// Of every place.
    shift: Vec<T>,
    gate: Option<&'a [T]>,
    beta: T,
}

/// What is kept of one value while it is worked on.
struct Scratch<T> {
    /// g u + m.
    before: Vec<T>,
    value: Vec<T>,
    slope: Vec<T>,
    curvature: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(size: usize) -> Self {
        let zeros = || vec![T::zero(); size];
        Self { before: zeros(), value: zeros(), slope: zeros(), curvature: zeros() }
    }
}

impl Activate {
    fn size(&self) -> usize {
        self.channels * self.places
    }

    fn further<'a, T: Real>(&self, further: &'a [T]) -> Further<'a, T> {
        let (shift, rest) = further.split_at(if self.by_place { self.size() } else { self.channels });
        let (gate, rest) = rest.split_at(if self.gated { self.channels } else { 0 });
        let shift = match self.by_place {
            true => shift.to_vec(),
            false => shift.iter().flat_map(|&m| std::iter::repeat_n(m, self.places)).collect(),
        };
        Further { shift, gate: self.gated.then_some(gate), beta: if self.learnt { rest[0] } else { T::one() } }
    }

    /// The parts of a batch of values and tangents that belong to each value: itself, then its tangents.
    fn parts<'a, T>(&self, all: &'a mut [T]) -> Vec<Vec<&'a mut [T]>> {
        let mut parts: Vec<Vec<&mut [T]>> = (0..self.rows).map(|_| Vec::new()).collect();
        for (i, part) in all.chunks_mut(self.size()).enumerate() {
            parts[i % self.rows].push(part);
        }
        parts
    }

    /// Value and slope at u, which leaves out the gate.
    fn evaluate<T: Real>(&self, u: &[T], further: &Further<'_, T>, scratch: &mut Scratch<T>) {
        scratch.before.copy_from_slice(u);
        self.gate(further, &mut scratch.before);
        add(&mut scratch.before, &further.shift);
        match self.activation {
            Some(activation) => {
                activation.value(further.beta, &scratch.before, &mut scratch.value, &mut scratch.slope);
            }
            None => {
                scratch.value.copy_from_slice(&scratch.before);
                scratch.slope.fill(T::one());
            }
        }
    }

    fn gate<T: Real>(&self, further: &Further<'_, T>, values: &mut [T]) {
        let Some(gate) = further.gate else { return };
        for (values, &gate) in values.chunks_exact_mut(self.places).zip(gate) {
            values.iter_mut().for_each(|v| *v *= gate);
        }
    }

    fn forward<T: Real>(&self, u: &[T], further: &[T], skip: &[T]) -> Vec<T> {
        let (size, further) = (self.size(), self.further(further));
        let mut out = vec![T::zero(); u.len()];
        self.parts(&mut out).into_par_iter().enumerate().for_each_init(
            || Scratch::new(size),
            |scratch, (row, parts)| {
                self.evaluate(&u[row * size..][..size], &further, scratch);
                self.gate(&further, &mut scratch.slope);
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

    /// The gradients of u and of the further input, given that of the result; that of the skip is the same.
    fn backward<T: Real>(&self, u: &[T], further: &[T], grad: &[T]) -> (Vec<T>, Vec<T>) {
        let size = self.size();
        let taken = self.further(further);
        let mut of_u = grad.to_vec();
        // Of shift and gate by channel, and of beta, for each value.
        let of_row = |scratch: &mut Scratch<T>, (row, parts): (usize, Vec<&mut [T]>)| -> Vec<T> {
            let u_at = |k: usize| &u[(k * self.rows + row) * size..][..size];
            self.evaluate(u_at(0), &taken, scratch);
            let mut parts = parts.into_iter();
            let Some(of_value) = parts.next() else { return Vec::new() };
            let tangents: Vec<_> = parts.collect();
            let mut of_beta = T::zero();
            if let (Some(activation), false) = (self.activation, tangents.is_empty()) {
                let Scratch { before, value, slope, curvature } = &mut *scratch;
                activation.curvature(taken.beta, before, value, slope, curvature);
            }
            if self.learnt {
                of_beta += Activation::of_beta(taken.beta, &scratch.before, of_value);
            }
            multiply_in_place(of_value, &scratch.slope);
            let mut of_gate = vec![T::zero(); if self.gated { self.channels } else { 0 }];
            for (k, of_tangent) in tangents.iter().enumerate().filter(|_| self.gated) {
                for (c, of_gate) in of_gate.iter_mut().enumerate() {
                    let range = c * self.places..(c + 1) * self.places;
                    let [a, b, slope] = [&of_tangent[..], u_at(1 + k), &scratch.slope].map(|v| &v[range.clone()]);
                    *of_gate += total(a.iter().zip(b).zip(slope).map(|((&a, &b), &s)| a * b * s));
                }
            }
            self.gate(&taken, &mut scratch.slope);
            self.gate(&taken, &mut scratch.curvature);
            let along = |of_value: &[T]| total(of_value.iter().zip(&scratch.before).map(|(&g, &a)| g * a));
            // The slope's derivative for beta is that for its argument, times argument / beta.
            let before = if self.learnt { along(of_value) } else { T::zero() };
            for (k, of_tangent) in tangents.into_iter().enumerate() {
                match self.activation {
                    Some(_) => through(of_value, of_tangent, u_at(1 + k), &scratch.curvature, &scratch.slope),
                    None => multiply_in_place(of_tangent, &scratch.slope),
                }
            }
            if self.learnt {
                of_beta += (along(of_value) - before) / taken.beta;
            }
            let mut of_further = Vec::new();
            if !self.by_place {
                of_further.extend(of_value.chunks_exact(self.places).map(|row| total(row.iter().copied())));
            }
            if self.gated {
                let rows = of_value.chunks_exact(self.places).zip(u_at(0).chunks_exact(self.places));
                for (of_gate, (g, u)) in of_gate.iter_mut().zip(rows) {
                    *of_gate += total(g.iter().zip(u).map(|(&g, &u)| g * u));
                }
                self.gate(&taken, of_value);
                of_further.extend(of_gate);
            }
            if self.learnt {
                of_further.push(of_beta);
            }
            of_further
        };
        let parts = self.parts(&mut of_u).into_par_iter().enumerate();
        let rows: Vec<Vec<T>> = parts.map_init(|| Scratch::new(size), of_row).collect();
        let mut of_further = vec![T::zero(); further.len()];
        let (of_shift, rest) = of_further.split_at_mut(if self.by_place { size } else { 0 });
        for (row, part) in rows.iter().enumerate() {
            if self.by_place {
                add(of_shift, &of_u[row * size..][..size]);
            }
            rest.iter_mut().zip(part).for_each(|(sum, &v)| *sum += v);
        }
        (of_u, of_further)
    }
}

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

/// The sum, in f64.
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

    fn value<T: Real>(&self, [u, further, skip]: [View<'_, T>; 3]) -> candle_core::Result<(Vec<T>, Shape)> {
        Ok((self.forward(u.values, further.values, skip.values), u.shape.clone()))
    }

    fn gradients<T: Real>(
        &self,
        [u, further, skip]: [&Tensor; 3],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let (of_u, of_further) =
            with_elements::<T, _, _>([u, further, grad], |[u, further, grad]| self.backward(u, further, grad))?;
        let of_skip = (skip.elem_count() > 0).then(|| grad.clone());
        Ok([Some(T::tensor(of_u, u.shape())?), Some(T::tensor(of_further, further.shape())?), of_skip])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use flows_core::{Error, Rng, testing::difference};

    #[test]
    fn as_the_plain_composition() -> Result<()> {
        let rng = &mut Rng::seed(0);
        let activations = [None, Some(Activation::Tanh), Some(Activation::Softplus), Some(Activation::Swish)];
        for (i, activation) in activations.into_iter().enumerate() {
            for (tangents, gated, by_place, skipped) in
                [(0, false, true, false), (1, true, false, true), (3, false, true, true), (2, false, false, false)]
            {
                let (rows, shape) = (3, [2 + i, 3, 4]);
                let mut var = |shape: &[usize]| {
                    Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(shape, DType::F64, &Device::Cpu)?)?)
                };
                let stacked = [&[rows * (1 + tangents)], &shape[..]].concat();
                let (u, skip, cotangent) = (var(&stacked)?, var(&stacked)?, var(&stacked)?);
                let (shift, gate) = (var(if by_place { &shape } else { &shape[..1] })?, var(&shape[..1])?);
                let beta = Var::new(&[1.3], &Device::Cpu)?;
                let learnt = activation == Some(Activation::Swish);
                let given = || Given {
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
