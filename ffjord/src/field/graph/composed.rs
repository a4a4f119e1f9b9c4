//! The operations on dual tensors: for other devices, and as the tests' reference.

use super::machine::{Constant, Function, Machine};
use super::{Constants, Places};
use crate::field::Dual;
use candle_core::{Device, Tensor};
use flows_core::{Error, Result, ops};

/// The operations over a batch of `count` configurations, by `weights` at time `t`.
pub(super) struct Composed<'a> {
    places: &'a Places,
    weights: &'a [Tensor],
    t: &'a Tensor,
    count: usize,
    /// A row for each particle.
    context: Option<Tensor>,
    /// Of each edge the particles that it starts from and ends at.
    ends: [Tensor; 2],
}

impl<'a> Composed<'a> {
    pub(super) fn new(
        places: &'a Places,
        weights: &'a [Tensor],
        t: &'a Tensor,
        count: usize,
        context: Option<Tensor>,
    ) -> Result<Self> {
        let n = places.particles;
        let edges = || (0..n).flat_map(|i| (0..n).filter(move |j| *j != i).map(move |j| (i as u32, j as u32)));
        let ends = |ends: Vec<u32>| Tensor::from_vec(ends, n * (n - 1), t.device());
        let ends = [ends(edges().map(|e| e.0).collect())?, ends(edges().map(|e| e.1).collect())?];
        Ok(Self { places, weights, t, count, context, ends })
    }

    /// The rows of the particles at one end of the edges.
    fn take(&self, x: &Dual, ends: &Tensor) -> Result<Dual> {
        let n = self.places.particles;
        x.linear(|x| {
            let (rows, width) = x.dims2()?;
            Ok(x.reshape((rows / n, n, width))?.index_select(ends, 1)?.reshape((rows * (n - 1), width))?)
        })
    }
}

impl Machine for Composed<'_> {
    type Value = Dual;
    type Failure = Error;

    fn of_time(&mut self, weight: usize, bias: usize) -> Result<Dual> {
        let row = (self.weights[weight].broadcast_mul(self.t)? + &self.weights[bias])?;
        let rows = (self.count * self.places.particles, row.elem_count());
        Dual::new(row.broadcast_as(rows)?.contiguous()?, None)
    }

    fn given(&mut self, h: Dual, weight: usize) -> Result<Dual> {
        let Some(context) = &self.context else { return Ok(h) };
        h.shift(&ops::product(context, &self.weights[weight].t()?)?)
    }

    fn linear(&mut self, x: &Dual, weight: usize, bias: Option<usize>) -> Result<Dual> {
        let y = x.linear(|x| ops::product(x, &self.weights[weight].t()?))?;
        bias.map_or(Ok(y.clone()), |bias| y.shift(&self.weights[bias]))
    }

    fn constant(&mut self, x: &Dual, matrix: Constant, width: usize) -> Result<Dual> {
        let constants = Constants::<f64>::new(self.places);
        let values = constants.of(matrix);
        let each = x.value().elem_count() / self.count;
        let matrix = Tensor::from_slice(values, (values.len() / each, each), &Device::Cpu)?;
        let matrix = matrix.to_dtype(self.t.dtype())?.to_device(self.t.device())?;
        x.linear(|x| Ok(ops::product(&x.reshape(((), each))?, &matrix.t()?)?.reshape(((), width))?))
    }

    fn pairs(&mut self, a: &Dual, b: &Dual, q: [&Dual; 2], weight: usize) -> Result<Dual> {
        let mut sum = self.take(a, &self.ends[0])?.plus(&self.take(b, &self.ends[1])?)?;
        for (c, q) in q.into_iter().enumerate() {
            let row = self.weights[weight].narrow(0, c, 1)?;
            sum = sum.plus(&q.linear(|q| ops::product(q, &row))?)?;
        }
        Ok(sum)
    }

    fn difference(&mut self, x: &Dual) -> Result<Dual> {
        let (from, to) = (self.take(x, &self.ends[0])?, self.take(x, &self.ends[1])?);
        self.sum(&from, &to, -1.0)
    }

    fn collect(&mut self, x: &Dual, factor: f64) -> Result<Dual> {
        let others = self.places.particles - 1;
        x.linear(|x| {
            let (rows, width) = x.dims2()?;
            Ok((x.reshape((rows / others, others, width))?.sum(1)? * factor)?)
        })
    }

    fn map(&mut self, x: &Dual, function: Function) -> Result<Dual> {
        x.map(|x| function.composed(x))
    }

    fn times(&mut self, x: &Dual, s: &Dual) -> Result<Dual> {
        let width = x.value().dim(1)?;
        x.times(&s.linear(|s| Ok(s.broadcast_as((s.dim(0)?, width))?.contiguous()?))?)
    }

    fn square(&mut self, x: &Dual) -> Result<Dual> {
        x.times(x)?.linear(|x| Ok(x.sum_keepdim(1)?))
    }

    fn sum(&mut self, a: &Dual, b: &Dual, factor: f64) -> Result<Dual> {
        a.plus(&b.linear(|b| Ok((b * factor)?))?)
    }
}
