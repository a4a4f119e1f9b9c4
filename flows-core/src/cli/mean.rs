//! Means of figures.

use serde::Serialize;

/// The mean of independent figures and its standard error.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error; NaN for a single figure.
    pub standard_error: f64,
}

impl Mean {
    /// The mean of `values`.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self { mean, standard_error: (variance / n).sqrt() }
    }

    /// For people.
    pub fn text(self) -> String {
        let Self { mean, standard_error } = self;
        if standard_error.is_finite() { format!("{mean:.4} ± {standard_error:.4}") } else { format!("{mean:.4}") }
    }
}
