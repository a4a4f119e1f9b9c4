//! Continuous flows over images.

mod config;
#[cfg(feature = "cli")]
mod evaluate;
mod model;
mod scale;

pub use config::ImageConfig;
#[cfg(feature = "cli")]
pub use evaluate::log_likelihoods;
pub use model::{ImageDensity, ImageModel};
