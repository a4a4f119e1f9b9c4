//! Families without parameters: link functions between the line and its intervals.

use super::Univariate;
use crate::bijectors::Bounds;
use crate::ops::{self, Open};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// A fixed increasing function; for the inverse direction wrap it in [`Inverted`](super::Inverted).
///
/// `forward` of any number is strictly inside of the range, where `inverse` is finite: what would round to
/// one of its ends is the last number before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fixed {
    /// `x = e^z`, onto the positive numbers.
    Exp,
    /// `x = ln(1 + e^z)`, onto the positive numbers.
    Softplus,
    /// `x = 1 / (1 + e^-z)`, onto (0, 1); its inverse is the logit.
    Sigmoid,
    /// `x = tanh z`, onto (-1, 1); `ln(1 - tanh^2 z) = 2 (ln 2 - z - softplus(-2z))`.
    Tanh,
    /// `x = z` where positive, `slope z` elsewhere.
    LeakyRelu(Positive),
    /// `x = z^p`, of the positive numbers onto themselves.
    Power(Positive),
}

/// A number that [`Fixed::leaky_relu`] or [`Fixed::power`] has found to be positive and finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positive(f64);

impl Fixed {
    /// A leaky ReLU of this slope.
    ///
    /// # Errors
    /// When the slope is not positive and finite.
    pub fn leaky_relu(slope: f64) -> Result<Self> {
        positive("slope of a leaky ReLU", slope).map(Self::LeakyRelu)
    }

    /// A power of this exponent.
    ///
    /// # Errors
    /// When the exponent is not positive and finite.
    pub fn power(exponent: f64) -> Result<Self> {
        positive("exponent of a power", exponent).map(Self::Power)
    }
}

fn positive(what: &str, value: f64) -> Result<Positive> {
    // Both directions are needed.
    if value > 0.0 && value.is_finite() && value.recip().is_finite() {
        return Ok(Positive(value));
    }
    Err(Error::Config(format!("the {what} is {value}: choose a positive number")))
}

/// The smallest and largest arguments of a logarithm, and the distance from 1 to the last number below it.
fn limits(dtype: DType) -> (f64, f64, f64) {
    if dtype == DType::F64 {
        (f64::MIN_POSITIVE, f64::MAX, 0.5 * f64::EPSILON)
    } else {
        (f32::MIN_POSITIVE.into(), f32::MAX.into(), 0.5 * f64::from(f32::EPSILON))
    }
}

/// `value` and `log` where `x` lies between the ends, both finite; a log-derivative of minus
/// infinity elsewhere. The ends themselves are outside.
fn within(x: &Tensor, low: f64, high: f64, value: Tensor, log: Tensor) -> Result<(Tensor, Tensor)> {
    // Comparisons with a NaN are false, so its row stays NaN.
    let outside = (x.le(low)? + x.ge(high)?)?;
    let never = (log.zeros_like()? + f64::NEG_INFINITY)?;
    Ok((value, outside.where_cond(&never, &log)?))
}

impl Univariate for Fixed {
    fn name(&self) -> String {
        match self {
            Self::Exp => "exp".into(),
            Self::Softplus => "softplus".into(),
            Self::Sigmoid => "sigmoid".into(),
            Self::Tanh => "tanh".into(),
            Self::LeakyRelu(Positive(slope)) => format!("leaky ReLU of slope {slope}"),
            Self::Power(Positive(exponent)) => format!("power {exponent}"),
        }
    }

    fn parameter_count(&self) -> usize {
        0
    }

    fn identity(&self) -> Vec<f64> {
        Vec::new()
    }

    fn domain(&self) -> Bounds {
        match self {
            Self::Power(_) => Bounds::above(0.0),
            _ => Bounds::NONE,
        }
    }

    fn range(&self) -> Bounds {
        match self {
            Self::Exp | Self::Softplus | Self::Power(_) => Bounds::above(0.0),
            Self::Sigmoid => Bounds::between(0.0, 1.0),
            Self::Tanh => Bounds::between(-1.0, 1.0),
            Self::LeakyRelu(_) => Bounds::NONE,
        }
    }

    fn forward(&self, z: &Tensor, _: &Tensor) -> Result<(Tensor, Tensor)> {
        let (tiny, huge, _) = limits(z.dtype());
        match *self {
            Self::Exp => Ok((ops::onto(z, Open::Exp)?, z.clone())),
            Self::Softplus => Ok((ops::onto(z, Open::Softplus)?, ops::log_sigmoid(z)?)),
            Self::Sigmoid => {
                let log = (ops::log_sigmoid(z)? + ops::log_sigmoid(&z.neg()?)?)?;
                Ok((ops::onto(z, Open::Sigmoid)?, log))
            }
            Self::Tanh => Ok((ops::onto(z, Open::Tanh)?, ops::log_tanh_slope(z)?)),
            Self::LeakyRelu(Positive(slope)) => leaky(z, slope),
            Self::Power(Positive(p)) => {
                let log = ops::ln(&z.clamp(tiny, huge)?)?;
                let value = ops::onto(&(&log * p)?, Open::Exp)?;
                within(z, 0.0, f64::INFINITY, value, (log * (p - 1.0))?.affine(1.0, p.ln())?)
            }
        }
    }

    fn inverse(&self, x: &Tensor, _: &Tensor) -> Result<(Tensor, Tensor)> {
        let (tiny, huge, gap) = limits(x.dtype());
        match *self {
            Self::Exp => {
                let z = ops::ln(&x.clamp(tiny, huge)?)?;
                let log = z.neg()?;
                within(x, 0.0, f64::INFINITY, z, log)
            }
            Self::Softplus => {
                let at = x.clamp(tiny, huge)?;
                // 1 - e^-x = 2t / (1 + t) with t = tanh(x/2): exact for small x.
                let t = ops::tanh(&(&at * 0.5)?)?;
                let log = ops::ln(&((&t * 2.0)? / (t + 1.0)?)?)?;
                let z = (at + &log)?;
                within(x, 0.0, f64::INFINITY, z, log.neg()?)
            }
            Self::Sigmoid => {
                let at = x.clamp(tiny, 1.0 - gap)?;
                let (up, down) = (ops::ln(&at)?, ops::ln_1p(&at.neg()?)?);
                within(x, 0.0, 1.0, (&up - &down)?, (up + down)?.neg()?)
            }
            Self::Tanh => {
                let at = x.clamp(-1.0 + gap, 1.0 - gap)?;
                let (up, down) = (ops::ln_1p(&at)?, ops::ln_1p(&at.neg()?)?);
                within(x, -1.0, 1.0, ((&up - &down)? * 0.5)?, (up + down)?.neg()?)
            }
            Self::LeakyRelu(Positive(slope)) => leaky(x, 1.0 / slope),
            Self::Power(Positive(p)) => Self::Power(Positive(1.0 / p)).forward(x, x),
        }
    }
}

fn leaky(v: &Tensor, slope: f64) -> Result<(Tensor, Tensor)> {
    let up = v.ge(0.0)?;
    let zeros = v.zeros_like()?;
    Ok((up.where_cond(v, &(v * slope)?)?, up.where_cond(&zeros, &(&zeros + slope.ln())?)?))
}
