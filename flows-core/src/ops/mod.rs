//! Differentiable tensor operations that candle lacks, has wrong, or does slowly.

mod channels;
pub(crate) mod cpu;
mod linalg;
mod linear;
mod masked_linear;
pub(crate) mod matmul;
mod planar;
mod root;
mod rq_spline;
mod softplus;
pub mod special;
mod stable;
mod triangle;

pub use channels::{channel_affine, channel_moments};
pub use linalg::{
    Lu, cholesky, inverse, log_abs_det, lu, orthogonal, solve, solve_rows, solve_triangular, solve_triangular_rows,
};
pub use linear::{Fused, linear};
pub(crate) use masked_linear::{Staircase, masked_linear};
pub(crate) use planar::{planar, planar_is_fused};
pub use root::increasing_roots;
pub use rq_spline::{Direction, Ends, RqSplineSettings, rq_spline};
pub use softplus::softplus;
pub use stable::{log_sigmoid, log_sum_exp, sigmoid, sum_event};
pub use triangle::Triangle;
