//! The settings of a run: what `config.toml` holds.

use candle_core::{DType, Device};
use flows_core::cli::{Presets, check_count};
use flows_core::data::{Dataset, Proportions, Source};
use flows_core::flows::{Flow, FlowConfig, NamedFlow};
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
    /// Rows of all its parts when the run began, where they come from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// The columns that the model is conditioned on, by name or by index from 0.
    #[serde(default)]
    pub context: Vec<String>,
    /// Samples of a 2-D density: for training, validation and test.
    #[serde(default = "default_samples")]
    pub samples: [usize; 3],
    /// Whether the columns are brought to mean 0 and deviation 1 within the model.
    #[serde(default = "default_standardize")]
    pub standardize: bool,
    /// What all randomness derives from.
    #[serde(default)]
    pub seed: u64,
    /// Examples a step.
    pub batch: usize,
    /// Pieces that a batch is cut into, each with a thread and a graph of its own, where the model
    /// allows it; decides the last digits, whatever the number of threads.
    #[serde(default = "default_pieces")]
    pub pieces: usize,
    /// How the rows of a table are dealt.
    #[serde(default)]
    pub proportions: Proportions,
    /// The architecture.
    pub model: NamedFlow,
    /// How it is trained.
    #[serde(default)]
    pub train: TrainConfig,
}

fn default_samples() -> [usize; 3] {
    [100_000, 5_000, 20_000]
}

fn default_pieces() -> usize {
    2
}

fn default_standardize() -> bool {
    true
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
        let data = self.data.load(self.samples, self.proportions, &mut self.generators().data)?;
        check_count(self.rows, data.rows(), "row", &self.data)?;
        let data = data.with_context(&self.context)?;
        let usable = || {
            data.check_resolution()?;
            if !self.model.architecture().is_standardized() {
                data.check_angles()?;
            }
            data.to(DType::F32, device)
        };
        usable().map_err(self.data.named())
    }

    /// The model for the data, its weights drawn anew.
    pub fn build(&self, data: &Dataset, device: &Device) -> Result<Flow> {
        let config = FlowConfig {
            features: data.train.features(),
            context: data.train.context_width(),
            columns: data.columns.clone(),
            context_columns: data.context_columns.clone(),
            model: self.model.clone(),
        };
        let flow = Flow::on(config, DType::F32, device, &mut self.generators().weights)?;
        if self.standardize {
            flow.standardize(&data.train.x, data.train.context.as_ref())?;
        }
        let first = data.train.rows(0..self.batch.min(data.train.len()))?;
        flow.initialize(&first.x, first.context.as_ref())?;
        Ok(flow)
    }

    /// Pieces that a batch of this model is cut into on this device.
    pub fn pieces_on(&self, device: &Device) -> usize {
        if device.is_cpu() && self.model.architecture().splits_batches() { self.pieces } else { 1 }
    }

    /// Passes if a run can be made of these settings, whatever the data.
    pub fn check(&self) -> Result<()> {
        if self.batch == 0 || self.pieces == 0 {
            return Err(Error::Config("`batch` and `pieces` must be at least 1".into()));
        }
        if self.train.optimizer.lr() == 0.0 {
            return Err(Error::Config("with a learning rate of 0 nothing is learnt: set it above 0".into()));
        }
        // All that is wrong with the settings shows on a model of two columns.
        let context = Some(self.context.len()).filter(|width| *width > 0);
        let trial = FlowConfig { context, ..FlowConfig::new(2, self.model.clone()) };
        let trial = Flow::new(trial, &mut Rng::seed(0))?;
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
