//! Convolutions of three taps with half of the multiplications.
//!
//! Four outputs a dilation apart, `y_i = g_0 x_i + g_1 x_(i+1) + g_2 x_(i+2)`, are values of a product of polynomials,
//! which six products determine: those at 0, 1, -1, 2, -2 and infinity (Winograd, 1980; Lavin and Gray, 2015,
//! arXiv:1509.09308, section 4.3). For weights (O, C, 3) each of the six is a matrix product of transformed weights with
//! transformed columns.

use super::super::cpu::Real;
use super::super::matmul::{Operand, product};
use super::super::simd::dispatch;
use rayon::prelude::*;

/// Products for each four outputs.
const PRODUCTS: usize = 6;

/// Outputs of a group.
const OUTPUTS: usize = 4;

/// The number of columns of each product, for `positions` outputs of a dilation.
pub(super) fn groups(positions: usize, dilation: usize) -> usize {
    let whole = positions / (OUTPUTS * dilation);
    whole * dilation + (positions - whole * OUTPUTS * dilation).min(dilation)
}

/// Whether six products of these columns are fewer multiplications, by enough to pay for the transforms, than those of
/// three taps at all positions.
pub(super) fn pays(channels: usize, positions: usize, dilation: usize) -> bool {
    let groups = groups(positions, dilation);
    channels >= 64 && groups >= 32 && 5 * PRODUCTS * groups <= 4 * 3 * positions
}

/// The weights (O, C, 3) as six matrices (O, C), one after another.
pub(super) fn weights<T: Real>(weights: &[T]) -> Vec<T> {
    let count = weights.len() / 3;
    let mut out = vec![T::zero(); PRODUCTS * count];
    let [quarter, sixth, twelfth, twentyfourth] = [4.0, 6.0, 12.0, 24.0].map(|n: f64| T::of(1.0 / n));
    let mut matrices = out.chunks_mut(count);
    let mut next = || matrices.next().unwrap_or_default();
    let [w0, w1, w2, w3, w4, w5] = [next(), next(), next(), next(), next(), next()];
    let rows = (w0.par_chunks_mut(CHUNK), w1.par_chunks_mut(CHUNK), w2.par_chunks_mut(CHUNK));
    let more = (w3.par_chunks_mut(CHUNK), w4.par_chunks_mut(CHUNK), w5.par_chunks_mut(CHUNK));
    let chunks = (rows.0, rows.1, rows.2, more.0, more.1, more.2, weights.par_chunks(3 * CHUNK)).into_par_iter();
    chunks.for_each(|(w0, w1, w2, w3, w4, w5, g)| {
        for (i, &[g0, g1, g2]) in g.as_chunks::<3>().0.iter().enumerate() {
            w0[i] = quarter * g0;
            w1[i] = -sixth * (g0 + g1 + g2);
            w2[i] = -sixth * (g0 - g1 + g2);
            w3[i] = twentyfourth * g0 + twelfth * g1 + sixth * g2;
            w4[i] = twentyfourth * g0 - twelfth * g1 + sixth * g2;
            w5[i] = g2;
        }
    });
    out
}

/// Weights that one task transforms.
const CHUNK: usize = 1 << 14;

/// Memory for the columns of a tile.
pub(super) struct Scratch<T> {
    /// The transformed columns, six matrices (C, groups).
    columns: Vec<T>,
    /// The products, six matrices (O, groups).
    products: Vec<T>,
}

impl<T> Scratch<T> {
    pub(super) fn new() -> Self {
        Self { columns: Vec::new(), products: Vec::new() }
    }
}

/// Adds the convolution to `out` (O, positions): `line(c, out)` writes channel c from a dilation before the first position
/// on, as far as `out` goes.
pub(super) fn convolve<T: Real>(
    out: &mut [T],
    [outputs, inputs]: [usize; 2],
    positions: usize,
    dilation: usize,
    transformed: &[T],
    scratch: &mut Scratch<T>,
    mut line: impl FnMut(usize, &mut [T]),
) {
    let groups = groups(positions, dilation);
    scratch.columns.resize(PRODUCTS * inputs * groups, T::zero());
    scratch.products.resize(PRODUCTS * outputs * groups, T::zero());
    let blocks = positions.div_ceil(OUTPUTS * dilation);
    let mut seen = vec![T::zero(); (OUTPUTS * blocks + 2) * dilation];
    // The inputs of all groups side by side, so that loops over groups are long whatever the dilation.
    let mut x = vec![T::zero(); PRODUCTS * groups];
    let size = inputs * groups;
    for c in 0..inputs {
        line(c, &mut seen);
        for (i, x) in x.chunks_mut(groups).enumerate() {
            for (block, x) in x.chunks_mut(dilation).enumerate() {
                let from = (block * OUTPUTS + i) * dilation;
                match *x {
                    // Without a call to copy one number.
                    [ref mut x] => *x = seen[from],
                    _ => x.copy_from_slice(&seen[from..from + x.len()]),
                }
            }
        }
        let mut parts = scratch.columns.chunks_mut(size).map(|part| &mut part[c * groups..][..groups]);
        let mut next = || parts.next().unwrap_or_default();
        inputs_of(&x, [next(), next(), next(), next(), next(), next()]);
    }
    let products = scratch.products.chunks_mut(outputs * groups);
    let matrices = transformed.chunks(outputs * inputs).zip(scratch.columns.chunks(size));
    for (product_of, (weights, columns)) in products.zip(matrices) {
        product(product_of, groups, Operand::new(weights, inputs), Operand::new(columns, groups), false);
    }
    let mut y = vec![T::zero(); OUTPUTS * groups];
    for (o, out) in out.chunks_mut(positions).enumerate() {
        let mut parts = scratch.products.chunks(outputs * groups).map(|m| &m[o * groups..][..groups]);
        let mut next = || parts.next().unwrap_or_default();
        outputs_of([next(), next(), next(), next(), next(), next()], &mut y);
        for (i, y) in y.chunks(groups).enumerate() {
            for (block, y) in y.chunks(dilation).enumerate() {
                let to = ((block * OUTPUTS + i) * dilation).min(positions);
                let until = positions.min(to + y.len());
                out[to..until].iter_mut().zip(y).for_each(|(out, &y)| *out += y);
            }
        }
    }
}

