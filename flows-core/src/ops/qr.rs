//! The QR decomposition of small matrices, with gradients.

use super::cpu::Real;
use super::linalg::{narrowed, on_cpu, widened};
use super::operation::{Kernel, Operation, View};
use crate::{Error, Result};
use candle_core::{D, Shape, Tensor};
use faer::prelude::{MatMut, MatRef};
use rayon::prelude::*;

/// `A = Q R` for A of shape (..., m, n), m >= n: Q (..., m, n) has orthonormal columns, R (..., n, n) is
/// upper triangular with a positive diagonal.
///
/// Computed in f64 and rounded once. The gradient is not finite where A does not have full rank.
///
/// # Errors
/// When there are more columns than rows, or the type is not f32 or f64.
pub fn qr(a: &Tensor) -> Result<(Tensor, Tensor)> {
    let (m, n) = match a.dims() {
        [.., m, n] if m >= n && *n > 0 => (*m, *n),
        got => return Err(Error::shape("the matrix of qr", got, "(..., m, n) with m >= n")),
    };
    // An operation has a single result: the rows of Q, then those of R.
    let both = on_cpu(a, |a| a.apply_op1(Operation(Qr)))?;
    Ok((both.narrow(D::Minus2, 0, m)?.contiguous()?, both.narrow(D::Minus2, m, n)?.contiguous()?))
}

/// With fewer elements than this, in all matrices, a single thread is faster.
const MANY: usize = 1 << 12;

/// Calls `f` with the index of each part of `out`, of `size` elements, and the part.
fn each(out: &mut [f64], size: usize, f: impl Fn(usize, &mut [f64]) + Sync) {
    if out.len() < MANY {
        out.chunks_exact_mut(size).enumerate().for_each(|(i, out)| f(i, out));
    } else {
        out.par_chunks_exact_mut(size).enumerate().for_each(|(i, out)| f(i, out));
    }
}

struct Qr;

impl Qr {
    fn sizes(dims: &[usize]) -> (usize, usize) {
        (dims[dims.len() - 2], dims[dims.len() - 1])
    }
}

impl Kernel<1> for Qr {
    const NAME: &'static str = "qr";

    fn value<T: Real>(&self, [a]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        let mut dims = a.shape.dims().to_vec();
        let (m, n) = Self::sizes(&dims);
        let a = widened(a.values);
        let rows = dims.len() - 2;
        dims[rows] = m + n;
        let mut out = vec![0.0; dims.iter().product()];
        each(&mut out, (m + n) * n, |i, out| {
            let factors = MatRef::from_row_major_slice(&a[i * m * n..(i + 1) * m * n], m, n).qr();
            let (q, r) = (factors.compute_thin_Q(), factors.thin_R());
            for (e, out) in out.iter_mut().enumerate() {
                let (i, j) = (e / n, e % n);
                // The algorithm's signs are changed so that R's diagonal is positive.
                *out = match i.checked_sub(m) {
                    None => q[(i, j)] * r[(j, j)].signum(),
                    Some(i) if i <= j => r[(i, j)] * r[(i, i)].signum(),
                    Some(_) => 0.0,
                };
            }
        });
        Ok((narrowed(out), dims.into()))
    }

    // grad A = (grad Q + Q copyltu(M)) R^-T with M = R grad R^T - grad Q^T Q, copyltu(M) being the symmetric
    // matrix of M's lower triangle (Walter and Lehmann 2010, arXiv:1001.1654).
    fn gradients<T: Real>(
        &self,
        [a]: [&Tensor; 1],
        both: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let (m, n) = Self::sizes(a.dims());
        let values = |t: &Tensor| t.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let (both, mut grads) = (values(both)?, values(grad)?);
        each(&mut grads, (m + n) * n, |i, grads| {
            let at = i * (m + n) * n;
            let q = MatRef::from_row_major_slice(&both[at..at + m * n], m, n);
            let r = MatRef::from_row_major_slice(&both[at + m * n..at + (m + n) * n], n, n);
            let (of_q, of_r) = grads.split_at_mut(m * n);
            let of_r = MatRef::from_row_major_slice(of_r, n, n);
            let mut of_q = MatMut::from_row_major_slice_mut(of_q, m, n);
            let product = r * of_r.transpose() - of_q.as_ref().transpose() * q;
            let symmetric = faer::Mat::from_fn(n, n, |i, j| product[(i.max(j), i.min(j))]);
            of_q += q * symmetric;
            r.solve_upper_triangular_in_place(of_q.transpose_mut());
        });
        let grads = Tensor::from_vec(grads, grad.shape(), a.device())?.narrow(D::Minus2, 0, m)?;
        Ok([Some(grads.contiguous()?.to_dtype(a.dtype())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Parameters;
    use crate::testing::{difference, gradient_difference};
    use candle_core::{DType, Device, Var};

    const CPU: &Device = &Device::Cpu;

    #[test]
    fn factors_and_gradients() -> Result<()> {
        for (lead, m, n) in [(vec![], 1, 1), (vec![3], 4, 4), (vec![2, 3], 6, 2), (vec![90], 9, 8)] {
            let rng = &mut Rng::seed(1);
            let mut random = |m, n| rng.normal_tensor([&lead[..], &[m, n]].concat(), DType::F64, CPU);
            let (a, of_q, of_r) = (Var::from_tensor(&random(m, n)?)?, random(m, n)?, random(n, n)?);
            let (q, r) = qr(&a)?;
            assert!(difference(&a, &q.matmul(&r)?)? < 1e-13);
            let square = q.transpose(D::Minus1, D::Minus2)?.contiguous()?.matmul(&q)?;
            let identity = Tensor::eye(n, DType::F64, CPU)?;
            assert!(difference(&identity.broadcast_as(square.shape())?, &square)? < 1e-13);
            for r in r.reshape(((), n, n))?.to_vec3::<f64>()? {
                let zero = |i: usize| r[i][..i].iter().all(|v| *v == 0.0);
                assert!((0..n).all(|i| r[i][i] > 0.0 && zero(i)), "{r:?}");
            }
            let loss = || {
                let (q, r) = qr(&a)?;
                Ok(((q * &of_q)?.sum_all()? + (r * &of_r)?.sum_all()?)?)
            };
            let none = Parameters::new(DType::F64, CPU, Rng::seed(0));
            let off = gradient_difference(loss, &none, &[("a", &a)], &mut Rng::seed(2))?;
            assert!(off < 1e-7, "{m} x {n}: {off}");
            let (single, _) = qr(&a.to_dtype(DType::F32)?)?;
            assert!(single.dtype() == DType::F32 && difference(&q, &single.to_dtype(DType::F64)?)? < 1e-4);
        }
        assert!(qr(&Tensor::zeros((2, 3), DType::F64, CPU)?).is_err());
        assert_eq!(qr(&Tensor::zeros((0, 3, 2), DType::F64, CPU)?)?.0.dims(), [0, 3, 2]);
        Ok(())
    }
}
