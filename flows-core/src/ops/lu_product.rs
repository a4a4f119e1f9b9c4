//! The product of a unit lower and an upper triangular matrix, from their entries.

use super::Triangle;
use super::accumulate::gradient;
use super::cpu::Real;
use super::matmul::{Operand, product};
use super::operation::{Kernel, Operation, View, with_elements};
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};

/// `L U` (n, n), from the off-diagonal entries of L, which has ones on its diagonal, and of U, both
/// (n (n - 1) / 2) in the order of [`Triangle`], and U's `diagonal` (n).
///
/// # Errors
/// When shapes or types do not agree.
pub(crate) fn lu_product(lower: &Tensor, upper: &Tensor, diagonal: &Tensor) -> Result<Tensor> {
    let n = diagonal.dims1()?;
    for (name, entries) in [("lower", lower), ("upper", upper)] {
        if entries.dims() != [n * n.saturating_sub(1) / 2] {
            let what = format!("the {name} triangle's entries");
            return Err(Error::shape(&what, entries.dims(), format!("({n} ({n} - 1) / 2)")));
        }
    }
    let dtype = diagonal.dtype();
    let fits = [lower, upper, diagonal].into_iter().all(|t| t.device().is_cpu() && t.dtype() == dtype);
    if fits && matches!(dtype, DType::F32 | DType::F64) {
        let lower = lower.contiguous()?;
        return Ok(lower.apply_op3(&upper.contiguous()?, &diagonal.contiguous()?, Operation(LuProduct))?);
    }
    plain(lower, upper, diagonal)
}

fn plain(lower: &Tensor, upper: &Tensor, diagonal: &Tensor) -> Result<Tensor> {
    let (n, device) = (diagonal.dims1()?, diagonal.device());
    let lower = Triangle::lower(n, device)?.matrix(lower, None)?;
    Ok(lower.matmul(&Triangle::upper(n, device)?.matrix(upper, Some(diagonal))?)?)
}

struct LuProduct;

/// L and U, row-major.
fn factors<T: Real>(lower: &[T], upper: &[T], diagonal: &[T]) -> [Vec<T>; 2] {
    let n = diagonal.len();
    let [mut l, mut u] = [(); 2].map(|()| vec![T::zero(); n * n]);
    let (mut below, mut above) = (lower, upper);
    for i in 0..n {
        let (head, rest) = below.split_at(i);
        l[i * n..i * n + i].copy_from_slice(head);
        l[i * n + i] = T::one();
        below = rest;
        let (head, rest) = above.split_at(n - 1 - i);
        u[i * n + i] = diagonal[i];
        u[i * n + i + 1..(i + 1) * n].copy_from_slice(head);
        above = rest;
    }
    [l, u]
}

/// Adds the entries of a matrix in `columns` of each row to `sum`, in row-major order.
fn add_entries<T: Real>(sum: &mut [T], matrix: &[T], n: usize, columns: impl Fn(usize) -> std::ops::Range<usize>) {
    let entries = matrix.chunks(n).enumerate().flat_map(|(i, row)| &row[columns(i)]);
    sum.iter_mut().zip(entries).for_each(|(sum, &g)| *sum += g);
}

impl Kernel<3> for LuProduct {
    const NAME: &'static str = "lu-product";

    fn value<T: Real>(&self, [lower, upper, diagonal]: [View<'_, T>; 3]) -> candle_core::Result<(Vec<T>, Shape)> {
        let n = diagonal.values.len();
        let [l, u] = factors(lower.values, upper.values, diagonal.values);
        let mut out = vec![T::zero(); n * n];
        product(&mut out, n, Operand::new(&l, n), Operand::new(&u, n), false);
        Ok((out, Shape::from((n, n))))
    }

    fn gradients<T: Real>(
        &self,
        inputs: [&Tensor; 3],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let [lower, upper, diagonal] = inputs;
        let n = diagonal.dims1()?;
        let [mut of_l, mut of_u] = [(); 2].map(|()| vec![T::zero(); n * n]);
        with_elements([lower, upper, diagonal, grad], |[lower, upper, diagonal, g]| {
            let [l, u] = factors(lower, upper, diagonal);
            product(&mut of_l, n, Operand::new(g, n), Operand::new(&u, n).t(), false);
            product(&mut of_u, n, Operand::new(&l, n).t(), Operand::new(g, n), false);
        })?;
        Ok([
            gradient(lower, |sum| add_entries(sum, &of_l, n, |i| 0..i))?,
            gradient(upper, |sum| add_entries(sum, &of_u, n, |i| i + 1..n))?,
            gradient(diagonal, |sum| add_entries(sum, &of_u, n, |i| i..i + 1))?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};

    #[test]
    fn is_its_composition() -> Result<()> {
        let rng = &mut Rng::seed(0);
        for n in [1, 2, 5, 40] {
            let mut var = |shape: &[usize]| {
                Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(shape, DType::F64, &Device::Cpu)?)?)
            };
            let entries = n * (n - 1) / 2;
            let g = var(&[n, n])?;
            let vars = [var(&[entries])?, var(&[entries])?, var(&[n])?];
            let [lower, upper, diagonal] = &vars;
            let (got, want) = (lu_product(lower, upper, diagonal)?, plain(lower, upper, diagonal)?);
            assert!(difference(&want, &got)? < 1e-13);
            let [got, want] = [got, want].map(|y| Ok::<_, Error>((y * &*g)?.sum_all()?.backward()?));
            let (got, want) = (got?, want?);
            for var in vars.iter().filter(|var| var.elem_count() > 0) {
                let (Some(want), Some(got)) = (want.get(var), got.get(var)) else { panic!("no gradient") };
                assert!(difference(want, got)? < 1e-13);
            }
        }
        let zeros = |n: usize| Tensor::zeros(n, DType::F64, &Device::Cpu);
        assert!(lu_product(&zeros(2)?, &zeros(3)?, &zeros(3)?).is_err());
        Ok(())
    }
}
