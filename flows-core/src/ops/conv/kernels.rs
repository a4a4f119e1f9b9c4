//! The three products of a convolution: outputs from inputs, inputs from outputs, weights from both.
//!
//! Each is a matrix product with the columns of the input, tile by tile, so that the columns stay in the
//! cache. At stride 1 the convolution is the adjoint of another one, with inputs and outputs exchanged;
//! the one of the two with fewer columns to move is used.

use super::super::activation::FusedActivation;
use super::super::cpu::Real;
use super::super::matmul::{Operand, product};
use super::super::simd::{dispatch, filled};
use super::gather::{gather, rows, scatter};
use super::geometry::{Geometry, Task, Tiling, mirrored};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// About as many positions make a tile.
const COLUMNS: usize = 480;
/// The smallest tile where there are more positions, for long products.
const LEAST: usize = 256;
/// About as many rows of columns are gathered for one product.
const ROWS: usize = 288;
/// A task scatters at least about as many rows, since each task copies all the outputs they are computed from.
const FEWEST: usize = 108;
/// The largest number of channels of one task.
const GROUP: usize = 256;
/// About as many tasks make a product, enough for several threads.
const TASKS: usize = 16;

/// The function `f(y + bias)` of an output on its way to memory.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a, T> {
    pub(super) bias: Option<&'a [T]>,
    pub(super) activation: FusedActivation,
}

impl<T: Real> Finish<'_, T> {
    pub(super) const NONE: Self = Self { bias: None, activation: FusedActivation::Identity };

    /// Writes a row; returns its length.
    fn write(&self, channel: usize, from: &[T], to: &mut [MaybeUninit<T>]) -> usize {
        assert_eq!(from.len(), to.len());
        let (bias, count) = (self.bias.map_or(T::zero(), |bias| bias[channel]), to.len());
        let pairs = to.iter_mut().zip(from);
        match self.activation {
            FusedActivation::Identity => pairs.for_each(|(to, &y)| {
                to.write(y + bias);
            }),
            FusedActivation::Relu => pairs.for_each(|(to, &y)| {
                let y = y + bias;
                to.write(if y < T::zero() { T::zero() } else { y });
            }),
            FusedActivation::Tanh => dispatch(
                #[inline(always)]
                || {
                    for (to, &y) in pairs {
                        to.write((y + bias).fast_tanh());
                    }
                },
            ),
        }
        count
    }
}

/// The weights of a convolution.
#[derive(Clone, Copy)]
enum Weights<'a, T> {
    /// (O, C, taps).
    Plain(&'a [T]),
    /// (C, O), for a pointwise convolution.
    Transposed(&'a [T]),
}

impl<'a, T: Real> Weights<'a, T> {
    /// The weights from some inputs to some outputs, as a matrix (outputs, inputs taps).
    fn block(self, geometry: &Geometry, outputs: &Range<usize>, inputs: &Range<usize>) -> Operand<'a, T> {
        match self {
            Self::Plain(weights) => {
                let (taps, row) = (geometry.taps(), geometry.inputs * geometry.taps());
                let (first, last) = (outputs.start * row + inputs.start * taps, (outputs.end - 1) * row);
                Operand::strided(&weights[first..last + inputs.end * taps], outputs.len(), inputs.len() * taps, row)
            }
            Self::Transposed(weights) => {
                let (first, last) =
                    (inputs.start * geometry.outputs + outputs.start, (inputs.end - 1) * geometry.outputs);
                Operand::strided(&weights[first..last + outputs.end], inputs.len(), outputs.len(), geometry.outputs).t()
            }
        }
    }
}

/// y (B, O, positions) from x (B, C, positions) and weights (O, C, taps).
pub(super) fn outputs<T: Real>(x: &[T], weight: &[T], geometry: &Geometry, finish: Finish<'_, T>) -> Vec<T> {
    // Scattering costs about twice as much as gathering.
    if !geometry.is_strided() && 2 * geometry.outputs < geometry.inputs && geometry.taps() > 1 {
        scattered(x, &mirrored(weight, geometry.outputs, geometry.inputs), &geometry.adjoint(), finish)
    } else {
        gathered(x, Weights::Plain(weight), geometry, finish)
    }
}

/// x (B, C, positions) from y (B, O, positions) and weights (O, C, taps): the transpose of [`outputs`].
pub(super) fn inputs<T: Real>(y: &[T], weight: &[T], geometry: &Geometry, finish: Finish<'_, T>) -> Vec<T> {
    if geometry.is_strided() || (2 * geometry.inputs < geometry.outputs && geometry.taps() > 1) {
        scattered(y, weight, geometry, finish)
    } else if geometry.is_pointwise() {
        gathered(y, Weights::Transposed(weight), &geometry.adjoint(), finish)
    } else {
        let weight = mirrored(weight, geometry.outputs, geometry.inputs);
        gathered(y, Weights::Plain(&weight), &geometry.adjoint(), finish)
    }
}

