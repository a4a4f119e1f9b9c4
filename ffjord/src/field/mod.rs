//! Vector fields `f(t, z)`: networks with time in their layers, and hand-written derivatives.
//!
//! The divergence is a sum of derivatives, and its gradient one of second derivatives. Neither is left
//! to autograd: a field gives its value and its products with tangents in one pass, and the gradient of
//! that pair by a pass of first-order operations.

mod activation;
mod config;
mod conv;
mod conv_activation;
mod divergence;
mod kernel;
mod mlp;
mod time;

pub use activation::Activation;
pub use config::{FieldConfig, TimeLayer};
pub use conv::{ConvConfig, ConvField};
pub(crate) use divergence::Vectors;
pub use divergence::{Divergence, Penalty, Probe};
pub use mlp::Mlp;
pub(crate) use mlp::{Batch, Gradients};
