//! The backend on dual tensors, for devices without kernels and as the tests' reference.

use super::backend::{Backend, Constant, Function};
use super::{Constants, Layout};
use crate::field::Dual;
use candle_core::{Device, Tensor};
use flows_core::{Error, Result, ops};

/// Executes the operations for a batch of `count` configurations at time `t` (a scalar).
pub(super) struct Composed<'a> {
    layout: &'a Layout,
    weights: &'a [Tensor],
    t: &'a Tensor,
    count: usize,
    /// One row per particle.
    context: Option<Tensor>,
    /// The index of each edge's first particle i, (N (N - 1)).
    sources: Tensor,
    /// The index of each edge's second particle j, (N (N - 1)).
    targets: Tensor,
}

impl<'a> Composed<'a> {
    pub(super) fn new(
        layout: &'a Layout,
        weights: &'a [Tensor],
        t: &'a Tensor,
        count: usize,
        context: Option<Tensor>,
    ) -> Result<Self> {
        let n = layout.particles;
        let edges = || (0..n).flat_map(|i| (0..n).filter(move |j| *j != i).map(move |j| (i as u32, j as u32)));
        let indices = |indices: Vec<u32>| Tensor::from_vec(indices, n * (n - 1), t.device());
        let sources = indices(edges().map(|(i, _)| i).collect())?;
        let targets = indices(edges().map(|(_, j)| j).collect())?;
        Ok(Self { layout, weights, t, count, context, sources, targets })
    }

    /// For each edge, the row of its particle with the given index.
    fn gather(&self, x: &Dual, indices: &Tensor) -> Result<Dual> {
        let n = self.layout.particles;
        x.linear(|x| {
            let (rows, width) = x.dims2()?;
            Ok(x.reshape((rows / n, n, width))?.index_select(indices, 1)?.reshape((rows * (n - 1), width))?)
        })
    }
}

impl Backend for Composed<'_> {
    type Value = Dual;
    type Failure = Error;

    fn time_features(&mut self, weight: usize, bias: usize) -> Result<Dual> {
        let row = (self.weights[weight].broadcast_mul(self.t)? + &self.weights[bias])?;
        let rows = (self.count * self.layout.particles, row.elem_count());
        Dual::new(row.broadcast_as(rows)?.contiguous()?, None)
    }

    fn add_context(&mut self, h: Dual, weight: usize) -> Result<Dual> {
        let Some(context) = &self.context else { return Ok(h) };
        h.shift(&ops::product(context, &self.weights[weight].t()?)?)
    }

    fn linear(&mut self, x: &Dual, weight: usize, bias: Option<usize>) -> Result<Dual> {
        let y = x.linear(|x| ops::product(x, &self.weights[weight].t()?))?;
        bias.map_or(Ok(y.clone()), |bias| y.shift(&self.weights[bias]))
    }

    fn constant(&mut self, x: &Dual, matrix: Constant, width: usize) -> Result<Dual> {
        let constants = Constants::<f64>::new(self.layout);
        let values = constants.get(matrix);
        let each = x.value().elem_count() / self.count;
        let matrix = Tensor::from_slice(values, (values.len() / each, each), &Device::Cpu)?;
        let matrix = matrix.to_dtype(self.t.dtype())?.to_device(self.t.device())?;
        x.linear(|x| Ok(ops::product(&x.reshape(((), each))?, &matrix.t()?)?.reshape(((), width))?))
    }

    fn edge_inputs(&mut self, a: &Dual, b: &Dual, q: [&Dual; 2], weight: usize) -> Result<Dual> {
        let mut sum = self.gather(a, &self.sources)?.plus(&self.gather(b, &self.targets)?)?;
        for (c, q) in q.into_iter().enumerate() {
            let row = self.weights[weight].narrow(0, c, 1)?;
            sum = sum.plus(&q.linear(|q| ops::product(q, &row))?)?;
        }
        Ok(sum)
    }

    fn difference(&mut self, x: &Dual) -> Result<Dual> {
        let (source, target) = (self.gather(x, &self.sources)?, self.gather(x, &self.targets)?);
        self.sum(&source, &target, -1.0)
    }

    fn aggregate(&mut self, x: &Dual, factor: f64) -> Result<Dual> {
        let others = self.layout.particles - 1;
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

    fn squared_norm(&mut self, x: &Dual) -> Result<Dual> {
        x.times(x)?.linear(|x| Ok(x.sum_keepdim(1)?))
    }

    fn sum(&mut self, a: &Dual, b: &Dual, factor: f64) -> Result<Dual> {
        a.plus(&b.linear(|b| Ok((b * factor)?))?)
    }
}
