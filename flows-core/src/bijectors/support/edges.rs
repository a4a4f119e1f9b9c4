//! The maps of the reals onto intervals and half-lines.

use super::bounds::Link;
use super::onto::{Limits, clip};
use crate::{Result, ops};
use candle_core::Tensor;

/// Which bounds an element has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Side {
    Free,
    Lower,
    Upper,
    Both,
}

impl Side {
    pub(super) fn of(lower: bool, upper: bool) -> Self {
        match (lower, upper) {
            (false, false) => Self::Free,
            (true, false) => Self::Lower,
            (false, true) => Self::Upper,
            (true, true) => Self::Both,
        }
    }
}

/// The bounds of elements, of shapes that broadcast to (B, N).
#[derive(Debug)]
pub(super) struct Edges {
    pub(super) low: Tensor,
    pub(super) high: Tensor,
    pub(super) width: Tensor,
    pub(super) log_width: Tensor,
    /// The least and the greatest number inside.
    pub(super) inner: [Tensor; 2],
}

/// The map of elements that have the same bounds out of two.
pub(super) struct OneSide<'a> {
    pub(super) side: Side,
    pub(super) link: Link,
    pub(super) limits: Limits,
    pub(super) edges: &'a Edges,
}

impl OneSide<'_> {
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

    /// `(x, ln|dx/dz|)`, both (B, N), for z (B, N); a log-derivative is of a size that sums of many are finite.
    pub(super) fn to_data(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let (free, z) = (z, &ops::limited(z)?);
        let (x, log) = match self.side {
            Side::Free => return Ok((free.clone(), free.zeros_like()?)),
            Side::Lower => {
                let (d, log) = self.distance(z)?;
                (d.broadcast_add(&self.edges.low)?, log)
            }
            Side::Upper => {
                let (d, log) = self.distance(z)?;
                (d.neg()?.broadcast_add(&self.edges.high)?, log)
            }
            Side::Both => {
                let minus = z.neg()?;
                // Each half by the distance from its own end.
                let up = ops::sigmoid(z)?.broadcast_mul(&self.edges.width)?.broadcast_add(&self.edges.low)?;
                let down =
                    ops::sigmoid(&minus)?.broadcast_mul(&self.edges.width)?.neg()?.broadcast_add(&self.edges.high)?;
                let log = (ops::log_sigmoid(z)? + ops::log_sigmoid(&minus)?)?.broadcast_add(&self.edges.log_width)?;
                (z.ge(0.0)?.where_cond(&down, &up)?, log)
            }
        };
        let [least, greatest] = &self.edges.inner;
        let x = x.broadcast_lt(least)?.where_cond(&least.broadcast_as(x.shape())?, &x)?;
        Ok((x.broadcast_gt(greatest)?.where_cond(&greatest.broadcast_as(x.shape())?, &x)?, log))
    }

    /// `(z, ln|dz/dx|)`, both (B, N), for x (B, N) between the bounds.
    pub(super) fn to_latent(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        match self.side {
            Side::Free => Ok((x.clone(), x.zeros_like()?)),
            Side::Lower => self.of_distance(&x.broadcast_sub(&self.edges.low)?),
            Side::Upper => self.of_distance(&x.neg()?.broadcast_add(&self.edges.high)?),
            Side::Both => {
                let up = self.limits.ln(&x.broadcast_sub(&self.edges.low)?)?;
                let down = self.limits.ln(&x.neg()?.broadcast_add(&self.edges.high)?)?;
                let log = (&up + &down)?.neg()?.broadcast_add(&self.edges.log_width)?;
                Ok(((up - down)?, log))
            }
        }
    }
}
