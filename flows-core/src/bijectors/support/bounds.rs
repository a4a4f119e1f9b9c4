//! What bounds elements.

use super::onto::Limits;
use crate::{Error, Result};
use candle_core::DType;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};

/// What an element lies between, both excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The lower bound, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<f64>,
    /// The upper bound, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
}

impl Bounds {
    /// No bound.
    pub const NONE: Self = Self { lower: None, upper: None };

    /// Above this.
    pub fn above(lower: f64) -> Self {
        Self { lower: Some(lower), upper: None }
    }

    /// Below this.
    pub fn below(upper: f64) -> Self {
        Self { lower: None, upper: Some(upper) }
    }

    /// Between these two.
    pub fn between(lower: f64, upper: f64) -> Self {
        Self { lower: Some(lower), upper: Some(upper) }
    }

    /// Whether a number is between them.
    pub fn contain(&self, x: f64) -> bool {
        x.is_finite() && self.lower.is_none_or(|a| a < x) && self.upper.is_none_or(|b| x < b)
    }

    /// What is between the bounds times a number other than 0, plus another.
    pub(in crate::bijectors) fn scaled(&self, scale: f64, shift: f64) -> Self {
        let image = |v: Option<f64>| v.map(|v| scale * v + shift).filter(|v| v.is_finite());
        let (first, last) = (image(self.lower), image(self.upper));
        if scale > 0.0 { Self { lower: first, upper: last } } else { Self { lower: last, upper: first } }
    }

    /// The bounds as numbers of a type, rounded outwards so that what lies next to one of them is inside in f64 too;
    /// infinite where there is none.
    pub(in crate::bijectors) fn ends(&self, dtype: DType) -> [f64; 2] {
        let down = |v: f64| round_down(v, dtype);
        [self.lower.map_or(f64::NEG_INFINITY, down), self.upper.map_or(f64::INFINITY, |v| -down(-v))]
    }

    /// The least and the greatest number of a type inside.
    pub(in crate::bijectors) fn inner(&self, dtype: DType) -> [f64; 2] {
        let huge = Limits::of(dtype).huge;
        let [low, high] = self.ends(dtype);
        [self.lower.map_or(-huge, |_| above(low, dtype)), self.upper.map_or(huge, |_| -above(-high, dtype))]
    }

    pub(super) fn check(&self) -> Result<()> {
        let finite = self.lower.into_iter().chain(self.upper).all(f64::is_finite);
        let apart = match (self.lower, self.upper) {
            (Some(a), Some(b)) => a < b,
            _ => true,
        };
        match finite && apart {
            true => Ok(()),
            false => Err(Error::Config(format!(
                "{self}: give a lower bound and a higher upper one, and leave out those that are infinite"
            ))),
        }
    }
}

impl Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.lower, self.upper) {
            (None, None) => write!(f, "no bound"),
            (Some(a), None) => write!(f, "a lower bound of {a}"),
            (None, Some(b)) => write!(f, "an upper bound of {b}"),
            (Some(a), Some(b)) => write!(f, "bounds of {a} and {b}"),
        }
    }
}

/// The map of the reals onto the positive numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// `e^z`, Stan's.
    #[default]
    Exp,
    /// `ln(1 + e^z)`, which does not grow faster than z.
    Softplus,
}

impl Link {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A bound that may depend on another part of a [`Support::Named`](super::Support::Named): `shift + scale p` for the
/// part p of this name, or the number `shift` where no part is named.
///
/// ```
/// use flows_core::bijectors::Limit;
/// let half = Limit::part("width").times(0.5).plus(-1.0);
/// assert_eq!(half, Limit { part: Some("width".into()), scale: 0.5, shift: -1.0 });
/// assert_eq!((Limit::from("width"), Limit::from(2.0).shift), (Limit::part("width"), 2.0));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The name of a part declared before, a scalar or of as many elements as what it bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What the part is multiplied by.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub scale: f64,
    /// What is added.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shift: f64,
}

fn one() -> f64 {
    1.0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references.
fn is_one(v: &f64) -> bool {
    *v == 1.0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(v: &f64) -> bool {
    *v == 0.0
}

impl Limit {
    /// The part of this name.
    pub fn part(name: impl Into<String>) -> Self {
        Self { part: Some(name.into()), scale: 1.0, shift: 0.0 }
    }

    /// This times a number.
    pub fn times(self, factor: f64) -> Self {
        Self { scale: factor * self.scale, shift: factor * self.shift, ..self }
    }

    /// This plus a number.
    pub fn plus(self, term: f64) -> Self {
        Self { shift: self.shift + term, ..self }
    }
}

impl From<f64> for Limit {
    fn from(shift: f64) -> Self {
        Self { part: None, scale: 1.0, shift }
    }
}

impl From<&str> for Limit {
    fn from(name: &str) -> Self {
        Self::part(name)
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part: Some(part), scale, shift } = self else { return write!(f, "{}", self.shift) };
        if *shift != 0.0 {
            write!(f, "{shift} + ")?;
        }
        if *scale != 1.0 {
            write!(f, "{scale} ")?;
        }
        write!(f, "`{part}`")
    }
}

/// The largest number of a type that is not above `v`.
fn round_down(v: f64, dtype: DType) -> f64 {
    if dtype == DType::F64 {
        return v;
    }
    let near = v as f32;
    f64::from(if f64::from(near) > v { near.next_down() } else { near })
}

/// The smallest number of a type above `v`, which is one of the type; not a subnormal one, which kernels may take for 0.
fn above(v: f64, dtype: DType) -> f64 {
    let next = if dtype == DType::F64 { v.next_up() } else { f64::from((v as f32).next_up()) };
    let tiny = Limits::of(dtype).tiny;
    if next > 0.0 && next < tiny { tiny } else { next }
}
