//! Differentiable tensor operations that candle lacks, has wrong, or does slowly.

mod cpu;
mod linear;
mod root;
mod rq_spline;
mod stable;

pub use linear::linear;
pub use root::increasing_roots;
pub use rq_spline::{Direction, Ends, RqSplineSettings, rq_spline};
pub use stable::{log_sigmoid, log_sum_exp, sigmoid, softplus, sum_event};
