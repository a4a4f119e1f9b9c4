//! Continuous flows.

mod adjoint;
mod discrete;
mod flow;
mod operation;
mod settings;

pub use flow::Cnf;
pub use operation::Cost;
pub use settings::{CnfSettings, Gradient};
