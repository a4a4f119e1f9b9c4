//! Layers at a fixed time: `W x + b` with the dependence on time folded into W and b.
//!
//! At a fixed time every kind of layer is an affine map. Its matrix and bias are computed once per
//! evaluation, the network is then an ordinary one, and the gradients with respect to matrices and biases
//! become gradients of the weights once per evaluation too, for the whole batch.

use super::TimeLayer;
use candle_core::Tensor;
use flows_core::ops::kernel::Real;
use flows_core::{Result, ops};

/// Hidden units of the network of t in a hyper layer.
pub(super) const HYPER_WIDTH: usize = 8;

/// Where one layer's numbers lie in the vector of weights and in the vector of affine maps.
#[derive(Clone, Debug)]
pub(super) struct LayerLayout {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Offset of the layer's weights, which are [`WeightParts`] one after another.
    weights: usize,
    /// Offset of the layer's affine map, which is [`MapParts`] one after another.
    map: usize,
    layer: TimeLayer,
    /// Whether the activation that follows has a beta.
    beta: bool,
}

/// The layout of a network's layers in the vector of weights and in the vector of affine maps.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) layers: Vec<LayerLayout>,
    /// Length of the vector of weights.
    pub(super) weights: usize,
    /// Length of the vector of affine maps.
    pub(super) maps: usize,
}

/// The weights of one layer; parts that a kind of layer lacks are empty.
struct WeightParts<S> {
    /// W, (outputs, inputs).
    matrix: S,
    /// b, (outputs).
    bias: S,
    /// h, (outputs), or H of a hyper layer, (outputs (inputs + 1), 8).
    shift: S,
    /// g, (outputs), or (8) of a hyper layer.
    gate: S,
    /// c, of the shape of g.
    gate_bias: S,
    /// (1).
    beta: S,
}

impl<S> From<[S; 6]> for WeightParts<S> {
    fn from([matrix, bias, shift, gate, gate_bias, beta]: [S; 6]) -> Self {
        Self { matrix, bias, shift, gate, gate_bias, beta }
    }
}

/// The affine map of one layer at a fixed time, and the beta of its activation.
pub(super) struct MapParts<S> {
    /// (outputs, inputs).
    pub(super) matrix: S,
    /// (outputs).
    pub(super) bias: S,
    /// (1), or empty if the activation has no beta.
    pub(super) beta: S,
}

/// The matrix or the bias of a hyper layer, and the rows of H that are added to it.
struct HyperPart<'a, T> {
    base: &'a [T],
    /// (numbers of base, 8).
    rows: &'a [T],
}

impl Layout {
    /// The layers between these widths, each but the last with a beta if `learnt`.
    pub(super) fn new(widths: &[usize], layer: TimeLayer, learnt: bool) -> Self {
        let mut layout = Self { layers: Vec::new(), weights: 0, maps: 0 };
        for (i, w) in widths.windows(2).enumerate() {
            let (inputs, outputs) = (w[0], w[1]);
            let beta = learnt && i + 2 < widths.len();
            layout.layers.push(LayerLayout { inputs, outputs, weights: layout.weights, map: layout.maps, layer, beta });
            layout.weights += layout.layers[i].lengths().iter().sum::<usize>();
            layout.maps += outputs * (inputs + 1) + usize::from(beta);
        }
        layout
    }

    /// The affine maps of all layers at time `t`.
    pub(super) fn maps_at<T: Real>(&self, weights: &[T], t: f64) -> Vec<T> {
        let t = T::of(t);
        let mut maps = vec![T::zero(); self.maps];
        for layout in &self.layers {
            let weights = layout.split(weights);
            let map = layout.map_mut(&mut maps);
            map.beta.copy_from_slice(weights.beta);
            if layout.layer == TimeLayer::Hyper {
                let hidden = hyper_hidden(&weights, t);
                for (out, HyperPart { base, rows }) in [map.matrix, map.bias].into_iter().zip(weights.hyper_parts()) {
                    for ((out, &base), row) in out.iter_mut().zip(base).zip(rows.chunks_exact(HYPER_WIDTH)) {
                        *out = base + row.iter().zip(hidden).map(|(&h, u)| h * u).sum::<T>();
                    }
                }
                continue;
            }
            for j in 0..layout.outputs {
                let row = j * layout.inputs..(j + 1) * layout.inputs;
                let (gate, shift) = match layout.layer {
                    TimeLayer::Ignore | TimeLayer::Hyper => (T::one(), T::zero()),
                    TimeLayer::Concat => (T::one(), weights.shift[j] * t),
                    TimeLayer::ConcatSquash => (weights.gate_at(j, t), weights.shift[j] * t),
                };
                map.matrix[row.clone()].iter_mut().zip(&weights.matrix[row]).for_each(|(o, &w)| *o = w * gate);
                map.bias[j] = weights.bias[j] * gate + shift;
            }
        }
        maps
    }

