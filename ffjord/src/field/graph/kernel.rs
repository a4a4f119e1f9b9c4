//! The kernels of a graph field: a batch in pieces, blocks of configurations and chunks of tangents.

use super::tape::{ParameterGradients, Pool, Tape};
use super::{Constants, Graph};
use crate::field::{Batch, Gradients, Kernel};
use flows_core::ops::kernel::Real;
use rayon::prelude::*;

/// The pieces of a batch that are processed in parallel; with the block size it fixes the order of summation,
/// whatever the number of threads.
const PIECES: usize = 8;
/// The edges of a block of more than one configuration, those of tangents included.
const EDGES: usize = 1536;

/// How a batch is partitioned.
#[derive(Clone, Copy)]
struct Partition {
    /// Configurations per piece.
    piece: usize,
    /// Configurations per block.
    block: usize,
    /// Tangents per configuration.
    tangents: usize,
    /// Tangents per configuration in one pass over a block.
    chunk: usize,
}

impl Graph {
    fn partition(&self, rows: usize, tangents: usize) -> Partition {
        let edges = self.layout.particles * (self.layout.particles - 1);
        let most = (EDGES / edges).max(2) - 1;
        // Chunks as equal in size as possible.
        let chunk = tangents.div_ceil(tangents.div_ceil(most).max(1)).max(1);
        let block = (EDGES / (edges * (1 + chunk.min(tangents)))).max(1);
        Partition { piece: rows.div_ceil(PIECES).next_multiple_of(block), block, tangents, chunk }
    }
}

/// Calls `f` with the first tangent and the number of tangents of each chunk, or once with zeros if there are none.
fn for_each_chunk(partition: Partition, mut f: impl FnMut(usize, usize)) {
    let mut first = 0;
    loop {
        let count = partition.chunk.min(partition.tangents - first);
        f(first, count);
        first += count;
        if first >= partition.tangents {
            break;
        }
    }
}

impl<T: Real> Kernel<T> for Graph {
    fn rates(&self, weights: &[T], t: f64, batch: Batch<'_, T>) -> (Vec<T>, Vec<T>) {
        let (dim, rows) = (self.dim, batch.z.len() / self.dim);
        let partition = self.partition(rows, batch.vectors.tangents(dim));
        let constants = Constants::new(&self.layout);
        let (mut value, mut divergence) = (vec![T::zero(); rows * dim], vec![T::zero(); rows]);
        let work = |(i, (value, divergence)): (usize, (&mut [T], &mut [T]))| {
            let mut pool = Pool::new();
            let blocks = value.chunks_mut(partition.block * dim).zip(divergence.chunks_mut(partition.block));
            for (j, (value, divergence)) in blocks.enumerate() {
                let (start, count) = (i * partition.piece + j * partition.block, divergence.len());
                let size = count * dim;
                let z = &batch.z[start * dim..][..size];
                let mut vectors = vec![T::zero(); partition.tangents * size];
                batch.vectors.write(start..start + count, dim, dim, &mut vectors);
                let mut products = Vec::with_capacity(vectors.len());
                for_each_chunk(partition, |first, tangents| {
                    let mut tape = Tape::new(&self.layout, weights, &constants, t, (count, tangents), &mut pool);
                    let input = tape.input([z, &vectors[first * size..][..tangents * size]].concat());
                    let outputs = self.forward(&mut tape, input);
                    value.copy_from_slice(&outputs[..size]);
                    products.extend_from_slice(&outputs[size..]);
                    tape.finish();
                });
                batch.vectors.contract(start, dim, &products, divergence);
                batch.penalty.subtract(dim, value, &products, divergence);
            }
        };
        let pieces = value.par_chunks_mut(partition.piece * dim).zip(divergence.par_chunks_mut(partition.piece));
        pieces.enumerate().for_each(work);
        (value, divergence)
    }

    fn gradients(
        &self,
        weights: &[T],
        t: f64,
        batch: Batch<'_, T>,
        (grad_value, grad_divergence): (&[T], &[T]),
    ) -> Gradients<T> {
        let (dim, rows) = (self.dim, grad_divergence.len());
        let partition = self.partition(rows, batch.vectors.tangents(dim));
        let constants = Constants::new(&self.layout);
        let (mut value, mut grad_z) = (vec![T::zero(); rows * dim], vec![T::zero(); rows * dim]);
        let work = |(i, (value, grad_z)): (usize, (&mut [T], &mut [T]))| {
            let (mut grad_weights, mut grad_t) = (vec![T::zero(); self.layout.total()], T::zero());
            let mut pool = Pool::new();
            let blocks = value.chunks_mut(partition.block * dim).zip(grad_z.chunks_mut(partition.block * dim));
            for (j, (value, grad_z)) in blocks.enumerate() {
                let (start, size) = (i * partition.piece + j * partition.block, value.len());
                let count = size / dim;
                let z = &batch.z[start * dim..][..size];
                let grad_divergence = &grad_divergence[start..][..count];
                let mut vectors = vec![T::zero(); partition.tangents * size];
                batch.vectors.write(start..start + count, dim, dim, &mut vectors);
                let mut grad_products = vec![T::zero(); vectors.len()];
                batch.vectors.spread(start, dim, grad_divergence, &mut grad_products);
                for_each_chunk(partition, |first, tangents| {
                    let mut tape = Tape::new(&self.layout, weights, &constants, t, (count, tangents), &mut pool);
                    let part = first * size..(first + tangents) * size;
                    let input = tape.input([z, &vectors[part.clone()]].concat());
                    let outputs = self.forward(&mut tape, input);
                    value.copy_from_slice(&outputs[..size]);
                    let mut gradient = [&grad_value[start * dim..][..size], &grad_products[part]].concat();
                    if !batch.penalty.is_zero() {
                        batch.penalty.add_gradient(dim, outputs, grad_divergence, &mut gradient);
                    }
                    if first > 0 {
                        // The gradient of the value counts once, with the first chunk.
                        gradient[..size].fill(T::zero());
                    }
                    let mut sums = ParameterGradients { weights: &mut grad_weights, t: &mut grad_t };
                    let grad_input = tape.backward(gradient, &mut sums);
                    grad_z.iter_mut().zip(&grad_input[..size]).for_each(|(sum, &v)| *sum += v);
                    pool.recycle(grad_input);
                });
            }
            (grad_weights, grad_t)
        };
        let pieces = value.par_chunks_mut(partition.piece * dim).zip(grad_z.par_chunks_mut(partition.piece * dim));
        // Summed in the order of the rows, whichever thread finishes first.
        let parts: Vec<_> = pieces.enumerate().map(work).collect();
        let (mut grad_weights, mut grad_t) = (vec![T::zero(); self.layout.total()], T::zero());
        for (weights, t) in parts {
            grad_weights.iter_mut().zip(weights).for_each(|(sum, v)| *sum += v);
            grad_t += t;
        }
        Gradients { value, z: grad_z, context: Vec::new(), weights: grad_weights, t: grad_t }
    }
}

impl Graph {
    /// The value and the Jacobian-vector products of a block.
    fn forward<'t, T: Real>(&self, tape: &'t mut Tape<'_, T>, input: usize) -> &'t [T] {
        let Ok(end) = self.run(tape, &input);
        tape.value(end)
    }
}
