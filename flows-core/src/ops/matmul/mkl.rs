//! Products by Intel's Math Kernel Library.

use super::Operand;
use crate::ops::cpu::Real;
use std::ffi::c_int;

/// `C = alpha A B + beta C`: layout, whether A and B are transposed, rows, columns, inner size, alpha, A and its
/// stride, B and its stride, beta, C and its stride.
pub type Gemm<T> = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    T,
    *const T,
    c_int,
    *const T,
    c_int,
    T,
    *mut T,
    c_int,
);

macro_rules! product {
    ($name:ident, $number:ty) => {
        unsafe extern "C" {
            /// The product of matrices.
            pub fn $name(
                layout: c_int,
                transposed_a: c_int,
                transposed_b: c_int,
                rows: c_int,
                columns: c_int,
                inner: c_int,
                alpha: $number,
                a: *const $number,
                stride_a: c_int,
                b: *const $number,
                stride_b: c_int,
                beta: $number,
                c: *mut $number,
                stride_c: c_int,
            );
        }
    };
}

product!(cblas_sgemm, f32);
product!(cblas_dgemm, f64);

unsafe extern "C" {
    /// Sets the number of threads that the library may use for calls from this thread; returns the previous one.
    fn MKL_Set_Num_Threads_Local(threads: c_int) -> c_int;
}

const ROW_MAJOR: c_int = 101;

/// `out = a b`, or `out += a b` if `add`, on the calling thread.
pub(super) fn multiply<T: Real>(out: &mut [T], columns: usize, a: Operand<'_, T>, b: Operand<'_, T>, add: bool) {
    let (rows, inner) = (out.len() / columns, a.width());
    let fits = |matrix: &Operand<'_, T>| {
        matrix.stride >= matrix.columns
            && (matrix.rows == 0 || matrix.values.len() >= (matrix.rows - 1) * matrix.stride + matrix.columns)
    };
    let height = |matrix: &Operand<'_, T>| if matrix.transposed { matrix.columns } else { matrix.rows };
    assert!(fits(&a) && fits(&b) && out.len() == rows * columns, "a matrix is larger than its slice");
    assert!(
        height(&a) == rows && height(&b) == inner && b.width() == columns,
        "the sizes of a matrix product do not agree"
    );
    let size = |size: usize| c_int::try_from(size).expect("a matrix has more than 2^31 rows or columns");
    let transposed = |matrix: &Operand<'_, T>| if matrix.transposed { 112 } else { 111 };
    let beta = if add { T::one() } else { T::zero() };
    // SAFETY: as asserted, every row of A, B and C that the library accesses lies within its slice; C is borrowed
    // mutably, so it overlaps neither; the integers are those of the 32-bit interface that is linked.
    unsafe {
        MKL_Set_Num_Threads_Local(1);
        T::GEMM(
            ROW_MAJOR,
            transposed(&a),
            transposed(&b),
            size(rows),
            size(columns),
            size(inner),
            T::one(),
            a.values.as_ptr(),
            size(a.stride.max(1)),
            b.values.as_ptr(),
            size(b.stride.max(1)),
            beta,
            out.as_mut_ptr(),
            size(columns),
        );
    }
}
