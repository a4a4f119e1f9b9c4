//! Models of rows: tables, points in the plane, particles.

mod particles;
mod train;

pub use train::run as train;
