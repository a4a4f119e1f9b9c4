//! The losses recorded by a run, and their plots.

use super::Loss;
use crate::plot::{Figure, Panel, loss_curve};
use crate::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// The losses of a run by step, read from its file of metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// The losses of the batches.
    pub train: Vec<(f64, f64)>,
    /// The evaluations.
    pub validation: Vec<(f64, f64)>,
}

impl Losses {
    /// Reads a file that [`Metrics`](crate::train::Metrics) wrote; lines that cannot be parsed are skipped.
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
        let bytes = std::fs::read(path)
            .map_err(|e| Error::file(path, format_args!("cannot be read ({e}); give the folder of a run")))?;
        let mut losses = Self::default();
        for line in bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok()) {
            losses.train.extend(line.loss.map(|loss| (line.step, loss)));
            losses.validation.extend(line.validation.map(|loss| (line.step, loss)));
        }
        if losses.train.is_empty() {
            return Err(Error::file(path, "holds no losses; give the folder of a run that has trained"));
        }
        Ok(losses)
    }

    /// The losses of a run, finished or not, given its folder or its file of metrics, and what they measure; without
    /// results the latter is unknown and called `loss`.
    ///
    /// # Errors
    /// Same as [`Self::read`].
    pub fn of_run(path: &Path) -> Result<(Self, Vec<Loss>)> {
        #[derive(Deserialize)]
        struct Results {
            losses: Vec<Loss>,
        }
        let metrics = if path.is_dir() { path.join("metrics.jsonl") } else { path.to_path_buf() };
        let results = std::fs::read(metrics.with_file_name("results.json")).ok();
        let results = results.and_then(|results| serde_json::from_slice::<Results>(&results).ok());
        let losses = results.map_or_else(|| vec![Loss::all("loss")], |results| results.losses);
        Ok((Self::read(&metrics)?, losses))
    }

    /// The losses of steps after `first`, up to `until`. Evaluations measure what is minimised at the end of the run,
    /// so only the last part has them.
    fn part(&self, first: u64, until: Option<u64>) -> Self {
        let within = |(step, _): &&(f64, f64)| *step > first as f64 && until.is_none_or(|until| *step <= until as f64);
        let validation = if until.is_none() { self.validation.clone() } else { Vec::new() };
        Self { train: self.train.iter().filter(within).copied().collect(), validation }
    }

    fn is_empty(&self) -> bool {
        self.train.is_empty() && self.validation.is_empty()
    }
}

/// A figure of these panels side by side.
pub fn loss_figure(panels: Vec<Panel>) -> Figure {
    let figure = Figure::new(panels.len(), (560, 340));
    panels.into_iter().fold(figure, Figure::panel)
}

/// The loss curves of named runs, with a panel for each kind of loss in order of first appearance; the last panel gets
/// `lines` at known values.
pub fn loss_panels(runs: &[(String, Losses, Vec<Loss>)], lines: &[(&str, f64)]) -> Vec<Panel> {
    let mut units: Vec<(&str, Vec<(&str, Losses)>)> = Vec::new();
    for (name, losses, parts) in runs {
        let mut first = 0;
        for Loss { until, unit } in parts {
            let part = (name.as_str(), losses.part(first, *until));
            first = until.unwrap_or(first);
            match units.iter_mut().find(|(known, _)| known == unit) {
                _ if part.1.is_empty() => {}
                Some((_, parts)) => parts.push(part),
                None => units.push((unit, vec![part])),
            }
        }
    }
    let last = units.len().saturating_sub(1);
    let lines = |i| if i == last { lines } else { &[] };
    units.iter().enumerate().map(|(i, (unit, runs))| loss_panel(runs, lines(i), unit)).collect()
}

fn loss_panel(runs: &[(&str, Losses)], lines: &[(&str, f64)], unit: &str) -> Panel {
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
