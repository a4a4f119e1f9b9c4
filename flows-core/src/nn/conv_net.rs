//! A network of convolutions.

use super::{Activation, Conv, Mode, Network, Output, Scope};
use crate::ops::{ConvLayer, FusedActivation, conv_network};
use crate::{Error, Result, Structure};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Convolutions with an activation between them, from signals (B, C, T) to signals (B, O, T), or from
/// images (B, C, H, W) to images (B, O, H, W), of any size.
///
/// A context has the positions of the input, (B, K, T) or (B, K, H, W), and is appended to it as further channels; or
/// it is a vector (B, K), the same at all positions.
#[derive(Debug)]
pub struct ConvNet {
    layers: Vec<ConvLayer>,
    /// The activation between the layers, unless it is part of them.
    activation: Option<Activation>,
    context: Option<usize>,
}

/// The description of a network of convolutions, each of which keeps the size of its input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvNetConfig {
    /// Channels of the hidden layers.
    pub hidden: Vec<usize>,
    /// The side of the kernel, odd, of each hidden layer and of the last. All 3 if empty.
    pub kernels: Vec<usize>,
    /// The dilation of each layer. All 1 if empty.
    pub dilations: Vec<usize>,
    /// The activation between the layers.
    pub activation: Activation,
}

impl Default for ConvNetConfig {
    /// Glow's: kernels of 3, 1 and 3 with ReLU, of 64 channels.
    fn default() -> Self {
        Self { hidden: vec![64; 2], kernels: vec![3, 1, 3], dilations: Vec::new(), activation: Activation::Relu }
    }
}

impl ConvNetConfig {
    /// The network over events with `axes` axes of positions, 1 for signals and 2 for images, from `inputs` channels,
    /// and those of a context if there is one, to `output`. Its tensors are those of a [`Conv`] for each layer:
    /// `0.weight`, `0.bias`, `1.weight`, ...
    ///
    /// # Errors
    /// When the number of axes is another, a size is 0, a kernel is even, or there is not one kernel or dilation for
    /// each layer.
    pub fn build(
        &self,
        axes: usize,
        inputs: usize,
        context: Option<usize>,
        output: Output,
        scope: &Scope,
    ) -> Result<ConvNet> {
        let layers = match axes {
            1 => self.layers::<1>(inputs + context.unwrap_or(0), output, scope)?,
            2 => self.layers::<2>(inputs + context.unwrap_or(0), output, scope)?,
            _ => {
                let message = format!("convolutions over events with {axes} axes besides the channels");
                return Err(Error::Config(format!("{message}: give signals (C, T) or images (C, H, W)")));
            }
        };
        let activation = self.activation.fused().is_none().then_some(self.activation);
        Ok(ConvNet { activation, ..ConvNet::new(layers, context) })
    }

    fn layers<const AXES: usize>(&self, inputs: usize, output: Output, scope: &Scope) -> Result<Vec<ConvLayer>> {
        let count = self.hidden.len() + 1;
        let each = |name: &str, given: &[usize], usual: usize| match given.len() {
            0 => Ok(vec![usual; count]),
            n if n == count => Ok(given.to_vec()),
            n => Err(Error::Config(format!("{n} `{name}` for {count} convolutions: give one for each, or none"))),
        };
        let (kernels, dilations) = (each("kernels", &self.kernels, 3)?, each("dilations", &self.dilations, 1)?);
        if let Some(kernel) = kernels.iter().find(|kernel| **kernel % 2 == 0) {
            return Err(Error::Config(format!("a kernel of {kernel} would not keep sizes: give odd `kernels`")));
        }
        if dilations.contains(&0) {
            return Err(Error::Config("a dilation of 0: give `dilations` of at least 1".into()));
        }
        let layer = |i: usize, inputs: usize, output: Output, activation: FusedActivation| -> Result<ConvLayer> {
            let layer = Conv::<AXES>::output(inputs, output, kernels[i], &scope.enter(i))?;
            Ok(layer.dilation(dilations[i]).layer(activation))
        };
        let activation = self.activation.fused().unwrap_or(FusedActivation::Identity);
        let (mut layers, mut inputs) = (Vec::with_capacity(count), inputs);
        for (i, &width) in self.hidden.iter().enumerate() {
            layers.push(layer(i, inputs, Output::new(width), activation)?);
            inputs = width;
        }
        layers.push(layer(count - 1, inputs, output, FusedActivation::Identity)?);
        Ok(layers)
    }
}

impl ConvNet {
    /// The composition of these layers as one operation. The first takes the channels of the input and then those of a
    /// context, if there is one.
    pub fn new(layers: Vec<ConvLayer>, context: Option<usize>) -> Self {
        Self { layers, activation: None, context }
    }

    /// The input with the context appended.
    fn seen(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let Some(channels) = self.context else { return Ok(x.clone()) };
        let [batch, _, positions @ ..] = x.dims() else {
            return Err(Error::shape("the input of a convolution", x.dims(), "(B, C, H, W) or (B, C, T)"));
        };
        let vector = [*batch, channels];
        let below = [&vector, positions].concat();
        let want = || format!("{below:?}, or {vector:?} for all positions");
        let context = match context {
            None => {
                let message = format!("this flow is conditional: give a context of shape {}", want());
                return Err(Error::Config(message));
            }
            Some(context) if context.dims() == below => context.clone(),
            Some(context) if context.dims() == vector => {
                let constant = [&vector[..], &vec![1; positions.len()]].concat();
                context.reshape(constant)?.broadcast_as(below)?
            }
            Some(context) => return Err(Error::shape("the context", context.dims(), want())),
        };
        Ok(Tensor::cat(&[x, &context], 1)?)
    }
}

