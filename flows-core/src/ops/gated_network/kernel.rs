//! The layers of a gated network, tile by tile: products, gates and sums while a tile is in the cache.

use super::super::cpu::Real;
use super::super::matmul::{Operand, product};
use super::super::simd::dispatch;
use super::tiles::Tiling;
use super::winograd::{self, Scratch};
use rayon::prelude::*;

/// The weights of a layer.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a, T> {
    /// (2C, C, taps).
    pub(super) dilated: &'a [T],
    pub(super) dilated_bias: &'a [T],
    /// (2C, K), or nothing.
    pub(super) condition: &'a [T],
    pub(super) condition_bias: &'a [T],
    /// (2C, C), or (C, C) in the last layer.
    pub(super) output: &'a [T],
    pub(super) output_bias: &'a [T],
    pub(super) taps: usize,
    pub(super) dilation: usize,
}

/// The gradients with respect to the weights of a layer, in the same order and shapes.
pub(super) struct LayerGradients<T> {
    pub(super) dilated: Vec<T>,
    pub(super) condition: Vec<T>,
    pub(super) output: Vec<T>,
    /// That of both biases before the gate.
    pub(super) units_bias: Vec<T>,
    pub(super) output_bias: Vec<T>,
}

/// The gradients with respect to x and the condition, by tiles, and to the weights of each layer.
pub(super) struct NetworkGradients<T> {
    pub(super) x: Vec<Vec<T>>,
    pub(super) condition: Vec<Vec<T>>,
    pub(super) layers: Vec<LayerGradients<T>>,
}

/// What a layer keeps for the backward pass, by tiles: its input (C) and the units before the gate (2C).
pub(super) struct Kept<T> {
    pub(super) input: Vec<Vec<T>>,
    pub(super) units: Vec<Vec<T>>,
}

/// Sizes shared by all layers.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) channels: usize,
    pub(super) condition: usize,
}

