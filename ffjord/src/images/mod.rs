//! Continuous flows of images.

mod config;
mod logit;
mod model;
mod scale;

pub use config::ImageConfig;
pub use logit::Logit;
pub use model::ImageModel;
