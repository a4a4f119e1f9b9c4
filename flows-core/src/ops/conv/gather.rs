//! The columns of a convolution (im2col), the inputs that the weights are multiplied with at each output position, and
//! their transpose (col2im).

use super::super::cpu::Real;
use super::super::matmul::Operand;
use super::geometry::{Geometry, Tile};
use std::ops::Range;

/// Images with narrower rows than this are copied in chunks, by way of a padded image.
const NARROW: usize = 48;
const CHUNK: usize = 8;

/// Writes the columns (channels taps, positions of the tile) of `x` (B, C, H, W); for a strided
/// convolution the transposed matrix, which follows the rows of x.
pub(super) fn gather<T: Real>(x: &[T], geometry: &Geometry, tile: &Tile, channels: Range<usize>, out: &mut Vec<T>) {
    let len = channels.len() * geometry.taps() * tile.columns();
    if out.len() < len + CHUNK {
        out.resize(len + CHUNK, T::zero());
    }
    if geometry.is_strided() {
        gather_strided(x, geometry, tile, channels, out);
    } else if geometry.output[1] < NARROW {
        gather_narrow(x, geometry, tile, channels, out);
    } else {
        gather_wide(x, geometry, tile, channels, out);
    }
}

/// The rows (channels, positions of the tile) of `values` (B, `total`, `plane`): in place if the
/// tile is of one image, and otherwise copied to `scratch`.
pub(super) fn rows<'a, T: Real>(
    values: &'a [T],
    [total, plane]: [usize; 2],
    tile: &Tile,
    channels: Range<usize>,
    scratch: &'a mut Vec<T>,
) -> Operand<'a, T> {
    let at = |image: usize, c: usize| (image * total + c) * plane + tile.positions.start;
    if tile.images.len() == 1 {
        let start = at(tile.images.start, channels.start);
        let end = at(tile.images.start, channels.end - 1) + tile.positions.len();
        return Operand::strided(&values[start..end], channels.len(), tile.positions.len(), plane);
    }
    scratch.clear();
    for c in channels {
        for image in tile.images.clone() {
            scratch.extend_from_slice(&values[at(image, c)..][..tile.positions.len()]);
        }
    }
    Operand::new(scratch, tile.columns())
}

fn gather_wide<T: Real>(x: &[T], geometry: &Geometry, tile: &Tile, channels: Range<usize>, mut out: &mut [T]) {
    let plane = geometry.input_positions();
    for c in channels {
        for tap in 0..geometry.taps() {
            for image in tile.images.clone() {
                let x = &x[(image * geometry.inputs + c) * plane..][..plane];
                for_segments(geometry, &tile.positions, tap, |before, from, after| {
                    let (zeros, rest) = std::mem::take(&mut out).split_at_mut(before);
                    zeros.fill(T::zero());
                    let (copy, rest) = rest.split_at_mut(from.len());
                    copy.copy_from_slice(&x[from]);
                    let (zeros, rest) = rest.split_at_mut(after);
                    zeros.fill(T::zero());
                    out = rest;
                });
            }
        }
    }
}

/// Calls `f` for each row of the positions, under one tap of a convolution of stride 1, with the number of positions
/// that see padding, the input positions that the next ones see, and the number that see padding after that.
fn for_segments(
    geometry: &Geometry,
    positions: &Range<usize>,
    tap: usize,
    mut f: impl FnMut(usize, Range<usize>, usize),
) {
    let ([height, width], row_length) = (geometry.input, geometry.output[1]);
    let (i, j) = (tap / geometry.kernel[1], tap % geometry.kernel[1]);
    // The offset of the input position, before the padding is subtracted.
    let (down, right) = (i * geometry.dilation[0], j * geometry.dilation[1]);
    let left = geometry.padding[1];
    for row in positions.start / row_length..positions.end.div_ceil(row_length) {
        let start = positions.start.max(row * row_length) - row * row_length;
        let end = positions.end.min((row + 1) * row_length) - row * row_length;
        let source = (row + down).wrapping_sub(geometry.padding[0]);
        let (first, last) = (left.saturating_sub(right).clamp(start, end), (width + left).saturating_sub(right));
        let last = last.clamp(first, end);
        if source >= height || first == last {
            f(end - start, 0..0, 0);
        } else {
            let from = source * width + first + right - left;
            f(first - start, from..from + last - first, end - last);
        }
    }
}

