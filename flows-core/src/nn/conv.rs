//! Convolutional layers.

use super::{Init, Scope};
use crate::ops::{self, Fused};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// How the weights of a layer start.
#[derive(Clone, Copy)]
enum Start {
    FanIn,
    Zero,
    ZeroScaled,
}

/// The weights of a convolution, with a scale of each output channel if there is one.
#[derive(Clone, Debug)]
struct Weights {
    weight: Tensor,
    bias: Tensor,
    log_scale: Option<Tensor>,
}

impl Weights {
    /// `shape` is (O, C, kernel...).
    fn new(shape: &[usize], start: Start, scope: &Scope) -> Result<Self> {
        let [outputs, rest @ ..] = shape else {
            return Err(Error::Config("a convolution without channels: give at least one".into()));
        };
        if shape.contains(&0) {
            return Err(Error::Config(format!(
                "a convolution with weights (outputs, inputs, kernel) = {shape:?} is empty: give at least 1 for each"
            )));
        }
        let init = match start {
            Start::FanIn => Init::fan_in(rest.iter().product(), 1.0),
            Start::Zero | Start::ZeroScaled => Init::Zeros,
        };
        let weight = scope.weight("weight", shape, init.clone())?;
        let bias = scope.weight("bias", *outputs, init)?;
        let log_scale = match start {
            Start::ZeroScaled => Some(scope.weight("log_scale", *outputs, Init::Zeros)?),
            Start::FanIn | Start::Zero => None,
        };
        Ok(Self { weight, bias, log_scale })
    }

    /// Weight and bias, times `exp(3 log_scale)` if the layer has one.
    fn scaled(&self) -> Result<(Tensor, Tensor)> {
        let Some(log_scale) = &self.log_scale else {
            return Ok((self.weight.clone(), self.bias.clone()));
        };
        let scale = ops::exp(&(log_scale * 3.0)?)?;
        let along: Vec<usize> =
            self.weight.dims().iter().enumerate().map(|(i, &d)| if i == 0 { d } else { 1 }).collect();
        Ok((self.weight.broadcast_mul(&scale.reshape(along)?)?, (&self.bias * scale)?))
    }

    fn structure(&self, name: &str, step: &str) -> Structure {
        let dims = self.weight.dims();
        let kernel: Vec<String> = dims[2..].iter().map(usize::to_string).collect();
        let scaled = if self.log_scale.is_some() { ", scaled" } else { "" };
        let details = format!("{} -> {}, kernel {}{step}{scaled}", dims[1], dims[0], kernel.join("x"));
        Structure::new(name, details).weights([&self.weight, &self.bias]).weights(&self.log_scale)
    }
}

macro_rules! constructors {
    ($dims:literal, |$kernel:ident| $shape:expr, { $($field:ident: $value:expr),* }) => {
        /// A layer with PyTorch's starting values: all uniform within
        #[doc = concat!("`1/sqrt(inputs kernel", $dims, ")`; stride 1, and padding that keeps the size if the kernel is odd.")]
        ///
        /// # Errors
        /// When a size is 0 or the names `weight` and `bias` are taken in `scope`.
        pub fn new(inputs: usize, outputs: usize, kernel: usize, scope: &Scope) -> Result<Self> {
            Self::start(inputs, outputs, kernel, Start::FanIn, scope)
        }

        /// A layer that starts at zero.
        ///
        /// # Errors
        /// As [`Self::new`].
        pub fn zeros(inputs: usize, outputs: usize, kernel: usize, scope: &Scope) -> Result<Self> {
            Self::start(inputs, outputs, kernel, Start::Zero, scope)
        }

        /// A layer that starts at zero and whose output channels are multiplied by `exp(3 log_scale)`,
        /// with which Glow ends its networks (Kingma and Dhariwal, arXiv:1807.03039).
        ///
        /// # Errors
        /// As [`Self::new`], or when the name `log_scale` is taken.
        pub fn zeros_scaled(inputs: usize, outputs: usize, kernel: usize, scope: &Scope) -> Result<Self> {
            Self::start(inputs, outputs, kernel, Start::ZeroScaled, scope)
        }

        fn start(inputs: usize, outputs: usize, $kernel: usize, start: Start, scope: &Scope) -> Result<Self> {
            Ok(Self { weights: Weights::new(&$shape(inputs, outputs), start, scope)?, $($field: $value),* })
        }

        /// The layer with another stride.
        pub fn stride(self, stride: usize) -> Self {
            Self { stride, ..self }
        }

        /// The layer with another padding.
        pub fn padding(self, padding: usize) -> Self {
            Self { padding, ..self }
        }

        /// The weights before any scale.
        pub fn weight(&self) -> &Tensor {
            &self.weights.weight
        }

        /// The biases before any scale, (outputs).
        pub fn bias(&self) -> &Tensor {
            &self.weights.bias
        }
    };
}

