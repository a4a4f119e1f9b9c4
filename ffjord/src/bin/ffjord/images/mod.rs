//! What the program does with images.

mod animate;
mod config;
mod eval;
mod pictures;
mod sample;
mod saved;
mod train;

pub use animate::run as animate;
pub use config::PRESETS;
pub use eval::run as eval;
pub use sample::run as sample;
pub use saved::is_model;
pub use train::{is_run, run as train};
