//! Runs of models of images: what the `config.toml` of one holds, and the images and the model that this makes.

use super::{default_pieces, matching::matching_steps};
use crate::field::{Divergence, FieldConfig};
use crate::{CnfSettings, ImageConfig, ImageModel, Pairing};
use candle_core::{DType, Device};
use flows_core::data::images::{Fit, ImageSource, Splits};
use flows_core::run::{
    Presets, Settings, check_at_least_one, check_count, check_training, stream, with_decided, without,
};
use flows_core::train::TrainConfig;
use flows_core::{Error, Result, Rng};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use toml::Table;

/// The configurations of `ffjord train --preset` for images, those of the paper among them.
pub const PRESETS: Presets = Presets::new(include_str!("images.toml"));

/// Images of 32 x 32 colours by which shift, scale, shares of the colours and spectrum are set; fewer larger ones.
const FIRST: usize = 512;

/// All that decides a run, the machine aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Where the images are.
    pub data: ImageSource,
    /// Images of all parts when the run began, where they come from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// What all randomness derives from.
    #[serde(default)]
    pub seed: u64,
    /// Images a step.
    pub batch: usize,
    /// Pieces that a batch is cut into for ranks, each with solves of its own; a solve by itself is on all threads.
    #[serde(default = "default_pieces")]
    pub pieces: usize,
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
    /// The most images of validation and of test that a run evaluates: solves take their time.
    #[serde(default = "default_evaluated")]
    pub evaluated: [usize; 2],
    /// What images are made to be.
    #[serde(default)]
    pub fit: Fit,
    /// The model; its shape and its flow mean nothing.
    #[serde(with = "model")]
    pub model: ImageConfig,
    /// What each flow is.
    pub flow: CnfSettings,
    /// How the model is trained.
    #[serde(default)]
    pub train: TrainConfig,
}

/// The config of a model as settings: the images decide its shape, and its flow stands beside it.
mod model {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(settings: D) -> std::result::Result<ImageConfig, D::Error> {
        let flow = Table::try_from(CnfSettings::default()).map_err(D::Error::custom)?;
        let decided = [("shape", vec![1, 1, 1].into()), ("flow", flow.into())];
        with_decided(Table::deserialize(settings)?, decided).map_err(D::Error::custom)
    }

    pub fn serialize<S: Serializer>(config: &ImageConfig, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        without(config, &["shape", "flow"]).serialize(serializer)
    }
}

fn default_evaluated() -> [usize; 2] {
    [256, 1000]
}

/// The random streams of a run, in the order in which they fork from its seed.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// How the data is dealt to its parts, or drawn.
    Data,
    /// The weights.
    Weights,
    /// The images that set the numbers of colours, and their noise.
    First,
    /// What the loss draws from.
    Training,
    /// What the samples in the picture are drawn from.
    Picture,
    /// The noise of the images that are evaluated.
    Evaluation,
}

impl RunConfig {
    /// The generator of a stream.
    pub fn rng(&self, of: Stream) -> Rng {
        stream(self.seed, of as usize)
    }

    /// The images in their parts, the same at every call; `skip` takes the errors of files that are passed over.
    ///
    /// # Errors
    /// When they cannot be read, or are not as many as when the run began.
    pub fn load(&self, skip: Option<&mut dyn FnMut(Error)>) -> Result<Splits> {
        let splits = self.data.load(&self.fit, skip, &mut self.rng(Stream::Data))?;
        check_count(self.images, splits.count(), "image", &self.data)?;
        Ok(splits)
    }

    /// The model for the images, its weights drawn anew and its colours' numbers set by the first images.
    ///
    /// # Errors
    /// When the images do not fit the model.
    pub fn build(&self, splits: &Splits, device: &Device) -> Result<ImageModel> {
        let config = self.model_of(splits.train.shape());
        let model = ImageModel::on(config, DType::F32, device, &mut self.rng(Stream::Weights))?;
        let rng = &mut self.rng(Stream::First);
        let [_, height, width] = splits.train.shape();
        let count = (FIRST * 1024 / (height * width)).clamp(16, FIRST);
        let first: Vec<u32> = rng.permutation(splits.train.len()).into_iter().take(count).collect();
        model.standardize(&model.dequantize(&splits.train.tensor(&first, || false)?, rng)?)?;
        Ok(model)
    }

    fn model_of(&self, shape: [usize; 3]) -> ImageConfig {
        ImageConfig { shape, flow: self.flow.clone(), ..self.model.clone() }
    }
}

impl Settings for RunConfig {
    fn resolve(mut self, resumed: bool) -> Result<Self> {
        let steps = matching_steps(self.matching.take(), self.matching_steps, self.train.steps, resumed)?;
        Ok(Self { data: self.data.absolute()?, matching_steps: Some(steps), ..self })
    }

    fn check(&self) -> Result<()> {
        let [validation, test] = self.evaluated;
        let [batch, pieces] = [("batch", self.batch), ("pieces", self.pieces)];
        check_at_least_one(&[batch, pieces, ("evaluated", validation), ("evaluated", test)])?;
        if self.matching_steps.is_some_and(|steps| steps > 0) && (self.model.scales > 1 || self.model.flows > 1) {
            return Err(Error::Config(
                "flow matching trains a single flow: set `model.scales = 1` and `model.flows = 1`, or `matching = 0`"
                    .into(),
            ));
        }
        self.fit.check()?;
        // Large enough for all that can be; what the images alone decide shows when they are read.
        let strides = match &self.flow.field {
            FieldConfig::Conv(conv) => conv.strides.iter().filter(|stride| **stride == 2).count(),
            _ => 0,
        };
        let side = 1 << (self.model.scales + strides).clamp(3, 10);
        let [height, width] = self.fit.size.unwrap_or([side; 2]);
        let flow = CnfSettings { divergence: Divergence::default(), ..self.flow.clone() };
        let trial = ImageConfig { flow, whiten: false, ..self.model_of([1, height, width]) };
        check_training(ImageModel::new(trial, &mut Rng::seed(0))?.parameters(), &self.train)
    }
}
