//! How a training run is going.

use super::{count, duration, note};
use crate::data::Examples;
use crate::distributions::Distribution;
use crate::train::{Observer, Ranks, StepEvent};
use crate::{Result, evaluate};
use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How often a line is written where standard error is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// Shows loss, validation, speed and the time left: a bar on a terminal, else a line now and then.
#[derive(Debug)]
pub struct ProgressBar {
    bar: Option<Bar>,
    written: Instant,
    /// A running mean: the loss of one batch jumps.
    loss: Option<f64>,
    validation: Option<f64>,
    /// What the loss is called.
    name: &'static str,
    /// How many examples a step has and what they are called.
    examples: Option<(usize, &'static str)>,
}

impl ProgressBar {
    /// The progress of a run of `steps` steps of which `done` are done.
    pub fn new(steps: u64, done: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = Bar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(10)).with_position(done);
            // The template is a constant; the default stands in for it should it ever be wrong.
            if let Ok(style) = ProgressStyle::with_template("{bar:16} {wide_msg}") {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar
        });
        Self { bar, written: Instant::now(), loss: None, validation: None, name: "loss", examples: None }
    }

    /// The same with another name of the loss, its unit for instance.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// The same with the speed in examples, of which a step has `count`, in place of steps.
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
            text += &format!("  {} left out", count(event.skipped as usize));
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
        // What it showed last stays on the screen, as a line of its own.
        if let Some(bar) = &self.bar {
            let last = bar.message();
            bar.finish_and_clear();
            note(last);
        }
    }
}

/// A bar for other long work of `len` parts; nothing where `quiet` or where standard error is no terminal.
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

/// What long `work` of `len` parts gives, which says how many are done; a bar shows it, unless `quiet`.
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

/// [`evaluate::log_likelihoods`] with a bar where there are many rows, unless `quiet`.
///
/// # Errors
/// Same as there.
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
    fn the_line_says_what_matters() {
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
