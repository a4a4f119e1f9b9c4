//! Models over rows: tables, points in the plane, particles.

mod config;
mod particles;
mod train;

pub use config::{PROGRAM, RunConfig};
pub use train::run as train;
