//! Normalizing flows on candle: bijectors, distributions, likelihood and training.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

mod error;
mod random;
mod structure;

pub mod bijectors;
#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod distributions;
pub mod files;
pub mod flows;
pub mod hub;
pub mod nn;
pub mod ops;
#[cfg(feature = "plot")]
pub mod plot;
pub mod testing;
pub mod train;

pub use error::{Error, Result};
pub use random::Rng;
pub use structure::Structure;