/// The gradient with respect to the weights (O, C, taps), from x and the gradient with respect to y.
pub(super) fn weights<T: Real>(x: &[T], y: &[T], geometry: &Geometry) -> Vec<T> {
    if !geometry.is_strided() && geometry.outputs < geometry.inputs && geometry.taps() > 1 {
        mirrored(&correlated(y, x, &geometry.adjoint()), geometry.inputs, geometry.outputs)
    } else {
        correlated(x, y, geometry)
    }
}

fn gathered<T: Real>(x: &[T], weights: Weights<'_, T>, geometry: &Geometry, finish: Finish<'_, T>) -> Vec<T> {
    let Geometry { batch, inputs, outputs, .. } = *geometry;
    let (taps, positions) = (geometry.taps(), geometry.output_positions());
    let group = outputs.min(GROUP);
    let some = (batch * positions * outputs.div_ceil(group)).div_ceil(TASKS).clamp(LEAST, COLUMNS);
    let tiling = Tiling::new(batch, geometry.output, some);
    let each = if geometry.is_pointwise() { inputs } else { ROWS.div_ceil(taps) };
    // Where there are too few outputs for several tasks, each task sums over some of the inputs.
    let parts = if tiling.len() * outputs.div_ceil(group) < 2 { TASKS.min(inputs.div_ceil(each)) } else { 1 };
    let part = inputs.div_ceil(each).div_ceil(parts) * each;
    let sum = |columns: &mut Vec<T>, out: &mut [T], task: &Task<'_, MaybeUninit<T>>, from: Range<usize>| {
        let n = task.tile.columns();
        for start in from.clone().step_by(each) {
            let channels = start..from.end.min(start + each);
            let weights = weights.block(geometry, &task.channels, &channels);
            let columns = if geometry.is_pointwise() {
                rows(x, [inputs, positions], &task.tile, channels, columns)
            } else {
                let width = channels.len() * taps;
                gather(x, geometry, &task.tile, channels, columns);
                columns_of(columns, geometry, width, n)
            };
            product(out, n, weights, columns, start > from.start);
        }
    };
    let make = |(columns, out): &mut (Vec<T>, Vec<T>), task: Task<'_, MaybeUninit<T>>| {
        let n = task.tile.columns();
        let len = task.channels.len() * n;
        if parts == 1 {
            if out.len() < len {
                out.resize(len, T::zero());
            }
            sum(columns, &mut out[..len], &task, 0..inputs);
        } else {
            let starts = (0..inputs).step_by(part).collect::<Vec<_>>().into_par_iter();
            let sums = starts.map_init(Vec::new, |columns, start| {
                let mut out = vec![T::zero(); len];
                sum(columns, &mut out, &task, start..inputs.min(start + part));
                out
            });
            let sums: Vec<Vec<T>> = sums.collect();
            out.clear();
            out.resize(len, T::zero());
            sums.iter().for_each(|sum| out.iter_mut().zip(sum).for_each(|(out, &sum)| *out += sum));
        }
        let length = task.tile.positions.len();
        let of_image = |image: usize| {
            let channels = task.channels.clone().zip(out.chunks_exact(n));
            channels.map(move |(channel, out)| (channel, &out[image * length..][..length]))
        };
        let rows = (0..task.tile.images.len()).flat_map(of_image);
        rows.zip(task.rows).map(|((channel, from), to)| finish.write(channel, from, to)).sum::<usize>()
    };
    filled(batch * outputs * positions, |y| {
        tiling.tasks(y, outputs, group).into_par_iter().map_init(Default::default, make).sum()
    })
}

/// The matrix that `gather` wrote, (`width`, n).
fn columns_of<'a, T: Real>(columns: &'a [T], geometry: &Geometry, width: usize, n: usize) -> Operand<'a, T> {
    let values = &columns[..width * n];
    if geometry.is_strided() { Operand::new(values, width).t() } else { Operand::new(values, n) }
}

