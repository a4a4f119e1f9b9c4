//! Models over images.

mod bits;
mod config;
mod pictures;
mod train;

pub use bits::{Bits, log_likelihoods};
pub use config::{PROGRAM, RunConfig};
pub use pictures::{noise, picture};
pub use train::run as train;
