//! Where the weights of a graph field are, and its constant matrices.

use super::machine::Constant;
use flows_core::ops::kernel::Real;
use std::ops::Range;

/// The most numbers of a configuration: the matrices of its basis are dense.
pub(crate) const MOST: usize = 2_000;

/// The sizes of a field, and where its weights are among all of them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) particles: usize,
    /// Of space.
    pub(super) dimension: usize,
    weights: Vec<Range<usize>>,
}

impl Places {
    /// For weights of these numbers, one after another.
    pub(super) fn new(particles: usize, dimension: usize, sizes: impl Iterator<Item = usize>) -> Self {
        let weights = sizes.scan(0, |end, size| {
            *end += size;
            Some(*end - size..*end)
        });
        Self { particles, dimension, weights: weights.collect() }
    }

    /// All weights.
    pub(super) fn total(&self) -> usize {
        self.weights.last().map_or(0, |range| range.end)
    }

    pub(super) fn of<'a, T>(&self, index: usize, weights: &'a [T]) -> &'a [T] {
        &weights[self.weights[index].clone()]
    }

    pub(super) fn of_mut<'a, T>(&self, index: usize, weights: &'a mut [T]) -> &'a mut [T] {
        &mut weights[self.weights[index].clone()]
    }
}

/// An orthonormal basis of the configurations of `particles` whose centre is 0, (N - 1, N): its rows are
/// those of Helmert's matrix, `(1, ..., 1, -a, 0, ...) / sqrt(a (a + 1))` with a ones.
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

/// The matrices between the coordinates of a configuration, ((N - 1) D), and its particles, (N D).
pub(super) struct Constants<T> {
    embed: Vec<T>,
    project: Vec<T>,
}

impl<T: Real> Constants<T> {
    pub(super) fn new(places: &Places) -> Self {
        let (n, d) = (places.particles, places.dimension);
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

    /// (outputs, inputs).
    pub(super) fn of(&self, matrix: Constant) -> &[T] {
        match matrix {
            Constant::Embed => &self.embed,
            Constant::Project => &self.project,
        }
    }
}
