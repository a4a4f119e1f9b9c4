//! Layers at a point in time: `W x + b` with time taken into W and b.
//!
//! Whatever a layer does with time, at one time it is an affine map. Its matrix and bias are made once
//! an evaluation, the network then is a plain one, and the gradients for them are turned into those of
//! the weights once an evaluation too, for the whole batch.

use super::TimeLayer;
use flows_core::ops::kernel::Real;

/// Where the numbers of one layer are, among all weights and among those at a time.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Of the weights: W, b, then h for `Concat`, and h, g, c for `ConcatSquash`.
    weights: usize,
    /// Of the map at a time: its matrix, then its bias.
    map: usize,
    layer: TimeLayer,
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
    /// The layers between these widths.
    pub(super) fn new(widths: &[usize], layer: TimeLayer) -> Self {
        let mut places = Self { layers: Vec::new(), weights: 0, maps: 0 };
        for w in widths.windows(2) {
            let (inputs, outputs) = (w[0], w[1]);
            places.layers.push(Place { inputs, outputs, weights: places.weights, map: places.maps, layer });
            let of_time = match layer {
                TimeLayer::Ignore => 0,
                TimeLayer::Concat => 1,
                TimeLayer::ConcatSquash => 3,
            };
            places.weights += outputs * (inputs + 1 + of_time);
            places.maps += outputs * (inputs + 1);
        }
        places
    }

    /// The maps at time `t`.
    pub(super) fn at<T: Real>(&self, weights: &[T], t: f64) -> Vec<T> {
        let t = T::of(t);
        let mut maps = vec![T::zero(); self.maps];
        for place in &self.layers {
            let [matrix, bias, h, g, c] = place.split(weights);
            let (out_matrix, out_bias) = place.map_mut(&mut maps);
            for j in 0..place.outputs {
                let row = j * place.inputs..(j + 1) * place.inputs;
                let (gate, shift) = match place.layer {
                    TimeLayer::Ignore => (T::one(), T::zero()),
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
            let [matrix, bias, h, g, c] = place.split(weights);
            let (of_matrix, of_bias) = place.map(of_maps);
            let [to_matrix, to_bias, to_h, to_g, to_c] = place.split_mut(gradient);
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

impl Place {
    /// The lengths of W, b, h, g and c.
    fn lengths(&self) -> [usize; 5] {
        let of = |present: bool| if present { self.outputs } else { 0 };
        let (shift, gate) = (self.layer != TimeLayer::Ignore, self.layer == TimeLayer::ConcatSquash);
        [self.outputs * self.inputs, self.outputs, of(shift), of(gate), of(gate)]
    }

    fn split<'a, T>(&self, weights: &'a [T]) -> [&'a [T]; 5] {
        let mut rest = &weights[self.weights..];
        self.lengths().map(|n| {
            let (part, after) = rest.split_at(n);
            rest = after;
            part
        })
    }

    fn split_mut<'a, T>(&self, weights: &'a mut [T]) -> [&'a mut [T]; 5] {
        let mut rest = &mut weights[self.weights..];
        self.lengths().map(|n| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(n);
            rest = after;
            part
        })
    }

    /// Matrix and bias at a time.
    pub(super) fn map<'a, T>(&self, maps: &'a [T]) -> (&'a [T], &'a [T]) {
        let n = self.outputs * self.inputs;
        maps[self.map..self.map + n + self.outputs].split_at(n)
    }

    pub(super) fn map_mut<'a, T>(&self, maps: &'a mut [T]) -> (&'a mut [T], &'a mut [T]) {
        let n = self.outputs * self.inputs;
        maps[self.map..self.map + n + self.outputs].split_at_mut(n)
    }
}
