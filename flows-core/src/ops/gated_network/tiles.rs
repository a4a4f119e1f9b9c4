//! Signals in tiles that stay in the cache.

use super::super::cpu::Real;
use rayon::prelude::*;
use std::ops::Range;

/// About as many positions make a tile.
const COLUMNS: usize = 480;

/// Fewer positions make a poor product.
const SHORTEST: usize = 128;

/// The division of signals (B, C, T) into tiles: parts of one signal or, where signals are short, several whole ones. It
/// does not depend on the number of threads, so neither do results.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    batch: usize,
    positions: usize,
    /// Signals of a tile.
    examples: usize,
    /// Positions of a tile.
    length: usize,
}

/// One tile: some positions of some signals.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    examples: Range<usize>,
    positions: Range<usize>,
}

impl Tile {
    pub(super) fn columns(&self) -> usize {
        self.examples.len() * self.positions.len()
    }

    /// Whether all columns are of one signal.
    pub(super) fn is_of_one(&self) -> bool {
        self.examples.len() == 1
    }
}

impl Tiling {
    pub(super) fn new(batch: usize, positions: usize) -> Self {
        let examples = (COLUMNS / positions).clamp(1, batch);
        let mut tiles = positions.div_ceil(COLUMNS);
        // An even number in all, so that two threads have the same work, unless that makes them short.
        if !(batch.div_ceil(examples) * tiles).is_multiple_of(2) && positions / (tiles + 1) >= SHORTEST {
            tiles += 1;
        }
        // Tiles of nearly the same length.
        let length = positions.div_ceil(tiles);
        Self { batch, positions, examples, length }
    }

    fn of_signal(&self) -> usize {
        self.positions.div_ceil(self.length)
    }

    pub(super) fn len(&self) -> usize {
        self.batch.div_ceil(self.examples) * self.of_signal()
    }

    pub(super) fn tile(&self, index: usize) -> Tile {
        let (first, start) = (index / self.of_signal() * self.examples, index % self.of_signal() * self.length);
        Tile {
            examples: first..self.batch.min(first + self.examples),
            positions: start..self.positions.min(start + self.length),
        }
    }

    /// The tiles (rows, columns) of signals (B, rows, T).
    pub(super) fn split<T: Real>(&self, x: &[T], rows: usize) -> Vec<Vec<T>> {
        (0..self.len()).into_par_iter().map(|i| self.cut(x, rows, &self.tile(i))).collect()
    }

    fn cut<T: Real>(&self, x: &[T], rows: usize, tile: &Tile) -> Vec<T> {
        let mut out = Vec::with_capacity(rows * tile.columns());
        for row in 0..rows {
            for example in tile.examples.clone() {
                let at = (example * rows + row) * self.positions;
                out.extend_from_slice(&x[at + tile.positions.start..at + tile.positions.end]);
            }
        }
        out
    }

    /// The signals (B, rows, T) of tiles.
    pub(super) fn join<T: Real>(&self, tiles: &[Vec<T>], rows: usize) -> Vec<T> {
        let mut x = vec![T::zero(); self.batch * rows * self.positions];
        x.par_chunks_mut(self.positions).enumerate().for_each(|(i, signal)| {
            let (example, row) = (i / rows, i % rows);
            self.read(tiles, [example, row], 0, signal);
        });
        x
    }

    /// Copies the numbers of a row of an example from a position on; they are 0 outside the signal.
    fn read<T: Real>(&self, tiles: &[Vec<T>], [example, row]: [usize; 2], from: isize, out: &mut [T]) {
        let first = example / self.examples * self.of_signal();
        let mut at = 0;
        while at < out.len() {
            let position = from + at as isize;
            if position < 0 {
                let zeros = out.len().min(at + position.unsigned_abs());
                out[at..zeros].fill(T::zero());
                at = zeros;
                continue;
            }
            let position = position as usize;
            if position >= self.positions {
                out[at..].fill(T::zero());
                return;
            }
            let index = first + position / self.length;
            let tile = self.tile(index);
            let start = row * tile.columns() + (example - tile.examples.start) * tile.positions.len();
            let within = position - tile.positions.start;
            let count = (tile.positions.len() - within).min(out.len() - at);
            out[at..at + count].copy_from_slice(&tiles[index][start + within..start + within + count]);
            at += count;
        }
    }

    /// The columns of a tile that a convolution of `taps` taps sees in signals of `rows` channels: row `c taps + j` is
    /// channel c moved by `(j - (taps - 1) / 2) dilation` positions.
    pub(super) fn columns<T: Real>(
        &self,
        tiles: &[Vec<T>],
        index: usize,
        rows: usize,
        [taps, dilation]: [usize; 2],
        out: &mut Vec<T>,
    ) {
        let tile = self.tile(index);
        let (columns, length) = (tile.columns(), tile.positions.len());
        out.resize(rows * taps * columns, T::zero());
        for (i, line) in out.chunks_mut(columns).enumerate() {
            let (row, tap) = (i / taps, i % taps);
            let shift = (tap as isize - (taps as isize - 1) / 2) * dilation as isize;
            if shift == 0 {
                line.copy_from_slice(&tiles[index][row * columns..(row + 1) * columns]);
                continue;
            }
            for (example, line) in tile.examples.clone().zip(line.chunks_mut(length)) {
                self.read(tiles, [example, row], tile.positions.start as isize + shift, line);
            }
        }
    }
}

impl Tiling {
    /// A channel of a tile of one signal from `before` positions before its first on.
    pub(super) fn line<T: Real>(&self, tiles: &[Vec<T>], index: usize, channel: usize, before: usize, out: &mut [T]) {
        let tile = self.tile(index);
        self.read(tiles, [tile.examples.start, channel], tile.positions.start as isize - before as isize, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_put_together_again_and_columns_are_moved() {
        for (batch, positions, rows) in [(1, 1, 2), (3, 7, 2), (2, 600, 3), (300, 2, 1), (2, 257, 1)] {
            let x: Vec<f64> = (0..batch * rows * positions).map(|i| i as f64 + 1.0).collect();
            let tiling = Tiling::new(batch, positions);
            let tiles = tiling.split(&x, rows);
            assert_eq!(tiling.join(&tiles, rows), x);
            for (taps, dilation) in [(1, 1), (3, 1), (3, 300), (5, 2)] {
                let moved: Vec<Vec<f64>> = (0..tiling.len())
                    .map(|i| {
                        let mut out = vec![7.0; 3];
                        tiling.columns(&tiles, i, rows, [taps, dilation], &mut out);
                        out
                    })
                    .collect();
                let moved = tiling.join(&moved, rows * taps);
                for (i, &got) in moved.iter().enumerate() {
                    let (line, t) = (i / positions, i % positions);
                    let (channel, tap) = (line / taps, line % taps);
                    let from = t as isize + (tap as isize - (taps as isize - 1) / 2) * dilation as isize;
                    let inside = (0..positions as isize).contains(&from);
                    let want = if inside { x[channel * positions + from as usize] } else { 0.0 };
                    assert_eq!(got, want, "{batch} {positions} {rows} {taps} {dilation}");
                }
            }
        }
    }
}
