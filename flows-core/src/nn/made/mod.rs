//! MADE: a network whose outputs for dimension d see only the dimensions before d.

use super::dropout::Dropout;
use super::{Activation, Init, Linear, Mode, Network, Output, Scope};
use crate::ops::{self, FusedActivation, LinearLayer, Staircase, Step, dense};
use crate::{Error, Result, Structure};
use candle_core::{DType, Tensor};
use std::sync::Arc;

mod steps;

pub(crate) use steps::{Steps, with_steps};

/// A masked autoregressive network: (B, D) to (B, D P), the P numbers of dimension d depending on
/// the dimensions that come before d in the order, and on the context.
///
/// Every unit has a degree; a weight is kept where the degree does not fall (hidden layers) or
/// strictly rises (output). Hidden degrees are spread evenly and sorted, so that every mask is
/// block-triangular. Germain et al., MADE, 2015, equations 8 to 13.
///
/// The outputs of the first dimension depend on biases alone; given a context they depend on it too if a share of the
/// hidden units have degree 0 and see nothing else ([`Scope::with_context_units`]). Files written before those units have
/// none, so that the first dimension of a layer does not depend on its context.
#[derive(Clone, Debug)]
pub struct Made {
    first: Masked,
    context: Option<Tensor>,
    hidden: Vec<Masked>,
    last: Masked,
    settings: MadeSettings,
    dropout: Dropout,
}

/// The sizes of a [`Made`].
#[derive(Clone, Debug)]
pub struct MadeSettings {
    /// Dimensions D.
    pub features: usize,
    /// The output of the network, of width D P.
    pub output: Output,
    /// Width of the context, if there is one.
    pub context: Option<usize>,
    /// Widths of the hidden layers; all the same if `residual`.
    pub hidden: Vec<usize>,
    /// Whether pairs of hidden layers after the first are residual blocks (ResMADE).
    pub residual: bool,
    /// The non-linearity.
    pub activation: Activation,
    /// The share of units that are dropped in training, in residual blocks.
    pub dropout: f64,
    /// `order[i]` is the position of dimension i in the order; i itself if `None`.
    pub order: Option<Vec<usize>>,
}

/// A linear layer whose weight is masked.
#[derive(Clone, Debug)]
struct Masked {
    weight: Tensor,
    bias: Tensor,
    staircase: Arc<Staircase>,
}

impl Masked {
    /// A layer with these degrees of the inputs, and the limit below which each output's inputs must stay.
    fn new(degrees: &[usize], limits: Vec<usize>, output: Output, scope: &Scope) -> Result<Self> {
        let Linear { weight, bias } = Linear::output(degrees.len(), output, scope)?;
        Ok(Self { weight, bias, staircase: Arc::new(Staircase::new(degrees.to_vec(), limits)) })
    }

    fn affine(&self) -> Result<LinearLayer> {
        Ok(LinearLayer::new(&self.weight, &self.bias)?.masked(self.staircase.clone()))
    }

    /// `f(x (W * M)^T + b + shift)`.
    fn forward(&self, x: &Tensor, shift: Option<&Tensor>, f: FusedActivation) -> Result<Tensor> {
        dense(x, shift, vec![Step::Linear(self.affine()?, f)])
    }

    fn inputs(&self) -> usize {
        self.weight.elem_count() / self.bias.elem_count()
    }

    fn structure(&self) -> Structure {
        let (outputs, inputs) = (self.bias.elem_count(), self.inputs());
        Structure::new("Masked linear", format!("{inputs} -> {outputs}")).weights([&self.weight, &self.bias])
    }
}

/// Checks the widths of the hidden layers.
fn check_hidden(hidden: &[usize], residual: bool) -> Result<()> {
    if hidden.is_empty() || hidden.contains(&0) {
        return Err(Error::Config("a masked network needs at least one hidden layer, and one unit in each".into()));
    }
    if residual && (hidden.len().is_multiple_of(2) || hidden.iter().any(|h| h != &hidden[0])) {
        let message = "a residual MADE needs an odd number of hidden layers (one, and two per block), all of one width";
        return Err(Error::Config(message.into()));
    }
    Ok(())
}

