//! The block neural autoregressive flow.

use super::univariate::numerical_inverse;
use super::{Bijector, Direction, Mode};
use crate::nn::{Init, Scope};
use crate::ops::{self, FusedActivation};
use crate::shape::check_context;
use crate::{Error, Result, Structure};
use candle_core::{D, Tensor, Var};

/// A layer of B-NAF (De Cao et al., Block Neural Autoregressive Flow, 2019): one network of tanh
/// units from x to z whose weights are block lower triangular, with positive blocks on the diagonal.
///
/// A weight is `e^s v / |v|` row by row, v being `e^W` on the diagonal blocks, W below and 0 above
/// (their section 3.1). The diagonal blocks are multiplied layer by layer, as logarithms, so that
/// `log|det dz/dx|` is exact. With g = sigmoid(gate), `z = g network(x) + (1 - g) x`: unlike the
/// paper's last layer this maps onto the whole line, so that every z has an x.
///
/// `inverse` is one pass. `forward` searches, one dimension after another; its gradients are those
/// of the implicit function. A context is added to the first layer through a linear map.
#[derive(Debug)]
pub struct BlockNeural {
    shape: [usize; 1],
    layers: Vec<BlockLinear>,
    gate: Tensor,
    context: Option<Tensor>,
}

/// A linear map of D blocks to D blocks.
#[derive(Debug)]
struct BlockLinear {
    /// Units per dimension, in and out.
    inputs: usize,
    outputs: usize,
    weight: Tensor,
    log_norm: Tensor,
    bias: Tensor,
    /// Ones on the diagonal blocks, and below.
    diagonal: Tensor,
    below: Tensor,
}

impl BlockLinear {
    fn new(dim: usize, inputs: usize, outputs: usize, scope: &Scope) -> Result<Self> {
        scope.reserve("masks", (2, dim, outputs, dim, inputs), scope.dtype())?;
        let (rows, columns) = (dim * outputs, dim * inputs);
        let mask = |keep: fn(usize, usize) -> bool| -> Result<Tensor> {
            let entry = |i: usize| if keep(i / columns / outputs, i % columns / inputs) { 1f32 } else { 0.0 };
            let values: Vec<f32> = (0..rows * columns).map(entry).collect();
            Ok(Tensor::from_vec(values, (rows, columns), scope.device())?.to_dtype(scope.dtype())?)
        };
        let bound = Init::fan_in(columns, 1.0);
        Ok(Self {
            inputs,
            outputs,
            weight: scope.weight("weight", (rows, columns), bound.clone())?,
            log_norm: scope.weight("log_norm", (rows, 1), Init::Constant(0.0))?,
            bias: scope.weight("bias", rows, bound)?,
            diagonal: mask(|row, column| row == column)?,
            below: mask(|row, column| row > column)?,
        })
    }

    /// The weight, and the logarithms of its diagonal blocks, (D, outputs, inputs).
    fn weights(&self, dim: usize) -> Result<(Tensor, Tensor)> {
        let v = ((self.weight.exp()? * &self.diagonal)? + (&self.weight * &self.below)?)?;
        let log_size = (v.sqr()?.sum_keepdim(1)?.log()? * 0.5)?;
        let log_scale = (&self.log_norm - log_size)?;
        let weight = v.broadcast_mul(&log_scale.exp()?)?;
        let logs = self.weight.broadcast_add(&log_scale)?;
        let blocks = (0..dim).map(|d| {
            let rows = logs.narrow(0, d * self.outputs, self.outputs)?;
            rows.narrow(1, d * self.inputs, self.inputs)?.contiguous()
        });
        Ok((weight, Tensor::stack(&blocks.collect::<candle_core::Result<Vec<_>>>()?, 0)?))
    }

    fn structure(&self) -> Structure {
        let (rows, columns) = (self.bias.elem_count(), self.weight.elem_count() / self.bias.elem_count());
        let weights = [&self.weight, &self.log_norm, &self.bias];
        Structure::new("Block linear", format!("{columns} -> {rows}")).weights(weights)
    }
}

impl BlockNeural {
    /// A layer over `features` dimensions with `hidden` layers of `factor` units per dimension,
    /// conditioned on a context of width `context`, if any.
    ///
    /// # Errors
    /// When a size is 0, or too large.
    pub fn new(features: usize, hidden: usize, factor: usize, context: Option<usize>, scope: &Scope) -> Result<Self> {
        if features == 0 || !(1..=1000).contains(&hidden) || factor == 0 || context == Some(0) {
            return Err(Error::Config(
                "a block neural layer needs at least one feature, 1 to 1,000 hidden layers and one unit per feature"
                    .into(),
            ));
        }
        let layer = |i: usize| {
            let (inputs, outputs) = (if i == 0 { 1 } else { factor }, if i == hidden { 1 } else { factor });
            BlockLinear::new(features, inputs, outputs, &scope.enter(format!("layer{i}")))
        };
        let from_context = |width: usize| {
            scope.enter("context").weight("weight", (features * factor, width), Init::fan_in(width, 1.0))
        };
        Ok(Self {
            shape: [features],
            layers: (0..=hidden).map(layer).collect::<Result<_>>()?,
            gate: scope.weight("gate", 1, Init::Zeros)?,
            context: context.map(from_context).transpose()?,
        })
    }

