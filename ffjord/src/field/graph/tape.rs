//! The operations over a block of configurations on plain slices: values and tangents in one pass, and
//! the way back.
//!
//! The rows of a value lie one after another: first those of the value itself, then those of each
//! tangent, so that a linear map is one matrix product.

use super::machine::{Constant, Function, Machine};
use super::rows::{
    add_dots, add_outer, add_row, add_rows, add_scaled, add_scaled_rows, difference, gather, hand_out, outer_gradient,
    scale_rows, spread,
};
use super::{Constants, Places};
use crate::field::kernel::{multiply, multiply_in_place, through};
use flows_core::ops::kernel::{Operand, Real, product};
use std::collections::HashMap;
use std::convert::Infallible;
use std::mem::take;

/// Vectors that were used before, by their length: to set a new one to zero takes as long as much of the
/// work.
pub(super) struct Pool<T>(HashMap<usize, Vec<Vec<T>>>);

impl<T: Real> Pool<T> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Whatever numbers, to be overwritten.
    fn any(&mut self, n: usize) -> Vec<T> {
        self.0.get_mut(&n).and_then(Vec::pop).unwrap_or_else(|| vec![T::zero(); n])
    }

    fn zeros(&mut self, n: usize) -> Vec<T> {
        let mut values = self.any(n);
        values.fill(T::zero());
        values
    }

    fn copy(&mut self, of: &[T]) -> Vec<T> {
        let mut values = self.any(of.len());
        values.copy_from_slice(of);
        values
    }

    pub(super) fn give_back(&mut self, values: Vec<T>) {
        if !values.is_empty() {
            self.0.entry(values.len()).or_default().push(values);
        }
    }
}

/// A block of configurations as it goes through the operations.
pub(super) struct Tape<'a, T> {
    places: &'a Places,
    weights: &'a [T],
    constants: &'a Constants<T>,
    t: T,
    /// Configurations, and tangents of each.
    count: usize,
    tangents: usize,
    nodes: Vec<Node<T>>,
    pool: &'a mut Pool<T>,
}

struct Node<T> {
    operation: Operation,
    width: usize,
    /// Value and tangents.
    out: Vec<T>,
    /// The derivative of a function at the values.
    slopes: Vec<T>,
}

/// How a value came about, from those before it.
#[derive(Clone, Copy)]
enum Operation {
    Input,
    OfTime { weight: usize, bias: usize },
    Linear { x: usize, weight: usize, bias: Option<usize> },
    Constant { x: usize, matrix: Constant },
    Pairs { a: usize, b: usize, q: [usize; 2], weight: usize },
    Difference { x: usize },
    Collect { x: usize, factor: f64 },
    Map { x: usize, function: Function },
    Times { x: usize, s: usize },
    Square { x: usize },
    Sum { a: usize, b: usize, factor: f64 },
}

/// What the way back adds to.
pub(super) struct Sums<'g, T> {
    pub(super) weights: &'g mut [T],
    pub(super) t: &'g mut T,
}

impl<'a, T: Real> Tape<'a, T> {
    /// A tape for `count` configurations of so many tangents each, by `weights` at time `t`.
    pub(super) fn new(
        places: &'a Places,
        weights: &'a [T],
        constants: &'a Constants<T>,
        t: f64,
        (count, tangents): (usize, usize),
        pool: &'a mut Pool<T>,
    ) -> Self {
        Self { places, weights, constants, t: T::of(t), count, tangents, nodes: Vec::new(), pool }
    }

    /// A value that is given, with its tangents behind it.
    pub(super) fn input(&mut self, values: Vec<T>) -> usize {
        let width = values.len() / (self.count * (1 + self.tangents));
        self.nodes.push(Node { operation: Operation::Input, width, out: values, slopes: Vec::new() });
        self.nodes.len() - 1
    }

    /// Value and tangents.
    pub(super) fn value(&self, id: usize) -> &[T] {
        &self.nodes[id].out
    }

    fn push(&mut self, operation: Operation, width: usize, out: Vec<T>) -> Result<usize, Infallible> {
        self.nodes.push(Node { operation, width, out, slopes: Vec::new() });
        Ok(self.nodes.len() - 1)
    }

