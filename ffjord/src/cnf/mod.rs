//! Continuous flows.

mod adjoint;
mod discrete;
mod flow;
mod matching;
mod operation;
mod settings;

pub use flow::Cnf;
pub use matching::{Coupling, Matching};
pub use operation::Cost;
pub use settings::{CnfSettings, Gradient};
