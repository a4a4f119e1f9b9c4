//! Named equations for trying out solvers and tolerances.

use flows_core::Error;
use std::str::FromStr;

/// A named ordinary differential equation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equation {
    /// The populations of prey x and predators y: `x' = 1.5 x - x y`, `y' = x y - 3 y`.
    LotkaVolterra,
    /// A stiff oscillator: `x' = v`, `v' = 5 (1 - x^2) v - x`.
    VanDerPol,
    /// A chaotic system: `x' = 10 (y - x)`, `y' = x (28 - z) - y`, `z' = x y - 8/3 z`.
    Lorenz,
    /// A spring: `x' = v`, `v' = -x`.
    Harmonic,
}

impl Equation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::LotkaVolterra, Self::VanDerPol, Self::Lorenz, Self::Harmonic];

    /// The name, which [`FromStr`] parses.
    pub fn name(self) -> &'static str {
        match self {
            Self::LotkaVolterra => "lotka-volterra",
            Self::VanDerPol => "van-der-pol",
            Self::Lorenz => "lorenz",
            Self::Harmonic => "harmonic",
        }
    }

    /// A one-line description with the equation.
    pub fn about(self) -> &'static str {
        match self {
            Self::LotkaVolterra => "Prey and predators: x' = 1.5 x - x y, y' = x y - 3 y",
            Self::VanDerPol => "A stiff oscillator: x' = v, v' = 5 (1 - x^2) v - x",
            Self::Lorenz => "Chaos: x' = 10 (y - x), y' = x (28 - z) - y, z' = x y - 8/3 z",
            Self::Harmonic => "A spring: x' = v, v' = -x",
        }
    }

    /// The names of the variables.
    pub fn variables(self) -> &'static [&'static str] {
        match self {
            Self::LotkaVolterra => &["prey", "predators"],
            Self::VanDerPol | Self::Harmonic => &["x", "v"],
            Self::Lorenz => &["x", "y", "z"],
        }
    }

    /// A typical initial state.
    pub fn initial(self) -> Vec<f64> {
        match self {
            Self::LotkaVolterra => vec![1.0, 1.0],
            Self::VanDerPol => vec![2.0, 0.0],
            Self::Lorenz => vec![1.0, 1.0, 1.0],
            Self::Harmonic => vec![1.0, 0.0],
        }
    }

    /// `dy/dt` at the state y, which has one number per variable.
    pub fn slope(self, y: &[f64]) -> Vec<f64> {
        match self {
            Self::LotkaVolterra => vec![1.5 * y[0] - y[0] * y[1], y[0] * y[1] - 3.0 * y[1]],
            Self::VanDerPol => vec![y[1], 5.0 * (1.0 - y[0] * y[0]) * y[1] - y[0]],
            Self::Lorenz => {
                vec![10.0 * (y[1] - y[0]), y[0] * (28.0 - y[2]) - y[1], y[0] * y[1] - 8.0 / 3.0 * y[2]]
            }
            Self::Harmonic => vec![y[1], -y[0]],
        }
    }
}

impl FromStr for Equation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|equation| equation.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::Config(format!("there is no equation `{text}`: choose one of {names}"))
        })
    }
}
