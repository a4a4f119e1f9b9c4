//! Learning rate schedules.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The learning rate at each step, as a factor of the optimiser's.
///
/// Every schedule can start with a linear warm-up: step i < `warmup` multiplies the factor by
/// `(i + 1) / warmup`. Floors are factors, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// The same factor at every step.
    Constant {
        /// Steps of warm-up.
        #[serde(default)]
        warmup: u64,
    },
    /// `floor + (1 - floor) (1 + cos(pi t)) / 2`, where t goes from 0 to 1 over the steps after the
    /// warm-up (Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5).
    Cosine {
        /// Steps of warm-up.
        #[serde(default)]
        warmup: u64,
        /// The factor at the end.
        #[serde(default)]
        floor: f64,
    },
    /// Multiplied by `factor` after each `patience` evaluations in a row without a new best.
    Plateau {
        /// Steps of warm-up.
        #[serde(default)]
        warmup: u64,
        /// What the rate is multiplied by.
        #[serde(default = "default_factor")]
        factor: f64,
        /// Number of evaluations without a new best before the rate is reduced.
        #[serde(default = "default_patience")]
        patience: u64,
        /// The lowest factor.
        #[serde(default)]
        floor: f64,
    },
}

fn default_factor() -> f64 {
    0.5
}

fn default_patience() -> u64 {
    10
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Constant { warmup: 0 }
    }
}

impl Schedule {
    fn warmup(&self) -> u64 {
        match *self {
            Self::Constant { warmup } | Self::Cosine { warmup, .. } | Self::Plateau { warmup, .. } => warmup,
        }
    }
}

/// A [`Schedule`] in a run of a known number of steps.
#[derive(Clone, Debug)]
pub struct Scheduler {
    schedule: Schedule,
    steps: u64,
    state: SchedulerState,
}

/// The state of a [`Scheduler`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SchedulerState {
    reductions: u32,
    /// The bits of an f64, which any format saves exactly.
    best: Option<u64>,
    stale: u64,
}

impl Scheduler {
    /// The schedule over `steps` steps.
    ///
    /// # Errors
    /// When a factor is out of range.
    pub fn new(schedule: Schedule, steps: u64) -> Result<Self> {
        if let Schedule::Cosine { floor, .. } | Schedule::Plateau { floor, .. } = schedule
            && !(0.0..=1.0).contains(&floor)
        {
            return Err(Error::Config(format!("the schedule's `floor` is {floor}, but must be in [0, 1]")));
        }
        if let Schedule::Plateau { factor, patience, .. } = schedule
            && (!(factor > 0.0 && factor < 1.0) || patience == 0)
        {
            let message = "the plateau schedule needs a `factor` between 0 and 1 and a `patience` of at least 1";
            return Err(Error::Config(message.into()));
        }
        Ok(Self { schedule, steps, state: SchedulerState::default() })
    }

    /// The factor of step `step`, counted from 0.
    pub fn factor(&self, step: u64) -> f64 {
        let warmup = self.schedule.warmup();
        let ramp = if step < warmup { (step + 1) as f64 / warmup as f64 } else { 1.0 };
        let after = match self.schedule {
            Schedule::Constant { .. } => 1.0,
            Schedule::Cosine { floor, .. } => {
                let (done, all) = (step.saturating_sub(warmup), self.steps.saturating_sub(warmup).max(1));
                let t = (done as f64 / all as f64).min(1.0);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * t).cos())
            }
            Schedule::Plateau { factor, floor, .. } => {
                factor.powi(self.state.reductions.try_into().unwrap_or(i32::MAX)).max(floor)
            }
        };
        ramp * after
    }

    /// Whether the schedule depends on [`Self::observe`].
    pub fn needs_evaluation(&self) -> bool {
        matches!(self.schedule, Schedule::Plateau { .. })
    }

    /// Records an evaluation; lower is better, and a non-finite value is never the best.
    pub fn observe(&mut self, validation: f64) {
        let Schedule::Plateau { patience, .. } = self.schedule else { return };
        let state = &mut self.state;
        if validation.is_finite() && state.best.is_none_or(|best| validation < f64::from_bits(best)) {
            state.best = Some(validation.to_bits());
            state.stale = 0;
            return;
        }
        state.stale += 1;
        if state.stale >= patience {
            state.reductions = state.reductions.saturating_add(1);
            state.stale = 0;
        }
    }

    /// The state to save for resuming.
    pub fn state(&self) -> &SchedulerState {
        &self.state
    }

    /// Restores a state returned by [`Self::state`].
    pub fn load_state(&mut self, state: SchedulerState) {
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(config: &str, steps: u64) -> Scheduler {
        Scheduler::new(toml::from_str(config).unwrap(), steps).unwrap()
    }

    #[test]
    fn warm_up_and_cosine() {
        let schedule = scheduler("kind = 'cosine'\nwarmup = 4\nfloor = 0.2", 14);
        let factors: Vec<f64> = [0, 3, 4, 9, 14, 20].map(|i| schedule.factor(i)).to_vec();
        for (got, want) in factors.iter().zip([0.25, 1.0, 1.0, 0.6, 0.2, 0.2]) {
            assert!((got - want).abs() < 1e-12, "{factors:?}");
        }
        assert_eq!(scheduler("kind = 'constant'", 3).factor(2), 1.0);
    }

    #[test]
    fn plateau_reduces_and_resumes_from_its_state() {
        let config = "kind = 'plateau'\nfactor = 0.1\npatience = 2\nfloor = 0.05";
        let mut schedule = scheduler(config, 100);
        let mut seen = Vec::new();
        for validation in [1.0, 0.5, 0.6, f64::NAN, 0.4, 0.4, 0.4, 0.3] {
            schedule.observe(validation);
            seen.push(schedule.factor(0));
            let saved = serde_json::to_string(schedule.state()).unwrap();
            schedule = scheduler(config, 100);
            schedule.load_state(serde_json::from_str(&saved).unwrap());
        }
        assert_eq!(seen, [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.05, 0.05]);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for bad in ["kind = 'cosine'\nfloor = -1.0", "kind = 'plateau'\nfactor = 1.0", "kind = 'plateau'\npatience = 0"]
        {
            assert!(Scheduler::new(toml::from_str(bad).unwrap(), 1).is_err(), "{bad}");
        }
        assert!(toml::from_str::<Schedule>("kind = 'constant'\nfloor = 1.0").is_err());
    }
}