/// The transformed columns of the six inputs of each group.
fn inputs_of<T: Real>(x: &[T], v: [&mut [T]; 6]) {
    let [two, four, five] = [2.0, 4.0, 5.0].map(T::of);
    let n = x.len() / PRODUCTS;
    let [v0, v1, v2, v3, v4, v5] = v.map(|v| &mut v[..n]);
    dispatch(
        #[inline(always)]
        || {
            let (x0, x1, x2) = (&x[..n], &x[n..2 * n], &x[2 * n..3 * n]);
            let (x3, x4, x5) = (&x[3 * n..4 * n], &x[4 * n..5 * n], &x[5 * n..6 * n]);
            for i in 0..n {
                let (a, b) = (x4[i] - four * x2[i], x3[i] - four * x1[i]);
                let (c, d) = (x4[i] - x2[i], two * (x3[i] - x1[i]));
                v0[i] = four * x0[i] - five * x2[i] + x4[i];
                v1[i] = a + b;
                v2[i] = a - b;
                v3[i] = c + d;
                v4[i] = c - d;
                v5[i] = four * x1[i] - five * x3[i] + x5[i];
            }
        },
    );
}

/// The four outputs of each group, given its six products.
fn outputs_of<T: Real>(m: [&[T]; 6], y: &mut [T]) {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(T::of);
    let n = y.len() / OUTPUTS;
    let [m0, m1, m2, m3, m4, m5] = m.map(|m| &m[..n]);
    let (y0, rest) = y.split_at_mut(n);
    let (y1, rest) = rest.split_at_mut(n);
    let (y2, y3) = rest.split_at_mut(n);
    dispatch(
        #[inline(always)]
        || {
            let (y2, y3) = (&mut y2[..n], &mut y3[..n]);
            for i in 0..n {
                let (a, b) = (m1[i] + m2[i], m1[i] - m2[i]);
                let (c, d) = (m3[i] + m4[i], m3[i] - m4[i]);
                y0[i] = m0[i] + a + c;
                y1[i] = b + two * d;
                y2[i] = a + four * c;
                y3[i] = b + eight * d + m5[i];
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Result, Rng};

    #[test]
    fn it_is_the_convolution() -> Result<()> {
        let rng = &mut Rng::seed(1);
        let (outputs, inputs) = (3, 2);
        for (positions, dilation) in [(8, 1), (9, 2), (3, 1), (5, 4), (64, 16), (70, 16), (1, 1), (17, 32)] {
            let w: Vec<f64> = (0..outputs * inputs * 3).map(|_| rng.normal()).collect();
            let x: Vec<f64> = (0..inputs * positions).map(|_| rng.normal()).collect();
            let at = |c: usize, t: isize| match (0..positions as isize).contains(&t) {
                true => x[c * positions + t as usize],
                false => 0.0,
            };
            let mut out = vec![1.0; outputs * positions];
            let line = |c: usize, out: &mut [f64]| {
                out.iter_mut().enumerate().for_each(|(i, out)| *out = at(c, i as isize - dilation as isize));
            };
            let scratch = &mut Scratch::new();
            convolve(&mut out, [outputs, inputs], positions, dilation, &weights(&w), scratch, line);
            for (i, got) in out.iter().enumerate() {
                let (o, t) = (i / positions, (i % positions) as isize);
                let want: f64 = (0..inputs * 3)
                    .map(|k| {
                        w[o * inputs * 3 + k] * at(k / 3, t + (k % 3) as isize * dilation as isize - dilation as isize)
                    })
                    .sum();
                assert!((got - want - 1.0).abs() < 1e-12, "{positions} {dilation}: {got} {want}");
            }
        }
        Ok(())
    }
}
