//! Who watches a run.

use crate::Result;
use crate::cli::{Interrupt, OutputArgs, ProgressBar, plural};
use crate::train::{Metrics, Observer, StepEvent, TensorBoard};
use serde::Serialize;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

/// The metrics of a run have at most about so many lines.
const LINES: u64 = 10_000;

/// Sees each step of a run: writes it to `metrics.jsonl` and event files, shows the progress, and asks to stop when the
/// user has pressed Ctrl-C.
///
/// It is the [`Observer`] of a [`Trainer`](crate::train::Trainer); a loop of one's own calls [`Observer::step`] after
/// each step, and saves and ends where that breaks.
pub struct Watch<'a> {
    metrics: Metrics,
    board: Option<TensorBoard>,
    bar: Option<ProgressBar>,
    interrupt: Interrupt,
    others: Vec<Box<dyn Observer + 'a>>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(folder: &Path, (done, steps): (u64, u64), board: bool, output: OutputArgs) -> Result<Self> {
        let (path, every) = (folder.join("metrics.jsonl"), steps.div_ceil(LINES));
        let metrics = match done {
            0 => Metrics::create(&path, every)?,
            done => Metrics::resume(&path, every, done)?,
        };
        if metrics.damaged() > 0 {
            let lines = plural(metrics.damaged(), "line");
            output.note(format_args!("{}: {lines} that cannot be read left out", path.display()));
        }
        let board = board.then(|| match done {
            0 => TensorBoard::create(folder, every),
            done => TensorBoard::resume(folder, every, done),
        });
        Ok(Self {
            metrics,
            board: board.transpose()?,
            bar: (!output.quiet).then(|| ProgressBar::new(steps, done)),
            interrupt: Interrupt::install()?,
            others: Vec::new(),
        })
    }

    /// The same with another name of the loss, its unit for instance.
    #[must_use]
    pub fn named(mut self, loss: &'static str) -> Self {
        self.bar = self.bar.map(|bar| bar.named(loss));
        self
    }

    /// The same with the speed in examples, of which a step has `count`, in place of steps.
    #[must_use]
    pub fn examples(mut self, count: usize, name: &'static str) -> Self {
        self.bar = self.bar.map(|bar| bar.examples(count, name));
        self
    }

    /// The same with another who watches.
    #[must_use]
    pub fn with(mut self, other: impl Observer + 'a) -> Self {
        self.others.push(Box::new(other));
        self
    }

    /// Appends a line of one's own to the metrics: an object with a `step`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&mut self, record: &impl Serialize) -> Result<()> {
        self.metrics.write(record)
    }
}

impl Observer for Watch<'_> {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        let board = self.board.as_mut().map(|board| board as &mut dyn Observer);
        let bar = self.bar.as_mut().map(|bar| bar as &mut dyn Observer);
        let own = [Some(&mut self.metrics as &mut dyn Observer), board, bar].into_iter().flatten();
        let mut flow = if self.interrupt.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        for observer in own.chain(self.others.iter_mut().map(|other| &mut **other as &mut dyn Observer)) {
            if observer.step(event)?.is_break() {
                flow = ControlFlow::Break(());
            }
        }
        Ok(flow)
    }
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("metrics", &self.metrics).finish_non_exhaustive()
    }
}
