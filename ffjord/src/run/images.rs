//! Training runs on images: the settings in `config.toml`, and the model that they describe.

use super::{default_pieces, matching::matching_steps};
use crate::field::{Divergence, FieldConfig};
use crate::{CnfSettings, ImageConfig, ImageModel, Pairing};
use candle_core::{DType, Device};
use flows_core::data::images::{Fit, ImageSource, Splits};
use flows_core::run::{
    ImageData, ImageSettings, ImageStream, Presets, Rows, Settings, check_at_least_one, check_training, with_decided,
    without,
};
use flows_core::train::TrainConfig;
use flows_core::{Error, Result, Rng};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use toml::Table;

/// The configurations of `ffjord train --preset` for images, including those of the paper.
pub const PRESETS: Presets = Presets::new(include_str!("images.toml"));

/// The number of images that shift, scale, histogram and whitening are fitted to; fewer if they are larger than 32 x 32.
const FIRST: usize = 512;

/// Everything that determines a run, apart from the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The source of the images.
    pub data: ImageSource,
    /// The images of all parts when the run began, if they come from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Rows>,
    /// The seed of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// Images per step.
    pub batch: usize,
    /// Pieces that a batch is cut into for the ranks, each with its own solves; a single solve uses all threads.
    #[serde(default = "default_pieces")]
    pub pieces: usize,
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
    /// The largest numbers of validation and of test images to evaluate, since solves are slow.
    #[serde(default = "default_evaluated")]
    pub evaluated: [usize; 2],
    /// The conversion of images to the model's size and channels.
    #[serde(default)]
    pub fit: Fit,
    /// The model; its shape and its flow are ignored.
    #[serde(with = "model")]
    pub model: ImageConfig,
    /// The settings of each flow.
    pub flow: CnfSettings,
    /// The training settings.
    #[serde(default)]
    pub train: TrainConfig,
}

/// The config of a model as settings: its shape comes from the images, and its flow from `flow`.
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

impl RunConfig {
    /// Builds the model, with new weights and with its statistics fitted to the first images.
    ///
    /// # Errors
    /// When the images do not fit the model.
    pub fn build(&self, splits: &Splits, device: &Device) -> Result<ImageModel> {
        let config = self.model_of(splits.train.shape());
        let model = ImageModel::on(config, DType::F32, device, &mut self.rng(ImageStream::Weights))?;
        let rng = &mut self.rng(ImageStream::First);
        let first = splits.train.subset(FIRST, rng);
        model.standardize(&model.dequantize(&splits.train.tensor(&first, || false)?, rng)?)?;
        Ok(model)
    }

    fn model_of(&self, shape: [usize; 3]) -> ImageConfig {
        ImageConfig { shape, flow: self.flow.clone(), ..self.model.clone() }
    }
}

impl ImageSettings for RunConfig {
    fn image_data(&self) -> ImageData<'_> {
        ImageData { source: &self.data, fit: &self.fit, images: self.images.as_ref(), seed: self.seed }
    }

    fn decided(&mut self) -> (&mut Option<Rows>, &mut Fit) {
        (&mut self.images, &mut self.fit)
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
        // Large enough for any valid config, so that only other errors are reported.
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
