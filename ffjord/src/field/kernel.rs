//! Forward and backward passes of a network at a fixed time over a block of rows, values and tangents together.
//!
//! A block of R values with K tangents each is a matrix of (1 + K) R rows, the values first and then one
//! tangent of all values after another, so that a layer is one matrix product. Blocks are small enough for
//! all activations of a forward and a backward pass to stay in the second-level cache.

use super::Activation;
use super::time::{Layout, MapParts};
use flows_core::ops::kernel::{Operand, Real, dispatch, product};
use std::ops::Range;

/// The rows of a block, tangents included.
const ROWS: usize = 192;

/// A pass over one block, with the activations that the backward pass needs.
pub(super) struct Block<'a, T> {
    layout: &'a Layout,
    /// The layers of this pass.
    layers: Range<usize>,
    activation: Activation,
    /// The affine maps of all layers at the time, as [`Layout::maps_at`] returns them.
    maps: &'a [T],
    /// The number of values in the block, R.
    rows: usize,
    /// The number of tangents per value, K.
    tangents: usize,
    /// The inputs of each layer, values and tangents; the last entry holds the outputs.
    inputs: Vec<Vec<T>>,
    /// The outputs of each layer before its activation.
    preactivations: Vec<Vec<T>>,
    /// The derivative of each activation at the values.
    slopes: Vec<Vec<T>>,
}

/// The number of values in a block, for a given number of tangents per value.
pub(super) fn block_rows(tangents: usize) -> usize {
    (ROWS / (1 + tangents)).max(8)
}

impl<'a, T: Real> Block<'a, T> {
    /// A pass through the whole network.
    pub(super) fn new(layout: &'a Layout, activation: Activation, maps: &'a [T], tangents: usize) -> Self {
        let layers = layout.layers.len();
        let empty = || vec![Vec::new(); layers];
        let inputs = vec![Vec::new(); layers + 1];
        let (preactivations, slopes) = (empty(), empty());
        Self { layout, layers: 0..layers, activation, maps, rows: 0, tangents, inputs, preactivations, slopes }
    }

    /// Restricts the pass to a range of layers and the activations that follow them.
    pub(super) fn with_layers(self, layers: Range<usize>) -> Self {
        Self { layers, ..self }
    }

    /// Whether an activation follows the layer: all but the network's last have one.
    fn is_activated(&self, layer: usize) -> bool {
        layer + 1 < self.layout.layers.len()
    }

    /// Sets the inputs of `rows` values: `fill` receives the zeroed buffer, values before tangents.
    pub(super) fn set(&mut self, rows: usize, fill: impl FnOnce(&mut [T])) {
        self.rows = rows;
        let first = self.layers.start;
        let inputs = &mut self.inputs[first];
        inputs.clear();
        inputs.resize(rows * (1 + self.tangents) * self.layout.layers[first].inputs, T::zero());
        fill(inputs);
    }

