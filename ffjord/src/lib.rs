//! Continuous normalizing flows: densities whose samples flow along a learnt vector field, with the
//! solver of ordinary differential equations that they need.

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

pub use cnf::{Cnf, CnfSettings, Cost, Coupling, Gradient, Matching};
pub use energy::{Boltzmann, Energy, distances};
#[cfg(feature = "cli")]
pub use images::{ImageBits, log_likelihoods};
pub use images::{ImageConfig, ImageDensity, ImageModel};
pub use model::{ContinuousDensity, ContinuousFlow, ContinuousFlowConfig};
pub use particles::ZeroCentre;
pub use training_cost::{TrainingCost, TrainingCosts};