    /// `(z, log dz_d/dx_d)`, both (B, D).
    fn network(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let (batch, dim) = x.dims2()?;
        let mut h = x.clone();
        let mut log = x.zeros_like()?.unsqueeze(2)?;
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                h = ops::tanh(&h)?;
            }
            let (weight, blocks) = layer.weights(dim)?;
            h = ops::linear(&h, &weight, Some(&layer.bias), FusedActivation::Identity)?;
            if let (0, Some(weight)) = (i, &self.context) {
                let context = check_context(context, weight.dim(1)?, batch)?;
                h = (h + ops::linear(context, weight, None, FusedActivation::Identity)?)?;
            }
            log = ops::log_sum_exp(&log.unsqueeze(2)?.broadcast_add(&blocks.unsqueeze(0)?)?)?;
            if i + 1 < self.layers.len() {
                log = (log + ops::log_tanh_slope(&h)?.reshape((batch, dim, layer.outputs))?)?;
            }
        }
        let log = log.squeeze(D::Minus1)?;
        let share = ops::sigmoid(&self.gate)?;
        let z = (h.broadcast_mul(&share)? + x.broadcast_mul(&share.affine(-1.0, 1.0)?)?)?;
        let log = ops::softplus(&log.broadcast_add(&self.gate)?)?.broadcast_sub(&ops::softplus(&self.gate)?)?;
        Ok((z, log))
    }

    /// The x of z, found without a graph, one dimension after another.
    fn search(&self, z: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let (batch, dim) = z.dims2()?;
        let mut columns = vec![Tensor::zeros((batch, 1), z.dtype(), z.device())?; dim];
        for d in 0..dim {
            let (x, _) = numerical_inverse(&z.narrow(1, d, 1)?.contiguous()?, |x| {
                let mut columns = columns.clone();
                columns[d] = x.clone();
                let (value, log) = self.network(&Tensor::cat(&columns, 1)?, context)?;
                Ok((value.narrow(1, d, 1)?, log.narrow(1, d, 1)?))
            })?;
            columns[d] = x.detach();
        }
        Ok(Tensor::cat(&columns, 1)?)
    }

    fn to_data(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let root = Var::from_tensor(&self.search(&z.detach(), context)?)?;
        // One step of Newton's method carries the gradients of the implicit function.
        let (value, _) = self.network(&root, context)?;
        let row = |d: usize| -> Result<Tensor> {
            let gradients = ops::gradients(&value.narrow(1, d, 1)?.sum_all()?)?;
            Ok(gradients.get(&root).map_or_else(|| root.zeros_like(), |g| Ok(g.clone()))?)
        };
        let jacobian = Tensor::stack(&(0..self.shape[0]).map(row).collect::<Result<Vec<_>>>()?, 1)?;
        let root = root.as_detached_tensor();
        let (value, _) = self.network(&root, context)?;
        let step = ops::solve(&jacobian, &(value - z)?.unsqueeze(2)?)?.squeeze(2)?;
        let x = (root - step)?;
        let (_, log) = self.network(&x, context)?;
        Ok((x, ops::sum_event(&log)?.neg()?))
    }

    fn to_latent(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let (z, log) = self.network(x, context)?;
        Ok((z, ops::sum_event(&log)?))
    }
}

impl Bijector for BlockNeural {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        self.check_input(direction, input)?;
        match direction {
            Direction::Forward => self.to_data(input, context),
            Direction::Inverse => self.to_latent(input, context),
        }
    }

    fn structure(&self) -> Structure {
        let details = format!("[{}], gated", self.shape[0]);
        let own = [&self.gate].into_iter().chain(&self.context);
        Structure::new("BlockNeural", details).weights(own).parts(self.layers.iter().map(BlockLinear::structure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Parameters;
    use crate::testing::{difference, measure, perturb};
    use candle_core::{DType, Device};

    #[test]
    fn is_exact() -> Result<()> {
        let mut rng = Rng::seed(1);
        for (dim, hidden, context) in [(1, 1, None), (3, 2, Some(2)), (4, 1, None)] {
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(2));
            let layer = BlockNeural::new(dim, hidden, 5, context, &parameters.scope())?;
            perturb(&parameters, 0.5, &mut rng)?;
            let z = rng.normal_tensor((6, dim), DType::F64, &Device::Cpu)?;
            let c = context.map(|w| rng.normal_tensor((6, w), DType::F64, &Device::Cpu)).transpose()?;
            let report = measure(&layer, &parameters, &z, c.as_ref(), &mut rng)?;
            assert!(report.worst() < 1e-6, "{report:?}");
            assert!(report.round_trip.max(report.consistency) < 1e-9, "{report:?}");
            assert_eq!(layer.structure().total(), parameters.count());
            // Far out, where the tanh units are flat, every z still has an x.
            let far = (z * 100.0)?;
            let x = layer.forward(&far, c.as_ref())?.0;
            assert!(difference(&far, &layer.inverse(&x, c.as_ref())?.0)? < 1e-9);
        }
        Ok(())
    }
}
