//! The settings of a run, as in `config.toml`.

use candle_core::{DType, Device};
use flows_core::data::{Dataset, Frames, Kinds, Proportions, Schema, Source};
use flows_core::distributions::Distribution;
use flows_core::flows::{Mixed, TableArchitecture, TableConfig, TableModel};
use flows_core::run::{Presets, Program, Rows, Settings, TableSettings, check_at_least_one, check_training, stream};
use flows_core::train::{Ranks, TrainConfig};
use flows_core::{Config, Result, Rng};
use serde::{Deserialize, Serialize};

/// What the program calls its runs and settings.
pub const PROGRAM: Program = Program {
    name: "flows",
    presets: Presets::new(include_str!("presets.toml")),
    subject: "data",
    counted: "rows",
    files: &["density.png", "margins.png", "check.png", "reference.safetensors"],
    kept: &["data", "rows", "samples", "proportions", "columns", "drop", "kinds", "context", "standardize"],
    changeable: &["schema"],
};

/// Everything that determines a run, apart from the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The source of the data.
    pub data: Source,
    /// The rows of all parts when the run began, if they come from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Rows>,
    /// The columns that are used, by name or by index from 0; if none are given, all that are of use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The columns that are left out, by name or by index from 0; absent from a run older than this setting, which
    /// uses all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<Vec<String>>,
    /// The columns whose kind is given.
    #[serde(default, skip_serializing_if = "Kinds::is_empty")]
    pub kinds: Kinds,
    /// Whether the first dimension of an autoregressive layer depends on the context, see `FlowConfig`;
    /// absent from a run older than this setting, in which it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_units: Option<bool>,
    /// The columns that the model is conditioned on, by name or by index from 0 among those that are used.
    #[serde(default)]
    pub context: Vec<String>,
    /// Samples of a 2-D density: for training, validation and test.
    #[serde(default = "default_samples")]
    pub samples: [usize; 3],
    /// Whether the model standardizes the columns to mean 0 and standard deviation 1.
    #[serde(default = "default_standardize")]
    pub standardize: bool,
    /// The seed of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// Examples per step.
    pub batch: usize,
    /// Whether the batch and the steps between evaluations are still to be made smaller where there are few rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fit_to_rows: bool,
    /// Pieces that a batch is cut into, each with its own thread and graph, where the model
    /// allows it; the last digits of the result depend on it, but not on the number of threads and ranks.
    #[serde(default = "default_pieces")]
    pub pieces: usize,
    /// The proportions in which the rows of a table are split.
    #[serde(default)]
    pub proportions: Proportions,
    /// The architecture.
    pub model: TableArchitecture,
    /// The training settings.
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
    /// The draws of the loss.
    Training,
    /// The samples in the picture.
    Picture,
}

impl RunConfig {
    pub fn rng(&self, of: Stream) -> Rng {
        stream(self.seed, of as usize)
    }

    /// Loads the data in three parts, the same at every call, and remembers their rows; `frames` are its tables, if they have
    /// been read.
    pub fn load(&mut self, frames: Option<Frames>, device: &Device) -> Result<Dataset> {
        let rng = &mut self.rng(Stream::Data);
        let frames = match frames {
            None if self.drop.is_some() => self.data.frames()?,
            frames => frames,
        };
        let dropped = self.drop.as_deref().unwrap_or_default();
        let data = match &frames {
            Some(frames) => {
                let schema = Schema::with_kinds(frames, &self.kinds)?.coded(self.model.name() == Mixed::NAME);
                let schema = schema.select(&self.columns, dropped)?;
                Dataset::from_frames(frames, schema, dropped, self.proportions, rng).map_err(self.data.named())?
            }
            None => self.data.load(self.samples, self.proportions, rng)?,
        };
        self.rows = Rows::of(&data, &self.data, self.rows.take())?;
        self.model.check(data.with_context(&self.context)?, device).map_err(self.data.named())
    }

    /// Makes the settings fit this number of training rows, if that is still to be done and the batch is not `given`.
    pub fn fit(&mut self, rows: usize, given: bool) {
        if std::mem::take(&mut self.fit_to_rows) && !given {
            self.batch = self.train.fit_to_rows(rows, self.batch);
        }
    }

    /// Builds the model for the data, with new weights.
    pub fn build(&self, data: &Dataset, device: &Device) -> Result<TableModel> {
        let mut config = self.model.config(data, &self.context)?;
        if let TableConfig::Flow(flow) = &mut config {
            flow.context_units = self.context_units.unwrap_or_default();
        }
        let model = TableModel::on(config, DType::F32, device, &mut self.rng(Stream::Weights))?;
        model.initialize_from(&data.train, self.standardize, self.batch)?;
        Ok(model)
    }

    /// The number of pieces that a batch of this model is cut into on this device; one per rank on GPUs.
    pub fn pieces_on(&self, model: &TableModel, ranks: &Ranks) -> usize {
        let device = model.device();
        match model.config().splits_batches() {
            true if device.is_cpu() => self.pieces,
            true => ranks.size(),
            false => 1,
        }
    }
}

impl Settings for RunConfig {
    fn resolve(self, resumed: bool) -> Result<Self> {
        let drop = if resumed { self.drop } else { Some(self.drop.unwrap_or_default()) };
        let context_units = if resumed { self.context_units } else { Some(self.context_units.unwrap_or(true)) };
        Ok(Self { data: self.data.absolute()?, drop, context_units, ..self })
    }

    fn check(&self) -> Result<()> {
        check_at_least_one(&[("batch", self.batch), ("pieces", self.pieces)])?;
        self.kinds.check(self.model.name() == Mixed::NAME)?;
        let trial = self.model.trial(Some(self.context.len()).filter(|width| *width > 0))?;
        check_training(trial.parameters(), &self.train)
    }
}

impl TableSettings for RunConfig {
    fn context(&mut self) -> &mut Vec<String> {
        &mut self.context
    }

    fn load_table(mut self, device: &Device) -> Result<(Dataset, String)> {
        Ok((self.load(None, device)?, self.data.to_string()))
    }
}
