//! Continuous normalizing flows: densities that a learnt vector field transports from a simple base, with solvers for
//! the ordinary differential equations involved.
//!
//! A [`ContinuousFlow`] is a density over vectors (FFJORD, Grathwohl et al., 2019, arXiv:1810.01367), an [`ImageModel`]
//! one over images. Both are built on the bijector [`Cnf`], which follows a vector field from [`field`] or
//! [one of your own](field::VectorField). Train by maximum likelihood, or without solving by flow matching:
//!
//! ```
//! use ffjord::field::MlpConfig;
//! use ffjord::{CnfSettings, ContinuousFlow, ContinuousFlowConfig, Pairing};
//! use flows_core::data::Toy;
//! use flows_core::prelude::*;
//!
//! fn main() -> Result<()> {
//!     let mut rng = Rng::seed(0);
//!     let field = MlpConfig { hidden: vec![32, 32], ..MlpConfig::default() };
//!     let flow = CnfSettings { field: field.into(), end_time: 1.0, ..CnfSettings::default() };
//!     let config = ContinuousFlowConfig { features: 2, columns: None, flows: 1, flow };
//!     let model = ContinuousFlow::new(config, &mut rng)?;
//!     model.standardize(&Toy::EightGaussians.sample(2_000, &mut rng)?)?;
//!
//!     let config = TrainConfig { steps: 300, optimizer: OptimizerConfig::adam(1e-2), ..TrainConfig::default() };
//!     let mut trainer = Trainer::new(model.parameters(), config, rng.fork())?;
//!     let loss = |_, rng: &mut Rng| {
//!         model.matching_loss(&Toy::EightGaussians.sample(128, rng)?, Pairing::Optimal, rng)
//!     };
//!     trainer.run(loss, None, &mut ())?;
//!
//!     let x = Toy::EightGaussians.sample(1_000, &mut rng)?;
//!     let nats = score(&model, &x, None)?.mean_all()?.to_scalar::<f32>()?;
//!     assert!(nats > -3.8, "{nats}"); // -2.83 is the most that can be had, -4.25 what a normal density has.
//!     Ok(())
//! }
//! ```

/// The introduction's chapter on continuous flows, whose code is tested with the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../docs/introduction/continuous.md")]
struct Chapter;

mod assignment;
mod cnf;
mod energy;
pub mod field;
mod images;
mod model;
mod particles;
#[cfg(feature = "cli")]
pub mod run;
pub mod solver;
mod training_cost;

pub use cnf::{Cnf, CnfSettings, Cost, Gradient, Matching, Pairing};
pub use energy::{Boltzmann, Energy, distances};
#[cfg(feature = "cli")]
pub use images::log_likelihoods;
pub use images::{ImageConfig, ImageDensity, ImageModel};
pub use model::{ContinuousDensity, ContinuousFlow, ContinuousFlowConfig};
pub use particles::ZeroCentre;
pub use training_cost::{TrainingCost, TrainingCosts};
