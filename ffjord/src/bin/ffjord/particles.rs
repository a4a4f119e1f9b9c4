//! Configurations of particles: their energy, and a model beside its data.

use candle_core::{DType, Device, Tensor};
use ffjord::ContinuousFlow;
use flows_core::cli::Mean;
use flows_core::data::Dataset;
use flows_core::distributions::{Distribution, draw};
use flows_core::plot::{Colour, Figure, Panel};
use flows_core::{Result, Rng};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Configurations in a histogram.
const ROWS: usize = 4000;
const BINS: usize = 80;
/// Samples at a time.
const CHUNK: usize = 1000;

/// What the configurations were drawn from, `p(x) ~ exp(-energy(x))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Energy {
    /// `sum 0.9 (d - 4)^4 - 4 (d - 4)^2` over the pairs, at distances d (Koehler, Klein & Noe 2020).
    DoubleWell,
    /// `2 sum d^-12 - 2 d^-6` over the pairs, in a harmonic trap about the centre, `|x - centre|^2 / 2`.
    LennardJones,
}

impl Energy {
    fn of_rows(self, x: &Tensor, dimension: usize) -> Result<Vec<f64>> {
        Ok(rows(x)?.iter().map(|row| self.of(&particles(row, dimension))).collect())
    }

    fn of(self, particles: &[&[f64]]) -> f64 {
        let pairs = distances(particles).map(|d| match self {
            Self::DoubleWell => 0.9 * (d - 4.0).powi(4) - 4.0 * (d - 4.0).powi(2),
            Self::LennardJones => 2.0 * (d.powi(-12) - 2.0 * d.powi(-6)),
        });
        let energy = pairs.sum::<f64>();
        match self {
            Self::DoubleWell => energy,
            // The squares of all distances add up to N times those to the centre.
            Self::LennardJones => {
                energy + distances(particles).map(|d| d * d).sum::<f64>() / (2 * particles.len()) as f64
            }
        }
    }
}

/// The distance of each pair.
fn distances<'a>(particles: &'a [&'a [f64]]) -> impl Iterator<Item = f64> + 'a {
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let pairs = (0..particles.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    pairs.map(move |(i, j)| square(particles[i], particles[j]).sqrt())
}

/// The test rows that are training rows as well, to the bit: chains repeat the configurations that they
/// stay at.
pub fn repeated(data: &Dataset) -> Result<usize> {
    let bits = |x: &Tensor| -> Result<Vec<Vec<u64>>> {
        Ok(rows(x)?.into_iter().map(|row| row.into_iter().map(f64::to_bits).collect()).collect())
    };
    let seen: HashSet<_> = bits(&data.train.x)?.into_iter().collect();
    Ok(bits(&data.test.x)?.iter().filter(|row| seen.contains(*row)).count())
}

/// How a model compares with the density of a known energy.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Boltzmann {
    /// `log integral exp(-energy)` over the configurations whose centre is 0, by importance sampling from
    /// the model.
    log_normalizer: f64,
    /// The effective number of samples, `(sum w)^2 / sum w^2`, over their number.
    efficiency: f64,
    /// The mean log-likelihood of the test rows under the density.
    pub log_likelihood: f64,
}

impl Boltzmann {
    /// From `count` samples of the model, and the test rows.
    pub fn of(
        model: &ContinuousFlow,
        energy: Energy,
        dimension: usize,
        test: &Tensor,
        count: usize,
        rng: &mut Rng,
    ) -> Result<Self> {
        let mut weights = Vec::with_capacity(count);
        while weights.len() < count {
            let (x, log_prob) = model.sample_with_log_prob(CHUNK.min(count - weights.len()), None, rng)?;
            let log_prob = log_prob.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            let energies = energy.of_rows(&x, dimension)?;
            weights.extend(energies.iter().zip(log_prob).map(|(energy, log_prob)| -energy - log_prob));
        }
        let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers = |power: f64| weights.iter().map(|w| (power * (w - most)).exp()).sum::<f64>();
        let log_normalizer = most + (powers(1.0) / count as f64).ln();
        let mean = Mean::of(&energy.of_rows(test, dimension)?).mean;
        let efficiency = powers(1.0).powi(2) / powers(2.0) / count as f64;
        Ok(Self { log_normalizer, efficiency, log_likelihood: -mean - log_normalizer })
    }

    /// For people.
    pub fn text(self) -> String {
        let Self { efficiency, log_likelihood, .. } = self;
        format!(
            "exact density        {log_likelihood:.4} nats on the same rows, by importance sampling ({:.1}% of the \
             samples count)",
            100.0 * efficiency
        )
    }
}

/// The distances of all pairs, and the energies if they are known, of the test rows and of samples.
pub fn figure(
    model: &ContinuousFlow,
    dimension: usize,
    energy: Option<Energy>,
    data: &Dataset,
    rng: &mut Rng,
) -> Result<Figure> {
    let seen = data.test.rows(0..ROWS.min(data.test.len()))?.x;
    let drawn = draw(model, seen.dim(0)?, None, rng)?;
    let parts = [("data", rows(&seen)?, Colour::BLUE), ("samples", rows(&drawn)?, Colour::ORANGE)];
    let compare = |title: &str, of: &dyn Fn(&[&[f64]]) -> Vec<f64>| {
        let values = parts
            .each_ref()
            .map(|(_, rows, _)| -> Vec<f64> { rows.iter().flat_map(|row| of(&particles(row, dimension))).collect() });
        let (low, high) = range(&values[0]);
        let panel = Panel::new(title).x_range(low, high);
        let layers = parts.iter().zip(&values);
        layers.fold(panel, |panel, ((name, _, colour), values)| panel.histogram(values, BINS, *colour, *name))
    };
    let mut figure =
        Figure::new(2, (420, 300)).panel(compare("distances of pairs", &|particles| distances(particles).collect()));
    if let Some(energy) = energy {
        figure = figure.panel(compare("energy", &|particles| vec![energy.of(particles)]));
    }
    Ok(figure)
}

fn rows(x: &Tensor) -> Result<Vec<Vec<f64>>> {
    Ok(x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2()?)
}

fn particles(row: &[f64], dimension: usize) -> Vec<&[f64]> {
    row.chunks_exact(dimension).collect()
}

/// From the least to the largest of the values but stray ones, and margins.
fn range(values: &[f64]) -> (f64, f64) {
    let mut values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return (0.0, 1.0) };
    let (low, high) = (values[last / 1000], values[last - last / 1000]);
    let margin = (0.15 * (high - low)).max(1e-3);
    // Room for the legend.
    (low - margin, high + 3.0 * margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energies_of_two_particles() {
        let at = |d: f64| [vec![1.0, 2.0, 3.0], vec![1.0, 2.0, 3.0 + d]];
        let of = |energy: Energy, d: f64| energy.of(&at(d).each_ref().map(Vec::as_slice));
        assert_eq!(of(Energy::DoubleWell, 4.0), 0.0);
        assert!((of(Energy::DoubleWell, 5.0) + 3.1).abs() < 1e-12);
        // The minimum of the pair, and two particles at 1/2 from their centre.
        assert!((of(Energy::LennardJones, 1.0) - (-2.0 + 0.25)).abs() < 1e-12);
    }
}
