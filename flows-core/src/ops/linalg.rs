//! Determinants, inverses, triangular solves and factorisations of small matrices.
//!
//! Values of f32 or f64 are computed in f64 and rounded once. The leading dimensions are a batch.
//! Everything runs on the CPU: a tensor of another device is moved there and its result back.

use crate::{Error, Result, Rng};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Device, Layout, Shape, Tensor};
use faer::prelude::{Mat, MatMut, MatRef, Solve as _};

/// `log|det A|`, (...), for A of shape (..., n, n); minus infinity where A is singular.
///
/// The gradient is A^-T, which is not finite where A is singular.
///
/// # Errors
/// When the matrices are not square, or not of f32 or f64.
pub fn log_abs_det(a: &Tensor) -> Result<Tensor> {
    square("the matrix of log_abs_det", a)?;
    on_cpu(a, |a| a.apply_op1(LogAbsDet))
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

/// The X (..., n, k) with A X = B, for A (..., n, n) and B (..., n, k); either may lack the leading
/// dimensions of the other. Not finite where A is singular.
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
/// `transpose`; `upper` and `unit_diagonal` speak of A before it is transposed.
///
/// Only the named triangle of A is read (without the diagonal if that is `unit_diagonal`), and
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

/// The lower-triangular L of positive diagonal with L L^T = A, for the symmetric part of A of shape
/// (..., n, n).
///
/// # Errors
/// When a matrix is not positive definite, or not square, or not of f32 or f64.
pub fn cholesky(a: &Tensor) -> Result<Tensor> {
    square("the matrix of cholesky", a)?;
    on_cpu(a, |a| a.apply_op1(Cholesky))
}

/// A random orthogonal n x n matrix (row-major, Haar-distributed) to start a weight from.
pub fn orthogonal(n: usize, rng: &mut Rng) -> Vec<f64> {
    let qr = Mat::from_fn(n, n, |_, _| rng.normal()).qr();
    let (q, r) = (qr.compute_Q(), qr.R());
    // Q alone depends on the algorithm's choice of signs; with the signs of R's diagonal it is Haar.
    (0..n * n).map(|e| q[(e / n, e % n)] * r[(e % n, e % n)].signum()).collect()
}

/// The factors of A = P L U, to start weights from.
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

/// Lets `f`, which works on rows, work on the columns of `b`.
fn columns(b: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if b.rank() < 2 {
        return Err(Error::shape("the right-hand side", b.dims(), "(..., n, k)"));
    }
    Ok(f(&b.transpose(D::Minus1, D::Minus2)?)?.transpose(D::Minus1, D::Minus2)?.contiguous()?)
}

fn apply_solve(a: &Tensor, b: &Tensor, kind: Option<Triangular>) -> Result<Tensor> {
    let n = square("the matrix to solve with", a)?;
    let ([lead_a @ .., _, _], [lead_b @ .., k, m]) = (a.dims(), b.dims()) else {
        return Err(Error::shape("the right-hand side", b.dims(), "rows of points or a batch of such"));
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
    let x = a.to_device(&Device::Cpu)?.contiguous()?.apply_op2(&b, Solve(kind))?;
    Ok(x.to_device(&device)?)
}

/// A row-major copy in f64.
pub(super) fn to_f64(storage: &CpuStorage, layout: &Layout) -> candle_core::Result<Vec<f64>> {
    fn copy<T: Copy + Into<f64>>(values: &[T], layout: &Layout) -> candle_core::Result<Vec<f64>> {
        match layout.contiguous_offsets() {
            Some((start, end)) => Ok(values[start..end].iter().map(|&v| v.into()).collect()),
            None => candle_core::bail!("linear algebra is for contiguous tensors"),
        }
    }
    match storage {
        CpuStorage::F32(values) => copy(values, layout),
        CpuStorage::F64(values) => copy(values, layout),
        _ => candle_core::bail!("linear algebra is for tensors of f32 or f64: convert with to_dtype"),
    }
}

/// `values` in the type of `like`.
pub(super) fn of_type(values: Vec<f64>, like: &CpuStorage) -> CpuStorage {
    match like {
        CpuStorage::F32(_) => CpuStorage::F32(values.into_iter().map(|v| v as f32).collect()),
        _ => CpuStorage::F64(values),
    }
}

struct LogAbsDet;

impl CustomOp1 for LogAbsDet {
    fn name(&self) -> &'static str {
        "log-abs-det"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let values = to_f64(storage, layout)?;
        let (lead, n) = layout.dims().split_at(layout.dims().len() - 2);
        let log_det = |a: &[f64]| {
            let lu = MatRef::from_row_major_slice(a, n[0], n[0]).partial_piv_lu();
            // Behind the first pivot of zero the factors are not defined.
            (0..n[0]).map(|i| lu.U()[(i, i)].abs()).try_fold(0.0, |sum, u| (u != 0.0).then(|| sum + u.ln()))
        };
        let log_dets =
            values.chunks_exact(n[0] * n[0]).map(|a| log_det(a).unwrap_or(f64::NEG_INFINITY)).collect::<Vec<_>>();
        Ok((of_type(log_dets, storage), lead.into()))
    }

    fn bwd(&self, a: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let inverse = inverse(&a.detach()).map_err(candle_core::Error::wrap)?;
        let grad = grad.unsqueeze(D::Minus1)?.unsqueeze(D::Minus1)?;
        Ok(Some(inverse.transpose(D::Minus1, D::Minus2)?.broadcast_mul(&grad)?))
    }
}

#[derive(Clone, Copy)]
struct Triangular {
    upper: bool,
    unit: bool,
}

/// Solves A x_i = b_i for the rows of b; A is triangular, or full if that is none.
struct Solve(Option<Triangular>);

impl CustomOp2 for Solve {
    fn name(&self) -> &'static str {
        "solve"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let dims = b_layout.dims();
        let (k, n) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let matrices = to_f64(a, a_layout)?;
        let mut x = to_f64(b, b_layout)?;
        for (a, x) in matrices.chunks_exact(n * n).zip(x.chunks_exact_mut((n * k).max(1))) {
            let a = MatRef::from_row_major_slice(a, n, n);
            let x = MatMut::from_column_major_slice_mut(x, n, k);
            match self.0 {
                None => a.partial_piv_lu().solve_in_place(x),
                Some(Triangular { upper: false, unit: false }) => a.solve_lower_triangular_in_place(x),
                Some(Triangular { upper: false, unit: true }) => a.solve_unit_lower_triangular_in_place(x),
                Some(Triangular { upper: true, unit: false }) => a.solve_upper_triangular_in_place(x),
                Some(Triangular { upper: true, unit: true }) => a.solve_unit_upper_triangular_in_place(x),
            }
        }
        Ok((of_type(x, b), dims.into()))
    }

    // grad B = A^-T grad X, grad A = -(grad B) X^T, within the triangle.
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        x: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let flipped = self.0.map(|t| Triangular { upper: !t.upper, ..t });
        let at = a.detach().transpose(D::Minus1, D::Minus2)?.contiguous()?;
        let grad_b = at.apply_op2_no_bwd(&grad.detach().contiguous()?, &Solve(flipped))?;
        let mut grad_a = None;
        if a.track_op() {
            let full = grad_b.transpose(D::Minus1, D::Minus2)?.contiguous()?.matmul(&x.detach())?.neg()?;
            grad_a = Some(match self.0 {
                None => full,
                Some(t) => full.broadcast_mul(&mask(&full, t)?)?,
            });
        }
        Ok((grad_a, b.track_op().then_some(grad_b)))
    }
}

