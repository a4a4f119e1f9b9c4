//! Models over images.

mod pictures;
mod train;

pub use pictures::{noise, picture};
pub use train::{evaluate, run as train};