fn gather_narrow<T: Real>(x: &[T], geometry: &Geometry, tile: &Tile, channels: Range<usize>, out: &mut [T]) {
    let ([height, width], row_length) = (geometry.input, geometry.output[1]);
    let Padded { rows, seen, width: padded_width, plane: padded } = Padded::of(geometry, tile);
    // The border stays zero throughout.
    let mut planes = vec![T::zero(); padded * tile.images.len() + CHUNK];
    let chunked = row_length.next_multiple_of(CHUNK);
    let mut at = 0;
    for c in channels {
        for (image, plane) in tile.images.clone().zip(planes.chunks_mut(padded)) {
            let x = &x[(image * geometry.inputs + c) * height * width..];
            for row in seen.clone() {
                let to = (row + geometry.padding[0] - rows.start) * padded_width + geometry.padding[1];
                copy(&mut plane[to..to + width], &x[row * width..][..width]);
            }
        }
        for tap in 0..geometry.taps() {
            let (i, j) = (tap / geometry.kernel[1], tap % geometry.kernel[1]);
            let shift = i * geometry.dilation[0] * padded_width + j * geometry.dilation[1];
            for image in 0..tile.images.len() {
                for row in 0..rows.len() {
                    let from = &planes[image * padded + shift + row * padded_width..];
                    // What is copied beyond the row is overwritten by the next row.
                    let from = from[..chunked.min(from.len())].as_chunks::<CHUNK>().0;
                    let to = out[at..at + chunked].as_chunks_mut::<CHUNK>().0;
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                    at += row_length;
                }
            }
        }
    }
}

fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    let (to, to_rest) = to.as_chunks_mut::<4>();
    let (from, from_rest) = from.as_chunks::<4>();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

fn gather_strided<T: Real>(x: &[T], geometry: &Geometry, tile: &Tile, channels: Range<usize>, out: &mut [T]) {
    let plane = geometry.input_positions();
    let [rows, width] = geometry.kernel;
    let mut out = out.chunks_exact_mut(width);
    for image in tile.images.clone() {
        for position in tile.positions.clone() {
            for c in channels.clone() {
                let x = &x[(image * geometry.inputs + c) * plane..][..plane];
                for i in 0..rows {
                    let Some(out) = out.next() else { return };
                    let (taps, from) = taps_of_row(geometry, position, i);
                    out[..taps.start].fill(T::zero());
                    out[taps.end..].fill(T::zero());
                    match geometry.dilation[1] {
                        1 => out[taps.clone()].copy_from_slice(&x[from..][..taps.len()]),
                        step => out[taps].iter_mut().zip(x[from..].iter().step_by(step)).for_each(|(o, &x)| *o = x),
                    }
                }
            }
        }
    }
}

/// The taps of row i of the kernel that see the input, not padding, at an output position, and the input
/// position under the first of them.
fn taps_of_row(geometry: &Geometry, position: usize, i: usize) -> (Range<usize>, usize) {
    let [height, width] = geometry.input;
    let (u, v) = (position / geometry.output[1], position % geometry.output[1]);
    let row = (u * geometry.stride[0] + i * geometry.dilation[0]).wrapping_sub(geometry.padding[0]);
    let (right, left, step) = (v * geometry.stride[1], geometry.padding[1], geometry.dilation[1]);
    let first = left.saturating_sub(right).div_ceil(step);
    let last = (width + left).saturating_sub(right).div_ceil(step).min(geometry.kernel[1]);
    if row >= height || first >= last {
        return (0..0, 0);
    }
    (first..last, row * width + right + first * step - left)
}

