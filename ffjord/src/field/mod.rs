//! Vector fields `f(t, z)`: networks with time in their layers, and hand-written derivatives.
//!
//! The divergence is a sum of first derivatives, so its gradient takes second derivatives. Candle
//! differentiates once only: a field therefore computes its value and its Jacobian-vector products in one pass
//! of first-order operations, and one backward pass through these gives the gradient of both.

mod activation;
mod bottleneck;
mod config;
mod conv;
mod divergence;
mod dual;
mod evaluator;
mod graph;
mod kernel;
mod mlp;
mod time;
mod vector_field;

pub use activation::Activation;
pub use config::{FieldConfig, MlpConfig, TimeLayer};
pub use conv::{ConvConfig, ConvField};
pub use divergence::{Divergence, Penalty, Probe, Vectors};
pub use dual::Dual;
pub(crate) use evaluator::{Evaluator, composed, composed_at, no_bottleneck, value, weights};
pub use graph::{Graph, GraphConfig};
pub(crate) use graph::{MAX_COORDINATES, centred_basis};
pub use mlp::Mlp;
pub(crate) use vector_field::Number;
pub use vector_field::{Batch, Bottleneck, Gradients, Kernel, Kernels, VectorField};
