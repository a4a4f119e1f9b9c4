//! The observer of a run.

use crate::Result;
use crate::cli::{Interrupt, OutputArgs, ProgressBar, plural};
use crate::train::{Metrics, Observer, Ranks, StepEvent, TensorBoard};
use serde::Serialize;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

/// The approximate maximum number of lines in the metrics of a run.
const LINES: u64 = 10_000;

/// Observes each step of a run: writes it to `metrics.jsonl` and event files, shows the progress, and stops the run
/// after Ctrl-C.
///
/// It is the [`Observer`] of a [`Trainer`](crate::train::Trainer). A custom loop calls [`Observer::step`] after
/// each step, and saves and ends when that returns `Break`, which it does on all ranks at once.
pub struct Watch<'a> {
    ranks: Ranks,
    /// None on ranks other than 0, as are the next two.
    metrics: Option<Metrics>,
    board: Option<TensorBoard>,
    bar: Option<ProgressBar>,
    interrupt: Interrupt,
    others: Vec<Box<dyn Observer + 'a>>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        folder: &Path,
        (done, steps): (u64, u64),
        board: bool,
        output: OutputArgs,
        ranks: &Ranks,
    ) -> Result<Self> {
        let (ranks, interrupt) = (ranks.clone(), Interrupt::install(ranks.is_first())?);
        if !ranks.is_first() {
            return Ok(Self { ranks, metrics: None, board: None, bar: None, interrupt, others: Vec::new() });
        }
        let (path, every) = (folder.join("metrics.jsonl"), steps.div_ceil(LINES));
        let metrics = match done {
            0 => Metrics::create(&path, every)?,
            done => Metrics::resume(&path, every, done)?,
        };
        if metrics.damaged() > 0 {
            let lines = plural(metrics.damaged(), "line");
            output.note(format_args!("{}: dropped {lines} that cannot be read", path.display()));
        }
        let board = board.then(|| match done {
            0 => TensorBoard::create(folder, every),
            done => TensorBoard::resume(folder, every, done),
        });
        let (board, bar) = (board.transpose()?, (!output.quiet).then(|| ProgressBar::new(steps, done)));
        Ok(Self { ranks, metrics: Some(metrics), board, bar, interrupt, others: Vec::new() })
    }

    /// Sets the name of the loss, for instance its unit.
    #[must_use]
    pub fn named(mut self, loss: &'static str) -> Self {
        self.bar = self.bar.map(|bar| bar.named(loss));
        self
    }

    /// Shows the speed in examples, `count` per step, instead of steps.
    #[must_use]
    pub fn examples(mut self, count: usize, name: &'static str) -> Self {
        self.bar = self.bar.map(|bar| bar.examples(count, name));
        self
    }

    /// Adds another observer.
    #[must_use]
    pub fn with(mut self, other: impl Observer + 'a) -> Self {
        self.others.push(Box::new(other));
        self
    }

    /// Appends a record, an object with a `step`, to the metrics.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&mut self, record: &impl Serialize) -> Result<()> {
        self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.write(record))
    }

    /// Whether any observer on this rank asks to stop.
    fn asks(&mut self, event: &StepEvent) -> Result<bool> {
        let metrics = self.metrics.as_mut().map(|metrics| metrics as &mut dyn Observer);
        let board = self.board.as_mut().map(|board| board as &mut dyn Observer);
        let bar = self.bar.as_mut().map(|bar| bar as &mut dyn Observer);
        let own = [metrics, board, bar].into_iter().flatten();
        let mut asks = Ok(self.interrupt.asked());
        // Call all of them even after one has failed: another may communicate with ranks on which none has.
        for observer in own.chain(self.others.iter_mut().map(|other| &mut **other as &mut dyn Observer)) {
            let flow = observer.step(event);
            asks = asks.and_then(|asks| Ok(asks | flow?.is_break()));
        }
        asks
    }
}

impl Observer for Watch<'_> {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        let own = self.asks(event);
        Ok(if self.ranks.any(own)? { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("metrics", &self.metrics).finish_non_exhaustive()
    }
}
