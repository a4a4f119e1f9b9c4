//! Random truncations of a series that preserve its mean.

use crate::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// How many terms, beyond the first two, a random truncation of the log-determinant's series takes.
///
/// Term k is divided by the probability that it is taken, so that the mean is that of the whole
/// series. With a spectral radius r of the residual's Jacobian, the variance is finite under
/// `Geometric` if `r^2 < 1 - stop`; under `Poisson` it is in theory finite for no r > 0, but small in
/// practice where r is small.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Roulette {
    /// Stops before each further term with this probability.
    Geometric {
        /// Between 0 and 1.
        stop: f64,
    },
    /// A Poisson number of further terms.
    Poisson {
        /// The mean, at most 20.
        rate: f64,
    },
}

impl Roulette {
    pub(super) fn check(self) -> Result<()> {
        let fits = match self {
            Self::Geometric { stop } => stop > 0.0 && stop < 1.0,
            Self::Poisson { rate } => rate > 0.0 && rate <= 20.0,
        };
        let message = || format!("{self:?}: `stop` must lie between 0 and 1, `rate` between 0 and 20");
        if fits { Ok(()) } else { Err(Error::Config(message())) }
    }

    /// The probability of at least `j` further terms.
    pub(super) fn survival(self, j: usize) -> f64 {
        match self {
            Self::Geometric { stop } => (1.0 - stop).powi(j as i32),
            Self::Poisson { rate } => {
                let mut mass = (1..=j).fold((-rate).exp(), |mass, i| mass * rate / i as f64);
                let mut tail = 0.0;
                for i in j + 1..j + 100 {
                    tail += mass;
                    mass *= rate / i as f64;
                }
                tail
            }
        }
    }

    pub(super) fn draw(self, rng: &mut Rng) -> usize {
        // Inversion: the largest j whose survival is above a uniform number of (0, 1].
        let level = 1.0 - rng.uniform();
        (1..).take_while(|&j| self.survival(j) >= level).count()
    }
}
