//! Continuous flows of images.

mod config;
mod model;
mod scale;

pub use config::ImageConfig;
pub use model::{ImageDensity, ImageModel};
