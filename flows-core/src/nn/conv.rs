//! Convolutional layers.

use super::{Init, Output, Scope};
use crate::ops::{self, ConvLayer, FusedActivation, Outside};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// A convolution over `AXES` axes with kernels of equal sides, optionally with a scale for each output channel:
/// `(w * x + b) exp(3 log_scale)`.
///
/// By default it has stride 1 and, if its kernel is odd, keeps sizes. Weights: `weight` (outputs, inputs,
/// k) or (outputs, inputs, k, k), `bias` (outputs) and, if scaled, `log_scale` (outputs).
#[derive(Clone, Debug)]
pub struct Conv<const AXES: usize> {
    layer: ConvLayer,
}

/// A convolution of signals (B, C, T).
pub type Conv1d = Conv<1>;

/// A convolution of images (B, C, H, W).
pub type Conv2d = Conv<2>;

impl<const AXES: usize> Conv<AXES> {
    /// A layer with PyTorch's initial values: all uniform within `1 / sqrt(n)`, an output depending on n numbers.
    ///
    /// # Errors
    /// When a size is 0 or the names `weight` and `bias` are taken in `scope`.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, scope: &Scope) -> Result<Self> {
        Self::output(inputs, Output::new(outputs), kernel, scope)
    }

    /// A layer that starts at zero.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn zeros(inputs: usize, outputs: usize, kernel: usize, scope: &Scope) -> Result<Self> {
        Self::starting_at([inputs, outputs], kernel, [Init::Zeros, Init::Zeros], scope)
    }

    /// A layer that ends a network.
    ///
    /// # Errors
    /// As [`Self::new`], or when the biases are not one for each output.
    pub fn output(inputs: usize, output: Output, kernel: usize, scope: &Scope) -> Result<Self> {
        let Output { width, gain, bias } = output;
        let taps = (0..AXES).fold(inputs, |taps, _| taps.saturating_mul(kernel));
        let init = Init::fan_in(taps, gain);
        Self::starting_at([inputs, width], kernel, [init.clone(), bias.map_or(init, Init::Values)], scope)
    }

    /// A layer with these numbers of `channels`, inputs and outputs, and these initial weights and biases.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn starting_at(channels: [usize; 2], kernel: usize, [weight, bias]: [Init; 2], scope: &Scope) -> Result<Self> {
        const { assert!(AXES == 1 || AXES == 2, "a convolution is of signals or of images") };
        let [inputs, outputs] = channels;
        let shape = [&[outputs, inputs][..], &[kernel; AXES]].concat();
        if shape.contains(&0) {
            return Err(Error::Config(format!(
                "a convolution with weights (outputs, inputs, kernel) = {shape:?} is empty: give at least 1 for each"
            )));
        }
        let layer = ConvLayer {
            weight: scope.weight("weight", shape, weight)?,
            bias: scope.weight("bias", outputs, bias)?,
            log_scale: None,
            stride: 1,
            padding: (kernel - 1) / 2,
            dilation: 1,
            outside: Outside::Zeros,
            activation: FusedActivation::Identity,
        };
        Ok(Self { layer })
    }

    /// The layer with a scale for each output channel, initially 1, as in the last layer of Glow's networks (Kingma and
    /// Dhariwal, arXiv:1807.03039).
    ///
    /// # Errors
    /// When the name `log_scale` is taken in `scope`.
    pub fn scaled(mut self, scope: &Scope) -> Result<Self> {
        self.layer.log_scale = Some(scope.weight("log_scale", self.bias().elem_count(), Init::Zeros)?);
        Ok(self)
    }

    /// The layer with another stride.
    pub fn stride(mut self, stride: usize) -> Self {
        self.layer.stride = stride;
        self
    }

    /// The layer with another padding.
    pub fn padding(mut self, padding: usize) -> Self {
        self.layer.padding = padding;
        self
    }

    /// The layer with another dilation, and with the padding that keeps the size if the kernel is odd.
    pub fn dilation(mut self, dilation: usize) -> Self {
        let reach = self.weight().dims()[2] - 1;
        (self.layer.dilation, self.layer.padding) = (dilation, dilation.saturating_mul(reach) / 2);
        self
    }

    /// The layer with another padding mode, that is, what it sees outside its input.
    pub fn outside(mut self, outside: Outside) -> Self {
        self.layer.outside = outside;
        self
    }

    /// (B, inputs, T) to (B, outputs, T'), or (B, inputs, H, W) to (B, outputs, H', W').
    ///
    /// # Errors
    /// As [`ops::conv_network`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, FusedActivation::Identity)
    }

    /// [`Self::forward`] followed by an activation.
    ///
    /// # Errors
    /// As [`Self::forward`], or when the layer is scaled.
    pub fn forward_with(&self, x: &Tensor, activation: FusedActivation) -> Result<Tensor> {
        ops::conv_network(x, vec![self.layer(activation)])
    }

    /// The layer followed by an activation, as a part of an [`ops::conv_network`].
    pub fn layer(&self, activation: FusedActivation) -> ConvLayer {
        ConvLayer { activation, ..self.layer.clone() }
    }

    /// The weights before any scale.
    pub fn weight(&self) -> &Tensor {
        &self.layer.weight
    }

    /// The biases before any scale, (outputs).
    pub fn bias(&self) -> &Tensor {
        &self.layer.bias
    }

    /// What this is made of.
    pub fn structure(&self) -> Structure {
        let (layer, dims) = (&self.layer, self.weight().dims());
        let part = |name: &str, value: usize| if value == 1 { String::new() } else { format!(", {name} {value}") };
        let step = part("stride", layer.stride) + &part("dilation", layer.dilation);
        let scaled = if layer.log_scale.is_some() { ", scaled" } else { "" };
        let kernel = [dims[2].to_string().as_str(); AXES].join("x");
        let details = format!("{} -> {}, kernel {kernel}{step}{scaled}", dims[1], dims[0]);
        Structure::new(format!("Conv{AXES}d"), details).weights(layer.weights())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Parameters;
    use candle_core::{DType, Device};

    #[test]
    fn layers_keep_sizes_and_start_as_they_should() -> Result<()> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, crate::Rng::seed(0));
        let scope = parameters.scope();
        let x = Tensor::ones((2, 3, 5, 7), DType::F64, &Device::Cpu)?;
        let layer = Conv2d::new(3, 4, 3, &scope.enter("image"))?;
        assert_eq!(layer.forward(&x)?.dims(), [2, 4, 5, 7]);
        assert!(layer.weight().abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()? <= 27f64.sqrt().recip());
        assert_eq!(layer.structure().to_string(), "Conv2d 3 -> 4, kernel 3x3  112 parameters\n");
        let halved = Conv2d::new(3, 4, 3, &scope.enter("halved"))?.stride(2);
        assert_eq!(halved.forward(&x)?.dims(), [2, 4, 3, 4]);
        let scope_of_zero = scope.enter("zero");
        let zero = Conv2d::zeros(3, 6, 3, &scope_of_zero)?.scaled(&scope_of_zero)?;
        assert_eq!(zero.forward(&x)?.abs()?.sum_all()?.to_scalar::<f64>()?, 0.0);
        assert!(zero.forward_with(&x, FusedActivation::Relu).is_err());
        let signal = Conv1d::new(3, 4, 3, &scope.enter("signal"))?.dilation(4);
        assert_eq!(signal.forward(&x.reshape((2, 3, 35))?)?.dims(), [2, 4, 35]);
        assert!(signal.structure().to_string().starts_with("Conv1d 3 -> 4, kernel 3, dilation 4"));
        assert!(signal.forward(&x).is_err());
        assert!(Conv1d::new(3, 0, 3, &scope.enter("none")).is_err());
        Ok(())
    }

    #[test]
    fn the_scale_multiplies_channels_and_ones_are_seen_outside() -> Result<()> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, crate::Rng::seed(0));
        let scope = parameters.scope();
        let ones = [Init::Constant(1.0), Init::Values(vec![1.0, 2.0])];
        let layer = Conv1d::starting_at([1, 2], 3, ones, &scope)?.scaled(&scope)?.outside(Outside::Ones);
        let (_, log_scale) = parameters.trainable().pop().unwrap();
        log_scale.set(&Tensor::new(&[0.0, 2f64.ln() / 3.0], &Device::Cpu)?)?;
        let y = layer.forward(&Tensor::zeros((1, 1, 2), DType::F64, &Device::Cpu)?)?;
        let y: Vec<f64> = y.flatten_all()?.to_vec1()?;
        assert!(y.iter().zip([2.0, 2.0, 6.0, 6.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{y:?}");
        Ok(())
    }
}
