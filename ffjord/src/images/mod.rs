//! Continuous flows over images.

#[cfg(feature = "cli")]
mod bits;
mod config;
mod model;
mod scale;

#[cfg(feature = "cli")]
pub use bits::{ImageBits, log_likelihoods};
pub use config::ImageConfig;
pub use model::{ImageDensity, ImageModel};
