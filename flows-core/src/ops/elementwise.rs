//! Differentiable functions of single elements, forward and backward in one pass each.

use super::cpu::Real;
use super::operation::{Kernel, Operation, View, with_elements};
use super::simd::{map, zip_map};
use crate::Result;
use candle_core::{DType, Shape, Tensor};

/// `e^x`, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn exp(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Exp)
}

/// `ln x`, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn ln(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Ln)
}

/// `ln(1 + x)` without loss near 0, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn ln_1p(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Ln1p)
}

/// `tanh x`, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Tanh)
}

/// `1 / (1 + e^-x)`, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Sigmoid)
}

/// `ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)`, element by element, without loss of digits in either
/// tail; its derivative is the sigmoid.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Softplus)
}

/// `ln sigmoid(x) = -softplus(-x)`, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::LogSigmoid)
}

/// `x / (1 + e^-x)`, element by element (Hendrycks and Gimpel, arXiv:1606.08415).
///
/// # Errors
/// When `x` is not of a floating type.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Silu)
}

/// The error function, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn erf(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Erf)
}

/// `x Phi(x)`, Phi being the distribution function of the standard normal, element by element: the
/// exact form (Hendrycks and Gimpel, arXiv:1606.08415), not the one by tanh.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Gelu)
}

/// `x` where positive, `e^x - 1` elsewhere, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn elu(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Elu)
}

fn apply(x: &Tensor, function: Function) -> Result<Tensor> {
    if x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64) {
        return Ok(x.contiguous()?.apply_op1(Operation(function))?);
    }
    function.plain(x)
}

#[derive(Clone, Copy, Debug)]
enum Function {
    Exp,
    Ln,
    Ln1p,
    Tanh,
    Sigmoid,
    Softplus,
    LogSigmoid,
    Silu,
    Erf,
    Gelu,
    Elu,
}

impl Function {
    /// The same as a composition of candle's operations, for other devices and as the tests' reference.
    fn plain(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Exp => x.exp()?,
            Self::Ln => x.log()?,
            Self::Ln1p => plain_ln_1p(x)?,
            Self::Tanh => x.tanh()?,
            // exp(-x) would overflow.
            Self::Sigmoid => Self::LogSigmoid.plain(x)?.exp()?,
            // The kinks of relu and abs at 0 cancel: gradients 1 and -1/2 there sum to 1/2.
            Self::Softplus => (x.relu()? + plain_ln_1p(&x.abs()?.neg()?.exp()?)?)?,
            Self::LogSigmoid => Self::Softplus.plain(&x.neg()?)?.neg()?,
            Self::Silu => (x * Self::Sigmoid.plain(x)?)?,
            Self::Erf => x.erf()?,
            Self::Gelu => x.gelu_erf()?,
            Self::Elu => x.elu(1.0)?,
        })
    }

    fn values<T: Real>(self, x: &[T]) -> Vec<T> {
        macro_rules! each {
            (|$x:ident| $value:expr) => {
                map(
                    x,
                    #[inline(always)]
                    |$x: T| $value,
                )
            };
        }
        match self {
            Self::Exp => each!(|x| x.fast_exp()),
            Self::Ln => each!(|x| x.fast_ln()),
            Self::Ln1p => each!(|x| x.fast_ln_1p()),
            Self::Tanh => each!(|x| x.fast_tanh()),
            Self::Sigmoid => each!(|x| x.fast_sigmoid()),
            Self::Softplus => each!(|x| x.fast_softplus()),
            Self::LogSigmoid => each!(|x| -(-x).fast_softplus()),
            Self::Silu => each!(|x| x.fast_silu()),
            Self::Erf => each!(|x| x.fast_erf()),
            Self::Gelu => each!(|x| x.fast_gelu()),
            Self::Elu => each!(|x| if x > T::zero() { x } else { x.fast_exp_m1() }),
        }
    }

    /// Whether the derivative is taken from the value, not from the argument.
    fn slope_from_value(self) -> bool {
        matches!(self, Self::Exp | Self::Tanh | Self::Sigmoid | Self::Elu)
    }

    /// `grad` times the derivative at `at`, which is the value or the argument.
    fn gradient<T: Real>(self, at: &[T], grad: &[T]) -> Vec<T> {
        let one = T::one();
        macro_rules! each {
            (|$v:ident| $slope:expr) => {
                zip_map(
                    at,
                    grad,
                    #[inline(always)]
                    |$v: T, g: T| g * $slope,
                )
            };
        }
        match self {
            Self::Exp => each!(|y| y),
            Self::Ln => each!(|x| one / x),
            Self::Ln1p => each!(|x| one / (one + x)),
            Self::Tanh => each!(|y| one - y * y),
            Self::Sigmoid => each!(|y| y * (one - y)),
            Self::Softplus => each!(|x| x.fast_sigmoid()),
            Self::LogSigmoid => each!(|x| (-x).fast_sigmoid()),
            Self::Silu => each!(|x| x.fast_silu_slope()),
            Self::Erf => each!(|x| x.fast_erf_slope()),
            Self::Gelu => each!(|x| x.fast_gelu_slope()),
            Self::Elu => each!(|y| if y > T::zero() { one } else { y + one }),
        }
    }
}

