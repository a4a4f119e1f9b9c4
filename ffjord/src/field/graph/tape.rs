//! The backend on plain slices: executes the operations on a block of configurations, values and tangents together,
//! and records them for the backward pass.
//!
//! The rows of a value are followed by those of each of its tangents, so that a linear map is one matrix product.

use super::backend::{Backend, Constant, Function};
use super::rows::{
    End, add_dots, add_edges, add_outer, add_outer_backward, add_row, add_rows, add_scaled, add_scaled_rows,
    broadcast_to_edges, pairwise_differences, pairwise_sums, scale_rows,
};
use super::{Constants, Layout};
use crate::field::kernel::{multiply, multiply_in_place, slope_backward};
use flows_core::ops::kernel::{Operand, Real, product};
use std::collections::HashMap;
use std::convert::Infallible;
use std::mem::take;

/// Vectors for reuse, by their length: zeroing new ones would take a large part of the time.
pub(super) struct Pool<T>(HashMap<usize, Vec<Vec<T>>>);

impl<T: Real> Pool<T> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// A vector with arbitrary contents, to be overwritten.
    fn scratch(&mut self, n: usize) -> Vec<T> {
        self.0.get_mut(&n).and_then(Vec::pop).unwrap_or_else(|| vec![T::zero(); n])
    }

    fn zeros(&mut self, n: usize) -> Vec<T> {
        let mut values = self.scratch(n);
        values.fill(T::zero());
        values
    }

    fn copy(&mut self, source: &[T]) -> Vec<T> {
        let mut values = self.scratch(source.len());
        values.copy_from_slice(source);
        values
    }

    /// Keeps a vector for reuse.
    pub(super) fn recycle(&mut self, values: Vec<T>) {
        if !values.is_empty() {
            self.0.entry(values.len()).or_default().push(values);
        }
    }
}

/// The operations executed so far on a block of configurations, with their results.
pub(super) struct Tape<'a, T> {
    layout: &'a Layout,
    weights: &'a [T],
    constants: &'a Constants<T>,
    t: T,
    /// The number of configurations.
    count: usize,
    /// The number of tangents per configuration, K.
    tangents: usize,
    nodes: Vec<Node<T>>,
    pool: &'a mut Pool<T>,
}

/// One operation and its result.
struct Node<T> {
    operation: Operation,
    /// The length of a row.
    width: usize,
    /// The value, then its tangents.
    out: Vec<T>,
    /// The derivative of an elementwise function at its inputs; empty for other operations.
    slopes: Vec<T>,
}

/// How a value was computed; operands are the indices of earlier nodes.
#[derive(Clone, Copy)]
enum Operation {
    Input,
    TimeFeatures { weight: usize, bias: usize },
    Linear { x: usize, weight: usize, bias: Option<usize> },
    Constant { x: usize, matrix: Constant },
    EdgeInputs { a: usize, b: usize, q: [usize; 2], weight: usize },
    Difference { x: usize },
    Aggregate { x: usize, factor: f64 },
    Map { x: usize, function: Function },
    Times { x: usize, s: usize },
    SquaredNorm { x: usize },
    Sum { a: usize, b: usize, factor: f64 },
}

/// The gradients with respect to weights and time, to which a backward pass adds.
pub(super) struct ParameterGradients<'g, T> {
    pub(super) weights: &'g mut [T],
    pub(super) t: &'g mut T,
}

impl<'a, T: Real> Tape<'a, T> {
    /// An empty tape for `count` configurations with `tangents` tangents each, at time `t`.
    pub(super) fn new(
        layout: &'a Layout,
        weights: &'a [T],
        constants: &'a Constants<T>,
        t: f64,
        (count, tangents): (usize, usize),
        pool: &'a mut Pool<T>,
    ) -> Self {
        Self { layout, weights, constants, t: T::of(t), count, tangents, nodes: Vec::new(), pool }
    }

    /// Records a given value, followed by its tangents.
    pub(super) fn input(&mut self, values: Vec<T>) -> usize {
        let width = values.len() / (self.count * (1 + self.tangents));
        self.nodes.push(Node { operation: Operation::Input, width, out: values, slopes: Vec::new() });
        self.nodes.len() - 1
    }

    /// A value, followed by its tangents.
    pub(super) fn value(&self, id: usize) -> &[T] {
        &self.nodes[id].out
    }

    fn push(&mut self, operation: Operation, width: usize, out: Vec<T>) -> Result<usize, Infallible> {
        self.nodes.push(Node { operation, width, out, slopes: Vec::new() });
        Ok(self.nodes.len() - 1)
    }