/// Adds columns in the layout of [`gather`] to the positions that they came from, of images (channels, H, W).
pub(super) fn scatter<T: Real>(columns: &[T], geometry: &Geometry, tile: &Tile, channels: usize, images: &mut [T]) {
    let plane = geometry.input_positions();
    if geometry.is_strided() {
        let mut columns = columns.chunks_exact(geometry.kernel[1]);
        for image in images.chunks_exact_mut(channels * plane) {
            for position in tile.positions.clone() {
                for x in image.chunks_exact_mut(plane) {
                    for i in 0..geometry.kernel[0] {
                        let Some(column) = columns.next() else { return };
                        let (taps, from) = taps_of_row(geometry, position, i);
                        match geometry.dilation[1] {
                            1 => add(&mut x[from..][..taps.len()], &column[taps]),
                            step => x[from..]
                                .iter_mut()
                                .step_by(step)
                                .zip(&column[taps])
                                .for_each(|(x, &value)| *x += value),
                        }
                    }
                }
            }
        }
        return;
    }
    if geometry.output[1] < NARROW {
        return scatter_narrow(columns, geometry, tile, channels, images);
    }
    let mut rest = columns;
    for c in 0..channels {
        for tap in 0..geometry.taps() {
            for image in images.chunks_exact_mut(channels * plane) {
                let x = &mut image[c * plane..][..plane];
                for_segments(geometry, &tile.positions, tap, |before, to, after| {
                    let length = to.len();
                    add(&mut x[to], &rest[before..before + length]);
                    rest = &rest[before + length + after..];
                });
            }
        }
    }
}

/// [`scatter`] for narrow rows, which are added whole to padded images, and these to the images.
fn scatter_narrow<T: Real>(columns: &[T], geometry: &Geometry, tile: &Tile, channels: usize, images: &mut [T]) {
    let ([_, width], row_length) = (geometry.input, geometry.output[1]);
    let Padded { rows, seen, width: padded_width, plane: padded } = Padded::of(geometry, tile);
    let mut planes = vec![T::zero(); padded * tile.images.len()];
    let mut columns = columns.chunks_exact(row_length);
    for c in 0..channels {
        planes.fill(T::zero());
        for tap in 0..geometry.taps() {
            let (i, j) = (tap / geometry.kernel[1], tap % geometry.kernel[1]);
            let shift = i * geometry.dilation[0] * padded_width + j * geometry.dilation[1];
            for plane in planes.chunks_exact_mut(padded) {
                for (row, column) in (0..rows.len()).zip(&mut columns) {
                    add(&mut plane[shift + row * padded_width..][..row_length], column);
                }
            }
        }
        let plane = geometry.input_positions();
        for (image, padded) in images.chunks_exact_mut(channels * plane).zip(planes.chunks_exact(padded)) {
            for row in seen.clone() {
                let from = (row + geometry.padding[0] - rows.start) * padded_width + geometry.padding[1];
                add(&mut image[c * plane + row * width..][..width], &padded[from..][..width]);
            }
        }
    }
}

fn add<T: Real>(to: &mut [T], values: &[T]) {
    let (to, to_rest) = to.as_chunks_mut::<4>();
    let (values, values_rest) = values.as_chunks::<4>();
    to.iter_mut().zip(values).for_each(|(to, values)| to.iter_mut().zip(values).for_each(|(to, &v)| *to += v));
    to_rest.iter_mut().zip(values_rest).for_each(|(to, &value)| *to += value);
}

/// The part of an image that a tile of whole rows sees, with its padding.
struct Padded {
    /// Rows of the output.
    rows: Range<usize>,
    /// Rows of the input.
    seen: Range<usize>,
    /// The width of a padded row.
    width: usize,
    /// Elements of a padded image.
    plane: usize,
}

impl Padded {
    fn of(geometry: &Geometry, tile: &Tile) -> Self {
        let row_length = geometry.output[1];
        let rows = tile.positions.start / row_length..tile.positions.end / row_length;
        let [down, right] = [0, 1].map(|side| geometry.dilation[side] * (geometry.kernel[side] - 1));
        let (width, height) = (row_length + right, rows.len() + down);
        let seen = rows.start.saturating_sub(geometry.padding[0])
            ..(rows.start + height).saturating_sub(geometry.padding[0]).min(geometry.input[0]);
        Self { seen, width, plane: width * height, rows }
    }
}
