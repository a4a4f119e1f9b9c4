//! The audio front end: files, resampling, spectrograms, and measures of quality.

mod settings;

pub use settings::{AudioConfig, MelScale, Padding};
