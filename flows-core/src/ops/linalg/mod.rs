//! Determinants, inverses, triangular solves and factorisations of small matrices.
//!
//! Values of f32 or f64 are computed in f64 and rounded once. The leading dimensions are a batch.
//! Everything runs on the CPU: a tensor of another device is moved there and its result back.

use super::cpu::Real;
use super::operation::Operation;
use crate::{Error, Result, Rng};
use candle_core::{D, Device, Tensor};
use faer::prelude::{Mat, MatRef};
use operations::{Cholesky, LogAbsDet, Solve, Triangular};

mod operations;

/// `log|det A|`, (...), for A of shape (..., n, n); minus infinity where A is singular.
///
/// The gradient is A^-T, which is not finite where A is singular.
///
/// # Errors
/// When the matrices are not square, or not of f32 or f64.
pub fn log_abs_det(a: &Tensor) -> Result<Tensor> {
    square("the matrix of log_abs_det", a)?;
    on_cpu(a, |a| a.apply_op1(Operation(LogAbsDet)))
}

/// A^-1 for A of shape (..., n, n); entries that are not finite where A is singular.
///
/// # Errors
/// When the matrices are not square, or not of f32 or f64.
pub fn inverse(a: &Tensor) -> Result<Tensor> {
    let n = square("the matrix to invert", a)?;
    // The rows of a solution to the unit vectors are the columns of the inverse.
    let unit = Tensor::eye(n, a.dtype(), a.device())?;
    Ok(solve_rows(a, &unit)?.transpose(D::Minus1, D::Minus2)?.contiguous()?)
}

/// The X (..., n, k) with A X = B, for A (..., n, n) and B (..., n, k); one of them may lack the leading
/// dimensions. Not finite where A is singular.
///
/// # Errors
/// When shapes do not fit, or the type is not f32 or f64.
pub fn solve(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    columns(b, |b| solve_rows(a, b))
}

/// The X (..., k, n) whose rows satisfy A x_i = b_i, for B (..., k, n): [`solve`] for points that
/// are the rows of a batch.
///
/// # Errors
/// As [`solve`].
pub fn solve_rows(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply_solve(a, b, None)
}

/// The X (..., n, k) with op(A) X = B, where A (..., n, n) is triangular and op(A) is A, or A^T if
/// `transpose`; `upper` and `unit_diagonal` describe A itself, not its transpose.
///
/// Only that triangle of A is read (without the diagonal if `unit_diagonal`), and
/// only it gets a gradient. A zero on the diagonal gives entries that are not finite.
///
/// # Errors
/// When shapes do not fit, or the type is not f32 or f64.
pub fn solve_triangular(a: &Tensor, b: &Tensor, upper: bool, unit_diagonal: bool, transpose: bool) -> Result<Tensor> {
    columns(b, |b| solve_triangular_rows(a, b, upper, unit_diagonal, transpose))
}

/// The X (..., k, n) whose rows satisfy op(A) x_i = b_i, for B (..., k, n): [`solve_triangular`]
/// for points that are the rows of a batch.
///
/// # Errors
/// As [`solve_triangular`].
pub fn solve_triangular_rows(
    a: &Tensor,
    b: &Tensor,
    upper: bool,
    unit_diagonal: bool,
    transpose: bool,
) -> Result<Tensor> {
    if transpose {
        square("the matrix to solve with", a)?;
        let a = a.transpose(D::Minus1, D::Minus2)?;
        apply_solve(&a, b, Some(Triangular { upper: !upper, unit: unit_diagonal }))
    } else {
        apply_solve(a, b, Some(Triangular { upper, unit: unit_diagonal }))
    }
}

/// The lower-triangular L with positive diagonal such that L L^T is the symmetric part of A, of shape (..., n, n).
///
/// # Errors
/// When a matrix is not positive definite, or not square, or not of f32 or f64.
pub fn cholesky(a: &Tensor) -> Result<Tensor> {
    square("the matrix of cholesky", a)?;
    on_cpu(a, |a| a.apply_op1(Operation(Cholesky)))
}

/// A random orthogonal n x n matrix (row-major, Haar-distributed), to initialise a weight.
pub fn orthogonal(n: usize, rng: &mut Rng) -> Vec<f64> {
    let qr = Mat::from_fn(n, n, |_, _| rng.normal()).qr();
    let (q, r) = (qr.compute_Q(), qr.R());
    // The signs of Q's columns depend on the algorithm; with those of R's diagonal, Q is Haar-distributed.
    (0..n * n).map(|e| q[(e / n, e % n)] * r[(e % n, e % n)].signum()).collect()
}

