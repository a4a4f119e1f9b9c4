//! The graph field over a batch: blocks of configurations and of tangents, side by side.

use super::tape::{Pool, Sums, Tape};
use super::{Constants, Graph};
use crate::field::{Batch, Gradients, Kernel};
use flows_core::ops::kernel::Real;
use rayon::prelude::*;

/// Parts of a batch that are worked on side by side; with the sizes of blocks it decides the order of
/// sums, whatever the number of threads.
const PIECES: usize = 8;
/// Edges of a block, those of tangents included, where a block has more than one configuration.
const ROWS: usize = 1536;

/// How a batch is cut.
#[derive(Clone, Copy)]
struct Cut {
    /// Configurations of a piece and of a block.
    piece: usize,
    block: usize,
    /// Tangents of each configuration, and those that a block has at a time.
    tangents: usize,
    chunk: usize,
}

impl Graph {
    fn cut(&self, rows: usize, tangents: usize) -> Cut {
        let edges = self.places.particles * (self.places.particles - 1);
        let most = (ROWS / edges).max(2) - 1;
        // Chunks of one size, as far as may be.
        let chunk = tangents.div_ceil(tangents.div_ceil(most).max(1)).max(1);
        let block = (ROWS / (edges * (1 + chunk.min(tangents)))).max(1);
        Cut { piece: rows.div_ceil(PIECES).next_multiple_of(block), block, tangents, chunk }
    }
}

/// Calls `f` with the first tangent of each chunk and how many it has; once with none where there are
/// none.
fn chunks(cut: Cut, mut f: impl FnMut(usize, usize)) {
    let mut first = 0;
    loop {
        let count = cut.chunk.min(cut.tangents - first);
        f(first, count);
        first += count;
        if first >= cut.tangents {
            break;
        }
    }
}

impl<T: Real> Kernel<T> for Graph {
    fn rates(&self, weights: &[T], t: f64, batch: Batch<'_, T>) -> (Vec<T>, Vec<T>) {
        let (dim, rows) = (self.dim, batch.z.len() / self.dim);
        let cut = self.cut(rows, batch.vectors.tangents(dim));
        let constants = Constants::new(&self.places);
        let (mut value, mut divergence) = (vec![T::zero(); rows * dim], vec![T::zero(); rows]);
        let work = |(i, (value, divergence)): (usize, (&mut [T], &mut [T]))| {
            let mut pool = Pool::new();
            let blocks = value.chunks_mut(cut.block * dim).zip(divergence.chunks_mut(cut.block));
            for (j, (value, divergence)) in blocks.enumerate() {
                let (start, count) = (i * cut.piece + j * cut.block, divergence.len());
                let size = count * dim;
                let z = &batch.z[start * dim..][..size];
                let mut vectors = vec![T::zero(); cut.tangents * size];
                batch.vectors.write((start, count), dim, dim, &mut vectors);
                let mut products = Vec::with_capacity(vectors.len());
                chunks(cut, |first, tangents| {
                    let mut tape = Tape::new(&self.places, weights, &constants, t, (count, tangents), &mut pool);
                    let input = tape.input([z, &vectors[first * size..][..tangents * size]].concat());
                    let outputs = self.forward(&mut tape, input);
                    value.copy_from_slice(&outputs[..size]);
                    products.extend_from_slice(&outputs[size..]);
                    tape.finish();
                });
                batch.vectors.contract(start, dim, &products, divergence);
                batch.penalty.take(dim, value, &products, divergence);
            }
        };
        let pieces = value.par_chunks_mut(cut.piece * dim).zip(divergence.par_chunks_mut(cut.piece));
        pieces.enumerate().for_each(work);
        (value, divergence)
    }

    fn gradients(
        &self,
        weights: &[T],
        t: f64,
        batch: Batch<'_, T>,
        (of_value, of_divergence): (&[T], &[T]),
    ) -> Gradients<T> {
        let (dim, rows) = (self.dim, of_divergence.len());
        let cut = self.cut(rows, batch.vectors.tangents(dim));
        let constants = Constants::new(&self.places);
        let (mut value, mut of_z) = (vec![T::zero(); rows * dim], vec![T::zero(); rows * dim]);
        let work = |(i, (value, of_z)): (usize, (&mut [T], &mut [T]))| {
            let (mut of_weights, mut of_t) = (vec![T::zero(); self.places.total()], T::zero());
            let mut pool = Pool::new();
            let blocks = value.chunks_mut(cut.block * dim).zip(of_z.chunks_mut(cut.block * dim));
            for (j, (value, of_z)) in blocks.enumerate() {
                let (start, size) = (i * cut.piece + j * cut.block, value.len());
                let count = size / dim;
                let z = &batch.z[start * dim..][..size];
                let of_divergence = &of_divergence[start..][..count];
                let mut vectors = vec![T::zero(); cut.tangents * size];
                batch.vectors.write((start, count), dim, dim, &mut vectors);
                let mut of_products = vec![T::zero(); vectors.len()];
                batch.vectors.spread(start, dim, of_divergence, &mut of_products);
                chunks(cut, |first, tangents| {
                    let mut tape = Tape::new(&self.places, weights, &constants, t, (count, tangents), &mut pool);
                    let part = first * size..(first + tangents) * size;
                    let input = tape.input([z, &vectors[part.clone()]].concat());
                    let outputs = self.forward(&mut tape, input);
                    value.copy_from_slice(&outputs[..size]);
                    let mut gradient = [&of_value[start * dim..][..size], &of_products[part]].concat();
                    if !batch.penalty.is_none() {
                        batch.penalty.add_gradient(dim, outputs, of_divergence, &mut gradient);
                    }
                    if first > 0 {
                        // The value counts once.
                        gradient[..size].fill(T::zero());
                    }
                    let mut sums = Sums { weights: &mut of_weights, t: &mut of_t };
                    let found = tape.backward(gradient, &mut sums);
                    of_z.iter_mut().zip(&found[..size]).for_each(|(sum, &v)| *sum += v);
                    pool.give_back(found);
                });
            }
            (of_weights, of_t)
        };
        let pieces = value.par_chunks_mut(cut.piece * dim).zip(of_z.par_chunks_mut(cut.piece * dim));
        // In the order of the rows, whichever thread was first.
        let parts: Vec<_> = pieces.enumerate().map(work).collect();
        let (mut of_weights, mut of_t) = (vec![T::zero(); self.places.total()], T::zero());
        for (weights, t) in parts {
            of_weights.iter_mut().zip(weights).for_each(|(sum, v)| *sum += v);
            of_t += t;
        }
        Gradients { value, z: of_z, context: Vec::new(), weights: of_weights, t: of_t }
    }
}

impl Graph {
    /// Value and products of a block.
    fn forward<'t, T: Real>(&self, tape: &'t mut Tape<'_, T>, input: usize) -> &'t [T] {
        let Ok(end) = self.run(tape, &input);
        tape.value(end)
    }
}
