//! The settings of a run: what `config.toml` holds.

use crate::particles::Energy;
use candle_core::{DType, Device};
use ffjord::field::Divergence;
use ffjord::{CnfSettings, ContinuousFlow, ContinuousFlowConfig, Coupling};
use flows_core::cli::{Presets, check_count};
use flows_core::data::{Dataset, Proportions, Source};
use flows_core::train::{TrainConfig, Trainer};
use flows_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// The presets by name.
pub const PRESETS: Presets = Presets::new(include_str!("presets.toml"));

/// All that decides a run, the machine aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Where the data is.
    pub data: Source,
    /// Rows of all its parts, as far as they are used, when the run began, where they come from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Samples of a 2-D density: for training, validation and test.
    #[serde(default = "default_samples")]
    pub samples: [usize; 3],
    /// The most rows for training, validation and test: the first of each part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<[usize; 3]>,
    /// What configurations of particles were drawn from, if it is known; for the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
    /// What all randomness derives from.
    #[serde(default)]
    pub seed: u64,
    /// Examples a step.
    pub batch: usize,
    /// Continuous flows, one after another.
    #[serde(default = "default_flows")]
    pub flows: usize,
    /// The share of the steps, from the first on, that are of flow matching, without a solver; the rest are of
    /// maximum likelihood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<f64>,
    /// The same as a number of steps, which the share becomes when a run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching_steps: Option<u64>,
    /// Which points flow matching takes together.
    #[serde(default)]
    pub coupling: Coupling,
    /// How the rows of a table are dealt.
    #[serde(default)]
    pub proportions: Proportions,
    /// What each flow is.
    #[serde(default)]
    pub flow: CnfSettings,
    /// How the model is trained.
    #[serde(default)]
    pub train: TrainConfig,
}

fn default_samples() -> [usize; 3] {
    [100_000, 2_000, 20_000]
}

fn default_flows() -> usize {
    1
}

/// The steps of flow matching among all: `count` if it is known, else a `share`; of a run that is resumed the share
/// is one that it is resumed with, and goes first.
///
/// # Errors
/// When the share is none, or a run that is new is to have fewer steps than that number.
pub fn matching_steps(share: Option<f64>, count: Option<u64>, steps: u64, resumed: bool) -> Result<u64> {
    if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
        let message =
            format!("`matching` is the share of the steps that are of flow matching: {share} is not of 0 to 1");
        return Err(Error::Config(message));
    }
    let of_all = share.map(|share| (share * steps as f64).round() as u64);
    match count {
        Some(count) if !resumed && count > steps => Err(Error::Config(format!(
            "`matching_steps` is {count}, but the run has {steps} steps: give `matching`, a share of them, in its place"
        ))),
        _ => Ok(if resumed { of_all.or(count) } else { count.or(of_all) }.unwrap_or(0)),
    }
}

/// The generators of a run, independent of each other.
pub struct Generators {
    data: Rng,
    weights: Rng,
    /// What the loss draws from.
    pub training: Rng,
    /// What the samples in the picture are drawn from.
    pub picture: Rng,
}

impl RunConfig {
    /// The generators that the seed determines.
    pub fn generators(&self) -> Generators {
        let mut seed = Rng::seed(self.seed);
        Generators { data: seed.fork(), weights: seed.fork(), training: seed.fork(), picture: seed.fork() }
    }

    /// The data in its three parts, the same at every call.
    pub fn load(&self, device: &Device) -> Result<Dataset> {
        let mut data = self.data.load(self.samples, self.proportions, &mut self.generators().data)?;
        if let Some(most) = self.most {
            for (part, most) in [&mut data.train, &mut data.validation, &mut data.test].into_iter().zip(most) {
                *part = part.rows(0..most.min(part.len()))?;
            }
        }
        check_count(self.rows, data.rows(), "row", &self.data)?;
        data.check_resolution().and_then(|()| data.to(DType::F32, device)).map_err(self.data.named())
    }

    /// The model for the data, its weights drawn anew.
    pub fn build(&self, data: &Dataset, device: &Device) -> Result<ContinuousFlow> {
        let (features, columns) = (data.train.features(), data.columns.clone());
        let config = ContinuousFlowConfig { features, columns, flows: self.flows, flow: self.flow.clone() };
        let model = ContinuousFlow::on(config, DType::F32, device, &mut self.generators().weights)?;
        model.standardize(&data.train.x)?;
        Ok(model)
    }

    /// The same with the steps of flow matching as a number.
    pub fn settled(mut self, resumed: bool) -> Result<Self> {
        let steps = matching_steps(self.matching.take(), self.matching_steps, self.train.steps, resumed)?;
        self.matching_steps = Some(steps);
        Ok(self)
    }

    /// Passes if a run can be made of these settings, whatever the data.
    pub fn check(&self) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::Config("`batch` must be at least 1".into()));
        }
        if self.matching_steps.is_some_and(|steps| steps > 0) && self.flows > 1 {
            return Err(Error::Config("flow matching trains a single flow: set `flows = 1` or `matching = 0`".into()));
        }
        if self.most.is_some_and(|most| most.contains(&0)) {
            return Err(Error::Config("`most` must leave at least 1 row to each part".into()));
        }
        let features = self.flow.field.space().unwrap_or(1).saturating_mul(2);
        // A bottleneck is one beside the columns, which are not known here.
        let flow = CnfSettings { divergence: Divergence::default(), ..self.flow.clone() };
        let config = ContinuousFlowConfig { features, columns: None, flows: self.flows, flow };
        let trial = ContinuousFlow::new(config, &mut Rng::seed(0))?;
        Trainer::new(trial.parameters(), self.train.clone(), Rng::seed(0)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::testing::check_presets;

    #[test]
    fn every_preset_is_a_run_and_survives_its_file() -> Result<()> {
        check_presets(PRESETS, "rings", RunConfig::check)
    }
}