    /// Computes the outputs: the values, then their tangents.
    pub(super) fn forward(&mut self) -> &[T] {
        let stacked = self.rows * (1 + self.tangents);
        for l in self.layers.clone() {
            let layout = &self.layout.layers[l];
            let MapParts { matrix, bias, beta } = layout.map(self.maps);
            let n = layout.outputs;
            let is_activated = self.is_activated(l);
            let (done, ahead) = self.inputs.split_at_mut(l + 1);
            let out = if is_activated { &mut self.preactivations[l] } else { &mut ahead[0] };
            out.clear();
            out.resize(stacked * n, T::zero());
            out[..self.rows * n].chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias));
            product(out, n, Operand::new(&done[l], layout.inputs), Operand::new(matrix, layout.inputs).t(), true);
            if !is_activated {
                break;
            }
            let (before, after, slopes) = (&self.preactivations[l], &mut ahead[0], &mut self.slopes[l]);
            after.resize(stacked * n, T::zero());
            slopes.resize(self.rows * n, T::zero());
            let (values, tangents) = after.split_at_mut(self.rows * n);
            self.activation.value(beta_or_one(beta), &before[..self.rows * n], values, slopes);
            if tangents.is_empty() {
                continue;
            }
            for (out, v) in
                tangents.chunks_exact_mut(self.rows * n).zip(before[self.rows * n..].chunks_exact(self.rows * n))
            {
                multiply(out, v, slopes);
            }
        }
        &self.inputs[self.layers.end]
    }

    /// The gradient with respect to the inputs, given the one with respect to the outputs of the last
    /// [`Self::forward`]; the gradient with respect to the affine maps is added to `grad_maps`.
    pub(super) fn backward(&self, mut gradient: Vec<T>, grad_maps: &mut [T]) -> Vec<T> {
        let stacked = self.rows * (1 + self.tangents);
        let mut curvature = Vec::new();
        for l in self.layers.clone().rev() {
            let layout = &self.layout.layers[l];
            let n = layout.outputs;
            if self.is_activated(l) {
                self.activation_backward(l, &mut gradient, &mut curvature, grad_maps);
            }
            let grad_map = layout.map_mut(grad_maps);
            for row in gradient[..self.rows * n].chunks_exact(n) {
                grad_map.bias.iter_mut().zip(row).for_each(|(sum, &v)| *sum += v);
            }
            let x = Operand::new(&self.inputs[l], layout.inputs);
            product(grad_map.matrix, layout.inputs, Operand::new(&gradient, n).t(), x, true);
            let mut grad_inputs = vec![T::zero(); stacked * layout.inputs];
            let matrix = Operand::new(layout.map(self.maps).matrix, layout.inputs);
            product(&mut grad_inputs, layout.inputs, Operand::new(&gradient, n), matrix, false);
            gradient = grad_inputs;
        }
        gradient
    }

    /// The backward pass of the activation that follows a layer; turns the gradient with respect to its outputs into
    /// the one with respect to its inputs, in place.
    fn activation_backward(&self, layer: usize, gradient: &mut [T], curvature: &mut Vec<T>, grad_maps: &mut [T]) {
        // The tangents w = phi'(u) v depend on u too, through the slope.
        let layout = &self.layout.layers[layer];
        let block = self.rows * layout.outputs;
        let (values, tangents) = gradient.split_at_mut(block);
        let (before, slopes) = (&self.preactivations[layer], &self.slopes[layer]);
        let beta = beta_or_one(layout.map(self.maps).beta);
        let u = &before[..block];
        let mut grad_beta = T::zero();
        if self.activation.has_beta() {
            grad_beta = Activation::beta_gradient(beta, u, values);
        }
        multiply_in_place(values, slopes);
        // The slope's derivative with respect to beta is u / beta times the one with respect to u.
        let along = if self.activation.has_beta() { dot(values, u) } else { T::zero() };
        if !tangents.is_empty() {
            curvature.resize(block, T::zero());
            self.activation.curvature(beta, u, &self.inputs[layer + 1][..block], slopes, curvature);
        }
        for (grad_w, v) in tangents.chunks_exact_mut(block).zip(before[block..].chunks_exact(block)) {
            slope_backward(values, grad_w, v, curvature, slopes);
        }
        if let [sum] = layout.map_mut(grad_maps).beta {
            *sum += grad_beta + (dot(values, u) - along) / beta;
        }
    }
}

/// The beta of a layer, or 1 if it has none.
fn beta_or_one<T: Real>(beta: &[T]) -> T {
    beta.first().copied().unwrap_or_else(T::one)
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// `out = a b`, elementwise.
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

/// `a *= b`, elementwise.
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

/// The backward pass of `w = phi'(u) v`: `grad_u += grad_w v phi''(u)`, and `grad_v = grad_w phi'(u)` in place of
/// `grad_w`.
pub(super) fn slope_backward<T: Real>(grad_u: &mut [T], grad_w: &mut [T], v: &[T], curvature: &[T], slopes: &[T]) {
    dispatch(
        #[inline(always)]
        || {
            let gradients = grad_u.iter_mut().zip(grad_w);
            let factors = v.iter().zip(curvature).zip(slopes);
            for ((grad_u, grad_w), ((&v, &c), &s)) in gradients.zip(factors) {
                *grad_u += *grad_w * v * c;
                *grad_w *= s;
            }
        },
    );
}
