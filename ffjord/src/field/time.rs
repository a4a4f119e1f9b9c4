//! Layers at a point in time: `W x + b` with time taken into W and b.
//!
//! Whatever a layer does with time, at one time it is an affine map. Its matrix and bias are made once
//! an evaluation, the network then is a plain one, and the gradients for them are turned into those of
//! the weights once an evaluation too, for the whole batch.

use super::TimeLayer;
use candle_core::Tensor;
use flows_core::ops::kernel::Real;
use flows_core::{Result, ops};

/// Hidden units of the network of t that a hyper layer has.
pub(super) const HYPER: usize = 8;

/// Where the numbers of one layer are, among all weights and among those at a time.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Of the weights: W, b, then h for `Concat`, and h, g, c for `ConcatSquash`, or H, g, c for `Hyper`, then
    /// beta.
    weights: usize,
    /// Of the map at a time: its matrix, its bias, then beta.
    map: usize,
    layer: TimeLayer,
    /// Whether the activation behind it has a beta.
    beta: bool,
}

/// The layers of a network in two vectors.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) layers: Vec<Place>,
    /// Numbers of all weights.
    pub(super) weights: usize,
    /// Numbers of all maps at a time.
    pub(super) maps: usize,
}

impl Places {
    /// The layers between these widths, each but the last with a beta if that is `learnt`.
    pub(super) fn new(widths: &[usize], layer: TimeLayer, learnt: bool) -> Self {
        let mut places = Self { layers: Vec::new(), weights: 0, maps: 0 };
        for (i, w) in widths.windows(2).enumerate() {
            let (inputs, outputs) = (w[0], w[1]);
            let beta = learnt && i + 2 < widths.len();
            places.layers.push(Place { inputs, outputs, weights: places.weights, map: places.maps, layer, beta });
            places.weights += places.layers[i].lengths().iter().sum::<usize>();
            places.maps += outputs * (inputs + 1) + usize::from(beta);
        }
        places
    }

    /// The maps at time `t`.
    pub(super) fn at<T: Real>(&self, weights: &[T], t: f64) -> Vec<T> {
        let t = T::of(t);
        let mut maps = vec![T::zero(); self.maps];
        for place in &self.layers {
            let [matrix, bias, h, g, c, beta] = place.split(weights);
            let (out_matrix, out_bias, out_beta) = place.map_mut(&mut maps);
            out_beta.copy_from_slice(beta);
            if place.layer == TimeLayer::Hyper {
                let (of_matrix, of_bias) = h.split_at(matrix.len() * HYPER);
                let hidden = hidden(g, c, t);
                let parts = [(out_matrix, matrix, of_matrix), (out_bias, bias, of_bias)];
                for (out, base, rows) in parts {
                    for ((out, &base), row) in out.iter_mut().zip(base).zip(rows.chunks_exact(HYPER)) {
                        *out = base + row.iter().zip(hidden).map(|(&h, u)| h * u).sum::<T>();
                    }
                }
                continue;
            }
            for j in 0..place.outputs {
                let row = j * place.inputs..(j + 1) * place.inputs;
                let (gate, shift) = match place.layer {
                    TimeLayer::Ignore | TimeLayer::Hyper => (T::one(), T::zero()),
                    TimeLayer::Concat => (T::one(), h[j] * t),
                    TimeLayer::ConcatSquash => ((g[j] * t + c[j]).fast_sigmoid(), h[j] * t),
                };
                out_matrix[row.clone()].iter_mut().zip(&matrix[row]).for_each(|(o, &w)| *o = w * gate);
                out_bias[j] = bias[j] * gate + shift;
            }
        }
        maps
    }

