//! The losses that a run has written down.

use crate::plot::{Figure, Panel, loss_curve};
use crate::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// Losses by step, as they stand in a file of metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// The losses of the batches.
    pub train: Vec<(f64, f64)>,
    /// The evaluations.
    pub validation: Vec<(f64, f64)>,
}

impl Losses {
    /// Reads the file that [`Metrics`](crate::train::Metrics) wrote; a last line that was cut short is
    /// passed over.
    ///
    /// # Errors
    /// When it cannot be read or holds no losses.
    pub fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Line {
            step: f64,
            loss: Option<f64>,
            validation: Option<f64>,
        }
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::file(path, format_args!("cannot be read ({e}); give the folder of a run")))?;
        let mut losses = Self::default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            losses.train.extend(line.loss.map(|loss| (line.step, loss)));
            losses.validation.extend(line.validation.map(|loss| (line.step, loss)));
        }
        if losses.train.is_empty() {
            return Err(Error::file(path, "holds no losses; give the folder of a run that has trained"));
        }
        Ok(losses)
    }
}

/// These panels side by side.
pub fn loss_figure(panels: Vec<Panel>) -> Figure {
    let figure = Figure::new(panels.len(), (560, 340));
    panels.into_iter().fold(figure, Figure::panel)
}

/// The loss curve of one run or several, each with its name, beside lines at known values; `unit`
/// names the vertical axis.
pub fn loss_panel(runs: &[(String, Losses)], lines: &[(&str, f64)], unit: &str) -> Panel {
    let mut series = Vec::new();
    for (name, losses) in runs {
        let label = |what: &str| if runs.len() == 1 { what.to_string() } else { format!("{name}, {what}") };
        for (what, values) in [("train", &losses.train), ("validation", &losses.validation)] {
            if !values.is_empty() {
                series.push((label(what), values.clone()));
            }
        }
    }
    let steps =
        runs.iter().flat_map(|(_, losses)| losses.train.iter().chain(&losses.validation)).map(|(step, _)| *step);
    let (first, last) = steps.fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), step| (a.min(step), b.max(step)));
    for (name, value) in lines {
        series.push((name.to_string(), vec![(first, *value), (last, *value)]));
    }
    let series: Vec<(&str, Vec<_>)> = series.iter().map(|(label, values)| (label.as_str(), values.clone())).collect();
    loss_curve(&series, unit)
}
