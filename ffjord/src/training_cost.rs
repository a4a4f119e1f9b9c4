//! The cost of the solver during training.

use crate::{Cnf, Cost};
use flows_core::Result;
use flows_core::train::{Observer, Ranks, StepEvent};
use serde::Serialize;
use std::cell::Cell;
use std::fmt::{self, Display, Formatter};
use std::ops::ControlFlow;

/// Measures the cost of the solver per training step, not counting evaluations of the model.
#[derive(Debug)]
pub struct TrainingCosts {
    flows: Vec<Cnf>,
    /// The ranks that share a step.
    ranks: Ranks,
    /// The cost of the current step so far.
    step: Cell<Cost>,
    /// The cost since the last line, and the number of steps.
    recent: Cell<(Cost, u64)>,
    /// The cost since the run was started or resumed, and the number of steps.
    whole: Cell<(Cost, u64)>,
}

/// The mean cost per step of maximum likelihood.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TrainingCost {
    /// Evaluations of the field.
    pub evaluations_forward: f64,
    /// Evaluations of its gradient.
    pub evaluations_backward: f64,
    /// The time of forward solves, in milliseconds.
    pub milliseconds_forward: f64,
    /// The time of backward passes, in milliseconds.
    pub milliseconds_backward: f64,
    /// The mean size of the solver's steps.
    pub step_size: f64,
}

impl TrainingCosts {
    /// Measures the cost of the solves of these flows.
    pub fn of(flows: Vec<Cnf>) -> Self {
        let ranks = Ranks::alone();
        Self { flows, ranks, step: Cell::default(), recent: Cell::default(), whole: Cell::default() }
    }

    /// Counts the solves of all `ranks`, which share a step.
    #[must_use]
    pub fn shared_by(self, ranks: &Ranks) -> Self {
        Self { ranks: ranks.clone(), ..self }
    }

    /// Runs `evaluate` without counting its solves.
    pub fn uncounted<T>(&self, evaluate: impl FnOnce() -> T) -> T {
        self.step.set(self.step.get().plus(self.take()));
        let value = evaluate();
        self.take();
        value
    }

    /// The cost of the solves since the last call.
    fn take(&self) -> Cost {
        self.flows.iter().map(Cnf::take_cost).fold(Cost::default(), Cost::plus)
    }

    /// Adds the cost of a training step. Steps of flow matching, which do not solve, are not counted.
    fn count(&self) {
        let cost = self.step.take().plus(self.take());
        if cost.solves > 0 {
            for sum in [&self.recent, &self.whole] {
                let (sum_of, steps) = sum.get();
                sum.set((sum_of.plus(cost), steps + 1));
            }
        }
    }

    /// The means over the whole run, summed over all ranks; none before the first step.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn means(&self) -> Result<Option<TrainingCost>> {
        self.of_all(self.whole.get())
    }

    fn of_all(&self, (cost, steps): (Cost, u64)) -> Result<Option<TrainingCost>> {
        Ok(TrainingCost::of((cost.of_all(&self.ranks)?, steps)))
    }

    /// An observer that counts the steps of a run, and passes `write` a line at every evaluation of the model.
    pub fn watch<'a>(&'a self, write: impl Fn(String) + 'a) -> impl Observer + 'a {
        Watch { costs: self, write, last: (0.0, 0) }
    }
}

impl TrainingCost {
    fn of((cost, steps): (Cost, u64)) -> Option<Self> {
        let a_step = |n: usize| n as f64 / steps as f64;
        (steps > 0 && cost.accepted > 0).then(|| Self {
            evaluations_forward: a_step(cost.forward),
            evaluations_backward: a_step(cost.backward),
            milliseconds_forward: 1e3 * cost.seconds_forward / steps as f64,
            milliseconds_backward: 1e3 * cost.seconds_backward / steps as f64,
            step_size: cost.mean_step(),
        })
    }
}

impl Display for TrainingCost {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { evaluations_forward, evaluations_backward, step_size, .. } = self;
        let [forward, backward] = [self.milliseconds_forward, self.milliseconds_backward];
        write!(
            f,
            "{evaluations_forward:.1} evaluations forward in {forward:.0} ms, {evaluations_backward:.1} backward in \
             {backward:.0} ms, step size {step_size:.3}"
        )
    }
}

struct Watch<'a, W> {
    costs: &'a TrainingCosts,
    write: W,
    /// The time in seconds and the step at which the last line was written.
    last: (f64, u64),
}

impl<W: Fn(String)> Observer for Watch<'_, W> {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        self.costs.count();
        if let Some(validation) = event.validation {
            let means = self.costs.of_all(self.costs.recent.take())?;
            let means = means.map_or("flow matching".to_string(), |means| means.to_string());
            let time = 1e3 * (event.seconds - self.last.0) / (event.step - self.last.1) as f64;
            let step = event.step;
            (self.write)(format!("step {step:>6}  validation {validation:.3}  {means}  {time:.0} ms per step"));
            self.last = (event.seconds, event.step);
        }
        Ok(ControlFlow::Continue(()))
    }
}
