//! The sizes of a convolution, and its division into tasks.

use super::super::cpu::Real;
use rayon::prelude::*;
use std::ops::Range;

/// The sizes of a convolution of an input (C, H, W) to an output (O, H', W'):
/// `y[o, u, v] = sum over c, i, j of w[o, c, i, j] x[c, s u + d i - p, s v + d j - p]`,
/// where each of s, d and p is a pair and x is 0 outside the input.
///
/// `p <= d (kernel - 1)`, so no output position sees only padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) dilation: [usize; 2],
}

impl Geometry {
    /// Weights of one input channel for one output channel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(super) fn input_positions(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub(super) fn output_positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    pub(super) fn is_strided(&self) -> bool {
        self.stride != [1, 1]
    }

    /// Whether each output position sees only the input at the same position.
    pub(super) fn is_pointwise(&self) -> bool {
        self.taps() == 1 && !self.is_strided()
    }

    /// The convolution with the mirrored kernel that takes the gradient with respect to the output to that with respect
    /// to the input, for stride 1.
    pub(super) fn adjoint(&self) -> Self {
        let reach = |side: usize| self.dilation[side] * (self.kernel[side] - 1);
        Self {
            inputs: self.outputs,
            outputs: self.inputs,
            input: self.output,
            output: self.input,
            padding: [reach(0) - self.padding[0], reach(1) - self.padding[1]],
            ..*self
        }
    }
}

/// The weights of the adjoint: (O, C, taps) as (C, O, taps), with the taps in reverse order.
pub(super) fn mirrored<T: Real>(weight: &[T], outputs: usize, inputs: usize) -> Vec<T> {
    let taps = weight.len() / (outputs * inputs);
    let mut mirrored = vec![T::zero(); weight.len()];
    // Several rows at a time, to read whole cache lines.
    let rows = (32 / taps).max(1);
    mirrored.par_chunks_mut(rows * outputs * taps).enumerate().for_each(|(block, mirrored)| {
        for (o, weight) in weight.chunks_exact(inputs * taps).enumerate() {
            let weight = weight[block * rows * taps..].chunks_exact(taps);
            for (to, from) in mirrored.chunks_exact_mut(outputs * taps).zip(weight) {
                to[o * taps..][..taps].iter_mut().zip(from.iter().rev()).for_each(|(to, &from)| *to = from);
            }
        }
    });
    mirrored
}

/// Positions that are processed together: all of several images, or a part of one.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub(super) images: Range<usize>,
    pub(super) positions: Range<usize>,
}

impl Tile {
    pub(super) fn columns(&self) -> usize {
        self.images.len() * self.positions.len()
    }
}

/// A division of the positions of a batch into tiles. It depends only on the shapes, so that results do
/// not depend on the number of threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    batch: usize,
    positions: usize,
    images_each: usize,
    positions_each: usize,
}

impl Tiling {
    /// Tiles of about `columns` positions of a batch of images of `size`; only rows longer than that are divided.
    pub(super) fn new(batch: usize, size: [usize; 2], columns: usize) -> Self {
        let positions = size[0] * size[1];
        let even = positions.div_ceil(positions.div_ceil(columns));
        let positions_each = if size[1] <= even { even.next_multiple_of(size[1]) } else { even.next_multiple_of(16) };
        Self { positions_each: positions_each.min(positions), ..Self::whole(batch, size, columns) }
    }

    /// Tiles of whole images, of about `columns` positions.
    pub(super) fn whole(batch: usize, size: [usize; 2], columns: usize) -> Self {
        let positions = size[0] * size[1];
        let most = (columns / positions).clamp(1, batch);
        Self { batch, positions, images_each: batch.div_ceil(batch.div_ceil(most)), positions_each: positions }
    }

    fn parts(&self) -> usize {
        self.positions.div_ceil(self.positions_each)
    }

    pub(super) fn len(&self) -> usize {
        self.batch.div_ceil(self.images_each) * self.parts()
    }

    pub(super) fn tile(&self, index: usize) -> Tile {
        let (group, part) = (index / self.parts(), index % self.parts());
        let range = |index: usize, each: usize, end: usize| index * each..((index + 1) * each).min(end);
        Tile {
            images: range(group, self.images_each, self.batch),
            positions: range(part, self.positions_each, self.positions),
        }
    }

    /// The tasks that fill `out` (B, channels, positions), each of a tile and up to `group` channels.
    pub(super) fn tasks<'a, T>(&self, out: &'a mut [T], channels: usize, group: usize) -> Vec<Task<'a, T>> {
        let groups = channels.div_ceil(group);
        let mut tasks: Vec<_> = (0..self.len() * groups)
            .map(|task| {
                let start = task % groups * group;
                Task { tile: self.tile(task / groups), channels: start..channels.min(start + group), rows: Vec::new() }
            })
            .collect();
        for (i, row) in out.chunks_mut(self.positions).enumerate() {
            let (image, channel) = (i / channels, i % channels);
            for (part, row) in row.chunks_mut(self.positions_each).enumerate() {
                let tile = image / self.images_each * self.parts() + part;
                tasks[tile * groups + channel / group].rows.push(row);
            }
        }
        tasks
    }
}

/// A tile of some channels of an output, and the rows of the output to write, image by image.
pub(super) struct Task<'a, T> {
    pub(super) tile: Tile,
    pub(super) channels: Range<usize>,
    pub(super) rows: Vec<&'a mut [T]>,
}
