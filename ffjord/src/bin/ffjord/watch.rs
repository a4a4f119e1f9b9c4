//! What the solver does while a model trains.

use ffjord::{Cnf, ContinuousFlow, Cost};
use flows_core::Result;
use flows_core::cli::{count, note};
use flows_core::train::{Observer, StepEvent};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The costs of the steps of training, evaluations of the model left out.
#[derive(Clone)]
pub struct Costs {
    flows: Vec<Cnf>,
    /// Since the last line, and of the whole run, with the steps they are of.
    sums: Arc<Mutex<[(Cost, u64); 2]>>,
    /// What the step that is not yet counted has cost.
    step: Arc<Mutex<Cost>>,
}

/// The means a step of likelihood training.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Means {
    pub evaluations_forward: f64,
    pub evaluations_backward: f64,
    pub milliseconds_forward: f64,
    pub milliseconds_backward: f64,
    pub step_size: f64,
}

impl Costs {
    pub fn new(model: &ContinuousFlow) -> Self {
        Self::of(model.flows().to_vec())
    }

    /// Those of the solves of these flows.
    pub fn of(flows: Vec<Cnf>) -> Self {
        Self { flows, sums: Arc::default(), step: Arc::default() }
    }

    /// Sets aside what a step has cost so far, before solves that are none of training.
    pub fn set_aside(&self) {
        let cost = self.flows.iter().map(Cnf::take_cost).fold(Cost::default(), Cost::plus);
        let mut step = lock(&self.step);
        *step = step.plus(cost);
    }

    /// Adds what a step of training has cost. One of flow matching, which solves nothing, does not count.
    fn count(&self) {
        self.set_aside();
        let cost = std::mem::take(&mut *lock(&self.step));
        if cost.solves > 0 {
            for (sum, steps) in lock(&self.sums).iter_mut() {
                (*sum, *steps) = (sum.plus(cost), *steps + 1);
            }
        }
    }

    /// Forgets them, as those of an evaluation.
    pub fn discard(&self) {
        for cnf in &self.flows {
            cnf.take_cost();
        }
    }

    /// The means of the whole run, since it was started or resumed; none before the first step.
    pub fn means(&self) -> Option<Means> {
        let [_, whole] = *lock(&self.sums);
        Means::of(whole)
    }

    /// The means since the last call.
    fn recent(&self) -> Option<Means> {
        let recent = &mut lock(&self.sums)[0];
        Means::of(std::mem::take(recent))
    }
}

/// The mutex's value, whichever thread has failed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Means {
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

impl Display for Means {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { evaluations_forward, evaluations_backward, step_size, .. } = self;
        let [forward, backward] = [self.milliseconds_forward, self.milliseconds_backward];
        write!(
            f,
            "evaluations {evaluations_forward:.1} forward in {forward:.0} ms, {evaluations_backward:.1} backward in \
             {backward:.0} ms  step size {step_size:.3}"
        )
    }
}

/// Writes a line at every evaluation of the model.
pub struct Watch {
    pub costs: Costs,
    pub quiet: bool,
    /// When the last line was written, in seconds and steps of training.
    last: (f64, u64),
}

impl Watch {
    pub fn new(costs: Costs, quiet: bool) -> Self {
        Self { costs, quiet, last: (0.0, 0) }
    }
}

impl Observer for Watch {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        self.costs.count();
        let Some(validation) = event.validation else { return Ok(ControlFlow::Continue(())) };
        let means = self.costs.recent().map_or("flow matching".to_string(), |means| means.to_string());
        if !self.quiet {
            let time = 1e3 * (event.seconds - self.last.0) / (event.step - self.last.1) as f64;
            let step = count(event.step as usize);
            note(format_args!("step {step:>6}  validation {validation:.3}  {means}  {time:.0} ms a step"));
        }
        self.last = (event.seconds, event.step);
        Ok(ControlFlow::Continue(()))
    }
}
