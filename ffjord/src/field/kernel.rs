//! A network at one time over a block of rows: values and tangents in one pass, and the way back.
//!
//! The rows of a block lie one after another: first the R values, then R rows of each tangent, so that
//! a layer is one matrix product of (1 + K) R rows. Blocks are so small that all activations of a
//! forward and a backward pass stay in the second-level cache.

use super::Activation;
use super::time::Places;
use flows_core::ops::kernel::{Operand, Real, dispatch, product};

/// Rows of a block, tangents included.
const ROWS: usize = 192;

/// What a pass over a block keeps.
pub(super) struct Block<'a, T> {
    places: &'a Places,
    activation: Activation,
    /// Matrices and biases at the time.
    maps: &'a [T],
    /// Values of the block.
    rows: usize,
    /// Tangents of each value.
    tangents: usize,
    /// Inputs of each layer, values and tangents, and at the end the outputs of the last.
    inputs: Vec<Vec<T>>,
    /// What each layer gives before its activation.
    before: Vec<Vec<T>>,
    /// The derivative of each activation at the values.
    slopes: Vec<Vec<T>>,
}

/// How many values a block has that each have so many tangents.
pub(super) fn block_rows(tangents: usize) -> usize {
    (ROWS / (1 + tangents)).max(8)
}

impl<'a, T: Real> Block<'a, T> {
    /// Room for blocks of up to `rows` values.
    pub(super) fn new(places: &'a Places, activation: Activation, maps: &'a [T], tangents: usize) -> Self {
        let layers = places.layers.len();
        let empty = || vec![Vec::new(); layers];
        let inputs = vec![Vec::new(); layers + 1];
        Self { places, activation, maps, rows: 0, tangents, inputs, before: empty(), slopes: empty() }
    }

    /// Sets the inputs of `rows` values: `fill` gets them, zeros, values before tangents.
    pub(super) fn set(&mut self, rows: usize, fill: impl FnOnce(&mut [T])) {
        self.rows = rows;
        let inputs = &mut self.inputs[0];
        inputs.clear();
        inputs.resize(rows * (1 + self.tangents) * self.places.layers[0].inputs, T::zero());
        fill(inputs);
    }

    /// The outputs: values, then those of each tangent.
    pub(super) fn forward(&mut self) -> &[T] {
        let stacked = self.rows * (1 + self.tangents);
        let last = self.places.layers.len() - 1;
        for (l, place) in self.places.layers.iter().enumerate() {
            let (matrix, bias, beta) = place.map(self.maps);
            let n = place.outputs;
            let (done, ahead) = self.inputs.split_at_mut(l + 1);
            let out = if l == last { &mut ahead[0] } else { &mut self.before[l] };
            out.clear();
            out.resize(stacked * n, T::zero());
            out[..self.rows * n].chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias));
            product(out, n, Operand::new(&done[l], place.inputs), Operand::new(matrix, place.inputs).t(), true);
            if l == last {
                break;
            }
            let (before, after, slopes) = (&self.before[l], &mut ahead[0], &mut self.slopes[l]);
            after.resize(stacked * n, T::zero());
            slopes.resize(self.rows * n, T::zero());
            let (values, tangents) = after.split_at_mut(self.rows * n);
            self.activation.value(one_or(beta), &before[..self.rows * n], values, slopes);
            if tangents.is_empty() {
                continue;
            }
            for (out, v) in
                tangents.chunks_exact_mut(self.rows * n).zip(before[self.rows * n..].chunks_exact(self.rows * n))
            {
                multiply(out, v, slopes);
            }
        }
        &self.inputs[last + 1]
    }

    /// The gradient of the inputs, given that of the outputs, which must be those of the last
    /// [`Self::forward`]; the gradient of the maps is added to `of_maps`.
    pub(super) fn backward(&self, mut gradient: Vec<T>, of_maps: &mut [T]) -> Vec<T> {
        let stacked = self.rows * (1 + self.tangents);
        let mut curvature = Vec::new();
        for (l, place) in self.places.layers.iter().enumerate().rev() {
            let n = place.outputs;
            let (to_matrix, to_bias, _) = place.map_mut(of_maps);
            for row in gradient[..self.rows * n].chunks_exact(n) {
                to_bias.iter_mut().zip(row).for_each(|(sum, &v)| *sum += v);
            }
            let x = Operand::new(&self.inputs[l], place.inputs);
            product(to_matrix, place.inputs, Operand::new(&gradient, n).t(), x, true);
            let mut of_inputs = vec![T::zero(); stacked * place.inputs];
            let matrix = Operand::new(place.map(self.maps).0, place.inputs);
            product(&mut of_inputs, place.inputs, Operand::new(&gradient, n), matrix, false);
            gradient = of_inputs;
            if l == 0 {
                break;
            }
            // Through the activation: w = phi'(u) v has the slope's gradient beside its own.
            let block = self.rows * place.inputs;
            let (values, tangents) = gradient.split_at_mut(block);
            let (before, slopes) = (&self.before[l - 1], &self.slopes[l - 1]);
            let behind = &self.places.layers[l - 1];
            let beta = one_or(behind.map(self.maps).2);
            let u = &before[..block];
            let mut of_beta = T::zero();
            if self.activation.is_learnt() {
                of_beta = Activation::of_beta(beta, u, values);
            }
            multiply_in_place(values, slopes);
            // The slope's derivative for beta is that for u, times u / beta.
            let along = if self.activation.is_learnt() { dot(values, u) } else { T::zero() };
            if !tangents.is_empty() {
                curvature.resize(block, T::zero());
                self.activation.curvature(beta, u, &self.inputs[l][..block], slopes, &mut curvature);
            }
            for (of_w, v) in tangents.chunks_exact_mut(block).zip(before[block..].chunks_exact(block)) {
                through(values, of_w, v, &curvature, slopes);
            }
            if let [to_beta] = behind.map_mut(of_maps).2 {
                *to_beta += of_beta + (dot(values, u) - along) / beta;
            }
        }
        gradient
    }
}

/// The beta of a layer, 1 if it has none.
fn one_or<T: Real>(beta: &[T]) -> T {
    beta.first().copied().unwrap_or_else(T::one)
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

pub(super) fn multiply<T: Real>(out: &mut [T], a: &[T], b: &[T]) {
    dispatch(
        #[inline(always)]
        || {
            for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *out = a * b;
            }
        },
    );
}

pub(super) fn multiply_in_place<T: Real>(a: &mut [T], b: &[T]) {
    dispatch(
        #[inline(always)]
        || {
            for (a, &b) in a.iter_mut().zip(b) {
                *a *= b;
            }
        },
    );
}

/// `of_u += of_w v curvature`, `of_v = of_w slope`, the latter in place.
pub(super) fn through<T: Real>(of_u: &mut [T], of_w: &mut [T], v: &[T], curvature: &[T], slopes: &[T]) {
    dispatch(
        #[inline(always)]
        || {
            for ((((of_u, of_w), &v), &c), &s) in of_u.iter_mut().zip(of_w).zip(v).zip(curvature).zip(slopes) {
                *of_u += *of_w * v * c;
                *of_w *= s;
            }
        },
    );
}
