//! Independent columns.

use super::kernel::Kernels;
use super::{Density, Scaled, Split};
use crate::Rng;
use crate::distributions::{Column, Content};

/// The product of the columns' own distributions; the continuous part of a real number may be a kernel density.
pub(super) struct Margins<'a> {
    columns: Vec<Part<'a>>,
}

struct Part<'a> {
    column: &'a Column,
    /// A kernel density of scaled values, if it is better on the validation rows.
    kernels: Option<(Kernels, Scaled)>,
}

impl<'a> Margins<'a> {
    pub(super) fn fit(columns: &'a [Column], split: &Split<'_>, rng: &mut Rng) -> Self {
        let d = columns.len();
        let part = |(i, column): (usize, &'a Column)| {
            let plain = Part { column, kernels: None };
            let values = |rows: &[f64]| -> Vec<f64> {
                rows.iter().skip(i).step_by(d).copied().filter(|&x| column.is_continuous_at(x)).collect()
            };
            let (train, validation) = (values(split.train), values(split.validation));
            if train.len() < 2 || validation.is_empty() {
                return plain;
            }
            let scaled = Scaled::of(&train, 1);
            let [a, b, _] = scaled.split(&Split { train: &train, validation: &validation, test: &[] }, 1);
            let kernels = Kernels::chosen(&Split { train: &a, validation: &b, test: &[] }, 1, rng);
            let smooth = Part { column, kernels: Some((kernels, scaled)) };
            let mean = |part: &Part<'_>| validation.iter().map(|&x| part.log_prob(x)).sum::<f64>();
            if mean(&smooth) > mean(&plain) { smooth } else { plain }
        };
        Self { columns: columns.iter().enumerate().map(part).collect() }
    }

    pub(super) fn details(&self) -> String {
        let smooth = self.columns.iter().filter(|part| part.kernels.is_some()).count();
        let real = self.columns.iter().filter(|part| matches!(part.column.content, Content::Number(_))).count();
        format!("kernel densities of {smooth} columns, splines of {} columns", real - smooth)
    }
}

impl Part<'_> {
    fn log_prob(&self, x: f64) -> f64 {
        match &self.kernels {
            Some((kernels, scaled)) if self.column.is_continuous_at(x) => {
                let scaled_x = (x - scaled.shift[0]) / scaled.scale[0];
                self.column.shares[0].ln() + kernels.log_density(&[scaled_x]) + scaled.log_det
            }
            // Values that are none of their column were refused before.
            _ => self.column.log_prob(0, x).unwrap_or(f64::NAN),
        }
    }
}

impl Density for Margins<'_> {
    fn log_density(&self, row: &[f64]) -> f64 {
        self.columns.iter().zip(row).map(|(part, &x)| part.log_prob(x)).sum()
    }
}
