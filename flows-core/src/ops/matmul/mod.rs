//! Matrix products of row-major slices, by faer or, with the feature `mkl`, by Intel's Math Kernel Library.

use super::cpu::Real;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

#[cfg(feature = "mkl")]
pub(super) mod mkl;

/// A row-major matrix, or its transpose.
#[derive(Clone, Copy)]
pub struct Operand<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl<'a, T: Real> Operand<'a, T> {
    /// The matrix with rows of `columns` numbers.
    pub fn new(values: &'a [T], columns: usize) -> Self {
        Self { values, rows: values.len() / columns.max(1), columns, stride: columns, transposed: false }
    }

    /// The matrix of `rows` rows of `columns` numbers, which begin `stride` numbers apart.
    pub fn strided(values: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        Self { values, rows, columns, stride, transposed: false }
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// `count` rows from `start` on.
    fn block(self, start: usize, count: usize) -> Self {
        match self.transposed {
            false => Self { values: &self.values[start * self.stride..], rows: count, ..self },
            true => Self { values: &self.values[start..], columns: count, ..self },
        }
    }

    /// The number of columns, transposed or not.
    fn width(&self) -> usize {
        if self.transposed { self.rows } else { self.columns }
    }

    #[cfg(not(feature = "mkl"))]
    fn view(&self) -> MatRef<'a, T> {
        let view = MatRef::from_row_major_slice_with_stride(self.values, self.rows, self.columns, self.stride);
        if self.transposed { view.transpose() } else { view }
    }
}

/// Products of fewer multiplications than this are faster on one thread.
pub(super) const PARALLEL: usize = 4_000_000;

/// `out += a b`, where `out` has rows of `columns` numbers.
///
/// The rows are divided into blocks whose size does not depend on the number of threads, so neither
/// does the result.
pub(super) fn add_product<T: Real>(out: &mut [T], columns: usize, a: Operand<'_, T>, b: Operand<'_, T>) {
    if out.is_empty() {
        return;
    }
    let rows = out.len() / columns;
    let block = if rows * columns * a.width() < PARALLEL { rows } else { rows.div_ceil(4).next_multiple_of(16) };
    let run = |(i, out): (usize, &mut [T])| {
        let count = out.len() / columns;
        multiply(out, columns, a.block(i * block, count), b, true);
    };
    if block == rows {
        run((0, out));
    } else {
        out.par_chunks_mut(block * columns).enumerate().for_each(run);
    }
}

/// `out = a b`, or `out += a b` if `add`, on the calling thread.
pub fn product<T: Real>(out: &mut [T], columns: usize, a: Operand<'_, T>, b: Operand<'_, T>, add: bool) {
    multiply(out, columns, a, b, add);
}

#[cfg(feature = "mkl")]
use mkl::multiply;

#[cfg(not(feature = "mkl"))]
fn multiply<T: Real>(out: &mut [T], columns: usize, a: Operand<'_, T>, b: Operand<'_, T>, add: bool) {
    let (a, b) = (a.view(), b.view());
    let out = MatMut::from_row_major_slice_mut(out, a.nrows(), columns);
    matmul(out, if add { Accum::Add } else { Accum::Replace }, a, b, T::one(), Par::Seq);
    clear_upper_halves();
}

/// `out += a b` on the calling thread, for views of any strides.
pub(crate) fn add_product_of<T: Real>(out: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    if a.ncols() > 0 && out.nrows() > 0 && out.ncols() > 0 {
        matmul(out, Accum::Add, a, b, T::one(), Par::Seq);
        clear_upper_halves();
    }
}

/// Clears the upper halves of the vector registers, which the AVX-512 kernels of faer leave in
/// use: until then every SSE instruction waits for them and takes ten times as long.
fn clear_upper_halves() {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX, which is all that the instruction needs; no upper half holds a
        // value here, since Rust passes none across calls.
        unsafe { zero_upper() }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn zero_upper() {
    std::arch::x86_64::_mm256_zeroupper();
}
