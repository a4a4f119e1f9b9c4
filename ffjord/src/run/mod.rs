//! Training runs: the settings in `config.toml`, and the data and the model that they describe.
//!
//! ```
//! use ffjord::run::{images, tables};
//! use flows_core::run::parse_settings;
//! let config: tables::RunConfig = parse_settings(tables::PRESETS.get("toy")?)?;
//! assert_eq!((config.batch, config.flows), (512, 1));
//! let config: images::RunConfig = parse_settings(images::PRESETS.get("digits")?)?;
//! assert_eq!((config.batch, config.model.scales), (128, 1));
//! # Ok::<(), flows_core::Error>(())
//! ```

mod batches;
pub mod images;
mod matching;
pub mod tables;

pub use batches::Batches;

fn default_pieces() -> usize {
    1
}