impl Network for ConvNet {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        let mut h = self.seen(x, context)?;
        let (Some(activation), Some((last, hidden))) = (self.activation, self.layers.split_last()) else {
            return conv_network(&h, self.layers.clone());
        };
        for layer in hidden {
            h = activation.apply(&conv_network(&h, vec![layer.clone()])?)?;
        }
        conv_network(&h, vec![last.clone()])
    }

    fn structure(&self) -> Structure {
        let joined = |values: Vec<usize>, by: &str| values.iter().map(usize::to_string).collect::<Vec<_>>().join(by);
        let of_each = |value: fn(&ConvLayer) -> usize| self.layers.iter().map(value).collect::<Vec<_>>();
        let inputs = self.layers.iter().take(1).map(|layer| layer.weight.dims()[1]);
        let channels = joined(inputs.chain(of_each(|layer| layer.weight.dims()[0])).collect(), " -> ");
        let mut details = format!("{channels}, kernels {}", joined(of_each(|layer| layer.weight.dims()[2]), ", "));
        if self.layers.iter().any(|layer| layer.dilation > 1) {
            details += &format!(", dilations {}", joined(of_each(|layer| layer.dilation), ", "));
        }
        let fused = self.layers.first().map_or(FusedActivation::Identity, |layer| layer.activation);
        match self.activation {
            Some(activation) => details += &format!(", {activation}"),
            None if fused == FusedActivation::Identity => {}
            None => details += &format!(", {fused}"),
        }
        if let Some(channels) = self.context {
            details += &format!(", context {channels}");
        }
        Structure::new("ConvNet", details).weights(self.layers.iter().flat_map(ConvLayer::weights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Parameters;
    use crate::testing::difference;
    use candle_core::{DType, Device};

    fn build(config: &ConvNetConfig, axes: usize, context: Option<usize>) -> Result<(Parameters, ConvNet)> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let network = config.build(axes, 2, context, Output::new(3), &parameters.scope())?;
        Ok((parameters, network))
    }

    #[test]
    fn sizes_are_kept_and_a_signal_is_an_image_of_one_row() -> Result<()> {
        let mut rng = Rng::seed(1);
        for activation in [Activation::Tanh, Activation::Gelu] {
            let config =
                ConvNetConfig { hidden: vec![5, 4], kernels: vec![3, 1, 5], dilations: vec![2, 1, 3], activation };
            let config: ConvNetConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
            let (parameters, of_signals) = build(&config, 1, Some(1))?;
            assert_eq!(parameters.names()[..2], ["0.weight", "0.bias"]);
            let structure = of_signals.structure();
            assert_eq!(structure.total(), parameters.count());
            let details =
                format!("ConvNet 3 -> 5 -> 4 -> 3, kernels 3, 1, 5, dilations 2, 1, 3, {activation}, context 1");
            assert!(structure.to_string().starts_with(&details), "{structure}");
            let (images, of_images) = build(&config, 2, Some(1))?;
            let mut run = |network: &ConvNet, shape: &[usize], context: &[usize]| -> Result<Tensor> {
                let x = rng.normal_tensor(shape, DType::F64, &Device::Cpu)?;
                let context = rng.normal_tensor(context, DType::F64, &Device::Cpu)?;
                network.forward(&x, Some(&context), &mut Mode::evaluation())
            };
            assert_eq!(run(&of_signals, &[2, 2, 9], &[2, 1, 9])?.dims(), [2, 3, 9]);
            assert_eq!(run(&of_signals, &[2, 2, 4], &[2, 1])?.dims(), [2, 3, 4]);
            assert_eq!(run(&of_images, &[2, 2, 4, 5], &[2, 1, 4, 5])?.dims(), [2, 3, 4, 5]);
            for (shape, context) in [(&[2, 2, 9][..], &[2, 1, 8][..]), (&[2, 2, 9], &[1, 1]), (&[2, 1, 9], &[2, 1, 9])]
            {
                assert!(run(&of_signals, shape, context).is_err());
            }
            // The middle rows of the kernels are the signal's.
            let values = parameters.snapshot()?.into_iter().map(|(name, tensor)| {
                let tensor = match tensor.dims() {
                    [_, _, k] => tensor.unsqueeze(2)?.pad_with_zeros(2, (k - 1) / 2, (k - 1) / 2)?,
                    _ => tensor,
                };
                Ok((name, tensor))
            });
            images.load(&values.collect::<Result<_>>()?)?;
            let x = rng.normal_tensor((2, 2, 7), DType::F64, &Device::Cpu)?;
            let given = rng.normal_tensor((2, 1), DType::F64, &Device::Cpu)?;
            let y = of_signals.forward(&x, Some(&given), &mut Mode::evaluation())?;
            let z = of_images.forward(&x.unsqueeze(2)?, Some(&given), &mut Mode::evaluation())?;
            assert!(difference(&y, &z.squeeze(2)?)? < 1e-12);
        }
        Ok(())
    }

    #[test]
    fn settings_that_cannot_be_say_so() {
        let config = ConvNetConfig::default;
        let message = |config: ConvNetConfig, axes: usize| build(&config, axes, None).unwrap_err().to_string();
        assert!(message(config(), 0).contains("(C, T)"));
        assert!(message(ConvNetConfig { kernels: vec![3], ..config() }, 1).contains("1 `kernels` for 3"));
        assert!(message(ConvNetConfig { kernels: vec![3, 2, 3], ..config() }, 2).contains("odd"));
        assert!(message(ConvNetConfig { dilations: vec![1, 0, 1], ..config() }, 1).contains("dilation of 0"));
        assert!(message(ConvNetConfig { hidden: vec![0; 2], ..config() }, 1).contains("empty"));
        assert!(message(ConvNetConfig { hidden: vec![usize::MAX; 2], ..config() }, 1).contains("lower a width"));
    }
}
