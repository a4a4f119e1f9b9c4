//! The gated unit of WaveNet and WaveGlow, with its forward and its backward pass in one loop each.

use super::cpu::Real;
use super::operation::{Kernel, Operation, View, with_elements};
use super::simd::{CHUNK, chunks, dispatch};
use super::{sigmoid, tanh};
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};
use rayon::prelude::*;

/// `tanh(a) sigmoid(b)`, (B, C, ...), for x (B, 2C, ...) whose first C channels are a and whose others are b
/// (van den Oord et al., arXiv:1609.03499, equation 2).
///
/// # Errors
/// When the channels are not an even number, or `x` is empty or not of a floating type.
pub fn gated_tanh_sigmoid(x: &Tensor) -> Result<Tensor> {
    let half = match x.dims() {
        [_, channels, ..] if channels.is_multiple_of(2) && x.elem_count() > 0 => channels / 2,
        got => return Err(Error::shape("the input of a gated unit", got, "(B, 2 C, ...), none of them 0")),
    };
    if x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64) {
        return Ok(x.contiguous()?.apply_op1(Operation(Gated))?);
    }
    Ok((tanh(&x.narrow(1, 0, half)?)? * sigmoid(&x.narrow(1, half, half)?)?)?)
}

#[derive(Debug)]
struct Gated;

fn forward<T: Real>(x: &[T], half: usize) -> Vec<T> {
    let mut y = vec![T::zero(); x.len() / 2];
    y.par_chunks_mut(half).zip(x.par_chunks(2 * half)).for_each(|(y, x)| {
        let (a, b) = x.split_at(half);
        chunks(y, CHUNK, &|start, y: &mut [T]| {
            dispatch(
                #[inline(always)]
                || {
                    for (y, (&a, &b)) in y.iter_mut().zip(a[start..].iter().zip(&b[start..])) {
                        *y = a.fast_tanh() * b.fast_sigmoid();
                    }
                },
            );
        });
    });
    y
}

fn backward<T: Real>(x: &[T], grad: &[T], half: usize) -> Vec<T> {
    let mut gx = vec![T::zero(); x.len()];
    gx.par_chunks_mut(2 * half).zip(x.par_chunks(2 * half)).zip(grad.par_chunks(half)).for_each(|((gx, x), grad)| {
        let ((ga, gb), (a, b)) = (gx.split_at_mut(half), x.split_at(half));
        let outs = ga.par_chunks_mut(CHUNK).zip(gb.par_chunks_mut(CHUNK));
        let ins = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).zip(grad.par_chunks(CHUNK));
        outs.zip(ins).for_each(|((ga, gb), ((a, b), grad))| {
            dispatch(
                #[inline(always)]
                || {
                    for ((ga, gb), ((&a, &b), &g)) in ga.iter_mut().zip(gb).zip(a.iter().zip(b).zip(grad)) {
                        let (t, s) = (a.fast_tanh(), b.fast_sigmoid());
                        *ga = g * s * (T::one() - t * t);
                        *gb = g * t * s * (T::one() - s);
                    }
                },
            );
        });
    });
    gx
}

impl Kernel<1> for Gated {
    const NAME: &'static str = "gated-tanh-sigmoid";

    fn value<T: Real>(&self, [x]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        let mut dims = x.shape.dims().to_vec();
        dims[1] /= 2;
        Ok((forward(x.values, dims[1..].iter().product()), dims.into()))
    }

    fn gradients<T: Real>(
        &self,
        [x]: [&Tensor; 1],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let half = x.elem_count() / x.dim(0)? / 2;
        let gx = with_elements::<T, _, _>([x, grad], |[x, grad]| backward(x, grad, half))?;
        Ok([Some(T::tensor(gx, x.shape())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};

    #[test]
    fn as_the_plain_composition() -> Result<()> {
        let rng = &mut Rng::seed(1);
        for (shape, dtype, tolerance) in [
            (&[1usize, 6, 9001] as &[usize], DType::F32, 1e-6),
            (&[5, 4, 3, 2], DType::F64, 1e-13),
            (&[3, 2], DType::F64, 1e-13),
        ] {
            let x = Var::from_tensor(&(rng.normal_tensor(shape, dtype, &Device::Cpu)? * 3.0)?)?;
            let half = shape[1] / 2;
            let plain = (x.narrow(1, 0, half)?.tanh()? * crate::ops::sigmoid(&x.narrow(1, half, half)?)?)?;
            let fused = gated_tanh_sigmoid(&x)?;
            assert!(difference(&plain, &fused)? < tolerance);
            let cotangent = rng.normal_tensor(plain.shape().clone(), dtype, &Device::Cpu)?;
            let gradient = |y: &Tensor| -> Result<Option<Tensor>> {
                Ok((y * &cotangent)?.sum_all()?.backward()?.get(&x).cloned())
            };
            match (gradient(&plain)?, gradient(&fused)?) {
                (Some(plain), Some(fused)) => assert!(difference(&plain, &fused)? < 4.0 * tolerance),
                _ => return Err(Error::Config("no gradient".into())),
            }
        }
        assert!(gated_tanh_sigmoid(&Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?).is_err());
        assert!(gated_tanh_sigmoid(&Tensor::zeros((0, 4), DType::F32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