    /// Backpropagates through [`Self::maps_at`]: given the gradient with respect to the maps at time `t`, adds
    /// the gradient with respect to the weights to `gradient` and returns the one with respect to t.
    pub(super) fn backward<T: Real>(&self, weights: &[T], t: f64, grad_maps: &[T], gradient: &mut [T]) -> T {
        let (t, mut grad_t) = (T::of(t), T::zero());
        for layout in &self.layers {
            let weights = layout.split(weights);
            let grad_map = layout.map(grad_maps);
            let grad = layout.split_mut(gradient);
            grad.beta.iter_mut().zip(grad_map.beta).for_each(|(sum, &v)| *sum += v);
            if layout.layer == TimeLayer::Hyper {
                let hidden = hyper_hidden(&weights, t);
                let mut grad_hidden = [T::zero(); HYPER_WIDTH];
                let (matrix_rows, bias_rows) = grad.shift.split_at_mut(weights.matrix.len() * HYPER_WIDTH);
                let sums = [(grad.matrix, matrix_rows), (grad.bias, bias_rows)];
                let parts = [grad_map.matrix, grad_map.bias].into_iter().zip(weights.hyper_parts()).zip(sums);
                for ((grad_map, HyperPart { rows, .. }), (sums, row_sums)) in parts {
                    let rows = rows.chunks_exact(HYPER_WIDTH).zip(row_sums.chunks_exact_mut(HYPER_WIDTH));
                    for ((&v, sum), (row, row_sum)) in grad_map.iter().zip(sums).zip(rows) {
                        *sum += v;
                        for k in 0..HYPER_WIDTH {
                            row_sum[k] += v * hidden[k];
                            grad_hidden[k] += v * row[k];
                        }
                    }
                }
                for k in 0..HYPER_WIDTH {
                    let v = grad_hidden[k] * (T::one() - hidden[k] * hidden[k]);
                    grad.gate[k] += v * t;
                    grad.gate_bias[k] += v;
                    grad_t += v * weights.gate[k];
                }
                continue;
            }
            for j in 0..layout.outputs {
                let row = j * layout.inputs..(j + 1) * layout.inputs;
                let (grad_row, grad_bias) = (&grad_map.matrix[row.clone()], grad_map.bias[j]);
                let gate = match layout.layer {
                    TimeLayer::ConcatSquash => weights.gate_at(j, t),
                    _ => T::one(),
                };
                grad.matrix[row.clone()].iter_mut().zip(grad_row).for_each(|(sum, &v)| *sum += v * gate);
                grad.bias[j] += grad_bias * gate;
                if layout.layer != TimeLayer::Ignore {
                    grad.shift[j] += grad_bias * t;
                    grad_t += grad_bias * weights.shift[j];
                }
                if layout.layer == TimeLayer::ConcatSquash {
                    let along: T = grad_row.iter().zip(&weights.matrix[row]).map(|(&a, &b)| a * b).sum();
                    let grad_gate = (along + grad_bias * weights.bias[j]) * gate * (T::one() - gate);
                    grad.gate[j] += grad_gate * t;
                    grad.gate_bias[j] += grad_gate;
                    grad_t += grad_gate * weights.gate[j];
                }
            }
        }
        grad_t
    }
}

impl<'a, T: Real> WeightParts<&'a [T]> {
    /// `sigmoid(g t + c)` of output `j` of a concat-squash layer.
    fn gate_at(&self, j: usize, t: T) -> T {
        (self.gate[j] * t + self.gate_bias[j]).fast_sigmoid()
    }

