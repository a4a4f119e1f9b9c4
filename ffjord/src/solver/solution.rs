//! The result of a solve.

use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a solve ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Status {
    /// The solver reached the last time.
    Finished,
    /// The step became too small to advance time.
    Underflow {
        /// The time that was reached.
        t: f64,
        /// The size of the step.
        step: f64,
    },
    /// The maximum number of steps was reached.
    TooManySteps {
        /// The time that was reached.
        t: f64,
        /// The maximum number of steps.
        limit: usize,
        /// Whether the method is adaptive.
        #[serde(skip)]
        adaptive: bool,
    },
    /// The state or its derivative was not finite.
    NotFinite {
        /// The time that was reached.
        t: f64,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the solver reached the last time"),
            Self::Underflow { t, step } => write!(
                f,
                "the step of the solver underflowed at time {t} (step {step:e}): the equation is too stiff for the \
                 tolerance; raise `rtol` and `atol`, compute in f64, or smooth the field (`penalty`)"
            ),
            Self::TooManySteps { t, limit, adaptive } => write!(
                f,
                "the solver took {limit} steps and has only reached time {t}: raise {}, or `max_steps` if the equation \
                 needs that many",
                if *adaptive { "`rtol` and `atol`" } else { "`step`" }
            ),
            Self::NotFinite { t } => write!(
                f,
                "the state or its derivative is not finite at time {t}: check the data for NaN and huge values; if \
                 weights have grown without bound, lower the learning rate or set `clip_norm`"
            ),
        }
    }
}

/// The cost of a solve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The number of evaluations of the right-hand side.
    pub evaluations: usize,
    /// The number of accepted steps.
    pub accepted: usize,
    /// The number of rejected steps.
    pub rejected: usize,
}

/// The states at the requested times, up to the time that the solver reached.
#[derive(Clone, Debug)]
pub struct Solution<S> {
    /// One state per time; the first is the initial state.
    pub states: Vec<S>,
    /// The cost of the solve.
    pub stats: Stats,
    /// How the solve ended.
    pub status: Status,
}

impl<S> Solution<S> {
    /// The solution, if the solver reached the last time.
    ///
    /// # Errors
    /// When the solver stopped early; the message is that of [`Status`].
    pub fn finished(self) -> Result<Self> {
        match self.status {
            Status::Finished => Ok(self),
            status => Err(Error::Diverged(status.to_string())),
        }
    }
}
