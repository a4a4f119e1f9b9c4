//! Networks for the cases.

use candle_core::Tensor;
use flows_core::nn::{Activation, ConvNetConfig, Mode, Network, NetworkConfig};
use flows_core::{Result, Structure};

/// Conditioners are smooth here: kinks would spoil the finite differences that gradients are compared with.
pub fn mlp() -> NetworkConfig {
    NetworkConfig::Mlp { hidden: vec![12, 8], activation: Activation::Tanh }
}

pub fn residual_net() -> NetworkConfig {
    NetworkConfig::Residual { hidden: 9, blocks: 2, activation: Activation::Silu, dropout: 0.1 }
}

pub fn convolutions() -> ConvNetConfig {
    ConvNetConfig { hidden: vec![5], kernels: vec![3, 3], dilations: vec![1, 2], activation: Activation::Tanh }
}

/// A network for a context of any shape.
#[derive(Debug)]
pub struct Flatten(pub Box<dyn Network>);

impl Network for Flatten {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.0.forward(&x.flatten_from(1)?, context, mode)
    }

    fn structure(&self) -> Structure {
        self.0.structure()
    }
}
