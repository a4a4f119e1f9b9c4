//! Element-wise transformers as operations: value and log-derivative in one pass, the backward pass in another.

use super::cpu::{Real, unpack};
use super::operation::{Kernel, Operation, View, with_elements};
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};

/// A family of functions of one number, each given by P raw parameters.
pub(super) trait Transformer: Copy + Send + Sync + 'static {
    /// The operation's name in errors.
    const NAME: &'static str;

    /// P.
    fn parameter_count(&self) -> usize;

    /// The values of N elements, followed by their log-derivatives.
    ///
    /// `parameters` are P for each element or, where there are fewer, P for each element of a row.
    fn evaluate<T: Real>(&self, x: &[T], parameters: &[T]) -> Vec<T>;

    /// The gradients with respect to x and to the parameters, given the output of [`Self::evaluate`] and the gradient
    /// with respect to it.
    fn gradients<T: Real>(&self, x: &[T], parameters: &[T], output: &[T], grad: &[T]) -> (Vec<T>, Vec<T>);

    /// The same as a composition of candle's operations, for other devices and as the tests' reference.
    fn plain(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)>;
}

/// Values and log-derivatives, both (B, N), for x (B, N) and parameters (B, N, P) or (1, N, P).
pub(super) fn transform(kernel: impl Transformer, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
    let (batch, n) = x.dims2()?;
    match parameters.dims3()? {
        (rows, columns, p) if (rows == batch || rows == 1) && columns == n && p == kernel.parameter_count() => {}
        _ => {
            let want = format!("({batch}, {n}, {})", kernel.parameter_count());
            return Err(Error::shape("the parameters of a transformer", parameters.dims(), want));
        }
    }
    if x.device().is_cpu() && x.dtype() == parameters.dtype() && matches!(x.dtype(), DType::F32 | DType::F64) {
        let packed = x.contiguous()?.apply_op2(&parameters.contiguous()?, Operation(Transform(kernel)))?;
        unpack(&packed, x.shape())
    } else {
        kernel.plain(x, parameters)
    }
}

struct Transform<K>(K);

impl<K: Transformer> Kernel<2> for Transform<K> {
    const NAME: &'static str = K::NAME;

    fn value<T: Real>(&self, [x, parameters]: [View<'_, T>; 2]) -> candle_core::Result<(Vec<T>, Shape)> {
        Ok((self.0.evaluate(x.values, parameters.values), Shape::from(2 * x.values.len())))
    }

    fn gradients<T: Real>(
        &self,
        [x, parameters]: [&Tensor; 2],
        output: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let (gx, gp) = with_elements::<T, _, _>([x, parameters, output, grad], |[x, parameters, output, grad]| {
            self.0.gradients(x, parameters, output, grad)
        })?;
        Ok([Some(T::tensor(gx, x.shape())?), Some(T::tensor(gp, parameters.shape())?)])
    }
}

#[cfg(test)]
pub(super) use tests::{check, worst_difference};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};

    /// Asserts that values, log-derivatives and gradients of the kernel are those of the plain composition.
    pub fn check(kernel: impl Transformer, shape: [usize; 3], range: [f64; 2], fine: f64, coarse: f64) -> Result<()> {
        for (dtype, limit) in [(DType::F64, fine), (DType::F32, coarse)] {
            let worst = worst_difference(kernel, shape, range, dtype, 0)?;
            assert!(worst < limit, "{dtype:?}, {shape:?}: {worst}");
        }
        Ok(())
    }

    /// The largest difference, in value, log-derivative and gradients, of the kernel in `dtype` from the
    /// plain composition in f64.
    pub fn worst_difference<K: Transformer>(
        kernel: K,
        [batch, n, rows]: [usize; 3],
        [low, high]: [f64; 2],
        dtype: DType,
        seed: u64,
    ) -> Result<f64> {
        let rng = &mut Rng::seed(seed);
        // Random numbers that are the same in both types; some x lie outside the interval.
        let x = ((rng.uniform_tensor((batch, n), DType::F32, &Device::Cpu)? * 1.4)? - 0.2)?.affine(high - low, low)?;
        let raw = rng.normal_tensor((rows, n, kernel.parameter_count()), DType::F32, &Device::Cpu)?;
        let weights = [0; 2].map(|_| rng.normal_tensor((batch, n), DType::F64, &Device::Cpu));
        let [gx, gl] = weights;
        let (gx, gl) = (gx?, gl?);
        let run = |dtype: DType, plain: bool| -> Result<Vec<Tensor>> {
            let (x, raw) = (Var::from_tensor(&x.to_dtype(dtype)?)?, Var::from_tensor(&raw.to_dtype(dtype)?)?);
            let (value, log) = if plain { kernel.plain(&x, &raw)? } else { transform(kernel, &x, &raw)? };
            let loss = ((&value * gx.to_dtype(dtype)?)?.sum_all()? + (&log * gl.to_dtype(dtype)?)?.sum_all()?)?;
            let gradients = loss.backward()?;
            let of = |leaf: &Var| gradients.get(leaf).cloned().map_or_else(|| leaf.zeros_like(), Ok);
            Ok(vec![of(&x)?, of(&raw)?, value, log])
        };
        let mut worst = 0.0f64;
        for (i, (want, got)) in run(DType::F64, true)?.iter().zip(run(dtype, false)?).enumerate() {
            // Gradients may be sums of large terms that cancel, so their error is relative to the largest.
            let size = if i < 2 { want.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?.max(1.0) } else { 1.0 };
            worst = worst.max(difference(&(want / size)?, &(got.to_dtype(DType::F64)? / size)?)?);
        }
        Ok(worst)
    }
}
