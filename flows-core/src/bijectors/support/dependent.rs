//! Bounds that other parts of a product give.

use super::bounds::{Bounds, Limit, Link};
use super::edges::{Edges, OneSide, Side};
use super::onto::{Limits, clip};
use super::{Part, Support, count};
use crate::{Error, Result};
use candle_core::Tensor;

/// Elements with bounds that depend on earlier parts; see [`Support::Dependent`].
#[derive(Debug)]
pub(super) struct Dependent {
    side: Side,
    link: Link,
    limits: Limits,
    lower: Edge,
    upper: Edge,
}

/// `shift + scale p` for the part p of this index, or `shift` alone.
#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    part: Option<usize>,
    scale: f64,
    shift: f64,
}

impl Dependent {
    /// The map of part `index` of these; checked before.
    pub(super) fn new(parts: &[Part], index: usize, limits: Limits) -> Result<Self> {
        let Support::Dependent { lower, upper, link, .. } = &parts[index].support else {
            return Err(Error::Internal("a part with bounds of its own has none that depend on others".into()));
        };
        let edge = |limit: &Option<Limit>| limit.as_ref().map_or(Ok(Edge::default()), |l| Edge::of(l, &parts[..index]));
        let side = Side::of(lower.is_some(), upper.is_some());
        Ok(Self { side, link: *link, limits, lower: edge(lower)?, upper: edge(upper)? })
    }

    /// `(x, ln|dx/dz|)`, both (B, N), for z (B, N), given the earlier parts, each (B, ..).
    pub(super) fn forward(&self, z: &Tensor, earlier: &[Tensor]) -> Result<(Tensor, Tensor)> {
        self.at(&self.edges(z, earlier)?).to_data(z)
    }

    /// Marks elements that are not between their bounds, (B, N).
    pub(super) fn outside(&self, x: &Tensor, earlier: &[Tensor]) -> Result<Tensor> {
        let Edges { low, high, inner: [least, greatest], .. } = self.edges(x, earlier)?;
        // Where there is no number between the bounds one of them is inside.
        let below = (x.broadcast_le(&low)? * x.broadcast_lt(&least)?)?;
        let beyond = (x.broadcast_ge(&high)? * x.broadcast_gt(&greatest)?)?;
        Ok(match self.side {
            Side::Free => x.ne(x)?,
            Side::Lower => below,
            Side::Upper => beyond,
            Side::Both => (below + beyond)?,
        })
    }

    /// `(z, ln|dz/dx|)`, both (B, N), for x (B, N) between its bounds.
    pub(super) fn inverse(&self, x: &Tensor, earlier: &[Tensor]) -> Result<(Tensor, Tensor)> {
        self.at(&self.edges(x, earlier)?).to_latent(x)
    }

    fn at<'a>(&self, edges: &'a Edges) -> OneSide<'a> {
        OneSide { side: self.side, link: self.link, limits: self.limits, edges }
    }

    /// The bounds of a batch, each (B or 1, N or 1).
    fn edges(&self, like: &Tensor, earlier: &[Tensor]) -> Result<Edges> {
        let Limits { tiny, huge, epsilon } = self.limits;
        let number = |v: f64| Ok::<_, Error>(Tensor::full(v, (1, 1), like.device())?.to_dtype(like.dtype())?);
        // So that the difference of two of them is a number still.
        let far = 0.5 * huge;
        let value = |edge: Edge| match edge.part {
            None => number(edge.shift.clamp(-far, far)),
            Some(part) => clip(&earlier[part].affine(edge.scale, edge.shift)?, -far, far),
        };
        let gap = |bound: &Tensor| clip(&(bound.detach().abs()? * epsilon)?, tiny, huge);
        let (low, high) = (value(self.lower)?, value(self.upper)?);
        let (least, greatest) = (low.broadcast_add(&gap(&low)?)?, high.broadcast_sub(&gap(&high)?)?);
        let (width, log_width, inner) = match self.side {
            Side::Both => {
                let width = high.broadcast_sub(&low)?;
                let crossed = least.broadcast_gt(&greatest)?;
                let middle = (&low * 0.5)?.broadcast_add(&(&high * 0.5)?)?;
                let uncrossed =
                    |v: &Tensor| crossed.where_cond(&middle, &v.broadcast_as(middle.shape())?.contiguous()?);
                (width.clone(), self.limits.ln(&width)?, [uncrossed(&least)?, uncrossed(&greatest)?])
            }
            Side::Upper => (low.clone(), low.clone(), [number(-huge)?, greatest]),
            Side::Lower | Side::Free => (low.clone(), low.clone(), [least, number(huge)?]),
        };
        Ok(Edges { low, high, width, log_width, inner })
    }
}

