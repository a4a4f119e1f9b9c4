//! Bounds on single elements.

use super::onto::{Limits, Map, clip, constant};
use crate::bijectors::support::{Bounds, Link};
use crate::{Error, Result, ops};
use candle_core::{DType, Device, Tensor};

/// Elements with a lower bound, an upper bound, both or none, each with its own map; see [`super::Support::Bounded`].
#[derive(Debug)]
pub(super) struct Bounded {
    link: Link,
    limits: Limits,
    /// What is done to which elements (1, N), or to all. Later ones override earlier ones.
    groups: Vec<(Side, Option<Tensor>)>,
    /// The bounds, (1, N), and where there is none a number that does no harm.
    low: Tensor,
    high: Tensor,
    log_width: Tensor,
    width: Tensor,
    /// The bounds, or infinities.
    ends: [Tensor; 2],
    /// The numbers next to the bounds.
    inner: [Tensor; 2],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Free,
    Lower,
    Upper,
    Both,
}

impl Side {
    fn of(bounds: &Bounds) -> Self {
        match (bounds.lower, bounds.upper) {
            (None, None) => Self::Free,
            (Some(_), None) => Self::Lower,
            (None, Some(_)) => Self::Upper,
            (Some(_), Some(_)) => Self::Both,
        }
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

impl Bounded {
    /// One pair of bounds for each of the `n` elements.
    pub(super) fn new(bounds: &[Bounds], link: Link, dtype: DType, device: &Device) -> Result<Self> {
        let (n, limits) = (bounds.len(), Limits::of(dtype));
        let mut columns = vec![Vec::new(); 7];
        for bounds in bounds {
            // Outwards, so that what lies next to a bound in this type is inside of it in f64.
            let low = bounds.lower.map(|v| round_down(v, dtype));
            let high = bounds.upper.map(|v| -round_down(-v, dtype));
            let (a, b) = match (low, high) {
                (Some(a), Some(b)) => (a, b),
                (Some(a), None) => (a, a + 1.0),
                (None, Some(b)) => (b - 1.0, b),
                (None, None) => (0.0, 1.0),
            };
            let inner =
                [low.map_or(-limits.huge, |v| above(v, dtype)), high.map_or(limits.huge, |v| -above(-v, dtype))];
            let width = b - a;
            let fits = |v: f64| v.abs() <= limits.huge;
            if !(fits(a) && fits(b) && fits(width) && inner[0] <= inner[1]) {
                return Err(Error::Config(format!(
                    "{bounds} leaves no room in {dtype:?}: give bounds further apart, or nearer to 0 if they are huge"
                )));
            }
            let ends = [low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY)];
            let values = [a, b, width, ends[0], ends[1], inner[0], inner[1]];
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        }
        let log_width = columns[2].iter().map(|w| w.max(limits.tiny).ln()).collect();
        let row = |values: Vec<f64>| constant(values, &[1, n], dtype, device);
        let [low, high, width, first, last, least, greatest] =
            columns.try_into().map_err(|_| Error::Internal("bounds have seven columns".into()))?;
        let sides: Vec<Side> = bounds.iter().map(Side::of).collect();
        let mut groups = Vec::new();
        for side in [Side::Free, Side::Lower, Side::Upper, Side::Both] {
            let mask: Vec<u8> = sides.iter().map(|&s| u8::from(s == side)).collect();
            if mask.contains(&1) {
                groups.push((side, mask.contains(&0).then(|| Tensor::from_vec(mask, (1, n), device)).transpose()?));
            }
        }
        Ok(Self {
            link,
            limits,
            groups,
            low: row(low)?,
            high: row(high)?,
            width: row(width)?,
            log_width: row(log_width)?,
            ends: [row(first)?, row(last)?],
            inner: [row(least)?, row(greatest)?],
        })
    }

    /// What each group makes of its elements, in one tensor of values and one of log-derivatives, both (B, N).
    fn select(&self, v: &Tensor, f: impl Fn(Side, &Tensor) -> Result<(Tensor, Tensor)>) -> Result<(Tensor, Tensor)> {
        let mut chosen: Option<(Tensor, Tensor)> = None;
        for (side, mask) in &self.groups {
            let (value, log) = f(*side, v)?;
            chosen = Some(match (chosen, mask) {
                (Some((others, other_logs)), Some(mask)) => {
                    let mask = mask.broadcast_as(v.shape())?.contiguous()?;
                    (mask.where_cond(&value, &others)?, mask.where_cond(&log, &other_logs)?)
                }
                _ => (value, log),
            });
        }
        chosen.ok_or_else(|| Error::Internal("bounds of no element".into()))
    }

    /// The distance from a bound, of z, and the logarithm of its derivative.
    fn distance(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        match self.link {
            Link::Exp => Ok((self.limits.exp(z, 1.0, 1)?, z.clone())),
            Link::Softplus => Ok((ops::softplus(z)?, ops::log_sigmoid(z)?)),
        }
    }

    /// The inverse of [`Self::distance`].
    fn of_distance(&self, d: &Tensor) -> Result<(Tensor, Tensor)> {
        match self.link {
            Link::Exp => {
                let z = self.limits.ln(d)?;
                let log = z.neg()?;
                Ok((z, log))
            }
            Link::Softplus => {
                let d = clip(d, 4.0 * self.limits.tiny, self.limits.huge)?;
                // 1 - e^-d = 2t / (1 + t) with t = tanh(d/2): exact for small d.
                let t = ops::tanh(&(&d * 0.5)?)?;
                let log = ops::ln(&((&t * 2.0)? / (t + 1.0)?)?)?;
                Ok(((d + &log)?, log.neg()?))
            }
        }
    }

    fn to_data(&self, side: Side, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let (x, log) = match side {
            Side::Free => return Ok((z.clone(), z.zeros_like()?)),
            Side::Lower => {
                let (d, log) = self.distance(z)?;
                (d.broadcast_add(&self.low)?, log)
            }
            Side::Upper => {
                let (d, log) = self.distance(z)?;
                (d.neg()?.broadcast_add(&self.high)?, log)
            }
            Side::Both => {
                let minus = z.neg()?;
                // Each half by the distance from its own end.
                let up = ops::sigmoid(z)?.broadcast_mul(&self.width)?.broadcast_add(&self.low)?;
                let down = ops::sigmoid(&minus)?.broadcast_mul(&self.width)?.neg()?.broadcast_add(&self.high)?;
                let log = (ops::log_sigmoid(z)? + ops::log_sigmoid(&minus)?)?.broadcast_add(&self.log_width)?;
                (z.ge(0.0)?.where_cond(&down, &up)?, log)
            }
        };
        let [least, greatest] = &self.inner;
        let x = x.broadcast_lt(least)?.where_cond(&least.broadcast_as(x.shape())?, &x)?;
        Ok((x.broadcast_gt(greatest)?.where_cond(&greatest.broadcast_as(x.shape())?, &x)?, log))
    }

    fn to_latent(&self, side: Side, x: &Tensor) -> Result<(Tensor, Tensor)> {
        match side {
            Side::Free => Ok((x.clone(), x.zeros_like()?)),
            Side::Lower => self.of_distance(&x.broadcast_sub(&self.low)?),
            Side::Upper => self.of_distance(&x.neg()?.broadcast_add(&self.high)?),
            Side::Both => {
                let up = self.limits.ln(&x.broadcast_sub(&self.low)?)?;
                let down = self.limits.ln(&x.neg()?.broadcast_add(&self.high)?)?;
                let log = (&up + &down)?.neg()?.broadcast_add(&self.log_width)?;
                Ok(((up - down)?, log))
            }
        }
    }
}

impl Map for Bounded {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let flat = z.reshape((z.dim(0)?, ()))?;
        let (x, log) = self.select(&flat, |side, z| self.to_data(side, z))?;
        Ok((x.reshape(z.shape())?, ops::sum_event(&log)?))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        let flat = x.reshape((x.dim(0)?, ()))?;
        let [first, last] = &self.ends;
        Ok((flat.broadcast_le(first)? + flat.broadcast_ge(last)?)?)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let flat = x.reshape((x.dim(0)?, ()))?;
        let (z, log) = self.select(&flat, |side, x| self.to_latent(side, x))?;
        Ok((z.reshape(x.shape())?, ops::sum_event(&log)?))
    }
}
