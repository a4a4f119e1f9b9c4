//! The loops of transformers that have a pair of parameters: chunk by chunk, on all threads and in vector registers.

use super::cpu::Real;
use super::simd::dispatch;
use rayon::prelude::*;

/// About as many elements make a chunk.
const CHUNK: usize = 4096;

/// The pairs of parameters of elements: one for each element or, where there are fewer, for each element of a row.
struct Pairs<'a, T> {
    parameters: &'a [T],
    /// The pairs of a row, repeated for a whole chunk; empty where each element has a pair.
    repeated: Vec<T>,
    /// Elements of a chunk; whole rows where the pairs are those of a row.
    chunk: usize,
}

impl<'a, T: Real> Pairs<'a, T> {
    fn new(parameters: &'a [T], elements: usize) -> Self {
        let columns = parameters.len() / 2;
        if columns < elements {
            let rows = (CHUNK / columns).max(1);
            Self { parameters, repeated: parameters.repeat(rows), chunk: columns * rows }
        } else {
            Self { parameters, repeated: Vec::new(), chunk: CHUNK }
        }
    }

    /// The pairs of the n elements of the chunk that begins at `start`.
    fn of(&self, start: usize, n: usize) -> &[[T; 2]] {
        let pairs = if self.repeated.is_empty() {
            &self.parameters[2 * start..2 * (start + n)]
        } else {
            &self.repeated[..2 * n]
        };
        pairs.as_chunks().0
    }

    /// The gradient with respect to the parameters, given that with respect to the pair of each element.
    fn sum(&self, of_pairs: Vec<T>) -> Vec<T> {
        if of_pairs.len() == self.parameters.len() {
            return of_pairs;
        }
        let mut sum = vec![T::zero(); self.parameters.len()];
        for row in of_pairs.chunks_exact(sum.len()) {
            sum.iter_mut().zip(row).for_each(|(sum, &g)| *sum += g);
        }
        sum
    }
}

/// Elements of a chunk with their pairs of parameters, values and log-derivatives.
pub(super) struct Evaluated<'a, T> {
    pub(super) x: &'a [T],
    pub(super) pairs: &'a [[T; 2]],
    pub(super) values: &'a mut [T],
    pub(super) logs: &'a mut [T],
}

/// A map of an element with its pair of parameters.
pub(super) trait Pairwise<T>: Copy + Sync {
    /// The value and log-derivative.
    fn at(self, x: T, pair: [T; 2]) -> (T, T);

    /// The gradients with respect to the element and its pair, given those with respect to value and log-derivative.
    fn gradient(self, x: T, pair: [T; 2], grads: [T; 2]) -> [T; 3];

    /// Calls `f` with the kind of the map as a constant, so that loops have no branches and become vector instructions.
    fn specialised(self, f: impl FnOnce(Self));
}

/// The values of all elements followed by their log-derivatives; `finish` is called for each chunk.
#[inline]
pub(super) fn evaluate<T: Real>(
    x: &[T],
    parameters: &[T],
    kernel: impl Pairwise<T>,
    finish: impl Fn(Evaluated<'_, T>) + Sync,
) -> Vec<T> {
    let pairs = Pairs::new(parameters, x.len());
    let mut packed = vec![T::zero(); 2 * x.len()];
    let (values, logs) = packed.split_at_mut(x.len());
    let outputs = values.par_chunks_mut(pairs.chunk).zip(logs.par_chunks_mut(pairs.chunk));
    outputs.enumerate().for_each(|(i, (values, logs))| {
        let (start, n) = (i * pairs.chunk, values.len());
        let (x, pairs) = (&x[start..start + n], pairs.of(start, n));
        dispatch(
            #[inline(always)]
            || {
                kernel.specialised(
                    #[inline(always)]
                    |kernel| {
                        let outputs = values.iter_mut().zip(logs.iter_mut());
                        for ((&x, &pair), (value, log)) in x.iter().zip(pairs).zip(outputs) {
                            (*value, *log) = kernel.at(x, pair);
                        }
                    },
                );
            },
        );
        finish(Evaluated { x, pairs, values, logs });
    });
    packed
}

/// Gradients with respect to the elements of a chunk and their pairs of parameters.
pub(super) struct ChunkGradient<'a, T> {
    /// The index of the chunk's first element.
    pub(super) start: usize,
    pub(super) x: &'a mut [T],
    pub(super) pairs: &'a mut [[T; 2]],
}

/// The gradients with respect to the elements and to the parameters, given those with respect to all values followed by
/// those with respect to the log-derivatives; `finish` is called for each chunk.
#[inline]
pub(super) fn gradients<T: Real>(
    x: &[T],
    parameters: &[T],
    grad: &[T],
    kernel: impl Pairwise<T>,
    finish: impl Fn(ChunkGradient<'_, T>) + Sync,
) -> (Vec<T>, Vec<T>) {
    let pairs = Pairs::new(parameters, x.len());
    let (gvalues, glogs) = grad.split_at(x.len());
    let (mut gx, mut gp) = (vec![T::zero(); x.len()], vec![T::zero(); 2 * x.len()]);
    let outputs = gx.par_chunks_mut(pairs.chunk).zip(gp.par_chunks_mut(2 * pairs.chunk));
    outputs.enumerate().for_each(|(i, (gx, gp))| {
        let (start, n, gp) = (i * pairs.chunk, gx.len(), gp.as_chunks_mut().0);
        let [x, gvalues, glogs] = [x, gvalues, glogs].map(|slice| &slice[start..start + n]);
        let pairs = pairs.of(start, n);
        dispatch(
            #[inline(always)]
            || {
                kernel.specialised(
                    #[inline(always)]
                    |kernel| {
                        let (elements, grads) = (x.iter().zip(pairs), gvalues.iter().zip(glogs));
                        let outputs = gx.iter_mut().zip(gp.iter_mut());
                        for (((&x, &pair), (&gvalue, &glog)), (gx, gp)) in elements.zip(grads).zip(outputs) {
                            [*gx, gp[0], gp[1]] = kernel.gradient(x, pair, [gvalue, glog]);
                        }
                    },
                );
            },
        );
        finish(ChunkGradient { start, x: gx, pairs: gp });
    });
    let gp = pairs.sum(gp);
    (gx, gp)
}
