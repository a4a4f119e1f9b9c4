//! Training runs on rows: the settings in `config.toml`, and the data and the model that they describe.

use super::{default_pieces, matching::matching_steps};
use crate::field::Divergence;
use crate::{CnfSettings, ContinuousFlow, ContinuousFlowConfig, Energy, Pairing};
use candle_core::{DType, Device};
use flows_core::data::{Dataset, Proportions, Source};
use flows_core::run::{Presets, Rows, Settings, check_at_least_one, check_training, stream};
use flows_core::train::TrainConfig;
use flows_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// The configurations of `ffjord train --preset` for rows, including those of the paper.
pub const PRESETS: Presets = Presets::new(include_str!("tables.toml"));

/// Everything that determines a run, apart from the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The source of the data.
    pub data: Source,
    /// The rows of all parts that were used when the run began, if they come from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Rows>,
    /// The numbers of samples of a 2-D density for training, validation and test.
    #[serde(default = "default_samples")]
    pub samples: [usize; 3],
    /// The largest numbers of rows for training, validation and test: the first of each part are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<[usize; 3]>,
    /// The energy of the distribution that configurations of particles were drawn from, if known; for the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
    /// The seed of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// Rows per step.
    pub batch: usize,
    /// Pieces that a batch is cut into for the ranks, each with its own solves; a single solve uses all threads.
    #[serde(default = "default_pieces")]
    pub pieces: usize,
    /// The number of continuous flows in sequence.
    #[serde(default = "default_flows")]
    pub flows: usize,
    /// The fraction of the steps, from the first on, that train by flow matching, without a solver; the others train by
    /// maximum likelihood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<f64>,
    /// The same as a number of steps, which replaces the fraction when a run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching_steps: Option<u64>,
    /// How flow matching pairs noise with data.
    #[serde(default)]
    pub coupling: Pairing,
    /// The fractions of the rows of a table for training, validation and test.
    #[serde(default)]
    pub proportions: Proportions,
    /// The settings of each flow.
    #[serde(default)]
    pub flow: CnfSettings,
    /// The training settings.
    #[serde(default)]
    pub train: TrainConfig,
}

fn default_samples() -> [usize; 3] {
    [100_000, 2_000, 20_000]
}

fn default_flows() -> usize {
    1
}

/// The random streams of a run, in the order in which they fork from its seed.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// The split of the data into parts, or its draws.
    Data,
    /// The weights.
    Weights,
    /// The draws of the loss.
    Training,
    /// The samples in the picture.
    Picture,
}

impl RunConfig {
    /// The generator of a stream.
    pub fn rng(&self, of: Stream) -> Rng {
        stream(self.seed, of as usize)
    }

    /// Loads the data in three parts, the same at every call, and remembers their rows.
    ///
    /// # Errors
    /// When it cannot be read, or its rows have changed since the run began.
    pub fn load(&mut self, device: &Device) -> Result<Dataset> {
        let mut data = self.data.load(self.samples, self.proportions, &mut self.rng(Stream::Data))?;
        if let Some(most) = self.most {
            for (part, most) in [&mut data.train, &mut data.validation, &mut data.test].into_iter().zip(most) {
                *part = part.rows(0..most.min(part.len()))?;
            }
        }
        self.rows = Rows::of(&data, &self.data, self.rows.take())?;
        data.check_resolution().and_then(|()| data.to(DType::F32, device)).map_err(self.data.named())
    }

    /// Builds the model, with new weights and with its shift and scale fitted to the training data.
    ///
    /// # Errors
    /// When the data does not fit the model.
    pub fn build(&self, data: &Dataset, device: &Device) -> Result<ContinuousFlow> {
        let (features, columns) = (data.train.features(), data.columns.clone());
        let config = ContinuousFlowConfig { features, columns, flows: self.flows, flow: self.flow.clone() };
        let model = ContinuousFlow::on(config, DType::F32, device, &mut self.rng(Stream::Weights))?;
        model.standardize(&data.train.x)?;
        Ok(model)
    }
}

impl Settings for RunConfig {
    fn resolve(mut self, resumed: bool) -> Result<Self> {
        let steps = matching_steps(self.matching.take(), self.matching_steps, self.train.steps, resumed)?;
        Ok(Self { data: self.data.absolute()?, matching_steps: Some(steps), ..self })
    }

    fn check(&self) -> Result<()> {
        check_at_least_one(&[("batch", self.batch), ("pieces", self.pieces)])?;
        if self.matching_steps.is_some_and(|steps| steps > 0) && self.flows > 1 {
            return Err(Error::Config("flow matching trains a single flow: set `flows = 1` or `matching = 0`".into()));
        }
        check_at_least_one(&self.most.unwrap_or([1; 3]).map(|most| ("most", most)))?;
        let features = self.flow.field.space().unwrap_or(1).saturating_mul(2);
        // A bottleneck must be narrower than the data, whose width is not known here.
        let flow = CnfSettings { divergence: Divergence::default(), ..self.flow.clone() };
        let config = ContinuousFlowConfig { features, columns: None, flows: self.flows, flow };
        check_training(ContinuousFlow::new(config, &mut Rng::seed(0))?.parameters(), &self.train)
    }
}