fn scattered<T: Real>(y: &[T], weight: &[T], geometry: &Geometry, finish: Finish<'_, T>) -> Vec<T> {
    let Geometry { batch, inputs, outputs, .. } = *geometry;
    let (taps, positions, plane) = (geometry.taps(), geometry.output_positions(), geometry.input_positions());
    // A task computes some channels of whole images.
    let some = (batch * positions).div_ceil(TASKS).clamp(LEAST, COLUMNS);
    let tiling = Tiling::whole(batch, geometry.output, some);
    let most = inputs.div_ceil(FEWEST.div_ceil(taps));
    let groups = TASKS.div_ceil(tiling.len()).min(most).max(inputs.div_ceil(ROWS.div_ceil(taps)));
    let group = inputs.div_ceil(groups);
    let images_each = tiling.tile(0).images.len();
    let images = Tiling::whole(batch, geometry.input, images_each * plane);
    let make = |(columns, out, copied): &mut (Vec<T>, Vec<T>, Vec<T>), task: Task<'_, MaybeUninit<T>>| {
        let channels = task.channels.len();
        let width = channels * taps;
        let len = task.tile.images.len() * channels * plane;
        out.clear();
        out.resize(len, T::zero());
        let first = task.channels.start * taps;
        let weight = &weight[first..(outputs - 1) * inputs * taps + first + width];
        let weight = Operand::strided(weight, outputs, width, inputs * taps);
        let narrow = Tiling::new(task.tile.images.len(), geometry.output, (COLUMNS * ROWS / width.max(ROWS)).max(16));
        for tile in (0..narrow.len()).map(|index| narrow.tile(index)) {
            let n = tile.columns();
            if columns.len() < width * n {
                columns.resize(width * n, T::zero());
            }
            let mut there = tile.clone();
            there.images = task.tile.images.start + tile.images.start..task.tile.images.start + tile.images.end;
            let y = rows(y, [outputs, positions], &there, 0..outputs, copied);
            let columns = &mut columns[..width * n];
            if geometry.is_strided() {
                product(columns, width, y.t(), weight, false);
            } else {
                product(columns, n, weight.t(), y, false);
            }
            let image = channels * plane;
            scatter(columns, geometry, &tile, channels, &mut out[tile.images.start * image..tile.images.end * image]);
        }
        let rows = (0..task.tile.images.len()).flat_map(|_| task.channels.clone()).zip(out.chunks_exact(plane));
        rows.zip(task.rows).map(|((channel, from), to)| finish.write(channel, from, to)).sum::<usize>()
    };
    filled(batch * inputs * plane, |x| {
        images.tasks(x, inputs, group).into_par_iter().map_init(Default::default, make).sum()
    })
}

fn correlated<T: Real>(x: &[T], y: &[T], geometry: &Geometry) -> Vec<T> {
    let Geometry { batch, inputs, outputs, .. } = *geometry;
    let (taps, positions) = (geometry.taps(), geometry.output_positions());
    let group = inputs.div_ceil(inputs.div_ceil((ROWS / 2).div_ceil(taps)));
    let tiling = Tiling::new(batch, geometry.output, COLUMNS);
    // Runs of tiles, whose sums are added in their order.
    let run = tiling.len().div_ceil(TASKS.div_ceil(inputs.div_ceil(group)));
    let starts: Vec<_> = (0..tiling.len()).step_by(run).collect();
    let make = |(channels, to): (Range<usize>, Vec<&mut [MaybeUninit<T>]>)| {
        let width = channels.len() * taps;
        let task = |(columns, copied): &mut (Vec<T>, Vec<T>), first: usize| {
            let mut sums = vec![T::zero(); outputs * width];
            for index in first..tiling.len().min(first + run) {
                let tile = tiling.tile(index);
                let y = rows(y, [outputs, positions], &tile, 0..outputs, copied);
                let columns = if geometry.is_pointwise() {
                    rows(x, [inputs, positions], &tile, channels.clone(), columns)
                } else {
                    gather(x, geometry, &tile, channels.clone(), columns);
                    columns_of(columns, geometry, width, tile.columns())
                };
                product(&mut sums, width, y, columns.t(), index > first);
            }
            sums
        };
        let mut sums: Vec<_> =
            starts.par_iter().map_init(Default::default, |scratch, &first| task(scratch, first)).collect();
        let mut sums = sums.drain(..);
        let mut total = sums.next().unwrap_or_else(|| vec![T::zero(); outputs * width]);
        sums.for_each(|part| total.iter_mut().zip(part).for_each(|(total, part)| *total += part));
        let rows = to.into_iter().zip(total.chunks_exact(width));
        rows.map(|(to, from)| to.iter_mut().zip(from).map(|(to, &from)| to.write(from)).count()).sum::<usize>()
    };
    filled(outputs * inputs * taps, |weights| {
        let mut groups: Vec<_> =
            (0..inputs).step_by(group).map(|start| (start..inputs.min(start + group), vec![])).collect();
        for row in weights.chunks_mut(inputs * taps) {
            groups.iter_mut().zip(row.chunks_mut(group * taps)).for_each(|((_, rows), row)| rows.push(row));
        }
        groups.into_par_iter().map(make).sum()
    })
}

/// The sum of each channel of y (B, channels, `positions`).
pub(super) fn channel_sums<T: Real>(y: &[T], channels: usize, positions: usize) -> Vec<T> {
    const LANES: usize = 16;
    let row = |row: &[T]| {
        let (chunks, rest) = row.as_chunks::<LANES>();
        let mut lanes = [T::zero(); LANES];
        chunks.iter().for_each(|chunk| lanes.iter_mut().zip(chunk).for_each(|(sum, &y)| *sum += y));
        lanes.iter().chain(rest).map(|&y| y.wide()).sum::<f64>()
    };
    let sums: Vec<f64> = y.par_chunks(positions).with_min_len(64).map(row).collect();
    (0..channels).map(|c| T::of(sums[c..].iter().step_by(channels).sum())).collect()
}
