//! Weight normalization.

use super::accumulate;
use super::cpu::Real;
use super::operation::{Kernel, Operation, View, with_elements};
use super::simd::dispatch;
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};
use rayon::prelude::*;

/// `w_o = g_o v_o / |v_o|`, of the shape of v (O, ...), for directions v and lengths g (O) (Salimans and Kingma, 2016,
/// arXiv:1602.07868, equation 2); the norm is that of all of a row. A row of zeros stays zero.
///
/// # Errors
/// When `v` has no row or no element in a row, `g` is not one number for each row, or the types differ.
pub fn weight_norm(v: &Tensor, g: &Tensor) -> Result<Tensor> {
    let rows = match v.dims() {
        [rows, _, ..] if v.elem_count() > 0 => *rows,
        got => return Err(Error::shape("the directions of normalized weights", got, "(O, ...), none of them 0")),
    };
    if g.dims() != [rows] || g.dtype() != v.dtype() {
        let want = format!("({rows}) of type {:?}", v.dtype());
        return Err(Error::shape("the lengths of normalized weights", g.dims(), want));
    }
    if v.device().is_cpu() && matches!(v.dtype(), DType::F32 | DType::F64) {
        return Ok(v.contiguous()?.apply_op2(&g.contiguous()?, Operation(WeightNorm))?);
    }
    composed(v, g)
}

/// The same as a composition of other operations, for other devices and as the tests' reference.
fn composed(v: &Tensor, g: &Tensor) -> Result<Tensor> {
    let flat = v.flatten_from(1)?;
    let squares = flat.sqr()?.sum_keepdim(1)?;
    // A row of zeros divides by 1; before the root, whose slope at 0 is infinite.
    let norms = (squares.eq(0.0)?.to_dtype(squares.dtype())? + squares)?.sqrt()?;
    Ok(flat.broadcast_mul(&g.unsqueeze(1)?.div(&norms)?)?.reshape(v.shape())?)
}

#[derive(Debug)]
struct WeightNorm;

/// 1 / |v|, or 0 for zeros.
fn reciprocal_norm<T: Real>(v: &[T]) -> f64 {
    let square = dot(v, v);
    if square == 0.0 { 0.0 } else { square.sqrt().recip() }
}

/// The sum of products in f64, in which those of f32 neither overflow nor vanish.
fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    dispatch(
        #[inline(always)]
        || {
            let mut sums = [0.0; 16];
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
            for (a, b) in a.iter().zip(b) {
                for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                    *sum += a.wide() * b.wide();
                }
            }
            let rest = a_rest.iter().zip(b_rest).map(|(&a, &b)| a.wide() * b.wide());
            sums.into_iter().chain(rest).sum()
        },
    )
}

impl Kernel<2> for WeightNorm {
    const NAME: &'static str = "weight-norm";

    fn value<T: Real>(&self, [v, g]: [View<'_, T>; 2]) -> candle_core::Result<(Vec<T>, Shape)> {
        let width = v.values.len() / g.values.len();
        let mut w = vec![T::zero(); v.values.len()];
        w.par_chunks_mut(width).zip(v.values.par_chunks(width)).zip(g.values).for_each(|((w, v), &g)| {
            let scale = g.wide() * reciprocal_norm(v);
            w.iter_mut().zip(v).for_each(|(w, &v)| *w = T::of(scale * v.wide()));
        });
        Ok((w, v.shape.clone()))
    }

    /// With the unit vector `u = v / |v|` of a row and the gradient G of w, that of g is `u . G`, and that of v is
    /// `g / |v| (G - (u . G) u)`.
    fn gradients<T: Real>(
        &self,
        [v, g]: [&Tensor; 2],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let width = v.elem_count() / g.elem_count();
        let (gv, gg) = with_elements::<T, _, _>([v, g, grad], |[v, g, grad]| {
            let (mut gv, mut gg) = (vec![T::zero(); v.len()], vec![T::zero(); g.len()]);
            let rows =
                gv.par_chunks_mut(width).zip(&mut gg).zip(v.par_chunks(width)).zip(g).zip(grad.par_chunks(width));
            rows.for_each(|((((gv, gg), v), &g), grad)| {
                let reciprocal = reciprocal_norm(v);
                let of_length = dot(v, grad) * reciprocal;
                *gg = T::of(of_length);
                let (scale, along) = (g.wide() * reciprocal, of_length * reciprocal);
                for ((gv, &v), &grad) in gv.iter_mut().zip(v).zip(grad) {
                    *gv = T::of(scale * (grad.wide() - along * v.wide()));
                }
            });
            (gv, gg)
        })?;
        Ok([accumulate::gradient_of(v, gv)?, accumulate::gradient_of(g, gg)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Parameters;
    use crate::testing::{difference, gradient_difference};
    use candle_core::{Device, Var};

    #[test]
    fn rows_get_their_lengths_and_gradients() -> Result<()> {
        let rng = &mut Rng::seed(1);
        for shape in [&[3usize, 5, 3] as &[usize], &[2, 700], &[1, 1]] {
            let v = Var::from_tensor(&rng.normal_tensor(shape, DType::F64, &Device::Cpu)?)?;
            let g = Var::from_tensor(&rng.normal_tensor(shape[0], DType::F64, &Device::Cpu)?)?;
            let w = weight_norm(&v, &g)?;
            let lengths = w.flatten_from(1)?.sqr()?.sum(1)?.sqrt()?;
            assert!(difference(&lengths, &g.abs()?)? < 1e-14);
            let cotangent = rng.normal_tensor(shape, DType::F64, &Device::Cpu)?;
            let loss = || Ok((weight_norm(&v, &g)? * &cotangent)?.sum_all()?);
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            assert!(gradient_difference(loss, &parameters, &[("v", &v), ("g", &g)], rng)? < 1e-8);
            assert!(difference(&composed(&v, &g)?, &weight_norm(&v, &g)?)? < 1e-14);
        }
        Ok(())
    }

    #[test]
    fn rows_of_any_size_get_their_lengths_and_zeros_stay() -> Result<()> {
        let rows = [[0f32, 0.0], [3.0, 4.0], [3e-30, 4e-30], [3e30, 4e30]];
        let v = Var::from_tensor(&Tensor::new(&rows, &Device::Cpu)?)?;
        let g = Tensor::new(&[2f32, 10.0, 10.0, 10.0], &Device::Cpu)?;
        let [fused, plain] = [weight_norm(&v, &g)?, composed(&v, &g)?];
        for (row, want) in fused.to_vec2::<f32>()?.iter().zip([[0.0, 0.0], [6.0, 8.0], [6.0, 8.0], [6.0, 8.0]]) {
            assert!(row.iter().zip(want).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{row:?}");
        }
        for (w, rows) in [(fused, 4), (plain, 2)] {
            let gradients = w.narrow(0, 0, rows)?.sum_all()?.backward()?;
            let gradient = gradients.get(&v).map(|g| g.narrow(0, 0, rows)?.flatten_all()?.to_vec1::<f32>());
            let gradient = gradient.transpose()?.unwrap_or_default();
            assert!(gradient.len() == 2 * rows && gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
        }
        assert!(weight_norm(&v, &Tensor::zeros(3, DType::F32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
