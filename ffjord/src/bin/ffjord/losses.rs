//! The picture of a run's losses.

use flows_core::Result;
use flows_core::cli::{Losses, RunFolder, loss_figure, loss_panel};

/// Draws `loss.png`: the losses of the first `matching` steps, which are of flow matching, and beside them those of
/// likelihood and of the evaluations, in `unit`, with lines at known values.
pub fn draw_losses(folder: &RunFolder, matching: u64, lines: &[(&str, f64)], unit: &str) -> Result<()> {
    let mut likelihood = Losses::read(&folder.metrics())?;
    let matched = likelihood.train.partition_point(|(step, _)| *step <= matching as f64);
    let matching = Losses { train: likelihood.train.drain(..matched).collect(), validation: Vec::new() };
    let mut panels = Vec::new();
    if !matching.train.is_empty() {
        panels.push(loss_panel(&[(String::new(), matching)], &[], "squared error of flow matching"));
    }
    if !(likelihood.train.is_empty() && likelihood.validation.is_empty()) {
        panels.push(loss_panel(&[(String::new(), likelihood)], lines, unit));
    }
    loss_figure(panels).write(folder.path().join("loss.png"))
}
