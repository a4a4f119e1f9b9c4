//! A model of configurations of particles beside its data.

use candle_core::{DType, Device, Tensor};
use ffjord::{ContinuousFlow, Energy, distances};
use flows_core::data::Dataset;
use flows_core::distributions::draw;
use flows_core::plot::{Colour, Figure, Panel};
use flows_core::{Result, Rng};
use std::collections::HashSet;

/// The number of configurations in a histogram.
const ROWS: usize = 4000;
/// The number of its bins.
const BINS: usize = 80;

/// The number of test rows that are also training rows, bit for bit: Markov chains repeat a configuration when they
/// reject a move.
pub fn repeated(data: &Dataset) -> Result<usize> {
    let bits = |x: &Tensor| -> Result<Vec<Vec<u64>>> {
        Ok(rows(x)?.into_iter().map(|row| row.into_iter().map(f64::to_bits).collect()).collect())
    };
    let seen: HashSet<_> = bits(&data.train.x)?.into_iter().collect();
    Ok(bits(&data.test.x)?.iter().filter(|row| seen.contains(*row)).count())
}

/// Histograms of the distances of all pairs, and of the energies if known, of the test rows and of samples.
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
    let compare = |title: &str, of: &dyn Fn(&[f64]) -> Vec<f64>| {
        let values = parts.each_ref().map(|(_, rows, _)| -> Vec<f64> { rows.iter().flat_map(|row| of(row)).collect() });
        let (low, high) = range(&values[0]);
        let panel = Panel::new(title).x_range(low, high);
        let layers = parts.iter().zip(&values);
        layers.fold(panel, |panel, ((name, _, colour), values)| panel.histogram(values, BINS, *colour, *name))
    };
    let mut figure =
        Figure::new(2, (420, 300)).panel(compare("distances of pairs", &|row| distances(row, dimension).collect()));
    if let Some(energy) = energy {
        figure = figure.panel(compare("energy", &|row| vec![energy.of(row, dimension)]));
    }
    Ok(figure)
}

fn rows(x: &Tensor) -> Result<Vec<Vec<f64>>> {
    Ok(x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2()?)
}

/// The range of all but the most extreme values, with margins.
fn range(values: &[f64]) -> (f64, f64) {
    let mut values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return (0.0, 1.0) };
    let (low, high) = (values[last / 1000], values[last - last / 1000]);
    let margin = (0.15 * (high - low)).max(1e-3);
    // Room for the legend.
    (low - margin, high + 3.0 * margin)
}
