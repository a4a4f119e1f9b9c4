//! The layout of a graph field's weights, and its constant matrices.

use super::backend::Constant;
use flows_core::ops::kernel::Real;
use std::ops::Range;

/// The most coordinates of a configuration, a limit that keeps the dense matrices of its basis small.
pub(crate) const MAX_COORDINATES: usize = 2_000;

/// The sizes of a field, and the offsets of its weights in the vector of all weights.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) particles: usize,
    /// The dimension of space.
    pub(super) dimension: usize,
    weights: Vec<Range<usize>>,
}

impl Layout {
    /// The layout of weights of the given lengths, one after another.
    pub(super) fn new(particles: usize, dimension: usize, sizes: impl Iterator<Item = usize>) -> Self {
        let weights = sizes.scan(0, |end, size| {
            *end += size;
            Some(*end - size..*end)
        });
        Self { particles, dimension, weights: weights.collect() }
    }

    /// The length of the vector of weights.
    pub(super) fn total(&self) -> usize {
        self.weights.last().map_or(0, |range| range.end)
    }

    /// The weight with this index.
    pub(super) fn weight<'a, T>(&self, index: usize, weights: &'a [T]) -> &'a [T] {
        &weights[self.weights[index].clone()]
    }

    pub(super) fn weight_mut<'a, T>(&self, index: usize, weights: &'a mut [T]) -> &'a mut [T] {
        &mut weights[self.weights[index].clone()]
    }
}

/// An orthonormal basis (N - 1, N) of the configurations of N particles with centre 0: the rows
/// `(1, ..., 1, -a, 0, ...) / sqrt(a (a + 1))`, with a ones, of the Helmert matrix.
pub(crate) fn centred_basis(particles: usize) -> Vec<f64> {
    let mut basis = vec![0.0; particles.saturating_sub(1) * particles];
    for (i, row) in basis.chunks_exact_mut(particles.max(1)).enumerate() {
        let a = (i + 1) as f64;
        let scale = 1.0 / (a * (a + 1.0)).sqrt();
        row[..=i].fill(scale);
        row[i + 1] = -a * scale;
    }
    basis
}

/// The matrices that map between the (N - 1) D coordinates of a configuration and the N D positions of its particles.
pub(super) struct Constants<T> {
    embed: Vec<T>,
    project: Vec<T>,
}

impl<T: Real> Constants<T> {
    pub(super) fn new(layout: &Layout) -> Self {
        let (n, d) = (layout.particles, layout.dimension);
        let basis = centred_basis(n);
        let (mut embed, mut project) = (vec![T::zero(); n * d * (n - 1) * d], vec![T::zero(); n * d * (n - 1) * d]);
        for (a, row) in basis.chunks_exact(n).enumerate() {
            for (i, &v) in row.iter().enumerate() {
                for c in 0..d {
                    embed[(i * d + c) * (n - 1) * d + a * d + c] = T::of(v);
                    project[(a * d + c) * n * d + i * d + c] = T::of(v);
                }
            }
        }
        Self { embed, project }
    }

    /// A matrix, (outputs, inputs).
    pub(super) fn get(&self, matrix: Constant) -> &[T] {
        match matrix {
            Constant::Embed => &self.embed,
            Constant::Project => &self.project,
        }
    }
}
