//! What the tape does to rows of `width` numbers, compiled for vector registers.

use flows_core::ops::kernel::{Real, dispatch};

/// The edges (i, j) of n particles, j before i or behind it: those that start from one particle lie one
/// after another.
#[inline(always)]
fn ends(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (0..n).filter(move |j| *j != i).map(move |j| (i, j)))
}

/// `out_ij = a_i + b_j`.
pub(super) fn spread<T: Real>(out: &mut [T], a: &[T], b: &[T], n: usize, width: usize) {
    dispatch(
        #[inline(always)]
        || {
            let blocks = out.chunks_exact_mut(n * (n - 1) * width).zip(a.chunks_exact(n * width));
            for ((out, a), b) in blocks.zip(b.chunks_exact(n * width)) {
                for (out, (i, j)) in out.chunks_exact_mut(width).zip(ends(n)) {
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
pub(super) fn difference<T: Real>(out: &mut [T], x: &[T], n: usize, width: usize) {
    for (out, x) in out.chunks_exact_mut(n * (n - 1) * width).zip(x.chunks_exact(n * width)) {
        for (out, (i, j)) in out.chunks_exact_mut(width).zip(ends(n)) {
            for (c, out) in out.iter_mut().enumerate() {
                *out = x[i * width + c] - x[j * width + c];
            }
        }
    }
}

/// Adds to each particle `factor` times the rows of its edges: of those that start from it if `first`,
/// else of those that end at it.
pub(super) fn gather<T: Real>(to: &mut [T], edges: &[T], (n, width): (usize, usize), first: bool, factor: T) {
    dispatch(
        #[inline(always)]
        || {
            for (to, edges) in to.chunks_exact_mut(n * width).zip(edges.chunks_exact(n * (n - 1) * width)) {
                for (edge, (i, j)) in edges.chunks_exact(width).zip(ends(n)) {
                    let at = if first { i } else { j };
                    for (to, &v) in to[at * width..][..width].iter_mut().zip(edge) {
                        *to += factor * v;
                    }
                }
            }
        },
    );
}

/// Adds `factor` times the row of a particle to all edges that start from it.
pub(super) fn hand_out<T: Real>(to: &mut [T], particles: &[T], (n, width): (usize, usize), factor: T) {
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

/// Adds to each row its number q times `row`.
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

/// The way back of [`add_outer`].
pub(super) fn outer_gradient<T: Real>(g: &[T], (q, row): (&[T], &[T]), of_q: &mut [T], of_row: &mut [T]) {
    dispatch(
        #[inline(always)]
        || {
            for ((g, &q), of_q) in g.chunks_exact(row.len()).zip(q).zip(of_q) {
                let mut sum = T::zero();
                for ((&g, &w), of_w) in g.iter().zip(row).zip(of_row.iter_mut()) {
                    sum += g * w;
                    *of_w += g * q;
                }
                *of_q += sum;
            }
        },
    );
}

/// Adds to each row its number s times the row of x.
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

/// Each row's number s times the row of x.
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

/// Adds `row` to each row.
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

/// Adds to each number the product of two rows.
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

/// Adds all rows of x to `sum`.
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
