//! MADE: a network whose outputs for dimension d see only the dimensions before d.

use super::dropout::Dropout;
use super::{Activation, Init, Linear, Network, Output, Scope};
use crate::ops::{self, Fused};
use crate::{Error, Result, Rng, Structure};
use candle_core::Tensor;

/// A masked autoregressive network: (B, D) to (B, D P), the P numbers of dimension d depending on
/// the dimensions that come before d in the order, and on the context.
///
/// Every unit has a degree; a weight is kept where the degree does not fall (hidden layers) or
/// strictly rises (output). Hidden degrees are spread evenly and sorted, so that every mask is
/// block-triangular. The first output dimension depends on biases and context alone.
/// Germain et al., MADE, 2015, equations 8 to 13.
#[derive(Debug)]
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
    /// How the network ends; its width is D P.
    pub output: Output,
    /// Width of the context, if there is one.
    pub context: Option<usize>,
    /// Widths of the hidden layers; all the same if `residual`.
    pub hidden: Vec<usize>,
    /// Whether pairs of hidden layers behind the first are residual blocks (ResMADE).
    pub residual: bool,
    /// The non-linearity.
    pub activation: Activation,
    /// Share of the units that a training step drops, in residual blocks.
    pub dropout: f64,
    /// `order[i]` is the place of dimension i in the order; the dimensions' own if `None`.
    pub order: Option<Vec<usize>>,
}

/// A linear layer whose weight is multiplied by a fixed mask.
#[derive(Debug)]
struct Masked {
    weight: Tensor,
    bias: Tensor,
    mask: Tensor,
}

impl Masked {
    fn new(from: &[usize], to: &[usize], strict: bool, output: Output, scope: &Scope) -> Result<Self> {
        let (inputs, outputs) = (from.len(), to.len());
        let keep =
            |i: usize| if strict { from[i % inputs] < to[i / inputs] } else { from[i % inputs] <= to[i / inputs] };
        let mask: Vec<f32> = (0..inputs * outputs).map(|i| if keep(i) { 1.0 } else { 0.0 }).collect();
        let mask = Tensor::from_vec(mask, (outputs, inputs), scope.device())?.to_dtype(scope.dtype())?;
        let Linear { weight, bias } = Linear::output(inputs, output, scope)?;
        Ok(Self { weight, bias, mask })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &(&self.weight * &self.mask)?, Some(&self.bias), Fused::Identity)
    }

    fn structure(&self) -> Structure {
        let (outputs, inputs) = (self.bias.elem_count(), self.weight.elem_count() / self.bias.elem_count());
        Structure::new("Masked linear", format!("{inputs} -> {outputs}")).weights([&self.weight, &self.bias])
    }
}

impl Made {
    /// A network of these sizes.
    ///
    /// # Errors
    /// When a width is 0, the order is not one, or the widths of residual blocks differ.
    pub fn new(settings: MadeSettings, scope: &Scope) -> Result<Self> {
        let MadeSettings { features, output, context, hidden, residual, dropout, .. } = &settings;
        let (d, residual) = (*features, *residual);
        if d == 0 || output.width == 0 || output.width % d != 0 || hidden.is_empty() || hidden.contains(&0) {
            return Err(Error::Config(
                "MADE needs at least one feature, one hidden unit a layer and equally many outputs a feature".into(),
            ));
        }
        if residual && (hidden.len() % 2 == 0 || hidden.iter().any(|h| h != &hidden[0])) {
            let message =
                "a residual MADE needs an odd number of hidden layers (one, and two a block), all of one width";
            return Err(Error::Config(message.into()));
        }
        let order = settings.order.clone().unwrap_or_else(|| (0..d).collect());
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..d) {
            return Err(Error::Config(format!("the order {order:?} does not name each place of 0..{d} once")));
        }
        // Degrees: input i has order[i] + 1; a hidden unit 1 to D-1 (those of degree D feed nothing)
        // or, so that one dimension has units at all, 1; with degree 0 a unit would see no input.
        let inputs: Vec<usize> = order.iter().map(|o| o + 1).collect();
        let degrees = |width: usize| -> Vec<usize> { (0..width).map(|j| 1 + j * (d - 1).max(1) / width).collect() };
        let outs: Vec<usize> =
            inputs.iter().flat_map(|&degree| std::iter::repeat_n(degree, output.width / d)).collect();
        let layers: Vec<Vec<usize>> = hidden.iter().map(|&width| degrees(width)).collect();
        let first = Masked::new(&inputs, &layers[0], false, Output::new(hidden[0]), &scope.enter("first"))?;
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
                &pair[1],
                false,
                Output { gain, ..Output::new(pair[1].len()) },
                &scope.enter(format!("hidden{i}")),
            )
        };
        Ok(Self {
            first,
            context,
            hidden: layers.windows(2).enumerate().map(hidden_layer).collect::<Result<_>>()?,
            last: Masked::new(&layers[layers.len() - 1], &outs, true, output.clone(), &scope.enter("last"))?,
            dropout: Dropout::new(*dropout)?,
            settings: MadeSettings { order: Some(order), ..settings },
        })
    }

    /// The dimensions in the order in which they can be computed one after another.
    pub fn sequence(&self) -> Vec<usize> {
        let order = self.settings.order.clone().unwrap_or_default();
        let mut sequence: Vec<usize> = (0..order.len()).collect();
        sequence.sort_by_key(|&i| order[i]);
        sequence
    }

    fn run(&self, x: &Tensor, context: Option<&Tensor>, mut rng: Option<&mut Rng>) -> Result<Tensor> {
        let activation = self.settings.activation;
        let mut h = self.first.forward(x)?;
        if let Some(weight) = &self.context {
            let context = crate::bijectors::check_context(context, weight.dim(1)?, x.dim(0)?)?;
            h = (h + ops::linear(context, weight, None, Fused::Identity)?)?;
        }
        if self.settings.residual {
            for block in self.hidden.chunks(2) {
                let inner = activation.apply(&block[0].forward(&activation.apply(&h)?)?)?;
                let inner = self.dropout.apply(inner, rng.as_deref_mut())?;
                h = (h + block[1].forward(&inner)?)?;
            }
            return self.last.forward(&h);
        }
        for layer in &self.hidden {
            h = layer.forward(&activation.apply(&h)?)?;
        }
        self.last.forward(&activation.apply(&h)?)
    }
}

impl Network for Made {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.run(x, context, None)
    }

    fn forward_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.run(x, context, Some(rng))
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
