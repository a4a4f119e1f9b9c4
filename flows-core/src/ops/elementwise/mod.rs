//! Differentiable functions of single elements, with the forward and the backward pass in one loop each.

mod open;

use super::cpu::Real;
use super::operation::{Kernel, Operation, View, with_elements};
use super::simd::{map, zip_map};
use crate::Result;
use candle_core::{DType, Shape, Tensor};
pub(crate) use open::{Open, onto};

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

/// `ln(1 + x)`, exact near 0 too, element by element.
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

    /// Whether the derivative is computed from the value, not from the argument.
    fn slope_from_value(self) -> bool {
        matches!(
            self,
            Self::Exp | Self::Tanh | Self::Sigmoid | Self::Elu | Self::Onto(Open::Exp | Open::Sigmoid | Open::Tanh)
        )
    }

    /// `grad` times the derivative, which is computed from `at`, the value or the argument.
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
            // Where the exponential overflows, the value is constant.
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

/// `ln(1 + x)`, corrected to first order for the rounding of 1 + x; the correction has no gradient.
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
mod tests;
