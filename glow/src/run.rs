//! Training runs: the settings in `config.toml`, and the model that they describe.
//!
//! ```
//! use glow::run::{PRESETS, RunConfig};
//! let config: RunConfig = flows_core::run::parse_settings(PRESETS.get("digits")?)?;
//! assert_eq!((config.batch, config.model.levels), (64, 3));
//! # Ok::<(), flows_core::Error>(())
//! ```

use crate::evaluate::context;
use crate::{Glow, GlowConfig};
use candle_core::{DType, Device};
use flows_core::data::images::{Fit, ImageSource, Splits, Warp};
use flows_core::distributions::Distribution;
use flows_core::run::{
    ImageData, ImageSettings, ImageStream, Presets, Rows, Settings, check_at_least_one, check_temperature,
    check_training, with_decided, without,
};
use flows_core::train::TrainConfig;
use flows_core::{Error, Result, Rng};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use toml::Table;

/// The configurations of `glow train --preset`, including those of the paper.
pub const PRESETS: Presets = Presets::new(include_str!("presets.toml"));

/// The number of images that initialise the actnorms; fewer if they are larger than 32 x 32.
const FIRST: usize = 256;

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
    /// Pieces that a batch is cut into, each with its own thread and graph; the last digits of the result depend on it,
    /// but not on the number of threads and ranks.
    #[serde(default = "default_pieces")]
    pub pieces: usize,
    /// Whether images are mirrored at random.
    #[serde(default)]
    pub flip: bool,
    /// The temperature of the samples in the picture.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// The conversion of images to the model's size and channels.
    #[serde(default)]
    pub fit: Fit,
    /// How images are warped at random.
    #[serde(default, skip_serializing_if = "Warp::is_identity")]
    pub warp: Warp,
    /// The model; its shape and its number of classes are ignored.
    #[serde(with = "model")]
    pub model: GlowConfig,
    /// The training settings.
    #[serde(default)]
    pub train: TrainConfig,
}

/// The config of a Glow as settings: its shape and classes come from the images; `conditional` says whether it has
/// classes.
mod model {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(settings: D) -> std::result::Result<GlowConfig, D::Error> {
        let mut settings = Table::deserialize(settings)?;
        let conditional = settings.remove("conditional").unwrap_or(false.into());
        let conditional = conditional.as_bool().ok_or_else(|| D::Error::custom("`conditional` is true or false"))?;
        let decided = [("shape", vec![1, 1, 1].into()), ("classes", 1.into())];
        let config: GlowConfig = with_decided(settings, decided).map_err(D::Error::custom)?;
        Ok(GlowConfig { classes: config.classes.filter(|_| conditional), ..config })
    }

    pub fn serialize<S: Serializer>(config: &GlowConfig, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut settings = without(config, &["shape", "classes"]);
        settings.insert("conditional".into(), config.classes.is_some().into());
        settings.serialize(serializer)
    }
}

fn default_pieces() -> usize {
    2
}

fn default_temperature() -> f64 {
    0.8
}

impl RunConfig {
    /// The config of the model for images of this shape with these classes.
    fn glow(&self, shape: [usize; 3], classes: &[String]) -> GlowConfig {
        let names = self.model.classes.map(|_| classes.to_vec());
        let class_features = self.model.class_features.filter(|_| names.is_some());
        let classes = names.as_ref().map(Vec::len);
        GlowConfig { shape, classes, class_names: names, class_features, ..self.model.clone() }
    }

    /// Builds the model, with new weights and with actnorms initialised by the first images.
    ///
    /// # Errors
    /// When the images do not fit the model, or have no classes but the model is conditional on them.
    pub fn build(&self, splits: &Splits, device: &Device) -> Result<Glow> {
        let parts = [("training", &splits.train), ("validation", &splits.validation), ("test", &splits.test)];
        let unknown = parts.iter().find(|(_, images)| self.model.classes.is_some() && images.labels().is_none());
        if let Some((part, _)) = unknown {
            return Err(Error::Data(format!(
                "{}: the {part} images have no classes: give a folder with a sub-folder for each, or train without \
                 `model.conditional`",
                self.data
            )));
        }
        let config = self.glow(splits.train.shape(), &splits.train.classes);
        let glow = Glow::on(config, DType::F32, device, &mut self.rng(ImageStream::Weights))?;
        let rng = &mut self.rng(ImageStream::First);
        let first = splits.train.subset(FIRST, rng);
        let colours = splits.train.tensor(&first, || false)?;
        let x = glow.dequantize(&colours, rng)?;
        glow.initialize(&x, context(&glow, &splits.train, &first, &colours)?.as_ref())?;
        Ok(glow)
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
    fn resolve(self, _: bool) -> Result<Self> {
        Ok(Self { data: self.data.absolute()?, ..self })
    }

    fn check(&self) -> Result<()> {
        check_at_least_one(&[("batch", self.batch), ("pieces", self.pieces)])?;
        check_temperature(self.temperature)?;
        self.fit.check()?;
        self.warp.check()?;
        let GlowConfig { levels, condition, .. } = self.model;
        // Large enough for any valid config, so that only other errors are reported.
        let scale = condition.map_or(1, |condition| condition.scale.clamp(1, 64).next_power_of_two());
        let side = scale.max(1 << levels.min(10));
        let [height, width] = self.fit.size.unwrap_or([side; 2]);
        self.glow([1, height, width], &[String::new()]).check()?;
        // A small model reveals all errors in the training settings.
        let trial = GlowConfig { levels: 1, steps: 1, hidden: 1, ..GlowConfig::new([1, 2, 2]) };
        check_training(Glow::new(trial, &mut Rng::seed(0))?.parameters(), &self.train)
    }
}
