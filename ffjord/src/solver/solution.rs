//! What a solve ends with.

use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a solve ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Status {
    /// At the last time.
    Finished,
    /// The step became too small to advance time.
    Underflow {
        /// Where time stood.
        t: f64,
        /// The step.
        step: f64,
    },
    /// The limit of steps was reached.
    TooManySteps {
        /// Where time stood.
        t: f64,
        /// The limit.
        limit: usize,
        /// Whether the steps were chosen by their error.
        #[serde(skip)]
        adaptive: bool,
    },
    /// The state or its slope was not finite.
    NotFinite {
        /// Where time stood.
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
                "the solver took {limit} steps and is at time {t} only: raise {}, or `max_steps` if the equation needs \
                 so many",
                if *adaptive { "`rtol` and `atol`" } else { "`step`" }
            ),
            Self::NotFinite { t } => write!(
                f,
                "the state or its slope is not finite at time {t}: look for NaN and huge values in the data, and for \
                 weights that have grown without bound (a lower learning rate, `clip_norm`)"
            ),
        }
    }
}

/// What a solve cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Evaluations of the slope.
    pub evaluations: usize,
    /// Steps taken.
    pub accepted: usize,
    /// Steps tried in vain.
    pub rejected: usize,
}

/// The states at the times that were asked for, as far as the solver came.
#[derive(Clone, Debug)]
pub struct Solution<S> {
    /// One for each time, the first being the initial state.
    pub states: Vec<S>,
    /// What it cost.
    pub stats: Stats,
    /// How it ended.
    pub status: Status,
}

impl<S> Solution<S> {
    /// This, if it is whole.
    ///
    /// # Errors
    /// When the solver stopped early; the message is that of the status.
    pub fn finished(self) -> Result<Self> {
        match self.status {
            Status::Finished => Ok(self),
            status => Err(Error::Diverged(status.to_string())),
        }
    }
}
