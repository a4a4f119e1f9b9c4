//! The residual network of the neural spline flows.

use super::dropout::Dropout;
use super::mlp::with_context;
use super::{Activation, Linear, Mode, Network, Output, Scope};
use crate::ops::{FusedActivation, Step, dense};
use crate::{Result, Structure};
use candle_core::Tensor;

/// A linear layer, pre-activation residual blocks `h + W2 f(W1 f(h))`, and a linear layer.
///
/// The second layer of each block starts near zero, so that the network starts shallow.
/// Dropout, if any, is applied before it. Durkan et al., Neural Spline Flows, 2019, appendix B.
#[derive(Debug)]
pub struct ResidualNet {
    first: Linear,
    blocks: Vec<[Linear; 2]>,
    last: Linear,
    activation: Activation,
    dropout: Dropout,
    context: Option<usize>,
}

/// The sizes of a [`ResidualNet`].
#[derive(Clone, Debug)]
pub struct ResidualNetSettings {
    /// Width of the input.
    pub inputs: usize,
    /// The output of the network.
    pub output: Output,
    /// Width of the context, if there is one.
    pub context: Option<usize>,
    /// Width of the blocks.
    pub hidden: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// The non-linearity.
    pub activation: Activation,
    /// The share of units that are dropped in training.
    pub dropout: f64,
}

impl ResidualNet {
    /// A network of these sizes.
    ///
    /// # Errors
    /// When a width is 0 or dropout is not in [0, 1).
    pub fn new(settings: ResidualNetSettings, scope: &Scope) -> Result<Self> {
        let ResidualNetSettings { inputs, output, context, hidden, blocks, activation, dropout } = settings;
        let block = |i: usize| -> Result<[Linear; 2]> {
            let scope = scope.enter(format!("block{i}"));
            let second = Linear::scaled(hidden, hidden, 1e-3 * (hidden as f64).sqrt(), &scope.enter("second"))?;
            Ok([Linear::new(hidden, hidden, &scope.enter("first"))?, second])
        };
        Ok(Self {
            first: Linear::new(inputs.saturating_add(context.unwrap_or(0)), hidden, &scope.enter("first"))?,
            blocks: (0..blocks).map(block).collect::<Result<_>>()?,
            last: Linear::output(hidden, output, &scope.enter("last"))?,
            activation,
            dropout: Dropout::new(dropout)?,
            context,
        })
    }
}

impl Network for ResidualNet {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        let x = with_context(x, context, self.context)?;
        if let (Some(f), false) = (self.activation.fused(), mode.is_training() && self.dropout.is_active()) {
            let linear = |layer: &Linear| Ok(Step::Linear(layer.affine()?, FusedActivation::Identity));
            let block = |[a, b]: &[Linear; 2]| Ok(Step::Residual([a.affine()?, b.affine()?], f));
            let steps = [linear(&self.first)].into_iter().chain(self.blocks.iter().map(block));
            return dense(&x, None, steps.chain([linear(&self.last)]).collect::<Result<_>>()?);
        }
        let mut h = self.first.forward(&x)?;
        for [first, second] in &self.blocks {
            let inner = first.forward_with(&self.activation.apply(&h)?, self.activation)?;
            let inner = self.dropout.apply(inner, mode)?;
            h = (h + second.forward(&inner)?)?;
        }
        self.last.forward(&h)
    }

    fn widths(&self) -> Option<[usize; 2]> {
        Some([self.first.inputs() - self.context.unwrap_or(0), self.last.outputs()])
    }

    fn structure(&self) -> Structure {
        let details = format!("{}, {} blocks{}", self.activation, self.blocks.len(), self.dropout.details());
        let blocks = self.blocks.iter().flatten().map(Linear::structure);
        Structure::new("ResidualNet", details).part(self.first.structure()).parts(blocks).part(self.last.structure())
    }
}
