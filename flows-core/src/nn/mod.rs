//! Parameters and conditioners: the networks that compute a bijector's parameters.

mod activation;
mod config;
mod conv;
mod conv_net;
mod dropout;
mod init;
mod linear;
mod lipschitz;
mod made;
mod mlp;
mod mode;
mod network;
mod parameters;
mod residual;

pub use activation::Activation;
pub use config::NetworkConfig;
pub use conv::{Conv, Conv1d, Conv2d};
pub use conv_net::{ConvNet, ConvNetConfig};
pub use init::Init;
pub use linear::{Linear, Output};
pub use lipschitz::{LipschitzActivation, LipschitzMlp, NormalizedMlp};
pub use made::{Made, MadeSettings};
pub(crate) use made::{Steps, with_steps};
pub use mlp::Mlp;
pub use mode::Mode;
pub use network::Network;
pub use parameters::{Buffer, Parameters, Scope};
pub use residual::{ResidualNet, ResidualNetSettings};