    /// The length of a value with tangents that has `width` numbers per particle.
    fn particles_len(&self, width: usize) -> usize {
        (1 + self.tangents) * self.count * self.layout.particles * width
    }

    /// The length of a value with tangents that has `width` numbers per edge.
    fn edges_len(&self, width: usize) -> usize {
        self.particles_len(width) * (self.layout.particles - 1)
    }

    /// The length of a value without its tangents.
    fn size(&self, id: usize) -> usize {
        self.nodes[id].out.len() / (1 + self.tangents)
    }

    /// The gradient with respect to the input, given the one with respect to the last value; the gradients with respect
    /// to weights and time are added to `sums`.
    pub(super) fn backward(mut self, gradient: Vec<T>, sums: &mut ParameterGradients<'_, T>) -> Vec<T> {
        let mut gradients: Vec<Vec<T>> = vec![Vec::new(); self.nodes.len()];
        gradients[self.nodes.len() - 1] = gradient;
        for i in (1..self.nodes.len()).rev() {
            let g = take(&mut gradients[i]);
            if !g.is_empty() {
                self.node_backward(i, g, &mut gradients, sums);
            }
        }
        let grad_input = take(&mut gradients[0]);
        self.finish();
        grad_input
    }

    /// Returns the vectors of the tape to the pool.
    pub(super) fn finish(self) {
        for node in self.nodes {
            self.pool.recycle(node.out);
            self.pool.recycle(node.slopes);
        }
    }

    /// Propagates the gradient `g` with respect to a node to the operands of its operation.
    fn node_backward(
        &mut self,
        at: usize,
        mut g: Vec<T>,
        gradients: &mut [Vec<T>],
        sums: &mut ParameterGradients<'_, T>,
    ) {
        let (one, n, operation, width) =
            (T::one(), self.layout.particles, self.nodes[at].operation, self.nodes[at].width);
        let size = self.size(at);
        match operation {
            Operation::Input => {}
            Operation::TimeFeatures { weight, bias } => {
                let mut sum = vec![T::zero(); width];
                add_rows(&mut sum, &g[..size]);
                let along: T = sum.iter().zip(self.weight(weight)).map(|(&s, &w)| s * w).sum();
                *sums.t += along;
                add_scaled(self.layout.weight_mut(weight, sums.weights), &sum, self.t);
                add_scaled(self.layout.weight_mut(bias, sums.weights), &sum, one);
            }
            Operation::Linear { x, weight, bias } => {
                if let Some(bias) = bias {
                    add_rows(self.layout.weight_mut(bias, sums.weights), &g[..size]);
                }
                let inputs = self.nodes[x].width;
                let (grad_y, xs) = (Operand::new(&g, width), Operand::new(&self.nodes[x].out, inputs));
                product(self.layout.weight_mut(weight, sums.weights), inputs, grad_y.t(), xs, true);
                let matrix = Operand::new(self.weight(weight), inputs);
                let first = gradients[x].is_empty();
                product(self.gradient(gradients, x, first), inputs, grad_y, matrix, !first);
            }
            Operation::Constant { x, matrix } => {
                let (matrix, inputs) = (self.constants.get(matrix), self.size(x) / self.count);
                let grad_y = Operand::new(&g, matrix.len() / inputs);
                product(self.gradient(gradients, x, false), inputs, grad_y, Operand::new(matrix, inputs), true);
            }
            Operation::EdgeInputs { a, b, q, weight } => {
                add_edges(self.gradient(gradients, a, false), &g, (n, width), End::Source, one);
                add_edges(self.gradient(gradients, b, false), &g, (n, width), End::Target, one);
                let matrix = self.weight(weight);
                let grad_rows = self.layout.weight_mut(weight, sums.weights).chunks_exact_mut(width);
                for ((q, row), grad_row) in q.into_iter().zip(matrix.chunks_exact(width)).zip(grad_rows) {
                    let grad_q = self.gradient(gradients, q, false);
                    add_outer_backward(&g, &self.nodes[q].out, row, grad_q, grad_row);
                }
            }
            Operation::Difference { x } => {
                let grad_x = self.gradient(gradients, x, false);
                add_edges(grad_x, &g, (n, width), End::Source, one);
                add_edges(grad_x, &g, (n, width), End::Target, -one);
            }
            Operation::Aggregate { x, factor } => {
                broadcast_to_edges(self.gradient(gradients, x, false), &g, (n, width), T::of(factor));
            }
            Operation::Map { x, function } => {
                let mut curvature = self.pool.scratch(if self.tangents > 0 { size } else { 0 });
                let (u, node) = (&self.nodes[x].out, &self.nodes[at]);
                let (grad_u, grad_tangents) = g.split_at_mut(size);
                multiply_in_place(grad_u, &node.slopes);
                if self.tangents > 0 {
                    function.curvature(&u[..size], &node.out[..size], &node.slopes, &mut curvature);
                    for (grad_w, v) in grad_tangents.chunks_exact_mut(size).zip(u[size..].chunks_exact(size)) {
                        slope_backward(grad_u, grad_w, v, &curvature, &node.slopes);
                    }
                }
                self.pool.recycle(curvature);
                self.add_gradient(gradients, x, take(&mut g));
            }
            Operation::Times { x, s } => {
                let rows = self.size(s);
                let mut grad_s = self.pool.zeros(self.nodes[s].out.len());
                let grad_x = self.gradient(gradients, x, false);
                let (xs, ss) = (&self.nodes[x].out, &self.nodes[s].out);
                for (k, g) in g.chunks_exact(size).enumerate() {
                    let (part, scales) = (&xs[k * size..][..size], &ss[k * rows..][..rows]);
                    add_scaled_rows(&mut grad_x[..size], g, scales, width);
                    add_dots(&mut grad_s[..rows], part, g, width);
                    if k > 0 {
                        add_scaled_rows(&mut grad_x[k * size..][..size], g, &ss[..rows], width);
                        add_dots(&mut grad_s[k * rows..][..rows], &xs[..size], g, width);
                    }
                }
                self.add_gradient(gradients, s, grad_s);
            }
            Operation::SquaredNorm { x } => {
                let (width, n) = (self.nodes[x].width, self.size(x));
                g.iter_mut().for_each(|v| *v += *v);
                let grad_x = self.gradient(gradients, x, false);
                let xs = &self.nodes[x].out;
                for (k, g) in g.chunks_exact(size).enumerate() {
                    add_scaled_rows(&mut grad_x[..n], &xs[k * n..][..n], g, width);
                    if k > 0 {
                        add_scaled_rows(&mut grad_x[k * n..][..n], &xs[..n], g, width);
                    }
                }
            }
            Operation::Sum { a, b, factor } => {
                add_scaled(self.gradient(gradients, b, false), &g, T::of(factor));
                self.add_gradient(gradients, a, take(&mut g));
            }
        }
        self.pool.recycle(g);
    }

