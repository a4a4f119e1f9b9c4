//! Continuous normalizing flows: densities whose samples flow along a learnt vector field, with the
//! solver of ordinary differential equations that they need.

mod assignment;
mod cnf;
pub mod field;
mod model;
mod particles;
pub mod solver;

pub use cnf::{Cnf, CnfSettings, Cost, Coupling, Gradient};
pub use model::{Model, ModelConfig};
pub use particles::ZeroCentre;