/// Ones in the triangle, of the type of `like` (..., n, n).
fn mask(like: &Tensor, triangle: Triangular) -> candle_core::Result<Tensor> {
    let n = like.dim(D::Minus1)?;
    let inside = |i: usize, j: usize| if i == j { !triangle.unit } else { (j > i) == triangle.upper };
    let values: Vec<f64> = (0..n * n).map(|e| f64::from(u8::from(inside(e / n, e % n)))).collect();
    Tensor::from_vec(values, (n, n), like.device())?.to_dtype(like.dtype())
}

struct Cholesky;

impl CustomOp1 for Cholesky {
    fn name(&self) -> &'static str {
        "cholesky"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let n = layout.dims()[layout.dims().len() - 1];
        let mut values = to_f64(storage, layout)?;
        for (index, a) in values.chunks_exact_mut(n * n).enumerate() {
            let symmetric = Mat::from_fn(n, n, |i, j| 0.5 * (a[i * n + j] + a[j * n + i]));
            let Ok(factor) = symmetric.llt(faer::Side::Lower) else {
                candle_core::bail!(
                    "matrix {index} of the batch is not positive definite, so it has no Cholesky factor: \
                     add a small multiple of the identity to it"
                );
            };
            for (e, value) in a.iter_mut().enumerate() {
                *value = factor.L()[(e / n, e % n)];
            }
        }
        Ok((of_type(values, storage), layout.shape().clone()))
    }

    // grad A = L^-T sym(phi(L^T grad L)) L^-1 with phi the lower triangle and half the diagonal
    // (Murray 2016, arXiv:1602.07527), symmetric because A enters through its symmetric part.
    fn bwd(&self, _: &Tensor, l: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let l = l.detach();
        let lt = l.transpose(D::Minus1, D::Minus2)?.contiguous()?;
        let phi = lt.matmul(&grad.detach())?;
        let lower = mask(&phi, Triangular { upper: false, unit: false })?;
        let strict = mask(&phi, Triangular { upper: false, unit: true })?;
        let phi = phi.broadcast_mul(&((lower + strict)? * 0.5)?)?;
        let symmetric = ((&phi + phi.transpose(D::Minus1, D::Minus2)?)? * 0.5)?;
        let upper = Solve(Some(Triangular { upper: true, unit: false }));
        let half = lt.apply_op2_no_bwd(&symmetric, &upper)?.transpose(D::Minus1, D::Minus2)?.contiguous()?;
        Ok(Some(lt.apply_op2_no_bwd(&half, &upper)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Parameters;
    use crate::testing::{difference, gradient_difference};
    use candle_core::{DType, Var};

    const CPU: &Device = &Device::Cpu;

    fn random(shape: impl Into<Shape>, rng: &mut Rng) -> Tensor {
        rng.normal_tensor(shape, DType::F64, CPU).unwrap()
    }

    /// Gradients of `sum(f(inputs) * weights)` against central differences.
    fn gradients(inputs: &[&Tensor], f: impl Fn(&[Var]) -> Result<Tensor>) -> f64 {
        let rng = &mut Rng::seed(1);
        let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let weights = random(f(&vars).unwrap().shape().clone(), rng);
        let none = Parameters::new(DType::F64, CPU, Rng::seed(0));
        let named: Vec<(&str, &Var)> = vars.iter().map(|v| ("input", v)).collect();
        gradient_difference(|| Ok((f(&vars)? * &weights)?.sum_all()?), &none, &named, rng).unwrap()
    }

    #[test]
    fn determinants() -> Result<()> {
        let a = Tensor::new(&[[[2.0, 1.0], [4.0, 5.0]], [[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]], CPU)?;
        let log_dets = log_abs_det(&a)?.to_vec1::<f64>()?;
        assert!((log_dets[0] - 6f64.ln()).abs() < 1e-14);
        assert_eq!(log_dets[1..], [f64::NEG_INFINITY; 2]);
        assert!(log_abs_det(&Tensor::new(&[[f64::NAN]], CPU)?)?.to_scalar::<f64>()?.is_nan());
        assert_eq!(log_abs_det(&Tensor::new(&[[-1f32]], CPU)?)?.to_scalar::<f32>()?, 0.0);
        let rng = &mut Rng::seed(0);
        for n in [1, 3, 20] {
            let a = random((2, 3, n, n), rng);
            assert!(gradients(&[&a], |v| log_abs_det(&v[0])) < 1e-7);
            let eye = Tensor::eye(n, DType::F64, CPU)?.broadcast_as((2, 3, n, n))?;
            assert!(difference(&eye, &a.matmul(&inverse(&a)?)?)? < 1e-10);
            assert!(gradients(&[&a], |v| inverse(&v[0])) < 1e-6);
        }
        assert!(log_abs_det(&Tensor::zeros((2, 3), DType::F64, CPU)?).is_err());
        Ok(())
    }

    #[test]
    fn solves() -> Result<()> {
        let rng = &mut Rng::seed(2);
        let eye = (Tensor::eye(5, DType::F64, CPU)? * 4.0)?;
        let a = random((3, 5, 5), rng).broadcast_add(&eye)?;
        let b = random((3, 5, 2), rng);
        assert!(difference(&b, &a.matmul(&solve(&a, &b)?)?)? < 1e-12);
        assert!(gradients(&[&a, &b], |v| solve(&v[0], &v[1])) < 1e-7);
        // One matrix for a batch, and one right-hand side for many matrices.
        assert!(gradients(&[&a.get(0)?, &b], |v| solve(&v[0], &v[1])) < 1e-7);
        assert!(gradients(&[&a, &b.get(0)?], |v| solve(&v[0], &v[1])) < 1e-7);
        for case in 0..8 {
            let (upper, unit, transpose) = (case & 1 > 0, case & 2 > 0, case & 4 > 0);
            let mut t = a.broadcast_mul(&mask(&a, Triangular { upper, unit })?)?;
            if unit {
                t = t.broadcast_add(&(&eye / 4.0)?)?;
            }
            let op = if transpose { t.transpose(1, 2)? } else { t };
            // The full matrix goes in: the other triangle must not matter.
            let x = solve_triangular(&a, &b, upper, unit, transpose)?;
            assert!(difference(&b, &op.matmul(&x)?)? < 1e-12);
            assert!(gradients(&[&a, &b], |v| solve_triangular(&v[0], &v[1], upper, unit, transpose)) < 1e-7);
        }
        assert_eq!(solve_rows(&a.get(0)?, &Tensor::zeros((0, 5), DType::F64, CPU)?)?.dims(), [0, 5]);
        assert!(!inverse(&Tensor::zeros((2, 2), DType::F64, CPU)?)?.sum_all()?.to_scalar::<f64>()?.is_finite());
        Ok(())
    }

    #[test]
    fn cholesky_factors() -> Result<()> {
        for n in [1, 4] {
            let half = random((2, n, n), &mut Rng::seed(3));
            let a = half.matmul(&half.transpose(1, 2)?)?.broadcast_add(&Tensor::eye(n, DType::F64, CPU)?)?;
            let l = cholesky(&a)?;
            assert!(difference(&a, &l.matmul(&l.transpose(1, 2)?)?)? < 1e-12);
            assert!(gradients(&[&a], |v| cholesky(&v[0])) < 1e-7);
        }
        let error = cholesky(&Tensor::new(&[[1.0, 2.0], [2.0, 1.0]], CPU)?).unwrap_err();
        assert!(error.to_string().contains("not positive definite"));
        assert!(cholesky(&Tensor::new(&[[f64::NAN]], CPU)?).is_err());
        Ok(())
    }

    #[test]
    fn starts() -> Result<()> {
        let n = 7;
        let values = orthogonal(n, &mut Rng::seed(4));
        let q = Tensor::from_vec(values.clone(), (n, n), CPU)?;
        assert!(difference(&Tensor::eye(n, DType::F64, CPU)?, &q.matmul(&q.t()?)?)? < 1e-13);
        let Lu { permutation, lower, upper } = lu(&values, n)?;
        let product = Tensor::from_vec(lower, (n, n), CPU)?.matmul(&Tensor::from_vec(upper, (n, n), CPU)?)?;
        let back = product.index_select(&Tensor::from_vec(permutation, n, CPU)?, 0)?;
        assert!(difference(&q, &back)? < 1e-13);
        assert!(lu(&values, 6).is_err());
        Ok(())
    }
}
