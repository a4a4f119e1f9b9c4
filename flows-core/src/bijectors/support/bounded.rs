//! Bounds on single elements.

use super::bounds::{Bounds, Link};
use super::edges::{Edges, OneSide, Side};
use super::onto::{Limits, Map, constant};
use crate::{Error, Result, ops};
use candle_core::{DType, Device, Tensor};

/// Elements with a lower bound, an upper bound, both or none, each with its own map; see [`super::Support::Bounded`].
#[derive(Debug)]
pub(super) struct Bounded {
    link: Link,
    limits: Limits,
    /// What is done to which elements (1, N), or to all. Later ones override earlier ones.
    groups: Vec<(Side, Option<Tensor>)>,
    /// The bounds, and where there is none numbers that do no harm.
    edges: Edges,
    /// The bounds, or infinities.
    ends: [Tensor; 2],
}

impl Bounded {
    /// One pair of bounds for each of the `n` elements.
    pub(super) fn new(bounds: &[Bounds], link: Link, dtype: DType, device: &Device) -> Result<Self> {
        let (n, limits) = (bounds.len(), Limits::of(dtype));
        let mut columns = vec![Vec::new(); 8];
        for bounds in bounds {
            let (ends, inner) = (bounds.ends(dtype), bounds.inner(dtype));
            let (a, b) = match (bounds.lower, bounds.upper) {
                (Some(_), Some(_)) => (ends[0], ends[1]),
                (Some(_), None) => (ends[0], ends[0] + 1.0),
                (None, Some(_)) => (ends[1] - 1.0, ends[1]),
                (None, None) => (0.0, 1.0),
            };
            let width = b - a;
            let fits = |v: f64| v.abs() <= limits.huge;
            if !(fits(a) && fits(b) && fits(width) && inner[0] <= inner[1]) {
                return Err(Error::Config(format!(
                    "{bounds} leaves no room in {dtype:?}: give bounds further apart, or nearer to 0 if they are huge"
                )));
            }
            let log_width = width.max(limits.tiny).ln();
            let values = [a, b, width, log_width, inner[0], inner[1], ends[0], ends[1]];
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        }
        let rows: Vec<Tensor> =
            columns.into_iter().map(|values| constant(values, &[1, n], dtype, device)).collect::<Result<_>>()?;
        let [low, high, width, log_width, least, greatest, first, last] =
            rows.try_into().map_err(|_| Error::Internal("bounds have eight columns".into()))?;
        let edges = Edges { low, high, width, log_width, inner: [least, greatest] };
        let sides: Vec<Side> = bounds.iter().map(|b| Side::of(b.lower.is_some(), b.upper.is_some())).collect();
        let mut groups = Vec::new();
        for side in [Side::Free, Side::Lower, Side::Upper, Side::Both] {
            let mask: Vec<u8> = sides.iter().map(|&s| u8::from(s == side)).collect();
            if mask.contains(&1) {
                groups.push((side, mask.contains(&0).then(|| Tensor::from_vec(mask, (1, n), device)).transpose()?));
            }
        }
        Ok(Self { link, limits, groups, edges, ends: [first, last] })
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

    fn side(&self, side: Side) -> OneSide<'_> {
        OneSide { side, link: self.link, limits: self.limits, edges: &self.edges }
    }
}

impl Map for Bounded {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let flat = z.reshape((z.dim(0)?, ()))?;
        let (x, log) = self.select(&flat, |side, z| self.side(side).to_data(z))?;
        Ok((x.reshape(z.shape())?, ops::sum_event(&log)?))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        let flat = x.reshape((x.dim(0)?, ()))?;
        let [first, last] = &self.ends;
        Ok((flat.broadcast_le(first)? + flat.broadcast_ge(last)?)?)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let flat = x.reshape((x.dim(0)?, ()))?;
        let (z, log) = self.select(&flat, |side, x| self.side(side).to_latent(x))?;
        Ok((z.reshape(x.shape())?, ops::sum_event(&log)?))
    }
}