/// The sum of the skip connections by tiles, given the tiles of x (C) and of the condition (K), and what the backward pass
/// needs, if that is to be kept.
pub(super) fn forward<T: Real>(
    tiling: Tiling,
    sizes: Sizes,
    layers: &[Layer<'_, T>],
    x: Vec<Vec<T>>,
    condition: &[Vec<T>],
    keeps: bool,
) -> (Vec<Vec<T>>, Vec<Kept<T>>) {
    let c = sizes.channels;
    let mut h = x;
    let mut skipped: Vec<Vec<T>> = h.iter().map(|tile| vec![T::zero(); tile.len()]).collect();
    let mut kept = Vec::new();
    for (l, layer) in layers.iter().enumerate() {
        let is_last = l + 1 == layers.len();
        let is_fast = |i: usize| {
            let tile = tiling.tile(i);
            layer.taps == 3 && tile.is_of_one() && winograd::pays(c, tile.columns(), layer.dilation)
        };
        let transformed = if (0..tiling.len()).any(is_fast) { winograd::weights(layer.dilated) } else { Vec::new() };
        let step = |(columns, both, scratch): &mut (Vec<T>, Vec<T>, Scratch<T>), (i, skipped): (usize, &mut Vec<T>)| {
            let n = tiling.tile(i).columns();
            let mut units = vec![T::zero(); 2 * c * n];
            for ((units, &a), &b) in units.chunks_mut(n).zip(layer.dilated_bias).zip(layer.condition_bias) {
                units.fill(a + b);
            }
            if is_fast(i) {
                let line = |channel: usize, out: &mut [T]| tiling.line(&h, i, channel, layer.dilation, out);
                winograd::convolve(&mut units, [2 * c, c], n, layer.dilation, &transformed, scratch, line);
            } else {
                tiling.columns(&h, i, c, [layer.taps, layer.dilation], columns);
                product(&mut units, n, Operand::new(layer.dilated, c * layer.taps), Operand::new(columns, n), true);
            }
            if sizes.condition > 0 {
                let weights = Operand::new(layer.condition, sizes.condition);
                product(&mut units, n, weights, Operand::new(&condition[i], n), true);
            }
            let mut activity = vec![T::zero(); c * n];
            gate(&units, &mut activity);
            let parts = if is_last { 1 } else { 2 };
            both.resize(parts * c * n, T::zero());
            for (both, &bias) in both.chunks_mut(n).zip(layer.output_bias) {
                both.fill(bias);
            }
            product(both, n, Operand::new(layer.output, c), Operand::new(&activity, n), true);
            let (residual, skip) = both.split_at(if is_last { 0 } else { c * n });
            skipped.iter_mut().zip(skip).for_each(|(sum, &skip)| *sum += skip);
            let mut next = activity;
            if is_last {
                next.clear();
            }
            for ((next, &residual), &h) in next.iter_mut().zip(residual).zip(&h[i]) {
                *next = h + residual;
            }
            (next, if keeps { units } else { Vec::new() })
        };
        let made = skipped.par_iter_mut().enumerate().map_init(|| (Vec::new(), Vec::new(), Scratch::new()), step);
        let (next, units): (Vec<_>, Vec<_>) = made.unzip();
        let input = std::mem::replace(&mut h, next);
        if keeps {
            kept.push(Kept { input, units });
        }
    }
    (skipped, kept)
}

/// `tanh(a) sigmoid(b)` of units (a, b).
fn gate<T: Real>(units: &[T], out: &mut [T]) {
    let (a, b) = units.split_at(out.len());
    dispatch(
        #[inline(always)]
        || {
            for (out, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
                *out = a.fast_tanh() * b.fast_sigmoid();
            }
        },
    );
}

/// Replaces the gradient with respect to the gate's output, the first half of `gradient`, by those with respect to its
/// units, given the units, and writes the output.
fn gate_backward<T: Real>(units: &[T], gradient: &mut [T], out: &mut [T]) {
    let half = out.len();
    let ((ga, gb), (a, b)) = (gradient.split_at_mut(half), units.split_at(half));
    dispatch(
        #[inline(always)]
        || {
            for (((ga, gb), out), (&a, &b)) in ga.iter_mut().zip(gb).zip(out).zip(a.iter().zip(b)) {
                let (t, s, g) = (a.fast_tanh(), b.fast_sigmoid(), *ga);
                *out = t * s;
                *ga = g * s * (T::one() - t * t);
                *gb = g * t * s * (T::one() - s);
            }
        },
    );
}

/// The gradients, given that with respect to the sum by tiles.
pub(super) fn backward<T: Real>(
    tiling: Tiling,
    sizes: Sizes,
    layers: &[Layer<'_, T>],
    kept: &[Kept<T>],
    condition: &[Vec<T>],
    of_sum: &[Vec<T>],
) -> NetworkGradients<T> {
    let c = sizes.channels;
    let columns_of = |i: usize| tiling.tile(i).columns();
    let mut of_h: Vec<Vec<T>> = of_sum.iter().map(|tile| vec![T::zero(); tile.len()]).collect();
    let mut of_condition: Vec<Vec<T>> = condition.iter().map(|tile| vec![T::zero(); tile.len()]).collect();
    let mut of_layers = Vec::with_capacity(layers.len());
    for (l, (layer, kept)) in layers.iter().zip(kept).enumerate().rev() {
        let is_last = l + 1 == layers.len();
        // The gradients with respect to the layer's outputs and units, and the gate's output, which is not kept.
        let step = |i: usize| {
            let n = columns_of(i);
            let of_both = if is_last { of_sum[i].clone() } else { [&of_h[i][..], &of_sum[i]].concat() };
            let mut of_units = vec![T::zero(); 2 * c * n];
            product(&mut of_units[..c * n], n, Operand::new(layer.output, c).t(), Operand::new(&of_both, n), false);
            let mut activity = vec![T::zero(); c * n];
            gate_backward(&kept.units[i], &mut of_units, &mut activity);
            (of_both, of_units, activity)
        };
        let tiles: Vec<_> = (0..tiling.len()).into_par_iter().map(step).collect();
        let (mut of_both, mut of_units, mut activity) = (Vec::new(), Vec::new(), Vec::new());
        for (both, units, activities) in tiles {
            of_both.push(both);
            of_units.push(units);
            activity.push(activities);
        }
        if sizes.condition > 0 {
            of_condition.par_iter_mut().zip(&of_units).enumerate().for_each(|(i, (sum, of_units))| {
                let weights = Operand::new(layer.condition, sizes.condition).t();
                product(sum, columns_of(i), weights, Operand::new(of_units, columns_of(i)), true);
            });
        }
        let seen: Vec<Vec<T>> = (0..tiling.len())
            .into_par_iter()
            .map(|i| {
                let mut columns = Vec::new();
                tiling.columns(&kept.input, i, c, [layer.taps, layer.dilation], &mut columns);
                columns
            })
            .collect();
        of_layers.push(LayerGradients {
            dilated: correlated(&of_units, &seen, [2 * c, c * layer.taps], columns_of),
            condition: correlated(&of_units, condition, [2 * c, sizes.condition], columns_of),
            output: correlated(&of_both, &activity, [layer.output_bias.len(), c], columns_of),
            units_bias: sums(&of_units, 2 * c, columns_of),
            output_bias: sums(&of_both, layer.output_bias.len(), columns_of),
        });
        drop(seen);
        let mirrored = mirrored(layer.dilated, 2 * c, c, layer.taps);
        let before = |columns: &mut Vec<T>, (i, mut of_h): (usize, Vec<T>)| {
            let n = columns_of(i);
            tiling.columns(&of_units, i, 2 * c, [layer.taps, layer.dilation], columns);
            let weights = Operand::new(&mirrored, 2 * c * layer.taps);
            product(&mut of_h, n, weights, Operand::new(columns, n), true);
            of_h
        };
        of_h = of_h.into_par_iter().enumerate().map_init(Vec::new, before).collect();
    }
    of_layers.reverse();
    NetworkGradients { x: of_h, condition: of_condition, layers: of_layers }
}

/// The sum over tiles of the products `a b^T` of tiles a (rows, columns) and b (width, columns).
fn correlated<T: Real>(
    a: &[Vec<T>],
    b: &[Vec<T>],
    [rows, width]: [usize; 2],
    columns: impl Fn(usize) -> usize + Sync,
) -> Vec<T> {
    if width == 0 {
        return Vec::new();
    }
    let mut sum = vec![T::zero(); rows * width];
    // As many rows for each task whatever the number of threads.
    let block = rows.div_ceil(4).next_multiple_of(16);
    sum.par_chunks_mut(block * width).enumerate().for_each(|(k, sum)| {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let n = columns(i);
            let a = &a[k * block * n..][..sum.len() / width * n];
            product(sum, width, Operand::new(a, n), Operand::new(b, n).t(), true);
        }
    });
    sum
}

/// The sums of rows over all tiles.
fn sums<T: Real>(tiles: &[Vec<T>], rows: usize, columns: impl Fn(usize) -> usize + Sync) -> Vec<T> {
    let sum = |row: usize| {
        let of_tile = |(i, tile): (usize, &Vec<T>)| -> T {
            let n = columns(i);
            tile[row * n..(row + 1) * n].iter().copied().sum()
        };
        tiles.iter().enumerate().map(of_tile).sum()
    };
    (0..rows).into_par_iter().map(sum).collect()
}

/// The weights (inputs, outputs, taps) of the transpose, with the taps in reverse order.
fn mirrored<T: Real>(weights: &[T], outputs: usize, inputs: usize, taps: usize) -> Vec<T> {
    let mut mirrored = vec![T::zero(); weights.len()];
    mirrored.par_chunks_mut(outputs * taps).enumerate().for_each(|(c, row)| {
        for (o, to) in row.chunks_mut(taps).enumerate() {
            let from = &weights[(o * inputs + c) * taps..][..taps];
            to.iter_mut().zip(from.iter().rev()).for_each(|(to, &from)| *to = from);
        }
    });
    mirrored
}
