//! A MADE one degree at a time, every unit once: forward as its inputs become known, and backward
//! as the gradients of its outputs do.
//!
//! All buffers hold one unit per row, so that known units are leading rows (forward) or trailing ones
//! (backward), and a step is one small product per layer.

use super::Made;
use crate::Result;
use crate::nn::Activation;
use crate::ops::cpu::{Real, with_slices};
use crate::ops::matmul::add_product_of;
use crate::ops::most;
use candle_core::Tensor;
use faer::{MatMut, MatRef};
use std::borrow::Cow;

/// The weights of a [`Made`], inputs and outputs sorted by their positions in the order.
///
/// A dimension is one input, or the group of inputs of one position.
pub(crate) struct Steps<'a, T: Real> {
    /// The first layer, then the hidden ones.
    layers: Vec<Layer<'a, T>>,
    last: Layer<'a, T>,
    /// `ends[i][g]` units of layer i have degree g or less.
    ends: Vec<Vec<usize>>,
    /// As many inputs, and as many outputs, belong to the first g dimensions.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    dimensions: usize,
    residual: bool,
    activation: Activation,
}

struct Layer<'a, T: Real> {
    weight: Cow<'a, [T]>,
    bias: Cow<'a, [T]>,
    inputs: usize,
}

impl<T: Real> Layer<'_, T> {
    fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// The weight of some outputs and inputs.
    fn part(&self, outputs: (usize, usize), inputs: (usize, usize)) -> MatRef<'_, T> {
        let weight = MatRef::from_row_major_slice(&self.weight, self.outputs(), self.inputs);
        weight.submatrix(outputs.0, inputs.0, outputs.1 - outputs.0, inputs.1 - inputs.0)
    }
}

