//! Models of images.

mod pictures;
mod train;

pub use pictures::noise;
pub use train::{bits, evaluate, run as train};
