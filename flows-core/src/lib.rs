//! Normalizing flows on candle: bijectors, distributions, likelihood and training.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

mod error;
mod random;
mod structure;

pub mod bijectors;
pub mod cli;
pub mod data;
pub mod distributions;
pub mod evaluate;
pub mod files;
pub mod flows;
pub mod hub;
pub mod latent;
pub mod model;
pub mod nn;
pub mod ops;
pub mod plot;
pub mod run;
pub mod shape;
pub mod testing;
pub mod text;
pub mod train;

pub use error::{Error, Result};
pub use model::{Config, Model};
pub use random::Rng;
pub use structure::Structure;

pub use candle_core;
pub use rand_distr;