impl Made {
    /// A network of these sizes.
    ///
    /// # Errors
    /// When a width is 0, the order is not a permutation, or the widths of residual blocks differ.
    pub fn new(settings: MadeSettings, scope: &Scope) -> Result<Self> {
        let MadeSettings { features: d, output, hidden, residual, .. } = &settings;
        if *d == 0 || output.width == 0 || output.width % d != 0 {
            return Err(Error::Config(
                "MADE needs at least one feature, one hidden unit per layer and equally many outputs per feature"
                    .into(),
            ));
        }
        check_hidden(hidden, *residual)?;
        let order = settings.order.clone().unwrap_or_else(|| (0..*d).collect());
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..*d) {
            return Err(Error::Config(format!("the order {order:?} does not name each position of 0..{d} once")));
        }
        let outputs: Vec<usize> =
            order.iter().flat_map(|&position| std::iter::repeat_n(position, output.width / d)).collect();
        let settings = MadeSettings { order: Some(order.clone()), ..settings };
        let least = if settings.context.is_some() && scope.has_context_units() { 0 } else { 1 };
        Self::build(settings, &order, &outputs, least, scope)
    }

    /// A network over groups of inputs and outputs, in the order of the groups: `inputs` and `outputs` give the group
    /// of each, and an output depends on the inputs of the groups before its own, and on the context.
    ///
    /// # Errors
    /// When a width is 0, a group is not below `features`, or the widths of residual blocks differ.
    pub(crate) fn over_groups(
        settings: MadeSettings,
        inputs: &[usize],
        outputs: &[usize],
        scope: &Scope,
    ) -> Result<Self> {
        let MadeSettings { features, output, hidden, residual, .. } = &settings;
        if inputs.is_empty() || output.width == 0 || output.width != outputs.len() {
            return Err(Error::Config("a masked network needs at least one input and one output".into()));
        }
        if inputs.iter().chain(outputs).any(|group| group >= features) {
            return Err(Error::Internal(format!("a group that is not among the {features}")));
        }
        check_hidden(hidden, *residual)?;
        let least = if settings.context.is_some() { 0 } else { 1 };
        Self::build(MadeSettings { order: None, ..settings }, inputs, outputs, least, scope)
    }

    /// The network, given the position of each input and output in the order, and the least degree of a hidden unit.
    fn build(settings: MadeSettings, inputs: &[usize], outputs: &[usize], least: usize, scope: &Scope) -> Result<Self> {
        let MadeSettings { features: d, output, context, hidden, residual, dropout, .. } = &settings;
        let residual = *residual;
        // Degrees: an input's is its position + 1; a hidden unit's 1 to D-1 (those of degree D feed nothing) or, so
        // that one dimension has units at all, 1; with degree 0 a unit sees the context alone.
        let inputs: Vec<usize> = inputs.iter().map(|position| position + 1).collect();
        let span = (d - least).max(1);
        let degrees = |width: usize| -> Vec<usize> { (0..width).map(|j| least + j * span / width).collect() };
        let limits: Vec<usize> = outputs.iter().map(|position| position + 1).collect();
        let layers: Vec<Vec<usize>> = hidden.iter().map(|&width| degrees(width)).collect();
        // A hidden unit sees its own degree too.
        let above = |degrees: &[usize]| -> Vec<usize> { degrees.iter().map(|degree| degree + 1).collect() };
        let first = Masked::new(&inputs, above(&layers[0]), Output::new(hidden[0]), &scope.enter("first"))?;
        let context = match context {
            None => None,
            Some(0) => return Err(Error::Config("the context has width 0: leave it out".into())),
            Some(width) => {
                Some(scope.enter("context").weight("weight", (hidden[0], *width), Init::fan_in(*width, 1.0))?)
            }
        };
        let hidden_layer = |(i, pair): (usize, &[Vec<usize>])| {
            // The second layer of a residual block starts near zero, as in ResidualNet.
            let gain = if residual && i % 2 == 1 { 1e-3 * (pair[0].len() as f64).sqrt() } else { 1.0 };
            Masked::new(
                &pair[0],
                above(&pair[1]),
                Output { gain, ..Output::new(pair[1].len()) },
                &scope.enter(format!("hidden{i}")),
            )
        };
        Ok(Self {
            first,
            context,
            hidden: layers.windows(2).enumerate().map(hidden_layer).collect::<Result<_>>()?,
            last: Masked::new(&layers[layers.len() - 1], limits, output.clone(), &scope.enter("last"))?,
            dropout: Dropout::new(*dropout)?,
            settings,
        })
    }

    /// The dimensions in the order in which they can be computed one after another.
    pub fn sequence(&self) -> Vec<usize> {
        let mut sequence: Vec<usize> = (0..self.settings.features).collect();
        if let Some(order) = &self.settings.order {
            sequence.sort_by_key(|&i| order[i]);
        }
        sequence
    }

    /// Weights and biases of the masked layers, from the first to the last.
    pub(crate) fn weights(&self) -> Vec<&Tensor> {
        let layers = [&self.first].into_iter().chain(&self.hidden).chain([&self.last]);
        layers.flat_map(|layer| [&layer.weight, &layer.bias]).collect()
    }

    /// The same network with other [`Self::weights`].
    pub(crate) fn with_weights(&self, weights: &[Tensor]) -> Self {
        let mut made = self.clone();
        let layers = [&mut made.first].into_iter().chain(&mut made.hidden).chain([&mut made.last]);
        for (layer, weights) in layers.zip(weights.chunks_exact(2)) {
            (layer.weight, layer.bias) = (weights[0].clone(), weights[1].clone());
        }
        made
    }

    /// The dtype of the weights.
    pub(crate) fn dtype(&self) -> DType {
        self.last.weight.dtype()
    }

    /// What the context adds to the first layer, (B, hidden), if the network takes one.
    pub(crate) fn context_term(&self, context: Option<&Tensor>, batch: usize) -> Result<Option<Tensor>> {
        let Some(weight) = &self.context else { return Ok(None) };
        let context = crate::shape::check_context(context, weight.dim(1)?, batch)?;
        Ok(Some(ops::linear(context, weight, None, FusedActivation::Identity)?))
    }

    /// Whether a training step drops units.
    pub(crate) fn drops_units(&self) -> bool {
        self.dropout.is_active()
    }

    /// The output for x and the result of [`Self::context_term`].
    pub(crate) fn run(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (activation, residual) = (self.settings.activation, self.settings.residual);
        if let (Some(f), false) = (activation.fused(), mode.is_training() && self.drops_units()) {
            return dense(x, context, self.steps(f)?);
        }
        let identity = |layer: &Masked, h: &Tensor| layer.forward(h, None, FusedActivation::Identity);
        let mut h = self.first.forward(x, context, FusedActivation::Identity)?;
        if residual {
            for block in self.hidden.chunks(2) {
                let inner = activation.apply(&identity(&block[0], &activation.apply(&h)?)?)?;
                let inner = self.dropout.apply(inner, mode)?;
                h = (h + identity(&block[1], &inner)?)?;
            }
            return identity(&self.last, &h);
        }
        for layer in self.hidden.iter().chain([&self.last]) {
            h = identity(layer, &activation.apply(&h)?)?;
        }
        Ok(h)
    }

    /// The network as one operation.
    fn steps(&self, f: FusedActivation) -> Result<Vec<Step>> {
        let linear = |layer: &Masked, f: FusedActivation| Ok(Step::Linear(layer.affine()?, f));
        let last = [linear(&self.last, FusedActivation::Identity)];
        if self.settings.residual {
            let block = |pair: &[Masked]| Ok(Step::Residual([pair[0].affine()?, pair[1].affine()?], f));
            let first = [linear(&self.first, FusedActivation::Identity)].into_iter();
            return first.chain(self.hidden.chunks_exact(2).map(block)).chain(last).collect();
        }
        [&self.first].into_iter().chain(&self.hidden).map(|layer| linear(layer, f)).chain(last).collect()
    }
}

impl Network for Made {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.run(x, self.context_term(context, x.dim(0)?)?.as_ref(), mode)
    }

    fn widths(&self) -> Option<[usize; 2]> {
        Some([self.first.inputs(), self.settings.output.width])
    }

    fn structure(&self) -> Structure {
        let MadeSettings { activation, residual, .. } = &self.settings;
        let name = if *residual { "Residual MADE" } else { "MADE" };
        let layers = [&self.first].into_iter().chain(&self.hidden).chain([&self.last]).map(Masked::structure);
        let context = self.context.iter().map(|w| {
            let inputs = w.elem_count() / self.settings.hidden[0];
            Structure::new("Context", format!("{inputs} -> {}", self.settings.hidden[0])).weights([w])
        });
        Structure::new(name, format!("{activation}{}", self.dropout.details())).parts(context).parts(layers)
    }
}
