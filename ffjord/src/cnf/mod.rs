//! Continuous flows.

mod adjoint;
mod cost;
mod discrete;
mod flow;
mod matching;
mod operation;
mod settings;
mod trajectory;

pub use cost::Cost;
pub use flow::Cnf;
pub use matching::{Matching, Pairing};
pub use settings::{CnfSettings, Gradient};