    /// Adds to `gradient`, that of the weights, what the gradient `of_maps` at time `t` gives; the
    /// result is the gradient of t.
    pub(super) fn backward<T: Real>(&self, weights: &[T], t: f64, of_maps: &[T], gradient: &mut [T]) -> T {
        let (t, mut of_t) = (T::of(t), T::zero());
        for place in &self.layers {
            let [matrix, bias, h, g, c, _] = place.split(weights);
            let (of_matrix, of_bias, of_beta) = place.map(of_maps);
            let [to_matrix, to_bias, to_h, to_g, to_c, to_beta] = place.split_mut(gradient);
            to_beta.iter_mut().zip(of_beta).for_each(|(to, &v)| *to += v);
            if place.layer == TimeLayer::Hyper {
                let hidden = hidden(g, c, t);
                let mut of_hidden = [T::zero(); HYPER];
                let (matrix_rows, bias_rows) = h.split_at(matrix.len() * HYPER);
                let (to_matrix_rows, to_bias_rows) = to_h.split_at_mut(matrix.len() * HYPER);
                let parts =
                    [(of_matrix, to_matrix, matrix_rows, to_matrix_rows), (of_bias, to_bias, bias_rows, to_bias_rows)];
                for (of_map, to_base, rows, to_rows) in parts {
                    let rows = rows.chunks_exact(HYPER).zip(to_rows.chunks_exact_mut(HYPER));
                    for ((&v, to_base), (row, to_row)) in of_map.iter().zip(to_base).zip(rows) {
                        *to_base += v;
                        for k in 0..HYPER {
                            to_row[k] += v * hidden[k];
                            of_hidden[k] += v * row[k];
                        }
                    }
                }
                for k in 0..HYPER {
                    let v = of_hidden[k] * (T::one() - hidden[k] * hidden[k]);
                    to_g[k] += v * t;
                    to_c[k] += v;
                    of_t += v * g[k];
                }
                continue;
            }
            for j in 0..place.outputs {
                let row = j * place.inputs..(j + 1) * place.inputs;
                let gate = match place.layer {
                    TimeLayer::ConcatSquash => (g[j] * t + c[j]).fast_sigmoid(),
                    _ => T::one(),
                };
                to_matrix[row.clone()].iter_mut().zip(&of_matrix[row.clone()]).for_each(|(o, &v)| *o += v * gate);
                to_bias[j] += of_bias[j] * gate;
                if place.layer != TimeLayer::Ignore {
                    to_h[j] += of_bias[j] * t;
                    of_t += of_bias[j] * h[j];
                }
                if place.layer == TimeLayer::ConcatSquash {
                    let along: T = of_matrix[row.clone()].iter().zip(&matrix[row]).map(|(&a, &b)| a * b).sum();
                    let of_gate = (along + of_bias[j] * bias[j]) * gate * (T::one() - gate);
                    to_g[j] += of_gate * t;
                    to_c[j] += of_gate;
                    of_t += of_gate * g[j];
                }
            }
        }
        of_t
    }
}

/// `tanh(g t + c)`.
fn hidden<T: Real>(g: &[T], c: &[T], t: T) -> [T; HYPER] {
    let mut hidden = [T::zero(); HYPER];
    hidden.iter_mut().zip(g).zip(c).for_each(|((u, &g), &c)| *u = (g * t + c).fast_tanh());
    hidden
}

impl Place {
    /// The lengths of W, b, h or H, g, c and beta.
    fn lengths(&self) -> [usize; 6] {
        let (matrix, n) = (self.outputs * self.inputs, self.outputs);
        let (shift, gate) = match self.layer {
            TimeLayer::Ignore => (0, 0),
            TimeLayer::Concat => (n, 0),
            TimeLayer::ConcatSquash => (n, n),
            TimeLayer::Hyper => ((matrix + n) * HYPER, HYPER),
        };
        [matrix, n, shift, gate, gate, usize::from(self.beta)]
    }

    fn split<'a, T>(&self, weights: &'a [T]) -> [&'a [T]; 6] {
        let mut rest = &weights[self.weights..];
        self.lengths().map(|n| {
            let (part, after) = rest.split_at(n);
            rest = after;
            part
        })
    }

    fn split_mut<'a, T>(&self, weights: &'a mut [T]) -> [&'a mut [T]; 6] {
        let mut rest = &mut weights[self.weights..];
        self.lengths().map(|n| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(n);
            rest = after;
            part
        })
    }

    /// Matrix, bias and beta, if there is one, at a time.
    pub(super) fn map<'a, T>(&self, maps: &'a [T]) -> (&'a [T], &'a [T], &'a [T]) {
        let (matrix, rest) = maps[self.map..].split_at(self.outputs * self.inputs);
        let (bias, rest) = rest.split_at(self.outputs);
        (matrix, bias, &rest[..usize::from(self.beta)])
    }

    pub(super) fn map_mut<'a, T>(&self, maps: &'a mut [T]) -> (&'a mut [T], &'a mut [T], &'a mut [T]) {
        let (matrix, rest) = maps[self.map..].split_at_mut(self.outputs * self.inputs);
        let (bias, rest) = rest.split_at_mut(self.outputs);
        (matrix, bias, &mut rest[..usize::from(self.beta)])
    }
}

/// Matrix and bias of a layer at a time: [`Places::at`] as operations of candle.
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
