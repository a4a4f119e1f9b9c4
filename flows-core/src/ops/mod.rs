//! Differentiable tensor operations that candle lacks, has wrong, or does slowly.

mod cpu;
mod linear;
mod matmul;
mod rq_spline;
pub mod special;
mod stable;

pub use linear::{Fused, linear};
pub use rq_spline::{Direction, Ends, RqSplineSettings, rq_spline};
pub use stable::{log_sigmoid, log_sum_exp, sigmoid, softplus, sum_event};
