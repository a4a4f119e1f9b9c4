//! The cost of solves.

use crate::solver::Stats;
use flows_core::Result;
use flows_core::train::Ranks;
use serde::Serialize;

/// The accumulated cost of solves; with [`CnfSettings::row_steps`](super::CnfSettings::row_steps) each row counts as
/// one solve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// The number of solves.
    pub solves: usize,
    /// Evaluations of the field in forward passes.
    pub forward: usize,
    /// Evaluations of the field's gradient in backward passes.
    pub backward: usize,
    /// Accepted steps.
    pub accepted: usize,
    /// Rejected steps.
    pub rejected: usize,
    /// The total time span of all solves, in the time of the equation.
    pub time: f64,
    /// Wall-clock time of forward passes, in seconds.
    pub seconds_forward: f64,
    /// Wall-clock time of backward passes, in seconds.
    pub seconds_backward: f64,
}

impl Cost {
    pub(super) fn add_forward(&mut self, stats: &Stats, times: [f64; 2]) {
        self.solves += 1;
        self.forward += stats.evaluations;
        self.accepted += stats.accepted;
        self.rejected += stats.rejected;
        self.time += (times[1] - times[0]).abs();
    }

    /// The sum of two costs.
    pub fn plus(self, other: Self) -> Self {
        Self {
            solves: self.solves + other.solves,
            forward: self.forward + other.forward,
            backward: self.backward + other.backward,
            accepted: self.accepted + other.accepted,
            rejected: self.rejected + other.rejected,
            time: self.time + other.time,
            seconds_forward: self.seconds_forward + other.seconds_forward,
            seconds_backward: self.seconds_backward + other.seconds_backward,
        }
    }

    /// The cost summed over all ranks.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn of_all(self, ranks: &Ranks) -> Result<Self> {
        let Self { solves, forward, backward, accepted, rejected, .. } = self;
        let counts = ranks.all([solves, forward, backward, accepted, rejected])?;
        let numbers = ranks.gather(&[self.time, self.seconds_forward, self.seconds_backward])?;
        let count = |i: usize| counts.iter().map(|counts| counts[i]).sum();
        let number = |i: usize| numbers.chunks_exact(3).map(|numbers| numbers[i]).sum();
        Ok(Self {
            solves: count(0),
            forward: count(1),
            backward: count(2),
            accepted: count(3),
            rejected: count(4),
            time: number(0),
            seconds_forward: number(1),
            seconds_backward: number(2),
        })
    }

    /// The mean size of an accepted step.
    pub fn mean_step(&self) -> f64 {
        self.time / self.accepted as f64
    }
}
