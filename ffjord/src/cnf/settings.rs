//! The settings of a continuous flow.

use super::Matching;
use crate::field::{Divergence, FieldConfig, Penalty};
use crate::solver::Solver;
use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the gradient of a solve is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gradient {
    /// Of the discrete solve, exactly (its steps held fixed): the state and the slopes of every accepted
    /// step are kept, and the network is recomputed stage by stage on the way back.
    #[default]
    Discrete,
    /// By the adjoint equation, solved backward in time: memory of one state, and a gradient that is
    /// off by the tolerance. The error of the weights' part does not count ("seminorm", Kidger et al.
    /// 2021).
    Adjoint,
    /// Plain backpropagation through the graph of candle: memory of all activations; candle walks its
    /// graph recursively, so a long solve needs a thread with a large stack.
    Plain,
}

/// All that says which continuous flow a [`Cnf`](super::Cnf) is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CnfSettings {
    /// The vector field.
    pub field: FieldConfig,
    /// The time T at the base; the data is at time 0.
    pub end_time: f64,
    /// Whether T is a weight, which starts at `end_time`.
    pub train_end_time: bool,
    /// The solver of training, and of all else unless `evaluation` is given.
    pub solver: Solver,
    /// The solver of likelihoods and samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Solver>,
    /// Whether each row of a batch has steps of its own: a hard one then neither spoils nor slows the others, and
    /// each result is that of the row alone; easy ones take several times as long. On the CPU, and not with
    /// [`Gradient::Plain`].
    pub row_steps: bool,
    /// How training finds the divergence.
    pub divergence: Divergence,
    /// What training takes off the divergence.
    pub penalty: Penalty,
    /// Training ends at a uniform time of [T - steer, T + steer] (STEER, Ghosh et al. 2020).
    pub steer: f64,
    /// How training finds the gradient.
    pub gradient: Gradient,
    /// How flow matching draws its times.
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
            return Err(Error::Config(format!("an end time of {got} leaves nothing to solve: set `end_time` above 0")));
        }
        if !(0.0..self.end_time).contains(&self.steer) {
            return Err(Error::Config("`steer` must be at least 0 and below `end_time`".into()));
        }
        let Penalty { kinetic, jacobian } = self.penalty;
        if ![kinetic, jacobian].iter().all(|weight| weight.is_finite() && *weight >= 0.0) {
            return Err(Error::Config("the weights of `penalty` must be numbers of at least 0".into()));
        }
        if self.row_steps && self.gradient == Gradient::Plain {
            let message = "steps of each row's own have no plain gradient: set `row_steps = false`, or `gradient`";
            return Err(Error::Config(format!("{message} to \"discrete\" or \"adjoint\"")));
        }
        if jacobian > 0.0 && self.divergence == Divergence::BottleneckGaussian {
            let message = "the penalty `jacobian` needs vectors as wide as the data: set it to 0, or take another";
            return Err(Error::Config(format!("{message} `divergence` than \"bottleneck-gaussian\"")));
        }
        self.matching.check()?;
        self.solver.check()?;
        self.evaluation.as_ref().map_or(Ok(()), Solver::check)
    }
}