    /// The gradient accumulated so far with respect to a value. A new one is zero, or has arbitrary contents if it is
    /// to be `overwritten`.
    fn gradient<'g>(&mut self, gradients: &'g mut [Vec<T>], id: usize, overwritten: bool) -> &'g mut [T] {
        let (gradient, n) = (&mut gradients[id], self.nodes[id].out.len());
        if gradient.is_empty() {
            *gradient = if overwritten { self.pool.scratch(n) } else { self.pool.zeros(n) };
        }
        gradient
    }

    /// Adds to the gradient accumulated so far with respect to a value.
    fn add_gradient(&mut self, gradients: &mut [Vec<T>], id: usize, gradient: Vec<T>) {
        match &mut gradients[id] {
            sum if sum.is_empty() => *sum = gradient,
            sum => {
                add_scaled(sum, &gradient, T::one());
                self.pool.recycle(gradient);
            }
        }
    }

    fn weight(&self, index: usize) -> &'a [T] {
        self.layout.weight(index, self.weights)
    }
}

impl<T: Real> Backend for Tape<'_, T> {
    type Value = usize;
    type Failure = Infallible;

    fn time_features(&mut self, weight: usize, bias: usize) -> Result<usize, Infallible> {
        let pairs = self.weight(weight).iter().zip(self.weight(bias));
        let row: Vec<T> = pairs.map(|(&w, &b)| w * self.t + b).collect();
        let mut out = self.pool.zeros(self.particles_len(row.len()));
        let size = out.len() / (1 + self.tangents);
        out[..size].chunks_exact_mut(row.len()).for_each(|out| out.copy_from_slice(&row));
        self.push(Operation::TimeFeatures { weight, bias }, row.len(), out)
    }

    /// Conditional fields have no kernels, so there is no context to add.
    fn add_context(&mut self, h: usize, _: usize) -> Result<usize, Infallible> {
        Ok(h)
    }

    fn linear(&mut self, x: &usize, weight: usize, bias: Option<usize>) -> Result<usize, Infallible> {
        let (inputs, matrix) = (self.nodes[*x].width, self.weight(weight));
        let width = matrix.len() / inputs;
        let mut out = self.pool.scratch(self.nodes[*x].out.len() / inputs * width);
        let xs = Operand::new(&self.nodes[*x].out, inputs);
        product(&mut out, width, xs, Operand::new(matrix, inputs).t(), false);
        if let Some(bias) = bias {
            let (bias, size) = (self.weight(bias), out.len() / (1 + self.tangents));
            add_row(&mut out[..size], bias);
        }
        self.push(Operation::Linear { x: *x, weight, bias }, width, out)
    }

    fn constant(&mut self, x: &usize, matrix: Constant, width: usize) -> Result<usize, Infallible> {
        let (values, inputs) = (self.constants.get(matrix), self.size(*x) / self.count);
        let outputs = values.len() / inputs;
        let mut out = self.pool.scratch(self.nodes[*x].out.len() / inputs * outputs);
        let xs = Operand::new(&self.nodes[*x].out, inputs);
        product(&mut out, outputs, xs, Operand::new(values, inputs).t(), false);
        self.push(Operation::Constant { x: *x, matrix }, width, out)
    }

    fn edge_inputs(&mut self, a: &usize, b: &usize, q: [&usize; 2], weight: usize) -> Result<usize, Infallible> {
        let (n, width) = (self.layout.particles, self.nodes[*a].width);
        let mut out = self.pool.scratch(self.edges_len(width));
        pairwise_sums(&mut out, &self.nodes[*a].out, &self.nodes[*b].out, n, width);
        for (q, row) in q.iter().zip(self.weight(weight).chunks_exact(width)) {
            add_outer(&mut out, &self.nodes[**q].out, row);
        }
        self.push(Operation::EdgeInputs { a: *a, b: *b, q: q.map(|q| *q), weight }, width, out)
    }

    fn difference(&mut self, x: &usize) -> Result<usize, Infallible> {
        let width = self.nodes[*x].width;
        let mut out = self.pool.scratch(self.edges_len(width));
        pairwise_differences(&mut out, &self.nodes[*x].out, self.layout.particles, width);
        self.push(Operation::Difference { x: *x }, width, out)
    }

    fn aggregate(&mut self, x: &usize, factor: f64) -> Result<usize, Infallible> {
        let (n, width) = (self.layout.particles, self.nodes[*x].width);
        let mut out = self.pool.zeros(self.particles_len(width));
        add_edges(&mut out, &self.nodes[*x].out, (n, width), End::Source, T::of(factor));
        self.push(Operation::Aggregate { x: *x, factor }, width, out)
    }

    fn map(&mut self, x: &usize, function: Function) -> Result<usize, Infallible> {
        let size = self.size(*x);
        let (mut out, mut slopes) = (self.pool.scratch(self.nodes[*x].out.len()), self.pool.scratch(size));
        let u = &self.nodes[*x].out;
        let (values, tangents) = out.split_at_mut(size);
        function.value(&u[..size], values, &mut slopes);
        for (out, v) in tangents.chunks_exact_mut(size).zip(u[size..].chunks_exact(size)) {
            multiply(out, v, &slopes);
        }
        let (operation, width) = (Operation::Map { x: *x, function }, self.nodes[*x].width);
        self.nodes.push(Node { operation, width, out, slopes });
        Ok(self.nodes.len() - 1)
    }

    fn times(&mut self, x: &usize, s: &usize) -> Result<usize, Infallible> {
        let (size, rows, width) = (self.size(*x), self.size(*s), self.nodes[*x].width);
        let mut out = self.pool.scratch(self.nodes[*x].out.len());
        let (xs, ss) = (&self.nodes[*x].out, &self.nodes[*s].out);
        for (k, out) in out.chunks_exact_mut(size).enumerate() {
            scale_rows(out, &xs[k * size..][..size], &ss[..rows], width);
            if k > 0 {
                add_scaled_rows(out, &xs[..size], &ss[k * rows..][..rows], width);
            }
        }
        self.push(Operation::Times { x: *x, s: *s }, width, out)
    }

    fn squared_norm(&mut self, x: &usize) -> Result<usize, Infallible> {
        let (size, width) = (self.size(*x), self.nodes[*x].width);
        let mut out = self.pool.zeros(self.nodes[*x].out.len() / width);
        let xs = &self.nodes[*x].out;
        for (k, out) in out.chunks_exact_mut(size / width).enumerate() {
            add_dots(out, &xs[..size], &xs[k * size..][..size], width);
            if k > 0 {
                out.iter_mut().for_each(|v| *v += *v);
            }
        }
        self.push(Operation::SquaredNorm { x: *x }, 1, out)
    }

    fn sum(&mut self, a: &usize, b: &usize, factor: f64) -> Result<usize, Infallible> {
        let mut out = self.pool.copy(&self.nodes[*a].out);
        add_scaled(&mut out, &self.nodes[*b].out, T::of(factor));
        self.push(Operation::Sum { a: *a, b: *b, factor }, self.nodes[*a].width, out)
    }
}