/// The orthogonal Q with the largest `tr(Q^T A)`, for a row-major n x n matrix A: the polar factor U V^T of its
/// singular value decomposition. `None` if A is singular or not finite.
pub fn orthogonal_factor(matrix: &[f64], n: usize) -> Option<Vec<f64>> {
    let svd = MatRef::from_row_major_slice(matrix, n, n).svd().ok()?;
    let singular = svd.S().column_vector();
    let (largest, least) = (singular[0], singular[n - 1]);
    if !largest.is_finite() || least.is_nan() || least <= 1e-12 * largest {
        return None;
    }
    let q = svd.U() * svd.V().transpose();
    Some((0..n * n).map(|e| q[(e / n, e % n)]).collect())
}

/// The factors of A = P L U, to initialise weights.
#[derive(Clone, Debug)]
pub struct Lu {
    /// Row i of A is row `permutation[i]` of L U.
    pub permutation: Vec<u32>,
    /// L, unit lower triangular, row-major.
    pub lower: Vec<f64>,
    /// U, upper triangular, row-major.
    pub upper: Vec<f64>,
}

/// A = P L U of a row-major n x n matrix, with partial pivoting; no gradient.
///
/// # Errors
/// When there are not n^2 values.
pub fn lu(matrix: &[f64], n: usize) -> Result<Lu> {
    if matrix.len() != n * n || n == 0 {
        return Err(Error::shape("the matrix of lu", &[matrix.len()], format!("{n} x {n} values")));
    }
    let lu = MatRef::from_row_major_slice(matrix, n, n).partial_piv_lu();
    let values = |m: MatRef<'_, f64>| (0..n * n).map(|e| m[(e / n, e % n)]).collect();
    let permutation = lu.P().arrays().1.iter().map(|&i| i as u32).collect();
    Ok(Lu { permutation, lower: values(lu.L()), upper: values(lu.U()) })
}

pub(super) fn on_cpu(a: &Tensor, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Tensor> {
    Ok(f(&a.to_device(&Device::Cpu)?.contiguous()?)?.to_device(a.device())?)
}

/// n, of (..., n, n) with n > 0.
fn square(what: &str, a: &Tensor) -> Result<usize> {
    match a.dims() {
        [.., m, n] if m == n && *n > 0 => Ok(*n),
        got => Err(Error::shape(what, got, "(..., n, n)")),
    }
}

/// Applies `f`, which works on rows, to the columns of `b`.
fn columns(b: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if b.rank() < 2 {
        return Err(Error::shape("the right-hand side", b.dims(), "(..., n, k)"));
    }
    Ok(f(&b.transpose(D::Minus1, D::Minus2)?)?.transpose(D::Minus1, D::Minus2)?.contiguous()?)
}

fn apply_solve(a: &Tensor, b: &Tensor, kind: Option<Triangular>) -> Result<Tensor> {
    let n = square("the matrix to solve with", a)?;
    let ([lead_a @ .., _, _], [lead_b @ .., k, m]) = (a.dims(), b.dims()) else {
        return Err(Error::shape("the right-hand side", b.dims(), "(..., k, n)"));
    };
    if *m != n {
        return Err(Error::shape("the right-hand side", b.dims(), format!("points of {n} numbers")));
    }
    let (a, b) = match (lead_a, lead_b) {
        (x, y) if x == y => (a.clone(), b.clone()),
        ([], lead) => (a.broadcast_as([lead, &[n, n]].concat())?, b.clone()),
        (lead, []) => (a.clone(), b.broadcast_as([lead, &[*k, n]].concat())?),
        (lead, _) => return Err(Error::shape("the right-hand side", b.dims(), format!("a batch of {lead:?}"))),
    };
    let device = b.device().clone();
    let b = b.to_device(&Device::Cpu)?.contiguous()?;
    let x = a.to_device(&Device::Cpu)?.contiguous()?.apply_op2(&b, Operation(Solve(kind)))?;
    Ok(x.to_device(&device)?)
}

/// The values in f64.
pub(super) fn widened<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| v.wide()).collect()
}

/// The values rounded to T.
pub(super) fn narrowed<T: Real>(values: Vec<f64>) -> Vec<T> {
    values.into_iter().map(T::of).collect()
}

#[cfg(test)]
mod tests;