/// A convolution of images with square kernels, [`ops::conv2d`]; weights (outputs, inputs, k, k).
#[derive(Clone, Debug)]
pub struct Conv2d {
    weights: Weights,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    constructors!("^2", |kernel| |inputs, outputs| [outputs, inputs, kernel, kernel], {
        stride: 1, padding: kernel.saturating_sub(1) / 2
    });

    /// (B, inputs, H, W) to (B, outputs, H', W').
    ///
    /// # Errors
    /// As [`ops::conv2d`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, Fused::Identity)
    }

    /// [`Self::forward`] with an activation behind it.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_with(&self, x: &Tensor, activation: Fused) -> Result<Tensor> {
        let (weight, bias) = self.weights.scaled()?;
        ops::conv2d(x, &weight, Some(&bias), self.stride, self.padding, activation)
    }

    /// What this is made of.
    pub fn structure(&self) -> Structure {
        let step = if self.stride == 1 { String::new() } else { format!(", stride {}", self.stride) };
        self.weights.structure("Conv2d", &step)
    }
}

/// A convolution of signals, [`ops::conv1d`]; weights (outputs, inputs, k).
#[derive(Clone, Debug)]
pub struct Conv1d {
    weights: Weights,
    stride: usize,
    padding: usize,
    dilation: usize,
}

impl Conv1d {
    constructors!("", |kernel| |inputs, outputs| [outputs, inputs, kernel], {
        stride: 1, padding: kernel.saturating_sub(1) / 2, dilation: 1
    });

    /// The layer with another dilation, and with the padding that keeps the size if the kernel is odd.
    pub fn dilation(self, dilation: usize) -> Self {
        let reach = self.weight().dims().last().map_or(0, |kernel| kernel - 1);
        Self { dilation, padding: dilation.saturating_mul(reach) / 2, ..self }
    }

    /// (B, inputs, T) to (B, outputs, T').
    ///
    /// # Errors
    /// As [`ops::conv1d`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, Fused::Identity)
    }

    /// [`Self::forward`] with an activation behind it.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_with(&self, x: &Tensor, activation: Fused) -> Result<Tensor> {
        let (weight, bias) = self.weights.scaled()?;
        ops::conv1d(x, &weight, Some(&bias), self.stride, self.padding, self.dilation, activation)
    }

    /// What this is made of.
    pub fn structure(&self) -> Structure {
        let part = |name: &str, value: usize| if value == 1 { String::new() } else { format!(", {name} {value}") };
        self.weights.structure("Conv1d", &(part("stride", self.stride) + &part("dilation", self.dilation)))
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
        let zero = Conv2d::zeros_scaled(3, 6, 3, &scope.enter("zero"))?;
        assert_eq!(zero.forward(&x)?.abs()?.sum_all()?.to_scalar::<f64>()?, 0.0);
        let signal = Conv1d::new(3, 4, 3, &scope.enter("signal"))?.dilation(4);
        assert_eq!(signal.forward(&x.reshape((2, 3, 35))?)?.dims(), [2, 4, 35]);
        assert!(Conv1d::new(3, 0, 3, &scope.enter("none")).is_err());
        Ok(())
    }

    #[test]
    fn the_scale_multiplies_channels() -> Result<()> {
        let weights = Weights {
            weight: Tensor::ones((2, 1, 1), DType::F64, &Device::Cpu)?,
            bias: Tensor::new(&[1.0, 2.0], &Device::Cpu)?,
            log_scale: Some(Tensor::new(&[0.0, 2f64.ln() / 3.0], &Device::Cpu)?),
        };
        let (weight, bias) = weights.scaled()?;
        let close = |got: Tensor, want: [f64; 2]| -> Result<bool> {
            Ok(got.flatten_all()?.to_vec1::<f64>()?.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12))
        };
        assert!(close(weight, [1.0, 2.0])? && close(bias, [1.0, 4.0])?);
        Ok(())
    }
}
