//! Candidates for the missing cells of a row.

use crate::distributions::{Distribution, draw};
use crate::evaluate::cholesky;
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};

/// Draws of the model to which the proposal is fitted.
const ROWS: usize = 5000;

/// The degrees of freedom of Student's distribution: tails heavier than those of densities of data.
const DEGREES: f64 = 4.0;

/// The mean and covariance of a model's draws, behind those of the context.
#[derive(Debug)]
pub(super) struct Proposal {
    /// The columns of the context.
    given: usize,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// Of the columns divided by their deviations, row-major.
    correlation: Vec<f64>,
}

/// Student's distribution of the missing columns given the known ones.
#[derive(Debug)]
pub(super) struct Conditional<'a> {
    of: &'a Proposal,
    /// The known columns, then the missing ones, by their indices in the proposal.
    order: Vec<usize>,
    known: usize,
    /// The lower Cholesky factor of the correlation in this order.
    factor: Vec<f64>,
}

impl Proposal {
    /// Fits the finite draws of the flow, given the contexts in turn.
    pub(super) fn of(flow: &dyn Distribution, contexts: Option<&Tensor>, rng: &mut Rng) -> Result<Self> {
        let context = match contexts {
            None => None,
            Some(contexts) => {
                let count = contexts.dim(0)?;
                let chosen: Vec<u32> = (0..ROWS).map(|i| (i % count) as u32).collect();
                Some(contexts.index_select(&Tensor::new(chosen, contexts.device())?, 0)?)
            }
        };
        let x = draw(flow, ROWS, context.as_ref(), rng)?;
        let all = match &context {
            Some(context) => Tensor::cat(&[&context.to_dtype(x.dtype())?, &x], 1)?,
            None => x,
        };
        let mut rows = all.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        rows.retain(|row| row.iter().all(|cell| cell.is_finite()));
        if rows.len() < ROWS / 2 {
            return Err(Error::Data(format!(
                "{} of {ROWS} draws of the model are not finite: train it anew, with a lower --lr",
                ROWS - rows.len()
            )));
        }
        let columns: Vec<Vec<f64>> =
            (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column]).collect()).collect();
        let n = rows.len() as f64;
        let mean: Vec<f64> = columns.iter().map(|column| column.iter().sum::<f64>() / n).collect();
        let deviation = |(column, mean): (&Vec<f64>, &f64)| {
            let variance = column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
            // A context that is the same in all rows.
            if variance > 0.0 { variance.sqrt() } else { 1.0 }
        };
        let deviation: Vec<f64> = columns.iter().zip(&mean).map(deviation).collect();
        let d = columns.len();
        let mut correlation = vec![0.0; d * d];
        for i in 0..d {
            for j in 0..d {
                let products = columns[i].iter().zip(&columns[j]).map(|(a, b)| (a - mean[i]) * (b - mean[j]));
                correlation[i * d + j] = products.sum::<f64>() / (n * deviation[i] * deviation[j]);
            }
            correlation[i * d + i] += 1e-6;
        }
        Ok(Self { given: context.map_or(0, |context| context.dims()[1]), mean, deviation, correlation })
    }

    /// The distribution of the columns that are missing.
    pub(super) fn given(&self, missing: &[bool]) -> Conditional<'_> {
        let (d, given) = (self.mean.len(), self.given);
        let is_missing = |i: &usize| *i >= given && missing[*i - given];
        let (unknown, mut order): (Vec<usize>, Vec<usize>) = (0..d).partition(is_missing);
        let known = order.len();
        order.extend(unknown);
        let permuted = order.iter().flat_map(|&i| order.iter().map(move |&j| self.correlation[i * d + j])).collect();
        Conditional { of: self, known, factor: cholesky(permuted, d), order }
    }
}

impl Conditional<'_> {
    /// Draws of a row's cells, with the logarithms of the density of the missing ones up to a constant.
    pub(super) fn draw(&self, context: &[f64], cells: &[f64], count: usize, rng: &mut Rng) -> Vec<(Vec<f64>, f64)> {
        let Proposal { given, mean, deviation, .. } = self.of;
        let d = self.order.len();
        let value = |i: usize| if i < *given { context[i] } else { cells[i - given] };
        // The noise of which the known cells are made.
        let mut noise = vec![0.0; d];
        for (at, &i) in self.order[..self.known].iter().enumerate() {
            let row = &self.factor[at * d..][..=at];
            let before: f64 = row[..at].iter().zip(&noise).map(|(l, z)| l * z).sum();
            noise[at] = ((value(i) - mean[i]) / deviation[i] - before) / row[at];
        }
        let one = |_| {
            // Chi-squared with four degrees of freedom is the sum of two exponentials.
            let chi_squared: f64 = (0..2).map(|_| -2.0 * (1.0 - rng.uniform()).ln()).sum();
            let scale = (DEGREES / chi_squared).sqrt();
            let mut square = 0.0;
            for z in &mut noise[self.known..] {
                *z = scale * rng.normal();
                square += *z * *z;
            }
            let mut drawn = cells.to_vec();
            for (at, &i) in self.order.iter().enumerate().skip(self.known) {
                let row = &self.factor[at * d..][..=at];
                let standard: f64 = row.iter().zip(&noise).map(|(l, z)| l * z).sum();
                drawn[i - given] = mean[i] + deviation[i] * standard;
            }
            let unknown = (d - self.known) as f64;
            (drawn, -0.5 * (DEGREES + unknown) * (square / DEGREES).ln_1p())
        };
        (0..count).map(one).collect()
    }
}