    /// The numbers of value and tangents, `width` for each particle.
    fn of_particles(&self, width: usize) -> usize {
        (1 + self.tangents) * self.count * self.places.particles * width
    }

    /// The same for each edge.
    fn of_edges(&self, width: usize) -> usize {
        self.of_particles(width) * (self.places.particles - 1)
    }

    /// The numbers of a value without its tangents.
    fn size(&self, id: usize) -> usize {
        self.nodes[id].out.len() / (1 + self.tangents)
    }

    /// The gradient of the input, given that of the last value; those of weights and time are added to
    /// `sums`.
    pub(super) fn backward(mut self, gradient: Vec<T>, sums: &mut Sums<'_, T>) -> Vec<T> {
        let mut gradients: Vec<Vec<T>> = vec![Vec::new(); self.nodes.len()];
        gradients[self.nodes.len() - 1] = gradient;
        for i in (1..self.nodes.len()).rev() {
            let g = take(&mut gradients[i]);
            if !g.is_empty() {
                self.back(i, g, &mut gradients, sums);
            }
        }
        let found = take(&mut gradients[0]);
        self.finish();
        found
    }

    /// Leaves its vectors to the next tape.
    pub(super) fn finish(self) {
        for node in self.nodes {
            self.pool.give_back(node.out);
            self.pool.give_back(node.slopes);
        }
    }

    /// Adds to the gradients of what the value `at` came from.
    fn back(&mut self, at: usize, mut g: Vec<T>, gradients: &mut [Vec<T>], sums: &mut Sums<'_, T>) {
        let (one, n, operation, width) =
            (T::one(), self.places.particles, self.nodes[at].operation, self.nodes[at].width);
        let size = self.size(at);
        match operation {
            Operation::Input => {}
            Operation::OfTime { weight, bias } => {
                let mut sum = vec![T::zero(); width];
                add_rows(&mut sum, &g[..size]);
                let along: T = sum.iter().zip(self.weight(weight)).map(|(&s, &w)| s * w).sum();
                *sums.t += along;
                add_scaled(self.places.of_mut(weight, sums.weights), &sum, self.t);
                add_scaled(self.places.of_mut(bias, sums.weights), &sum, one);
            }
            Operation::Linear { x, weight, bias } => {
                if let Some(bias) = bias {
                    add_rows(self.places.of_mut(bias, sums.weights), &g[..size]);
                }
                let inputs = self.nodes[x].width;
                let (of_y, xs) = (Operand::new(&g, width), Operand::new(&self.nodes[x].out, inputs));
                product(self.places.of_mut(weight, sums.weights), inputs, of_y.t(), xs, true);
                let matrix = Operand::new(self.weight(weight), inputs);
                let first = gradients[x].is_empty();
                product(self.to(gradients, x, first), inputs, of_y, matrix, !first);
            }
            Operation::Constant { x, matrix } => {
                let (matrix, inputs) = (self.constants.of(matrix), self.size(x) / self.count);
                let of_y = Operand::new(&g, matrix.len() / inputs);
                product(self.to(gradients, x, false), inputs, of_y, Operand::new(matrix, inputs), true);
            }
            Operation::Pairs { a, b, q, weight } => {
                gather(self.to(gradients, a, false), &g, (n, width), true, one);
                gather(self.to(gradients, b, false), &g, (n, width), false, one);
                let matrix = self.weight(weight);
                let of_rows = self.places.of_mut(weight, sums.weights).chunks_exact_mut(width);
                for ((q, row), of_row) in q.into_iter().zip(matrix.chunks_exact(width)).zip(of_rows) {
                    let of_q = self.to(gradients, q, false);
                    outer_gradient(&g, (&self.nodes[q].out, row), of_q, of_row);
                }
            }
            Operation::Difference { x } => {
                let of_x = self.to(gradients, x, false);
                gather(of_x, &g, (n, width), true, one);
                gather(of_x, &g, (n, width), false, -one);
            }
            Operation::Collect { x, factor } => {
                hand_out(self.to(gradients, x, false), &g, (n, width), T::of(factor));
            }
            Operation::Map { x, function } => {
                let mut curvature = self.pool.any(if self.tangents > 0 { size } else { 0 });
                let (u, node) = (&self.nodes[x].out, &self.nodes[at]);
                let (of_u, of_tangents) = g.split_at_mut(size);
                multiply_in_place(of_u, &node.slopes);
                if self.tangents > 0 {
                    function.curvature(&u[..size], &node.out[..size], &node.slopes, &mut curvature);
                    for (of_w, v) in of_tangents.chunks_exact_mut(size).zip(u[size..].chunks_exact(size)) {
                        through(of_u, of_w, v, &curvature, &node.slopes);
                    }
                }
                self.pool.give_back(curvature);
                self.give(gradients, x, take(&mut g));
            }
            Operation::Times { x, s } => {
                let rows = self.size(s);
                let mut of_s = self.pool.zeros(self.nodes[s].out.len());
                let of_x = self.to(gradients, x, false);
                let (xs, ss) = (&self.nodes[x].out, &self.nodes[s].out);
                for (k, g) in g.chunks_exact(size).enumerate() {
                    let (these, scales) = (&xs[k * size..][..size], &ss[k * rows..][..rows]);
                    add_scaled_rows(&mut of_x[..size], g, scales, width);
                    add_dots(&mut of_s[..rows], these, g, width);
                    if k > 0 {
                        add_scaled_rows(&mut of_x[k * size..][..size], g, &ss[..rows], width);
                        add_dots(&mut of_s[k * rows..][..rows], &xs[..size], g, width);
                    }
                }
                self.give(gradients, s, of_s);
            }
            Operation::Square { x } => {
                let (width, n) = (self.nodes[x].width, self.size(x));
                g.iter_mut().for_each(|v| *v += *v);
                let of_x = self.to(gradients, x, false);
                let xs = &self.nodes[x].out;
                for (k, g) in g.chunks_exact(size).enumerate() {
                    add_scaled_rows(&mut of_x[..n], &xs[k * n..][..n], g, width);
                    if k > 0 {
                        add_scaled_rows(&mut of_x[k * n..][..n], &xs[..n], g, width);
                    }
                }
            }
            Operation::Sum { a, b, factor } => {
                add_scaled(self.to(gradients, b, false), &g, T::of(factor));
                self.give(gradients, a, take(&mut g));
            }
        }
        self.pool.give_back(g);
    }

