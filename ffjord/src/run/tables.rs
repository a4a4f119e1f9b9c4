//! Runs of models over rows: what the `config.toml` of one holds, and the data and the model that this makes.

use super::{default_pieces, matching::matching_steps};
use crate::field::Divergence;
use crate::{CnfSettings, ContinuousFlow, ContinuousFlowConfig, Energy, Pairing};
use candle_core::{DType, Device};
use flows_core::data::{Dataset, Proportions, Source};
use flows_core::run::{Presets, Settings, check_at_least_one, check_count, check_training, stream};
use flows_core::train::TrainConfig;
use flows_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// The configurations of `ffjord train --preset` for models over rows, those of the paper among them.
pub const PRESETS: Presets = Presets::new(include_str!("tables.toml"));

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
    /// Pieces that a batch is cut into for ranks, each with solves of its own; a solve by itself is on all threads.
    #[serde(default = "default_pieces")]
    pub pieces: usize,
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
    pub coupling: Pairing,
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

/// The random streams of a run, in the order in which they fork from its seed.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// How the data is dealt to its parts, or drawn.
    Data,
    /// The weights.
    Weights,
    /// What the loss draws from.
    Training,
    /// What the samples in the picture are drawn from.
    Picture,
}

impl RunConfig {
    /// The generator of a stream.
    pub fn rng(&self, of: Stream) -> Rng {
        stream(self.seed, of as usize)
    }

    /// The data in its three parts, the same at every call.
    ///
    /// # Errors
    /// When it cannot be read, or has not as many rows as when the run began.
    pub fn load(&self, device: &Device) -> Result<Dataset> {
        let mut data = self.data.load(self.samples, self.proportions, &mut self.rng(Stream::Data))?;
        if let Some(most) = self.most {
            for (part, most) in [&mut data.train, &mut data.validation, &mut data.test].into_iter().zip(most) {
                *part = part.rows(0..most.min(part.len()))?;
            }
        }
        check_count(self.rows, data.rows(), "row", &self.data)?;
        data.check_resolution().and_then(|()| data.to(DType::F32, device)).map_err(self.data.named())
    }

    /// The model for the data, its weights drawn anew.
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
        // A bottleneck is one beside the columns, which are not known here.
        let flow = CnfSettings { divergence: Divergence::default(), ..self.flow.clone() };
        let config = ContinuousFlowConfig { features, columns: None, flows: self.flows, flow };
        check_training(ContinuousFlow::new(config, &mut Rng::seed(0))?.parameters(), &self.train)
    }
}
