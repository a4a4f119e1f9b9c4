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

/// The function of every element as a map onto an open interval: a result that rounds to an end of it is the
/// nearest number inside, which is no subnormal one. A NaN stays.
///
/// # Errors
/// When `x` is not of a floating type.
pub(crate) fn onto(x: &Tensor, function: Open) -> Result<Tensor> {
    apply(x, Function::Onto(function))
}

/// Increasing functions onto open intervals.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Open {
    /// `e^x`, positive.
    Exp,
    /// `ln(1 + e^x)`, positive.
    Softplus,
    /// The sigmoid, of (0, 1).
    Sigmoid,
    /// The hyperbolic tangent, of (-1, 1).
    Tanh,
    /// `scale sigmoid(x) + shift`, within `ends`, which are numbers of the type of x.
    Scaled { scale: f64, shift: f64, ends: [f64; 2] },
}

impl Open {
    /// The least and the largest number inside.
    fn ends<T: Real>(self) -> [T; 2] {
        let below_one = T::one() - T::epsilon() / T::of(2.0);
        match self {
            Self::Exp | Self::Softplus => [T::min_positive_value(), T::max_value()],
            Self::Sigmoid => [T::min_positive_value(), below_one],
            Self::Tanh => [-below_one, below_one],
            Self::Scaled { ends, .. } => ends.map(T::of),
        }
    }

    fn plain(self, x: &Tensor) -> Result<Tensor> {
        let [low, high] = match x.dtype() {
            DType::F64 => self.ends::<f64>(),
            _ => self.ends::<f32>().map(f64::from),
        };
        let y = match self {
            Self::Exp => Function::Exp.plain(x)?,
            Self::Softplus => Function::Softplus.plain(x)?,
            Self::Sigmoid => Function::Sigmoid.plain(x)?,
            Self::Tanh => Function::Tanh.plain(x)?,
            Self::Scaled { scale, shift, .. } => Function::Sigmoid.plain(x)?.affine(scale, shift)?,
        };
        Ok(y.eq(&y)?.where_cond(&y.clamp(low, high)?, &y)?)
    }
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
    Onto(Open),
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
            Self::Onto(open) => open.plain(x)?,
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
        macro_rules! onto {
            ($open:expr, |$x:ident| $value:expr) => {{
                let [low, high] = $open.ends::<T>();
                map(
                    x,
                    #[inline(always)]
                    move |$x: T| {
                        let y = $value;
                        let y = if y < low { low } else { y };
                        if y > high { high } else { y }
                    },
                )
            }};
        }
        match self {
            Self::Onto(open @ Open::Exp) => onto!(open, |x| x.fast_exp()),
            Self::Onto(open @ Open::Softplus) => onto!(open, |x| x.fast_softplus()),
            Self::Onto(open @ Open::Sigmoid) => onto!(open, |x| x.fast_sigmoid()),
            Self::Onto(open @ Open::Tanh) => onto!(open, |x| x.fast_tanh()),
            Self::Onto(open @ Open::Scaled { scale, shift, .. }) => {
                let (scale, shift) = (T::of(scale), T::of(shift));
                onto!(open, |x| x.fast_sigmoid() * scale + shift)
            }
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
        matches!(
            self,
            Self::Exp | Self::Tanh | Self::Sigmoid | Self::Elu | Self::Onto(Open::Exp | Open::Sigmoid | Open::Tanh)
        )
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
                    move |$v: T, g: T| g * $slope,
                )
            };
        }
        match self {
            // Beyond all numbers the value is constant.
            Self::Onto(Open::Exp) => each!(|y| if y < T::max_value() { y } else { T::zero() }),
            Self::Onto(Open::Scaled { scale, .. }) => {
                let scale = T::of(scale);
                each!(|x| scale * x.fast_sigmoid() * (-x).fast_sigmoid())
            }
            Self::Exp => each!(|y| y),
            Self::Ln => each!(|x| one / x),
            Self::Ln1p => each!(|x| one / (one + x)),
            Self::Tanh | Self::Onto(Open::Tanh) => each!(|y| one - y * y),
            Self::Sigmoid | Self::Onto(Open::Sigmoid) => each!(|y| y * (one - y)),
            Self::Softplus | Self::Onto(Open::Softplus) => each!(|x| x.fast_sigmoid()),
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

    const ALL: [Function; 16] = [
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
        Function::Onto(Open::Exp),
        Function::Onto(Open::Softplus),
        Function::Onto(Open::Sigmoid),
        Function::Onto(Open::Tanh),
        Function::Onto(Open::Scaled { scale: 3.0, shift: -1.0, ends: [-1.0, 2.0] }),
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
    fn open_intervals_are_not_left() -> Result<()> {
        let inf = f64::INFINITY;
        let at = [-inf, -1e30, -800.0, -90.0, -20.0, 20.0, 90.0, 800.0, 1e30, inf, f64::NAN];
        let cases = [
            (Open::Exp, [0.0, inf]),
            (Open::Softplus, [0.0, inf]),
            (Open::Sigmoid, [0.0, 1.0]),
            (Open::Tanh, [-1.0, 1.0]),
            (
                Open::Scaled { scale: 4.0, shift: -2.0, ends: [-1.999_999_880_790_710_4, 1.999_999_880_790_710_4] },
                [-2.0, 2.0],
            ),
        ];
        for (open, [low, high]) in cases {
            for dtype in [DType::F32, DType::F64] {
                let x = Tensor::new(&at, &Device::Cpu)?.to_dtype(dtype)?;
                for y in [onto(&x, open)?, open.plain(&x)?] {
                    let y = y.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                    let (nan, numbers) = y.split_last().unwrap();
                    assert!(numbers.iter().all(|&y| y > low && y < high) && nan.is_nan(), "{open:?} {dtype:?} {y:?}");
                    assert!(numbers.is_sorted(), "{open:?} {dtype:?} {y:?}");
                }
            }
        }
        // The last number below 1, whose logit is ln(2^24 - 1).
        let y = onto(&Tensor::new(&[40f32], &Device::Cpu)?, Open::Sigmoid)?.to_vec1::<f32>()?;
        assert_eq!(y, [1.0 - f32::EPSILON / 2.0]);
        Ok(())
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
