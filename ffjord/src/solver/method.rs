//! The Runge-Kutta methods, by name.

use super::tableau::{BOSH3, DOPRI5, EULER, HEUN, MIDPOINT, RK4, TSIT5, Tableau};
use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A Runge-Kutta method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Dormand and Prince 5(4), six evaluations a step.
    #[default]
    Dopri5,
    /// Tsitouras 5(4), six evaluations a step.
    Tsit5,
    /// Bogacki and Shampine 3(2), three evaluations a step.
    Bosh3,
    /// Heun 2(1), two evaluations a step.
    AdaptiveHeun,
    /// Euler, fixed steps.
    Euler,
    /// The midpoint rule, fixed steps.
    Midpoint,
    /// The classical method of order 4, fixed steps.
    Rk4,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Dopri5, Self::Tsit5, Self::Bosh3, Self::AdaptiveHeun, Self::Euler, Self::Midpoint, Self::Rk4];

    /// The name, as [`FromStr`] parses it and configs write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dopri5 => "dopri5",
            Self::Tsit5 => "tsit5",
            Self::Bosh3 => "bosh3",
            Self::AdaptiveHeun => "adaptive-heun",
            Self::Euler => "euler",
            Self::Midpoint => "midpoint",
            Self::Rk4 => "rk4",
        }
    }

    /// The order of convergence.
    pub fn order(self) -> u32 {
        self.tableau().order
    }

    /// Whether the method estimates its error and adapts its steps to it.
    pub fn is_adaptive(self) -> bool {
        !self.tableau().error.is_empty()
    }

    pub(crate) fn tableau(self) -> &'static Tableau {
        match self {
            Self::Dopri5 => &DOPRI5,
            Self::Tsit5 => &TSIT5,
            Self::Bosh3 => &BOSH3,
            Self::AdaptiveHeun => &HEUN,
            Self::Euler => &EULER,
            Self::Midpoint => &MIDPOINT,
            Self::Rk4 => &RK4,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::Config(format!("there is no method `{name}`: choose one of {names}"))
        })
    }
}