/// Calls `f` with the steps of `made`, whose weights must be on the CPU and of dtype T.
pub(crate) fn with_steps<T: Real, R>(made: &Made, f: impl FnOnce(&Steps<'_, T>) -> Result<R>) -> Result<R> {
    let weights = made.weights().into_iter().map(Tensor::contiguous);
    let weights: Vec<Tensor> = weights.collect::<candle_core::Result<_>>()?;
    with_slices(&weights, |slices| f(&Steps::new(made, slices)))?
}

impl<'a, T: Real> Steps<'a, T> {
    fn new(made: &Made, weights: &[&'a [T]]) -> Self {
        let d = made.settings.features;
        let layer = |weights: &[&'a [T]]| Layer {
            weight: weights[0].into(),
            bias: weights[1].into(),
            inputs: weights[0].len() / weights[1].len(),
        };
        let mut layers: Vec<Layer<'a, T>> = weights.chunks(2).map(layer).collect();
        // `Made` has at least two layers.
        let mut last = layers.remove(layers.len() - 1);
        let (degrees, limits) = (made.first.staircase.degrees(), made.last.staircase.limits());
        if let Some(order) = unsorted(degrees) {
            let first = layers[0].weight.chunks(degrees.len()).flat_map(|row| order.iter().map(|&i| row[i]));
            layers[0].weight = first.collect();
        }
        if let Some(order) = unsorted(limits) {
            let width = last.inputs;
            last.weight = order.iter().flat_map(|&i| last.weight[i * width..(i + 1) * width].iter().copied()).collect();
            last.bias = order.iter().map(|&i| last.bias[i]).collect();
        }
        let up_to = |of: &[usize]| (0..=d).map(|g| of.iter().filter(|&&degree| degree <= g).count()).collect();
        let ends = made.hidden.iter().chain([&made.last]).map(|layer| up_to(layer.staircase.degrees())).collect();
        let (inputs, outputs) = (up_to(degrees), up_to(limits));
        let (residual, activation) = (made.settings.residual, made.settings.activation);
        Self { layers, last, ends, inputs, outputs, dimensions: d, residual, activation }
    }

    /// The width of the first layer, to which a context adds.
    pub(crate) fn first_width(&self) -> usize {
        self.layers[0].outputs()
    }

    /// The number of outputs of one dimension, if all have as many.
    pub(crate) fn parameter_count(&self) -> usize {
        self.last.outputs() / self.dimensions
    }

    /// The units of layer i of this degree: the first, and the one after the last.
    fn group(&self, i: usize, degree: usize) -> (usize, usize) {
        (if degree == 0 { 0 } else { self.ends[i][degree - 1] }, self.ends[i][degree])
    }

    /// Whether a residual block starts or ends after layer i, so that no activation follows it.
    fn is_joint(&self, i: usize) -> bool {
        self.residual && i.is_multiple_of(2)
    }

    /// Goes through the dimensions in order: `next(d, raw, x)` computes the inputs x of the d-th of them, (inputs,
    /// rows), from its raw outputs, (P, rows); the network sees them [limited](crate::ops::limited). `context` is what the
    /// context adds to the first layer, (rows, width).
    pub(crate) fn forward<E>(
        &self,
        rows: usize,
        context: Option<&[T]>,
        next: impl FnMut(usize, &[T], &mut [T]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.pass(rows, context, None, next)
    }

    fn pass<E>(
        &self,
        rows: usize,
        context: Option<&[T]>,
        mut slopes: Option<&mut [Vec<T>]>,
        mut next: impl FnMut(usize, &[T], &mut [T]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut x = vec![T::zero(); self.layers[0].inputs * rows];
        // The output of each layer.
        let mut values = self.buffers(rows);
        let mut raw = Vec::new();
        self.units(0, rows, context, &x, &mut values, slopes.as_deref_mut());
        for d in 0..self.dimensions {
            let known = self.ends.last().map_or(0, |ends| ends[d]);
            let above = values.last().map_or(&[][..], |v| &v[..known * rows]);
            let outputs = (self.outputs[d], self.outputs[d + 1]);
            raw.resize((outputs.1 - outputs.0) * rows, T::zero());
            fill_rows(&mut raw, &self.last.bias[outputs.0..outputs.1], rows);
            product(&mut raw, self.last.part(outputs, (0, known)), above, rows);
            let seen = &mut x[self.inputs[d] * rows..self.inputs[d + 1] * rows];
            next(d, &raw, seen)?;
            limit(seen);
            self.units(d + 1, rows, context, &x, &mut values, slopes.as_deref_mut());
        }
        Ok(())
    }

    /// Computes the units of one degree in every layer.
    fn units(
        &self,
        degree: usize,
        rows: usize,
        context: Option<&[T]>,
        x: &[T],
        values: &mut [Vec<T>],
        mut slopes: Option<&mut [Vec<T>]>,
    ) {
        let mut skip = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let group @ (from, to) = self.group(i, degree);
            let (before, after) = values.split_at_mut(i);
            let (seen, below) = match before.last() {
                None => (self.inputs[degree], x),
                Some(below) => (self.ends[i - 1][degree], &below[..]),
            };
            let out = &mut after[0][from * rows..to * rows];
            fill_rows(out, &layer.bias[from..to], rows);
            if let Some(context) = context.filter(|_| i == 0) {
                let width = layer.outputs();
                for (j, out) in (from..to).zip(out.chunks_mut(rows)) {
                    out.iter_mut().zip(context.chunks(width)).for_each(|(v, context)| *v += context[j]);
                }
            }
            product(out, layer.part(group, (0, seen)), &below[..seen * rows], rows);
            if self.is_joint(i) {
                if i > 0 {
                    out.iter_mut().zip(&skip).for_each(|(v, &skip)| *v += skip);
                }
                skip.clear();
                skip.extend_from_slice(out);
            }
            if let Some(slopes) = &mut slopes {
                let slopes = &mut slopes[i][from * rows..to * rows];
                slopes.iter_mut().zip(&*out).for_each(|(s, &v)| *s = self.activation.slope(v));
            }
            // The last layer of a residual network reads the last joint as it is.
            if !(self.is_joint(i) && i + 1 == self.layers.len()) {
                out.iter_mut().for_each(|v| *v = self.activation.value(*v));
            }
        }
    }

    fn buffers(&self, rows: usize) -> Vec<Vec<T>> {
        self.layers.iter().map(|layer| vec![T::zero(); layer.outputs() * rows]).collect()
    }

    /// Goes through the dimensions from the last to the first, at the point x, (inputs, rows) in order:
    /// `next(d, gradient, raw)` gets the gradient of the inputs of the d-th through the raw outputs of later
    /// dimensions, (inputs, rows), and computes that of its own raw outputs, (P, rows).
    pub(crate) fn backward(&self, x: &[T], context: Option<&[T]>, mut next: impl FnMut(usize, &[T], &mut [T])) {
        let rows = x.len() / self.layers[0].inputs;
        let mut slopes = self.buffers(rows);
        let given = |d: usize, _: &[T], out: &mut [T]| {
            out.copy_from_slice(&x[self.inputs[d] * rows..self.inputs[d + 1] * rows]);
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = self.pass(rows, context, Some(&mut slopes), given);
        let top = self.layers.len() - 1;
        // Gradients of the output of each layer before its activation, and of the raw outputs.
        let mut grads = self.buffers(rows);
        let mut raw = vec![T::zero(); self.last.outputs() * rows];
        let mut through = Vec::new();
        for d in (0..self.dimensions).rev() {
            for i in (0..=top).rev() {
                let group @ (from, to) = self.group(i, d + 1);
                let (below, above) = grads.split_at_mut(i + 1);
                let out = &mut below[i][from * rows..to * rows];
                let (layer, start, behind) = match above.first() {
                    None => (&self.last, self.outputs[d + 1], &raw),
                    Some(grad) => (&self.layers[i + 1], self.ends[i + 1][d], grad),
                };
                let weight = layer.part((start, layer.outputs()), group);
                product(out, weight.transpose(), &behind[start * rows..], rows);
                if !(self.is_joint(i) && i == top) {
                    out.iter_mut().zip(&slopes[i][from * rows..]).for_each(|(g, &slope)| *g *= slope);
                }
                if let Some(skip) = above.get(1).filter(|_| self.is_joint(i)) {
                    out.iter_mut().zip(&skip[from * rows..]).for_each(|(g, &skip)| *g += skip);
                }
            }
            let first = &self.layers[0];
            let (start, inputs) = (self.ends[0][d], (self.inputs[d], self.inputs[d + 1]));
            through.clear();
            through.resize((inputs.1 - inputs.0) * rows, T::zero());
            let weight = first.part((start, first.outputs()), inputs);
            product(&mut through, weight.transpose(), &grads[0][start * rows..], rows);
            for (through, _) in through.iter_mut().zip(&x[d * rows..]).filter(|(_, x)| x.abs() > most::<T>()) {
                *through = T::zero();
            }
            next(d, &through, &mut raw[self.outputs[d] * rows..self.outputs[d + 1] * rows]);
        }
    }
}

/// The order that sorts degrees, equal ones staying in place; `None` if they are sorted.
fn unsorted(degrees: &[usize]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..degrees.len()).collect();
    order.sort_by_key(|&i| degrees[i]);
    (!degrees.is_sorted()).then_some(order)
}

/// Sets each row of `out` to one number.
fn fill_rows<T: Real>(out: &mut [T], values: &[T], rows: usize) {
    out.chunks_mut(rows).zip(values).for_each(|(out, &value)| out.fill(value));
}

/// [`ops::limited`](crate::ops::limited) of numbers in their place.
fn limit<T: Real>(x: &mut [T]) {
    for x in x {
        if x.abs() > most::<T>() {
            *x = x.signum() * most::<T>();
        }
    }
}

/// `out += weight values`, each row being a unit's `rows` numbers.
fn product<T: Real>(out: &mut [T], weight: MatRef<'_, T>, values: &[T], rows: usize) {
    let out = MatMut::from_row_major_slice_mut(out, weight.nrows(), rows);
    add_product_of(out, weight, MatRef::from_row_major_slice(values, weight.ncols(), rows));
}