    /// The gradient so far of a value, zeros before; whatever numbers before if they are to be
    /// overwritten.
    fn to<'g>(&mut self, gradients: &'g mut [Vec<T>], id: usize, overwritten: bool) -> &'g mut [T] {
        let (to, n) = (&mut gradients[id], self.nodes[id].out.len());
        if to.is_empty() {
            *to = if overwritten { self.pool.any(n) } else { self.pool.zeros(n) };
        }
        to
    }

    /// Adds a whole gradient.
    fn give(&mut self, gradients: &mut [Vec<T>], id: usize, gradient: Vec<T>) {
        match &mut gradients[id] {
            to if to.is_empty() => *to = gradient,
            to => {
                add_scaled(to, &gradient, T::one());
                self.pool.give_back(gradient);
            }
        }
    }

    fn weight(&self, index: usize) -> &'a [T] {
        self.places.of(index, self.weights)
    }
}

impl<T: Real> Machine for Tape<'_, T> {
    type Value = usize;
    type Failure = Infallible;

    fn of_time(&mut self, weight: usize, bias: usize) -> Result<usize, Infallible> {
        let pairs = self.weight(weight).iter().zip(self.weight(bias));
        let row: Vec<T> = pairs.map(|(&w, &b)| w * self.t + b).collect();
        let mut out = self.pool.zeros(self.of_particles(row.len()));
        let size = out.len() / (1 + self.tangents);
        out[..size].chunks_exact_mut(row.len()).for_each(|out| out.copy_from_slice(&row));
        self.push(Operation::OfTime { weight, bias }, row.len(), out)
    }

    /// Fields that are given a context have no kernels.
    fn given(&mut self, h: usize, _: usize) -> Result<usize, Infallible> {
        Ok(h)
    }

    fn linear(&mut self, x: &usize, weight: usize, bias: Option<usize>) -> Result<usize, Infallible> {
        let (inputs, matrix) = (self.nodes[*x].width, self.weight(weight));
        let width = matrix.len() / inputs;
        let mut out = self.pool.any(self.nodes[*x].out.len() / inputs * width);
        let xs = Operand::new(&self.nodes[*x].out, inputs);
        product(&mut out, width, xs, Operand::new(matrix, inputs).t(), false);
        if let Some(bias) = bias {
            let (bias, size) = (self.weight(bias), out.len() / (1 + self.tangents));
            add_row(&mut out[..size], bias);
        }
        self.push(Operation::Linear { x: *x, weight, bias }, width, out)
    }

    fn constant(&mut self, x: &usize, matrix: Constant, width: usize) -> Result<usize, Infallible> {
        let (values, inputs) = (self.constants.of(matrix), self.size(*x) / self.count);
        let outputs = values.len() / inputs;
        let mut out = self.pool.any(self.nodes[*x].out.len() / inputs * outputs);
        let xs = Operand::new(&self.nodes[*x].out, inputs);
        product(&mut out, outputs, xs, Operand::new(values, inputs).t(), false);
        self.push(Operation::Constant { x: *x, matrix }, width, out)
    }

    fn pairs(&mut self, a: &usize, b: &usize, q: [&usize; 2], weight: usize) -> Result<usize, Infallible> {
        let (n, width) = (self.places.particles, self.nodes[*a].width);
        let mut out = self.pool.any(self.of_edges(width));
        spread(&mut out, &self.nodes[*a].out, &self.nodes[*b].out, n, width);
        for (q, row) in q.iter().zip(self.weight(weight).chunks_exact(width)) {
            add_outer(&mut out, &self.nodes[**q].out, row);
        }
        self.push(Operation::Pairs { a: *a, b: *b, q: q.map(|q| *q), weight }, width, out)
    }

    fn difference(&mut self, x: &usize) -> Result<usize, Infallible> {
        let width = self.nodes[*x].width;
        let mut out = self.pool.any(self.of_edges(width));
        difference(&mut out, &self.nodes[*x].out, self.places.particles, width);
        self.push(Operation::Difference { x: *x }, width, out)
    }

    fn collect(&mut self, x: &usize, factor: f64) -> Result<usize, Infallible> {
        let (n, width) = (self.places.particles, self.nodes[*x].width);
        let mut out = self.pool.zeros(self.of_particles(width));
        gather(&mut out, &self.nodes[*x].out, (n, width), true, T::of(factor));
        self.push(Operation::Collect { x: *x, factor }, width, out)
    }

    fn map(&mut self, x: &usize, function: Function) -> Result<usize, Infallible> {
        let size = self.size(*x);
        let (mut out, mut slopes) = (self.pool.any(self.nodes[*x].out.len()), self.pool.any(size));
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
        let mut out = self.pool.any(self.nodes[*x].out.len());
        let (xs, ss) = (&self.nodes[*x].out, &self.nodes[*s].out);
        for (k, out) in out.chunks_exact_mut(size).enumerate() {
            scale_rows(out, &xs[k * size..][..size], &ss[..rows], width);
            if k > 0 {
                add_scaled_rows(out, &xs[..size], &ss[k * rows..][..rows], width);
            }
        }
        self.push(Operation::Times { x: *x, s: *s }, width, out)
    }

    fn square(&mut self, x: &usize) -> Result<usize, Infallible> {
        let (size, width) = (self.size(*x), self.nodes[*x].width);
        let mut out = self.pool.zeros(self.nodes[*x].out.len() / width);
        let xs = &self.nodes[*x].out;
        for (k, out) in out.chunks_exact_mut(size / width).enumerate() {
            add_dots(out, &xs[..size], &xs[k * size..][..size], width);
            if k > 0 {
                out.iter_mut().for_each(|v| *v += *v);
            }
        }
        self.push(Operation::Square { x: *x }, 1, out)
    }

    fn sum(&mut self, a: &usize, b: &usize, factor: f64) -> Result<usize, Infallible> {
        let mut out = self.pool.copy(&self.nodes[*a].out);
        add_scaled(&mut out, &self.nodes[*b].out, T::of(factor));
        self.push(Operation::Sum { a: *a, b: *b, factor }, self.nodes[*a].width, out)
    }
}
