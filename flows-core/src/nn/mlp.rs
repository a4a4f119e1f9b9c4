//! The plain multi-layer perceptron.

use super::{Activation, Linear, Mode, Network, Output, Scope};
use crate::ops::{FusedActivation, Step, dense};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// Linear layers with an activation between them; a context is appended to the input.
#[derive(Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    activation: Activation,
    context: Option<usize>,
}

impl Mlp {
    /// A network from `inputs` (+ `context`) numbers to `output` through layers of the `hidden` widths.
    ///
    /// # Errors
    /// When a width is 0.
    pub fn new(
        inputs: usize,
        hidden: &[usize],
        output: Output,
        context: Option<usize>,
        activation: Activation,
        scope: &Scope,
    ) -> Result<Self> {
        let mut width = inputs.saturating_add(context.unwrap_or(0));
        let mut layers = Vec::with_capacity(hidden.len() + 1);
        for (i, &next) in hidden.iter().enumerate() {
            layers.push(Linear::new(width, next, &scope.enter(format!("layer{i}")))?);
            width = next;
        }
        layers.push(Linear::output(width, output, &scope.enter(format!("layer{}", hidden.len())))?);
        Ok(Self { layers, activation, context })
    }
}

impl Network for Mlp {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        let mut h = with_context(x, context, self.context)?;
        let (last, hidden) = self.layers.split_last().ok_or_else(|| Error::Internal("the MLP has no layer".into()))?;
        if let Some(f) = self.activation.fused() {
            let hidden = hidden.iter().map(|layer| Ok(Step::Linear(layer.affine()?, f)));
            let last = Ok(Step::Linear(last.affine()?, FusedActivation::Identity));
            return dense(&h, None, hidden.chain([last]).collect::<Result<_>>()?);
        }
        for layer in hidden {
            h = layer.forward_with(&h, self.activation)?;
        }
        last.forward(&h)
    }

    fn widths(&self) -> Option<[usize; 2]> {
        let (first, last) = (self.layers.first()?, self.layers.last()?);
        Some([first.inputs() - self.context.unwrap_or(0), last.outputs()])
    }

    fn structure(&self) -> Structure {
        let details = match self.context {
            Some(width) => format!("{}, context {width}", self.activation),
            None => self.activation.to_string(),
        };
        Structure::new("MLP", details).parts(self.layers.iter().map(Linear::structure))
    }
}

/// `x` with the context's columns appended, if the network takes a context.
pub(super) fn with_context(x: &Tensor, context: Option<&Tensor>, width: Option<usize>) -> Result<Tensor> {
    let Some(width) = width else { return Ok(x.clone()) };
    let batch = x.dim(0)?;
    let Some(context) = context else {
        return Err(Error::Config(format!("this flow is conditional: give a context of shape ({batch}, {width})")));
    };
    if context.dims() != [batch, width] {
        return Err(Error::shape("the context", context.dims(), format!("({batch}, {width})")));
    }
    Ok(Tensor::cat(&[x, context], 1)?)
}
