//! The settings of a continuous flow.

use super::Matching;
use crate::field::{Divergence, FieldConfig, Penalty};
use crate::solver::Solver;
use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the gradient of a solve is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gradient {
    /// The exact gradient of the discrete solve, with its step sizes held fixed: the state and the slopes of every
    /// accepted step are kept, and the backward pass recomputes the network stage by stage.
    #[default]
    Discrete,
    /// By solving the adjoint equation backward in time: takes the memory of one state, and is exact up to the
    /// solver's tolerance. The error estimate leaves out the gradients of the weights ("seminorm", Kidger et al.
    /// 2021).
    Adjoint,
    /// Backpropagation through candle's graph: takes the memory of all activations. Candle traverses its graph
    /// recursively, so long solves need a thread with a large stack.
    Plain,
}

/// The settings of a [`Cnf`](super::Cnf).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CnfSettings {
    /// The vector field.
    pub field: FieldConfig,
    /// The time T of the base; the data are at time 0.
    pub end_time: f64,
    /// Whether T is trained, starting from `end_time`.
    pub train_end_time: bool,
    /// The solver for training, and for evaluation unless `evaluation` is set.
    pub solver: Solver,
    /// The solver for likelihoods and samples outside of training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Solver>,
    /// Whether each row of a batch is solved with its own steps: its result then does not depend on the others, and a
    /// stiff row does not slow them down, but ordinary rows take several times as long. Supported on the CPU only, and
    /// not with [`Gradient::Plain`].
    pub row_steps: bool,
    /// How training computes the divergence.
    pub divergence: Divergence,
    /// The penalty that training subtracts from the divergence.
    pub penalty: Penalty,
    /// Training draws the end time uniformly from [T - steer, T + steer] (STEER, Ghosh et al. 2020).
    pub steer: f64,
    /// How the gradient of a solve is computed.
    pub gradient: Gradient,
    /// How flow matching draws times and groups.
    pub matching: Matching,
}

impl Default for CnfSettings {
    fn default() -> Self {
        Self {
            field: FieldConfig::default(),
            end_time: 0.5,
            train_end_time: false,
            solver: Solver::default(),
            evaluation: None,
            row_steps: false,
            divergence: Divergence::Exact,
            penalty: Penalty::default(),
            steer: 0.0,
            gradient: Gradient::Discrete,
            matching: Matching::default(),
        }
    }
}

impl CnfSettings {
    pub(super) fn check(&self) -> Result<()> {
        if !(self.end_time.is_finite() && self.end_time > 0.0) {
            let got = self.end_time;
            return Err(Error::Config(format!(
                "the end time is {got}, but must be a positive number: set `end_time` above 0"
            )));
        }
        if !(0.0..self.end_time).contains(&self.steer) {
            return Err(Error::Config("`steer` must be at least 0 and below `end_time`".into()));
        }
        let Penalty { kinetic, jacobian } = self.penalty;
        if ![kinetic, jacobian].iter().all(|weight| weight.is_finite() && *weight >= 0.0) {
            return Err(Error::Config("the weights of `penalty` must be finite numbers of at least 0".into()));
        }
        if self.row_steps && self.gradient == Gradient::Plain {
            let message = "`row_steps` does not work with a plain gradient: set `row_steps = false`, or `gradient`";
            return Err(Error::Config(format!("{message} to \"discrete\" or \"adjoint\"")));
        }
        if jacobian > 0.0 && self.divergence == Divergence::BottleneckGaussian {
            let message = "the penalty `jacobian` needs vectors as wide as the data: set it to 0, or choose a";
            return Err(Error::Config(format!("{message} `divergence` other than \"bottleneck-gaussian\"")));
        }
        self.matching.check()?;
        self.solver.check()?;
        self.evaluation.as_ref().map_or(Ok(()), Solver::check)
    }
}
