//! The product of two matrices, by the kernels that the networks use.

use super::accumulate::gradient;
use super::cpu::Real;
use super::matmul::{Operand, add_product};
use super::operation::{Kernel, Operation, View, with_elements};
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};

/// `a b` for a (m, k) and b (k, n).
///
/// candle's own product asks the system for its number of processors at each call, which takes
/// longer than the product of small matrices.
///
/// # Errors
/// When shapes or types do not agree.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((_, k), (rows, _)) = (a.dims2()?, b.dims2()?);
    if k != rows {
        return Err(Error::shape("the right factor of a product", b.dims(), format!("({k}, n)")));
    }
    let is_fused = a.device().is_cpu() && a.dtype() == b.dtype() && matches!(a.dtype(), DType::F32 | DType::F64);
    if is_fused && k > 0 {
        return Ok(a.contiguous()?.apply_op2(&b.contiguous()?, Operation(Product))?);
    }
    // Some devices multiply only contiguous rows.
    Ok(a.contiguous()?.matmul(&b.contiguous()?)?)
}

struct Product;

impl Kernel<2> for Product {
    const NAME: &'static str = "product";

    fn value<T: Real>(&self, [a, b]: [View<'_, T>; 2]) -> candle_core::Result<(Vec<T>, Shape)> {
        let ((m, k), (_, n)) = (a.shape.dims2()?, b.shape.dims2()?);
        let mut out = vec![T::zero(); m * n];
        add_product(&mut out, n, Operand::new(a.values, k), Operand::new(b.values, n));
        Ok((out, Shape::from((m, n))))
    }

    fn gradients<T: Real>(
        &self,
        [a, b]: [&Tensor; 2],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let ((_, k), (_, n)) = (a.dims2()?, b.dims2()?);
        with_elements::<T, _, _>([a, b, grad], |[left, right, g]| {
            let of_a =
                gradient(a, |sum: &mut [T]| add_product(sum, k, Operand::new(g, n), Operand::new(right, n).t()))?;
            let of_b = gradient(b, |sum: &mut [T]| add_product(sum, n, Operand::new(left, k).t(), Operand::new(g, n)))?;
            Ok([of_a, of_b])
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};

    #[test]
    fn is_candles_product() -> Result<()> {
        let rng = &mut Rng::seed(0);
        for [m, k, n] in [[1, 1, 1], [3, 5, 2], [1, 7, 4], [33, 17, 65], [4, 1, 3], [2, 3, 1]] {
            for dtype in [DType::F64, DType::F32] {
                let mut var = |shape: (usize, usize)| {
                    Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(shape, dtype, &Device::Cpu)?)?)
                };
                let (a, b, g) = (var((k, m))?, var((k, n))?, var((m, n))?);
                // A view that is not contiguous.
                let run = |f: fn(&Tensor, &Tensor) -> Result<Tensor>| {
                    let y = f(&a.t()?, &b)?;
                    let gradients = (&y * &*g)?.sum_all()?.backward()?;
                    Ok::<_, Error>((y, gradients))
                };
                let (y, gradients) = run(product)?;
                let (want, wanted) = run(|a, b| Ok(a.contiguous()?.matmul(b)?))?;
                let limit = if dtype == DType::F64 { 1e-13 } else { 1e-5 };
                assert!(difference(&want, &y)? < limit);
                for var in [&a, &b] {
                    let (Some(want), Some(got)) = (wanted.get(var), gradients.get(var)) else { panic!("no gradient") };
                    assert!(difference(want, got)? < limit);
                }
            }
        }
        assert!(
            product(
                &Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?,
                &Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?
            )
            .is_err()
        );
        Ok(())
    }
}
