//! What solves cost.

use crate::solver::Stats;
use flows_core::Result;
use flows_core::train::Ranks;
use serde::Serialize;

/// What solves have cost; where each row has steps of its own, each row's is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Solves.
    pub solves: usize,
    /// Evaluations of the field on the way to the value.
    pub forward: usize,
    /// Evaluations of the field's gradient on the way back.
    pub backward: usize,
    /// Steps that were taken.
    pub accepted: usize,
    /// Steps that were tried in vain.
    pub rejected: usize,
    /// The time that all solves went through.
    pub time: f64,
    /// Seconds that the solves took.
    pub seconds_forward: f64,
    /// Seconds that the ways back took.
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

    /// Both.
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

    /// That of all ranks.
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

    /// The mean step.
    pub fn mean_step(&self) -> f64 {
        self.time / self.accepted as f64
    }
}