impl Edge {
    /// A limit by parts declared before.
    fn of(limit: &Limit, earlier: &[Part]) -> Result<Self> {
        let Limit { part: Some(name), scale, shift } = limit else {
            return Ok(Self { part: None, scale: 0.0, shift: limit.shift });
        };
        match earlier.iter().position(|part| part.name == *name) {
            Some(index) => Ok(Self { part: Some(index), scale: *scale, shift: *shift }),
            None => Err(Error::Config(format!("its bound `{name}` is no part declared before: declare it first"))),
        }
    }
}

/// Passes if the bounds of part `index`, one that depends on others, are of a right shape and in order whatever the
/// parts before are.
pub(super) fn check(parts: &[Part], index: usize) -> Result<()> {
    let Support::Dependent { shape, lower, upper, .. } = &parts[index].support else { return Ok(()) };
    let n = count(shape);
    let mut edges = Vec::new();
    for limit in lower.iter().chain(upper) {
        let Limit { scale, shift, .. } = limit;
        let edge = Edge::of(limit, &parts[..index])?;
        if !shift.is_finite() || !scale.is_finite() || (edge.part.is_some() && *scale == 0.0) {
            return Err(Error::Config(format!("the bound {limit}: give finite numbers, and a scale other than 0")));
        }
        if let Some(part) = edge.part.map(|i| &parts[i]) {
            let got = count(&part.support.shape());
            if got != 1 && got != n {
                return Err(Error::Config(format!(
                    "{n} elements have a bound by the {got} of `{}`: give a scalar, or as many elements",
                    part.name
                )));
            }
        }
        edges.push(edge);
    }
    let (Some(a), Some(b), [lower, upper]) = (lower, upper, edges.as_slice()) else { return Ok(()) };
    let width = Affine::of(*upper, 1.0).plus(*lower, -1.0);
    if width.is_constant() && width.constant <= 0.0 {
        return Err(Error::Config(format!("there is nothing between {a} and {b}: give a higher upper bound")));
    }
    match width.least(parts) {
        Some(least) if least >= 0.0 => Ok(()),
        _ => Err(Error::Config(format!(
            "{a} may lie above {b}: bound the parts that they name so that it cannot, or exchange the two"
        ))),
    }
}

/// The bounds of part `index` whatever the parts before are.
pub(super) fn bounds(parts: &[Part], index: usize) -> Bounds {
    let Support::Dependent { lower, upper, .. } = &parts[index].support else { return Bounds::NONE };
    let least = |limit: &Option<Limit>, sign: f64| {
        let edge = Edge::of(limit.as_ref()?, &parts[..index]).ok()?;
        Some(sign * Affine::of(edge, sign).least(parts)?)
    };
    Bounds { lower: least(lower, 1.0), upper: least(upper, -1.0) }
}

/// A sum of multiples of parts and a number.
struct Affine {
    /// By the index of the part.
    scales: Vec<f64>,
    constant: f64,
    /// The sum of the magnitudes of what the constant is made of, for its rounding error.
    magnitude: f64,
}

impl Affine {
    fn of(edge: Edge, factor: f64) -> Self {
        Self { scales: Vec::new(), constant: 0.0, magnitude: 0.0 }.plus(edge, factor)
    }

    fn plus(mut self, edge: Edge, factor: f64) -> Self {
        if let Some(part) = edge.part {
            self.scales.resize(self.scales.len().max(part + 1), 0.0);
            self.scales[part] += factor * edge.scale;
        }
        self.constant += factor * edge.shift;
        self.magnitude += (factor * edge.shift).abs();
        self
    }

    fn is_constant(&self) -> bool {
        self.scales.iter().all(|&scale| scale == 0.0)
    }

    /// The least that it can be, 0 for what is 0 but for rounding; none if there is no bound. The latest part goes to
    /// its own bound, which earlier ones may give, and so on.
    fn least(mut self, parts: &[Part]) -> Option<f64> {
        while let Some(scale) = self.scales.pop() {
            let index = self.scales.len();
            if scale == 0.0 {
                continue;
            }
            let edge = match &parts[index].support {
                Support::Dependent { lower, upper, .. } => {
                    Edge::of(if scale > 0.0 { lower } else { upper }.as_ref()?, &parts[..index]).ok()?
                }
                other => {
                    let bounds = other.bounds();
                    let each = bounds.iter().map(|b| if scale > 0.0 { b.lower } else { b.upper.map(|v| -v) });
                    let least = each.collect::<Option<Vec<f64>>>()?.into_iter().fold(f64::INFINITY, f64::min);
                    Edge { shift: if scale > 0.0 { least } else { -least }, ..Edge::default() }
                }
            };
            self = self.plus(edge, scale);
        }
        let rounding = 8.0 * f64::EPSILON * self.magnitude;
        Some(if self.constant.abs() <= rounding { 0.0 } else { self.constant })
    }
}
