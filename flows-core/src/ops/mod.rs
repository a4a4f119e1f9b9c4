//! Differentiable tensor operations that candle lacks, has wrong, or does slowly.

mod accumulate;
mod channels;
mod cpu;
mod elementwise;
mod functions;
mod linalg;
mod dense;
mod many;
mod matmul;
mod planar;
mod root;
mod rq_spline;
mod simd;
pub mod special;
mod stable;
mod triangle;

pub use channels::{channel_affine, channel_moments};
pub use elementwise::{elu, erf, exp, gelu, ln, ln_1p, log_sigmoid, sigmoid, silu, softplus, tanh};
pub use linalg::{
    Lu, cholesky, inverse, log_abs_det, lu, orthogonal, solve, solve_rows, solve_triangular, solve_triangular_rows,
};
pub use dense::{Fused, linear};
pub(crate) use accumulate::{Sums, backward};
pub(crate) use dense::{Affine, Step, dense};
pub(crate) use planar::{planar, planar_is_fused};
pub use root::increasing_roots;
pub use rq_spline::{Direction, Ends, RqSplineSettings, rq_spline};
pub use stable::{log_sum_exp, sum_event};
pub use triangle::Triangle;
