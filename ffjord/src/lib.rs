//! Continuous normalizing flows: densities whose samples flow along a learnt vector field, with the
//! solver of ordinary differential equations that they need.

mod assignment;
mod cnf;
pub mod field;
mod images;
mod model;
mod particles;
pub mod solver;

pub use cnf::{Cnf, CnfSettings, Cost, Coupling, Gradient, Matching};
pub use images::{ImageConfig, ImageDensity, ImageModel};
pub use model::{ContinuousDensity, ContinuousFlow, ContinuousFlowConfig};
pub use particles::ZeroCentre;
