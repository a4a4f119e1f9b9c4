//! The progress of a training run or other long work.

use super::{count, duration, note};
use crate::data::Examples;
use crate::distributions::Distribution;
use crate::train::{Observer, Ranks, StepEvent};
use crate::{Result, evaluate};
use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The interval between lines where standard error is not a terminal.
const EVERY: Duration = Duration::from_secs(10);

/// Shows loss, validation, speed and remaining time: a bar on a terminal, else a line every ten seconds.
#[derive(Debug)]
pub struct ProgressBar {
    bar: Option<Bar>,
    written: Instant,
    /// A running mean, since the loss of single batches fluctuates.
    loss: Option<f64>,
    validation: Option<f64>,
    /// The name of the loss.
    name: &'static str,
    /// The number of examples per step and their name.
    examples: Option<(usize, &'static str)>,
}

impl ProgressBar {
    /// The progress of a run of `steps` steps, `done` of which are done.
    pub fn new(steps: u64, done: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = Bar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(10)).with_position(done);
            // The template is a constant, so parsing it does not fail; if it did, the default would remain.
            if let Ok(style) = ProgressStyle::with_template("{bar:16} {wide_msg}") {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar
        });
        Self { bar, written: Instant::now(), loss: None, validation: None, name: "loss", examples: None }
    }

    /// Sets the name of the loss, for instance its unit.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Shows the speed in examples, `count` per step, instead of steps.
    #[must_use]
    pub fn examples(mut self, count: usize, name: &'static str) -> Self {
        self.examples = Some((count, name));
        self
    }

    fn describe(&self, event: &StepEvent) -> String {
        let mut text = format!("{}/{}", count(event.step as usize), count(event.steps as usize));
        if let Some(loss) = self.loss {
            text += &format!("  {} {loss:.3}", self.name);
        }
        if let Some(validation) = self.validation {
            text += &format!("  validation {validation:.3}");
        }
        let speed = event.steps_per_second;
        let (each, things) = self.examples.unwrap_or((1, "steps"));
        let shown = speed * each as f64;
        text += &if shown < 9.95 { format!("  {shown:.1} {things}/s") } else { format!("  {shown:.0} {things}/s") };
        if event.skipped > 0 {
            text += &format!("  {} skipped", count(event.skipped as usize));
        }
        if event.step < event.steps {
            text += &format!("  {} left", duration((event.steps - event.step) as f64 / speed));
        }
        text
    }
}

impl Observer for ProgressBar {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        if event.loss.is_finite() {
            self.loss = Some(self.loss.map_or(event.loss, |mean| mean + 0.05 * (event.loss - mean)));
        }
        self.validation = event.validation.or(self.validation);
        if let Some(bar) = &self.bar {
            bar.set_message(self.describe(event));
            bar.set_position(event.step);
        } else if self.written.elapsed() >= EVERY || event.step == event.steps {
            self.written = Instant::now();
            note(self.describe(event));
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        // The last state of the bar stays on the screen, on its own line.
        if let Some(bar) = &self.bar {
            let last = bar.message();
            bar.finish_and_clear();
            note(last);
        }
    }
}

/// A bar for other long work of `len` parts; hidden if `quiet` or if standard error is not a terminal.
pub fn work_bar(len: usize, what: &str, quiet: bool) -> Bar {
    if quiet || !stderr().is_terminal() {
        return Bar::hidden();
    }
    let bar = Bar::with_draw_target(Some(len as u64), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{bar:16} {msg}  {eta} left") {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.with_message(what.to_string())
}

/// Calls `work` with a function that reports how many of `len` parts are done, which a bar shows unless `quiet`.
///
/// # Errors
/// Any error from the work.
pub fn with_bar<T>(
    len: usize,
    what: &str,
    quiet: bool,
    work: impl FnOnce(&mut dyn FnMut(usize)) -> Result<T>,
) -> Result<T> {
    let bar = work_bar(len, what, quiet);
    let value = work(&mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    Ok(value)
}

/// [`evaluate::log_likelihoods`] with a bar if there are many rows, unless `quiet`.
///
/// # Errors
/// Same as [`evaluate::log_likelihoods`].
pub fn log_likelihoods(
    distribution: &dyn Distribution,
    rows: &Examples,
    ranks: &Ranks,
    quiet: bool,
) -> Result<Vec<f64>> {
    with_bar(rows.len(), "evaluating", quiet || rows.len() < 1 << 13, |progress| {
        evaluate::log_likelihoods(distribution, rows, ranks, progress)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_loss_speed_and_remaining_time() {
        let mut progress = ProgressBar::new(2000, 0);
        progress.bar = None;
        let mut event = StepEvent {
            step: 1200,
            steps: 2000,
            loss: 2.5,
            lr: 1e-3,
            grad_norm: 1.0,
            validation: Some(2.25),
            best: None,
            skipped: 0,
            seconds: 12.0,
            steps_per_second: 10.0,
        };
        assert!(progress.step(&event).unwrap().is_continue());
        event.loss = f64::NAN;
        event.validation = None;
        assert!(progress.step(&event).unwrap().is_continue());
        assert_eq!(progress.describe(&event), "1,200/2,000  loss 2.500  validation 2.250  10 steps/s  1m 20s left");
        let progress = progress.named("bits/dim").examples(32, "images");
        assert!(progress.describe(&event).contains("  bits/dim 2.500  validation 2.250  320 images/s  1m 20s left"));
    }
}
