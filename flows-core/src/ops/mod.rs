//! Differentiable tensor operations that candle lacks, gets wrong or does slowly.

mod accumulate;
mod activation;
mod affine;
mod channels;
mod conv;
mod coupled;
pub(crate) mod cpu;
mod dense;
mod diagonal;
mod direction;
mod elementwise;
mod functions;
mod gated;
mod gated_network;
mod increasing;
mod limited;
mod linalg;
mod log_sum_exp;
mod lu_product;
mod many;
pub(crate) mod matmul;
mod operation;
mod pairs;
mod planar;
mod product;
mod qr;
mod reduce;
mod root;
mod rq_spline;
mod sigmoid_mixture;
mod simd;
mod sinh_arcsinh;
mod size;
pub mod special;
mod stable;
mod staircase;
mod student;
mod transformer;
mod triangle;
mod weight_norm;

/// The building blocks of kernels, for those of the other crates of the workspace.
pub mod kernel {
    pub use super::cpu::{Real, with_slice};
    pub use super::functions::Functions;
    pub use super::matmul::{Operand, product};
    pub use super::operation::{Backward, Kernel, Operation, Precomputed, View, with_elements};
    pub use super::simd::dispatch;
}

/// Whether there may be tensors on other devices than the CPU.
pub(crate) fn has_gpu() -> bool {
    candle_core::utils::cuda_is_available() || candle_core::utils::metal_is_available()
}

pub use accumulate::Sums;
pub(crate) use accumulate::{backward, gradients};
pub use activation::FusedActivation;
pub use affine::Scale;
pub(crate) use affine::{affine, affine_forward};
pub use channels::{channel_affine, channel_moments};
pub use conv::{ConvLayer, Outside, conv_network, conv_transpose1d, conv_transpose2d, conv1d, conv2d};
pub use coupled::{Coupled, coupled};
pub use dense::linear;
pub(crate) use dense::{LinearLayer, Step, dense};
pub(crate) use diagonal::Diagonal;
pub use direction::Direction;
pub(crate) use elementwise::{Open, onto};
pub use elementwise::{elu, erf, exp, gelu, ln, ln_1p, log_sigmoid, sigmoid, silu, softplus, tanh};
pub use gated::gated_tanh_sigmoid;
pub use gated_network::{GatedLayer, GatedNetwork, gated_network};
pub(crate) use increasing::increasing;
pub(crate) use limited::{limited, most};
pub use linalg::{
    Lu, cholesky, inverse, log_abs_det, lu, orthogonal, orthogonal_factor, solve, solve_rows, solve_triangular,
    solve_triangular_rows,
};
pub use log_sum_exp::log_sum_exp;
pub(crate) use lu_product::lu_product;
pub(crate) use many::{BackwardMany, Gradients, apply_many};
pub(crate) use planar::{planar, planar_is_fused};
pub use product::product;
pub use qr::qr;
pub use reduce::{mean, sum, sum_event};
pub(crate) use root::increasing_root;
pub use root::increasing_roots;
pub(crate) use rq_spline::bin;
pub use rq_spline::{Ends, RqSplineSettings, rq_spline};
pub(crate) use sigmoid_mixture::{Mixture, sigmoid_mixture};
pub use simd::Simd;
pub(crate) use sinh_arcsinh::{SinhArcsinh, sinh_arcsinh};
pub(crate) use size::{check_width, elements};
pub use stable::log_softmax;
pub(crate) use stable::log_tanh_slope;
pub(crate) use staircase::Staircase;
pub(crate) use student::{student_log_cdf, student_quantile};
pub use triangle::Triangle;
pub use weight_norm::weight_norm;
