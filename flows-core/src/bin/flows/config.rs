//! The settings of a run: what `config.toml` holds.

use candle_core::{DType, Device};
use flows_core::data::{Dataset, Proportions, Source};
use flows_core::flows::{Flow, FlowConfig, NamedFlow};
use flows_core::run::{Presets, Program, Settings, check_at_least_one, check_count, check_training, stream};
use flows_core::train::{Ranks, TrainConfig};
use flows_core::{Result, Rng};
use serde::{Deserialize, Serialize};

/// The names that the program's runs go by.
pub const PROGRAM: Program = Program {
    name: "flows",
    presets: Presets::new(include_str!("presets.toml")),
    subject: "data",
    counted: "rows",
    files: &["density.png"],
    kept: &["data", "rows", "samples", "proportions", "context", "standardize"],
    changeable: &[],
};

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
    /// allows it; decides the last digits, whatever the number of threads and ranks.
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

/// The random streams of a run, in the order in which they fork from its seed.
#[derive(Clone, Copy)]
pub enum Stream {
    Data,
    Weights,
    /// What the loss draws from.
    Training,
    /// What the samples in the picture are drawn from.
    Picture,
}

impl RunConfig {
    pub fn rng(&self, of: Stream) -> Rng {
        stream(self.seed, of as usize)
    }

    /// The data in its three parts, the same at every call.
    pub fn load(&self, device: &Device) -> Result<Dataset> {
        let data = self.data.load(self.samples, self.proportions, &mut self.rng(Stream::Data))?;
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
            context: data.train.context_width(),
            columns: data.columns.clone(),
            context_columns: data.context_columns.clone(),
            ..FlowConfig::new(data.train.features(), self.model.clone())
        };
        let flow = Flow::on(config, DType::F32, device, &mut self.rng(Stream::Weights))?;
        if self.standardize {
            flow.standardize(&data.train.x, data.train.context.as_ref())?;
        }
        let first = data.train.rows(0..self.batch.min(data.train.len()))?;
        flow.bijector().initialize(&first.x, first.context.as_ref())?;
        Ok(flow)
    }

    /// Pieces that a batch of this model is cut into on this device; one for each rank on GPUs.
    pub fn pieces_on(&self, device: &Device, ranks: &Ranks) -> usize {
        match self.model.architecture().splits_batches() {
            true if device.is_cpu() => self.pieces,
            true => ranks.size(),
            false => 1,
        }
    }
}

impl Settings for RunConfig {
    fn resolve(self, _: bool) -> Result<Self> {
        Ok(Self { data: self.data.absolute()?, ..self })
    }

    fn check(&self) -> Result<()> {
        check_at_least_one(&[("batch", self.batch), ("pieces", self.pieces)])?;
        // All that is wrong with the settings shows on a model of two columns.
        let context = Some(self.context.len()).filter(|width| *width > 0);
        let trial = FlowConfig { context, ..FlowConfig::new(2, self.model.clone()) };
        check_training(Flow::new(trial, &mut Rng::seed(0))?.parameters(), &self.train)
    }
}
