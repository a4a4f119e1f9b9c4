//! Continuous flows of images.

mod bits;
mod config;
mod model;
mod scale;

pub use bits::{ImageBits, log_likelihoods};
pub use config::ImageConfig;
pub use model::{ImageDensity, ImageModel};
