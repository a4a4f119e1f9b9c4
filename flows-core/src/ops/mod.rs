//! Differentiable tensor operations that candle lacks, has wrong, or does slowly.

mod stable;

pub use stable::{log_sigmoid, log_sum_exp, sigmoid, softplus, sum_event};
