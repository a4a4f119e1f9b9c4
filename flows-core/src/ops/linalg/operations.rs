//! The operations of linear algebra with their gradients.

use super::{inverse, narrowed, widened};
use crate::ops::cpu::Real;
use crate::ops::operation::{Kernel, Operation, View};
use candle_core::{D, Shape, Tensor};
use faer::prelude::{Mat, MatMut, MatRef, Solve as _};

pub(super) struct LogAbsDet;

impl Kernel<1> for LogAbsDet {
    const NAME: &'static str = "log-abs-det";

    fn value<T: Real>(&self, [a]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        let (lead, n) = a.shape.dims().split_at(a.shape.rank() - 2);
        let log_det = |a: &[f64]| {
            let lu = MatRef::from_row_major_slice(a, n[0], n[0]).partial_piv_lu();
            // After the first zero pivot the factors are undefined.
            (0..n[0]).map(|i| lu.U()[(i, i)].abs()).try_fold(0.0, |sum, u| (u != 0.0).then(|| sum + u.ln()))
        };
        let values = widened(a.values);
        let log_dets = values.chunks_exact(n[0] * n[0]).map(|a| log_det(a).unwrap_or(f64::NEG_INFINITY));
        Ok((log_dets.map(T::of).collect(), lead.into()))
    }

    fn gradients<T: Real>(
        &self,
        [a]: [&Tensor; 1],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let inverse = inverse(&a.detach()).map_err(candle_core::Error::wrap)?;
        let grad = grad.unsqueeze(D::Minus1)?.unsqueeze(D::Minus1)?;
        Ok([Some(inverse.transpose(D::Minus1, D::Minus2)?.broadcast_mul(&grad)?)])
    }
}

#[derive(Clone, Copy)]
pub(super) struct Triangular {
    pub(super) upper: bool,
    pub(super) unit: bool,
}

/// Solves A x_i = b_i for the rows of b; A is triangular, or full if `None`.
pub(super) struct Solve(pub(super) Option<Triangular>);

impl Kernel<2> for Solve {
    const NAME: &'static str = "solve";

    fn value<T: Real>(&self, [a, b]: [View<'_, T>; 2]) -> candle_core::Result<(Vec<T>, Shape)> {
        let dims = b.shape.dims();
        let (k, n) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let (matrices, mut x) = (widened(a.values), widened(b.values));
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
        Ok((narrowed(x), b.shape.clone()))
    }

    // grad B = A^-T grad X, grad A = -(grad B) X^T, within the triangle.
    fn gradients<T: Real>(
        &self,
        [a, b]: [&Tensor; 2],
        x: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let flipped = self.0.map(|t| Triangular { upper: !t.upper, ..t });
        let at = a.detach().transpose(D::Minus1, D::Minus2)?.contiguous()?;
        let grad_b = at.apply_op2_no_bwd(&grad.detach().contiguous()?, &Operation(Solve(flipped)))?;
        let mut grad_a = None;
        if a.track_op() {
            let full = grad_b.transpose(D::Minus1, D::Minus2)?.contiguous()?.matmul(&x.detach())?.neg()?;
            grad_a = Some(match self.0 {
                None => full,
                Some(t) => full.broadcast_mul(&mask(&full, t)?)?,
            });
        }
        Ok([grad_a, b.track_op().then_some(grad_b)])
    }
}

/// A matrix (n, n) with ones in the triangle and zeros elsewhere, of the type of `like` (..., n, n).
pub(super) fn mask(like: &Tensor, triangle: Triangular) -> candle_core::Result<Tensor> {
    let n = like.dim(D::Minus1)?;
    let inside = |i: usize, j: usize| if i == j { !triangle.unit } else { (j > i) == triangle.upper };
    let values: Vec<f64> = (0..n * n).map(|e| f64::from(u8::from(inside(e / n, e % n)))).collect();
    Tensor::from_vec(values, (n, n), like.device())?.to_dtype(like.dtype())
}

pub(super) struct Cholesky;

impl Kernel<1> for Cholesky {
    const NAME: &'static str = "cholesky";

    fn value<T: Real>(&self, [a]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        let n = a.shape.dim(D::Minus1)?;
        let mut values = widened(a.values);
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
        Ok((narrowed(values), a.shape.clone()))
    }

    // grad A = L^-T sym(phi(L^T grad L)) L^-1 with phi the lower triangle and half the diagonal
    // (Murray 2016, arXiv:1602.07527), symmetric because A enters through its symmetric part.
    fn gradients<T: Real>(
        &self,
        _: [&Tensor; 1],
        l: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let l = l.detach();
        let lt = l.transpose(D::Minus1, D::Minus2)?.contiguous()?;
        let phi = lt.matmul(&grad.detach())?;
        let lower = mask(&phi, Triangular { upper: false, unit: false })?;
        let strict = mask(&phi, Triangular { upper: false, unit: true })?;
        let phi = phi.broadcast_mul(&((lower + strict)? * 0.5)?)?;
        let symmetric = ((&phi + phi.transpose(D::Minus1, D::Minus2)?)? * 0.5)?;
        let upper = Operation(Solve(Some(Triangular { upper: true, unit: false })));
        let half = lt.apply_op2_no_bwd(&symmetric, &upper)?.transpose(D::Minus1, D::Minus2)?.contiguous()?;
        Ok([Some(lt.apply_op2_no_bwd(&half, &upper)?)])
    }
}
