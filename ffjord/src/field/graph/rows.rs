//! The row operations of the tape, compiled for vector registers.

use flows_core::ops::kernel::{Real, dispatch};

/// The end of an edge (i, j).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// i.
    Source,
    /// j.
    Target,
}

/// The edges (i, j) of n particles, i != j, grouped by i.
#[inline(always)]
fn edges(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (0..n).filter(move |j| *j != i).map(move |j| (i, j)))
}

/// `out_ij = a_i + b_j`.
pub(super) fn pairwise_sums<T: Real>(out: &mut [T], a: &[T], b: &[T], n: usize, width: usize) {
    dispatch(
        #[inline(always)]
        || {
            let blocks = out.chunks_exact_mut(n * (n - 1) * width).zip(a.chunks_exact(n * width));
            for ((out, a), b) in blocks.zip(b.chunks_exact(n * width)) {
                for (out, (i, j)) in out.chunks_exact_mut(width).zip(edges(n)) {
                    let (a, b) = (&a[i * width..][..width], &b[j * width..][..width]);
                    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                        *out = a + b;
                    }
                }
            }
        },
    );
}

/// `out_ij = x_i - x_j`.
pub(super) fn pairwise_differences<T: Real>(out: &mut [T], x: &[T], n: usize, width: usize) {
    for (out, x) in out.chunks_exact_mut(n * (n - 1) * width).zip(x.chunks_exact(n * width)) {
        for (out, (i, j)) in out.chunks_exact_mut(width).zip(edges(n)) {
            for (c, out) in out.iter_mut().enumerate() {
                *out = x[i * width + c] - x[j * width + c];
            }
        }
    }
}

/// Adds `factor` times the row of each edge to the row of the particle at the given end.
pub(super) fn add_edges<T: Real>(to: &mut [T], rows: &[T], (n, width): (usize, usize), end: End, factor: T) {
    dispatch(
        #[inline(always)]
        || {
            for (to, rows) in to.chunks_exact_mut(n * width).zip(rows.chunks_exact(n * (n - 1) * width)) {
                for (row, (i, j)) in rows.chunks_exact(width).zip(edges(n)) {
                    let particle = if end == End::Source { i } else { j };
                    for (to, &v) in to[particle * width..][..width].iter_mut().zip(row) {
                        *to += factor * v;
                    }
                }
            }
        },
    );
}

/// Adds `factor` times the row of each particle i to the rows of all edges (i, j).
pub(super) fn broadcast_to_edges<T: Real>(to: &mut [T], particles: &[T], (n, width): (usize, usize), factor: T) {
    dispatch(
        #[inline(always)]
        || {
            for (to, row) in to.chunks_exact_mut((n - 1) * width).zip(particles.chunks_exact(width)) {
                for to in to.chunks_exact_mut(width) {
                    for (to, &v) in to.iter_mut().zip(row) {
                        *to += factor * v;
                    }
                }
            }
        },
    );
}

/// Adds the outer product of q and `row` to the rows of `out`.
pub(super) fn add_outer<T: Real>(out: &mut [T], q: &[T], row: &[T]) {
    dispatch(
        #[inline(always)]
        || {
            for (out, &q) in out.chunks_exact_mut(row.len()).zip(q) {
                for (out, &w) in out.iter_mut().zip(row) {
                    *out += q * w;
                }
            }
        },
    );
}

/// The backward pass of [`add_outer`], given the gradient g with respect to `out`; adds to `grad_q` and `grad_row`.
pub(super) fn add_outer_backward<T: Real>(g: &[T], q: &[T], row: &[T], grad_q: &mut [T], grad_row: &mut [T]) {
    dispatch(
        #[inline(always)]
        || {
            for ((g, &q), grad_q) in g.chunks_exact(row.len()).zip(q).zip(grad_q) {
                let mut sum = T::zero();
                for ((&g, &w), grad_w) in g.iter().zip(row).zip(grad_row.iter_mut()) {
                    sum += g * w;
                    *grad_w += g * q;
                }
                *grad_q += sum;
            }
        },
    );
}

/// `out_r += s_r x_r` for each row r.
pub(super) fn add_scaled_rows<T: Real>(out: &mut [T], x: &[T], s: &[T], width: usize) {
    dispatch(
        #[inline(always)]
        || {
            for ((out, x), &s) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(s) {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out += s * x;
                }
            }
        },
    );
}

/// `out_r = s_r x_r` for each row r.
pub(super) fn scale_rows<T: Real>(out: &mut [T], x: &[T], s: &[T], width: usize) {
    dispatch(
        #[inline(always)]
        || {
            for ((out, x), &s) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(s) {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = s * x;
                }
            }
        },
    );
}

/// Adds `row` to each row of `out`.
pub(super) fn add_row<T: Real>(out: &mut [T], row: &[T]) {
    dispatch(
        #[inline(always)]
        || {
            for out in out.chunks_exact_mut(row.len()) {
                for (out, &v) in out.iter_mut().zip(row) {
                    *out += v;
                }
            }
        },
    );
}

/// `out_r += a_r . b_r` for each row r.
pub(super) fn add_dots<T: Real>(out: &mut [T], a: &[T], b: &[T], width: usize) {
    dispatch(
        #[inline(always)]
        || {
            for ((out, a), b) in out.iter_mut().zip(a.chunks_exact(width)).zip(b.chunks_exact(width)) {
                let mut sum = T::zero();
                for (&a, &b) in a.iter().zip(b) {
                    sum += a * b;
                }
                *out += sum;
            }
        },
    );
}

/// Adds every row of x to `sum`.
pub(super) fn add_rows<T: Real>(sum: &mut [T], x: &[T]) {
    for row in x.chunks_exact(sum.len()) {
        for (sum, &v) in sum.iter_mut().zip(row) {
            *sum += v;
        }
    }
}

/// `out += factor x`.
pub(super) fn add_scaled<T: Real>(out: &mut [T], x: &[T], factor: T) {
    dispatch(
        #[inline(always)]
        || {
            for (out, &x) in out.iter_mut().zip(x) {
                *out += factor * x;
            }
        },
    );
}
