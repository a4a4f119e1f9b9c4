//! Parameters and conditioners: the networks that compute a bijector's parameters.

mod init;
mod parameters;

pub use init::Init;
pub use parameters::{Buffer, Parameters, Scope};
