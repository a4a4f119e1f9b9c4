//! Energies of particle systems, and how models compare with their Boltzmann distributions.

use candle_core::{DType, Device, Tensor};
use flows_core::distributions::Distribution;
use flows_core::evaluate::{ImportanceWeights, Mean};
use flows_core::{Result, Rng};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The energy of a system of particles, whose Boltzmann distribution is `p(x) ~ exp(-energy(x))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Energy {
    /// `sum 0.9 (d - 4)^4 - 4 (d - 4)^2` over all pairs at distances d (Koehler, Klein & Noe 2020).
    DoubleWell,
    /// `2 sum d^-12 - 2 d^-6` over all pairs at distances d, plus a harmonic trap `|x - centre|^2 / 2`.
    LennardJones,
}

impl Energy {
    /// The energy of each configuration in x (B, particles * dimension).
    ///
    /// # Errors
    /// When x has a different shape.
    pub fn of_rows(self, x: &Tensor, dimension: usize) -> Result<Vec<f64>> {
        let rows = x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2()?;
        Ok(rows.iter().map(|row: &Vec<f64>| self.of(row, dimension)).collect())
    }

    /// The energy of one configuration, given the positions particle by particle in a space of `dimension` dimensions.
    pub fn of(self, particles: &[f64], dimension: usize) -> f64 {
        let pairs = distances(particles, dimension).map(|d| match self {
            Self::DoubleWell => 0.9 * (d - 4.0).powi(4) - 4.0 * (d - 4.0).powi(2),
            Self::LennardJones => 2.0 * (d.powi(-12) - 2.0 * d.powi(-6)),
        });
        let energy = pairs.sum::<f64>();
        match self {
            Self::DoubleWell => energy,
            // The squared distances of all pairs add up to N times the squared distances from the centre.
            Self::LennardJones => {
                let squares = distances(particles, dimension).map(|d| d * d).sum::<f64>();
                energy + squares / (2 * (particles.len() / dimension)) as f64
            }
        }
    }
}

/// The distance of each pair of particles, given their positions particle by particle in `dimension` dimensions.
pub fn distances(particles: &[f64], dimension: usize) -> impl Iterator<Item = f64> + '_ {
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let at = move |i: usize| &particles[i * dimension..(i + 1) * dimension];
    let pairs = (0..particles.len() / dimension.max(1)).flat_map(|i| (0..i).map(move |j| (i, j)));
    pairs.map(move |(i, j)| square(at(i), at(j)).sqrt())
}

/// A comparison of a model with the Boltzmann distribution of a known energy.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Boltzmann {
    /// `log integral exp(-energy)` over configurations with centre 0, by importance sampling from the model.
    pub log_normalizer: f64,
    /// The effective sample size `(sum w)^2 / sum w^2` divided by the number of samples.
    pub efficiency: f64,
    /// The mean log-likelihood of the test rows under the Boltzmann distribution, in nats.
    pub log_likelihood: f64,
}

impl Boltzmann {
    /// Compares on test rows (B, particles * dimension) with as many samples of the model, but at most `most`.
    ///
    /// # Errors
    /// When the model fails, or the test rows have a different shape.
    pub fn of(
        model: &dyn Distribution,
        energy: Energy,
        dimension: usize,
        test: &Tensor,
        most: usize,
        rng: &mut Rng,
    ) -> Result<Self> {
        let log_density = |x: &Tensor| {
            let energies = energy.of_rows(x, dimension)?;
            Ok(Tensor::new(energies, &Device::Cpu)?.neg()?)
        };
        let weights = ImportanceWeights::draw(model, log_density, most.min(test.dim(0)?), None, rng)?;
        let log_normalizer = weights.log_evidence();
        let mean = Mean::of(&energy.of_rows(test, dimension)?).mean;
        Ok(Self { log_normalizer, efficiency: weights.efficiency(), log_likelihood: -mean - log_normalizer })
    }
}

impl fmt::Display for Boltzmann {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nats, share) = (self.log_likelihood, 100.0 * self.efficiency);
        write!(f, "{nats:.4} nats on the same rows, by importance sampling ({share:.1}% of the samples count)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energies_of_two_particles() {
        let of = |energy: Energy, d: f64| energy.of(&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0 + d], 3);
        assert_eq!(of(Energy::DoubleWell, 4.0), 0.0);
        assert!((of(Energy::DoubleWell, 5.0) + 3.1).abs() < 1e-12);
        // The minimum of the pair energy, and two particles at a distance of 1/2 from their centre.
        assert!((of(Energy::LennardJones, 1.0) - (-2.0 + 0.25)).abs() < 1e-12);
    }
}