    /// Matrix and bias of a hyper layer, each with its rows of H.
    fn hyper_parts(&self) -> [HyperPart<'a, T>; 2] {
        let (matrix_rows, bias_rows) = self.shift.split_at(self.matrix.len() * HYPER_WIDTH);
        [HyperPart { base: self.matrix, rows: matrix_rows }, HyperPart { base: self.bias, rows: bias_rows }]
    }
}

/// The hidden units of a hyper layer at time t, `tanh(g t + c)`.
fn hyper_hidden<T: Real>(weights: &WeightParts<&[T]>, t: T) -> [T; HYPER_WIDTH] {
    let mut hidden = [T::zero(); HYPER_WIDTH];
    let pairs = weights.gate.iter().zip(weights.gate_bias);
    hidden.iter_mut().zip(pairs).for_each(|(u, (&g, &c))| *u = (g * t + c).fast_tanh());
    hidden
}

impl LayerLayout {
    /// The lengths of the [`WeightParts`], in their order.
    fn lengths(&self) -> [usize; 6] {
        let (matrix, n) = (self.outputs * self.inputs, self.outputs);
        let (shift, gate) = match self.layer {
            TimeLayer::Ignore => (0, 0),
            TimeLayer::Concat => (n, 0),
            TimeLayer::ConcatSquash => (n, n),
            TimeLayer::Hyper => ((matrix + n) * HYPER_WIDTH, HYPER_WIDTH),
        };
        [matrix, n, shift, gate, gate, usize::from(self.beta)]
    }

    /// The layer's part of the vector of weights.
    fn split<'a, T>(&self, weights: &'a [T]) -> WeightParts<&'a [T]> {
        let mut rest = &weights[self.weights..];
        let parts = self.lengths().map(|n| {
            let (part, after) = rest.split_at(n);
            rest = after;
            part
        });
        parts.into()
    }

    fn split_mut<'a, T>(&self, weights: &'a mut [T]) -> WeightParts<&'a mut [T]> {
        let mut rest = &mut weights[self.weights..];
        let parts = self.lengths().map(|n| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(n);
            rest = after;
            part
        });
        parts.into()
    }

    /// The layer's part of the vector of affine maps.
    pub(super) fn map<'a, T>(&self, maps: &'a [T]) -> MapParts<&'a [T]> {
        let (matrix, rest) = maps[self.map..].split_at(self.outputs * self.inputs);
        let (bias, rest) = rest.split_at(self.outputs);
        MapParts { matrix, bias, beta: &rest[..usize::from(self.beta)] }
    }

    pub(super) fn map_mut<'a, T>(&self, maps: &'a mut [T]) -> MapParts<&'a mut [T]> {
        let (matrix, rest) = maps[self.map..].split_at_mut(self.outputs * self.inputs);
        let (bias, rest) = rest.split_at_mut(self.outputs);
        MapParts { matrix, bias, beta: &mut rest[..usize::from(self.beta)] }
    }
}

/// The matrix (outputs, inputs) and bias (outputs) of a layer at time t: [`Layout::maps_at`] in candle's operations.
pub(super) fn layer_at(
    layer: TimeLayer,
    (weight, bias): (&Tensor, &Tensor),
    shift: Option<&Tensor>,
    gate: Option<(&Tensor, &Tensor)>,
    t: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let gate = gate.map(|(g, c)| g.broadcast_mul(t)? + c).transpose()?;
    let (mut matrix, mut bias) = (weight.clone(), bias.clone());
    match (layer, gate, shift) {
        (TimeLayer::Hyper, Some(hidden), Some(h)) => {
            let map = ops::product(h, &hidden.tanh()?.unsqueeze(1)?)?.squeeze(1)?;
            let (count, outputs) = (matrix.elem_count(), bias.elem_count());
            matrix = (matrix + map.narrow(0, 0, count)?.reshape(weight.shape())?)?;
            bias = (bias + map.narrow(0, count, outputs)?)?;
        }
        (_, gate, shift) => {
            if let Some(gate) = gate {
                let gate = ops::sigmoid(&gate)?;
                (matrix, bias) = (matrix.broadcast_mul(&gate.unsqueeze(1)?)?, (bias * gate)?);
            }
            if let Some(h) = shift {
                bias = (bias + h.broadcast_mul(t)?)?;
            }
        }
    }
    Ok((matrix, bias))
}
