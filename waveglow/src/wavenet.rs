//! The network of dilated, gated convolutions that conditions WaveGlow's couplings.

use crate::conv::SignalConv;
use candle_core::Tensor;
use flows_core::nn::{Mode, Network, Scope};
use flows_core::ops::{GatedLayer, GatedNetwork, gated_network};
use flows_core::{Error, Result, Structure};
use serde::{Deserialize, Serialize};

/// The sizes of a network of dilated, gated convolutions, by default those of the published WaveGlow with 256 channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WaveNetConfig {
    /// Number of layers; layer i has dilation `2^i`.
    pub layers: usize,
    /// Channels between the layers.
    pub channels: usize,
    /// The kernel of the dilated convolutions, odd.
    pub kernel: usize,
}

impl Default for WaveNetConfig {
    fn default() -> Self {
        Self { layers: 8, channels: 256, kernel: 3 }
    }
}

/// Dilated convolutions with gated units, residual and skip connections, and a condition (Prenger et al., 2018,
/// arXiv:1811.00002, section 2.1; after WaveNet, van den Oord et al., 2016, arXiv:1609.03499, but not causal).
///
/// From x (B, I, T) and a condition c (B, K, T) to (B, O, T): `h = W_0 x`, then in each layer
/// `a = tanh(u) sigmoid(v)` with `(u, v) = D_i * h + C_i c`, a dilated convolution and a 1x1 one, and
/// `(r, s) = R_i a`, `h <- h + r`; the output is `E sum_i s_i`, and starts at zero.
#[derive(Debug)]
pub struct WaveNet {
    channels: usize,
    widths: [usize; 2],
    start: SignalConv,
    /// The condition of all layers, side by side.
    condition: Option<SignalConv>,
    dilated: Vec<SignalConv>,
    /// Residual and skip channels; the last layer has no residual ones.
    outputs: Vec<SignalConv>,
    end: SignalConv,
}

impl WaveNet {
    /// A network from `inputs` to `outputs` channels with a condition of K channels, if there is one. Its tensors are
    /// those of `start`, `condition`, `dilated.i`, `outputs.i` and `end`; all but `end` have normalized weights if
    /// `normalized`.
    ///
    /// # Errors
    /// When a size is 0, or the kernel even.
    pub fn new(
        config: &WaveNetConfig,
        [inputs, outputs]: [usize; 2],
        condition: Option<usize>,
        normalized: bool,
        scope: &Scope,
    ) -> Result<Self> {
        let WaveNetConfig { layers, channels, kernel } = *config;
        // A dilation of 2^20 samples is half a minute.
        if layers == 0 || layers > 20 {
            return Err(Error::Config(format!("{layers} layers of dilated convolutions: give 1 to 20")));
        }
        let conv = |sizes: [usize; 2], kernel: usize, name: String| {
            SignalConv::new(sizes, kernel, normalized, &scope.enter(name))
        };
        let of_condition = |k: usize| conv([k, 2 * channels * layers], 1, "condition".into());
        let dilated = |i: usize| conv([channels, 2 * channels], kernel, format!("dilated.{i}"));
        let output = |i: usize| {
            let parts = if i + 1 == layers { 1 } else { 2 };
            conv([channels, parts * channels], 1, format!("outputs.{i}"))
        };
        Ok(Self {
            channels,
            widths: [inputs, outputs],
            start: conv([inputs, channels], 1, "start".into())?,
            condition: condition.map(of_condition).transpose()?,
            dilated: (0..layers).map(dilated).collect::<Result<_>>()?,
            outputs: (0..layers).map(output).collect::<Result<_>>()?,
            end: SignalConv::zeros([channels, outputs], &scope.enter("end"))?,
        })
    }
}

impl Network for WaveNet {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        if self.condition.is_some() && context.is_none() {
            return Err(Error::Config("this flow is conditional: give a context, one row for each signal".into()));
        }
        let layer = |(i, (dilated, output)): (usize, (&SignalConv, &SignalConv))| -> Result<GatedLayer> {
            Ok(GatedLayer {
                dilated: dilated.weight()?,
                dilated_bias: dilated.bias().clone(),
                output: output.weight()?,
                output_bias: output.bias().clone(),
                dilation: 1 << i,
            })
        };
        let layers = self.dilated.iter().zip(&self.outputs).enumerate().map(layer).collect::<Result<_>>()?;
        let condition = match &self.condition {
            Some(layer) => Some([layer.weight()?, layer.bias().clone()]),
            None => None,
        };
        let context = context.filter(|_| condition.is_some());
        let sum = gated_network(&self.start.forward(x)?, context, GatedNetwork { layers, condition })?;
        self.end.forward(&sum)
    }

    fn widths(&self) -> Option<[usize; 2]> {
        Some(self.widths)
    }

    fn structure(&self) -> Structure {
        let layers = self.dilated.iter().chain(&self.outputs).map(SignalConv::structure);
        Structure::new("WaveNet", format!("{} layers of {} channels", self.dilated.len(), self.channels))
            .part(self.start.structure())
            .parts(self.condition.iter().map(SignalConv::structure))
            .parts(layers)
            .part(self.end.structure())
    }
}
