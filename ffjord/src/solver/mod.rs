//! Solvers for ordinary differential equations: explicit Runge-Kutta methods with adaptive or fixed steps.
//!
//! A [`State`] is a type with linear combinations and a norm: a vector of f32 or f64 on the CPU, a tensor on any
//! device, or a pair of states. Time is f64 throughout, and runs forward or backward.
//!
//! ```
//! use ffjord::solver::{Method, Solver};
//! let decay = |_: f64, y: &Vec<f64>| Ok(y.iter().map(|y| -y).collect());
//! let solution = Solver::new(Method::Dopri5, 1e-8).solve(decay, vec![1.0], &[0.0, 1.0])?.finished()?;
//! assert!((solution.states[1][0] - (-1f64).exp()).abs() < 1e-7);
//! # Ok::<(), flows_core::Error>(())
//! ```

mod control;
mod dense;
mod equation;
mod method;
mod solution;
mod solve;
mod state;
mod step;
mod tableau;

pub use control::Tolerance;
pub use equation::Equation;
pub use method::Method;
pub use solution::{Solution, Stats, Status};
pub(crate) use solve::End;
pub use solve::Solver;
pub use state::State;
pub(crate) use state::larger;
pub(crate) use step::Step;
