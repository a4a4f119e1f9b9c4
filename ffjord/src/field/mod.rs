//! Vector fields `f(t, z)`: networks with time in their layers, and hand-written derivatives.
//!
//! The divergence is a sum of derivatives, and its gradient one of second derivatives. Neither is left
//! to autograd: a field gives its value and its products with tangents in one pass, and the gradient of
//! that pair by a pass of first-order operations.

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
pub(crate) use graph::{MOST, centred_basis};
pub use mlp::Mlp;
pub(crate) use vector_field::Number;
pub use vector_field::{Batch, Bottleneck, Gradients, Kernel, Kernels, VectorField};
