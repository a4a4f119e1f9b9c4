//! Normalizing flows on candle: bijectors, distributions, likelihood and training.
//!
//! # Features
//!
//! All are on by default; with `default-features = false` the crate is the library alone, with few dependencies.
//!
//! - `cli`: what the programs share, and the program `flows`; brings the next three.
//! - `hub`: files of the Hugging Face Hub are fetched; without it `hub::Address::fetch` is an error.
//! - `images`: `data::images`, image files and Parquet files of images.
//! - `plot`: pictures as SVG and PNG.
//!
//! `cuda` and `mkl`, which are off by default, are for NVIDIA's GPUs and Intel's matrix products.

//!
//! # Vector instructions
//!
//! Kernels take the widest that the processor has: AVX-512, AVX2, NEON or the least of the target, with results that are
//! the same to the bit. The environment variable `FLOWS_SIMD` (`avx512`, `avx2`, `neon`, `plain`) forces others, to test
//! and to time them: `FLOWS_SIMD=avx2 cargo bench -p flows-core`. What it does not rule are matrix products, in which
//! gemm, faer and MKL choose for themselves, and candle's own operations: see [`ops::Simd`].

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
pub mod evaluate;
pub mod files;
pub mod flows;
pub mod hub;
pub mod latent;
pub mod model;
pub mod nn;
pub mod ops;
#[cfg(feature = "plot")]
pub mod plot;
#[cfg(feature = "cli")]
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