/// `ln(1 + x)` with what the rounding of 1 + x lost, to first order; that is constant as far as
/// gradients go.
fn plain_ln_1p(x: &Tensor) -> Result<Tensor> {
    let sum = (x + 1.0)?;
    let lost = (x.detach() - (sum.detach() - 1.0)?)?.div(&sum.detach())?;
    Ok((sum.log()? + lost)?)
}

impl Kernel<1> for Function {
    const NAME: &'static str = "elementwise";

    fn value<T: Real>(&self, [x]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        Ok((self.values(x.values), x.shape.clone()))
    }

    fn gradients<T: Real>(
        &self,
        [x]: [&Tensor; 1],
        y: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let at = if self.slope_from_value() { y } else { x };
        let product = with_elements::<T, _, _>([at, grad], |[at, grad]| self.gradient(at, grad))?;
        Ok([Some(T::tensor(product, x.shape())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    const ALL: [Function; 11] = [
        Function::Exp,
        Function::Ln,
        Function::Ln1p,
        Function::Tanh,
        Function::Sigmoid,
        Function::Softplus,
        Function::LogSigmoid,
        Function::Silu,
        Function::Erf,
        Function::Gelu,
        Function::Elu,
    ];

    /// The value and, weighed with `cotangent`, the gradient of one way, in f64.
    fn run(
        f: impl Fn(&Tensor) -> Result<Tensor>,
        x: &Tensor,
        cotangent: &Tensor,
        dtype: DType,
    ) -> Result<(Tensor, Tensor)> {
        let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
        // Neither the argument nor the gradient is contiguous.
        let y = f(&x.t()?)?;
        let grads = (y.t()? * cotangent.to_dtype(dtype)?)?.sum_all()?.backward()?;
        let gradient = grads.get(&x).map_or_else(|| x.zeros_like(), |g| Ok(g.clone()))?;
        Ok((y.to_dtype(DType::F64)?, gradient.to_dtype(DType::F64)?))
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 24, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
        })]
        #[test]
        fn fused_is_plain(
            rows in prop_oneof![Just(1usize), 2usize..40],
            columns in prop_oneof![Just(1usize), 2usize..70, 1000usize..1100],
            seed in any::<u64>(),
        ) {
            let mut rng = Rng::seed(seed);
            let mut draw = || rng.normal_tensor((rows, columns), DType::F32, &Device::Cpu).unwrap();
            let (normal, cotangent) = (draw(), draw().t().unwrap().contiguous().unwrap().t().unwrap());
            for function in ALL {
                let x = match function {
                    Function::Ln | Function::Ln1p => (normal.abs().unwrap() + 0.1).unwrap(),
                    _ => (&normal * 3.0).unwrap(),
                };
                let want = run(|x| function.plain(x), &x, &cotangent, DType::F64).unwrap();
                for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
                    let got = run(|x| apply(x, function), &x, &cotangent, dtype).unwrap();
                    let value = difference(&got.0, &want.0).unwrap();
                    let slope = difference(&got.1, &want.1).unwrap();
                    // candle's gradient of gelu has six digits.
                    let loose = if matches!(function, Function::Gelu) { 1e-5 } else { tolerance };
                    prop_assert!(value < tolerance && slope < loose, "{function:?} {dtype:?} {value} {slope}");
                }
            }
        }
    }

    #[test]
    fn softplus_keeps_its_digits() -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let y = softplus(&Tensor::new(&[-17.0, 800.0], &Device::Cpu)?.to_dtype(dtype)?)?.to_dtype(DType::F64)?;
            let y = y.to_vec1::<f64>()?;
            assert!((y[0] / (-17f64).exp() - 1.0).abs() < 1e-6 && y[1] == 800.0, "{y:?}");
        }
        Ok(())
    }
}
