//! The settings of a run: what `config.toml` holds.

use candle_core::{DType, Device, Tensor};
use flows_core::cli::{Presets, check_count};
use flows_core::data::images::{Fit, ImageSource, Images, Splits, Warp, shrink};
use flows_core::train::{TrainConfig, Trainer};
use flows_core::{Error, Result, Rng};
use glow::{Condition, CouplingKind, Dequantizer, Glow, GlowConfig, Mixing};
use serde::{Deserialize, Serialize};

/// The presets by name.
pub const PRESETS: Presets = Presets::new(include_str!("presets.toml"));

/// Images that set the actnorms of a model of 32 x 32 colours; fewer larger ones.
const FIRST: usize = 256;

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
    /// Pieces that a batch is cut into, each with a thread and a graph of its own; decides the last digits, whatever
    /// the number of threads.
    #[serde(default = "default_pieces")]
    pub pieces: usize,
    /// Whether images are mirrored at random.
    #[serde(default)]
    pub flip: bool,
    /// The temperature of the samples in the picture.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// What images are made to be.
    #[serde(default)]
    pub fit: Fit,
    /// How images are warped at random.
    #[serde(default, skip_serializing_if = "Warp::is_identity")]
    pub warp: Warp,
    /// The model.
    pub model: ModelConfig,
    /// How it is trained.
    #[serde(default)]
    pub train: TrainConfig,
}

/// What says which model it is, the images aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Bits of a colour.
    #[serde(default = "default_bits")]
    pub bits: u32,
    /// How often images are squeezed.
    pub levels: usize,
    /// Steps of a level.
    pub steps: usize,
    /// Steps of the last level, if it has others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_steps: Option<usize>,
    /// Channels within the couplings.
    pub hidden: usize,
    /// The couplings.
    #[serde(default)]
    pub coupling: CouplingKind,
    /// What mixes the channels.
    #[serde(default)]
    pub mixing: Mixing,
    /// Whether the colours of single pixels are made evenly spread first.
    #[serde(default)]
    pub equalize: bool,
    /// Whether the model is conditional on the classes of the images.
    #[serde(default)]
    pub conditional: bool,
    /// Channels of the features of classes, which all couplings and priors are given, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_features: Option<usize>,
    /// The image of lower resolution that the model is given, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// a, where the model is of `logit(a + (1 - 2a) c)` of colours c.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit: Option<f64>,
    /// What learns the noise within the values of colours, if that is not to be uniform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dequantizer: Option<Dequantizer>,
}

fn default_pieces() -> usize {
    2
}

fn default_temperature() -> f64 {
    0.8
}

fn default_bits() -> u32 {
    8
}

/// The generators of a run, independent of each other.
pub struct Generators {
    data: Rng,
    weights: Rng,
    first: Rng,
    /// What the loss draws from.
    pub training: Rng,
    /// What the samples in the picture are drawn from.
    pub picture: Rng,
    /// The noise of the test images.
    pub test: Rng,
}

impl RunConfig {
    /// The generators that the seed determines.
    pub fn generators(&self) -> Generators {
        let mut seed = Rng::seed(self.seed);
        Generators {
            data: seed.fork(),
            weights: seed.fork(),
            first: seed.fork(),
            training: seed.fork(),
            picture: seed.fork(),
            test: seed.fork(),
        }
    }

    /// The images in their parts, the same at every call.
    pub fn load(&self, skip: Option<&mut dyn FnMut(Error)>) -> Result<Splits> {
        let splits = self.data.load(&self.fit, skip, &mut self.generators().data)?;
        check_count(self.images, splits.count(), "image", &self.data)?;
        if self.model.conditional && splits.train.labels().is_none() {
            return Err(Error::Data(format!(
                "{}: the images have no classes: give a folder with a sub-folder for each, or train without \
                 `model.conditional`",
                self.data
            )));
        }
        Ok(splits)
    }

    /// The config of the model of these images.
    pub fn glow(&self, splits: &Splits) -> GlowConfig {
        self.glow_of(splits.train.shape(), &splits.train.classes)
    }

    /// The config of the model of images of this shape and these classes.
    fn glow_of(&self, shape: [usize; 3], classes: &[String]) -> GlowConfig {
        let ModelConfig { bits, levels, steps, top_steps, hidden, coupling, mixing, .. } = self.model;
        let ModelConfig { equalize, logit, dequantizer, condition, conditional, class_features, .. } = self.model;
        GlowConfig {
            shape,
            bits,
            levels,
            steps,
            top_steps,
            hidden,
            coupling,
            mixing,
            top_mixing: None,
            equalize,
            logit,
            dequantizer,
            classes: conditional.then_some(classes.len()),
            class_names: conditional.then(|| classes.to_vec()),
            class_features: class_features.filter(|_| conditional),
            condition,
        }
    }

    /// The model, its weights drawn anew and its actnorms set by the first images.
    pub fn build(&self, splits: &Splits, device: &Device) -> Result<Glow> {
        let mut generators = self.generators();
        let glow = Glow::on(self.glow(splits), DType::F32, device, &mut generators.weights)?;
        let [_, height, width] = glow.config().shape;
        let count = (FIRST * 1024 / (height * width)).clamp(16, FIRST).min(splits.train.len());
        let rng = &mut generators.first;
        let first: Vec<u32> = rng.permutation(splits.train.len()).into_iter().take(count).collect();
        let colours = splits.train.tensor(&first, || false)?;
        let x = glow.dequantize(&colours, rng)?;
        glow.initialize(&x, context(&glow, &splits.train, &first, &colours)?.as_ref())?;
        Ok(glow)
    }

    /// Passes if a run can be made of these settings, whatever the images.
    pub fn check(&self) -> Result<()> {
        let bad = |message: &str| Err(Error::Config(message.into()));
        if self.batch == 0 || self.pieces == 0 {
            return bad("`batch` and `pieces` must be at least 1");
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad("the `temperature` must be a number from 0");
        }
        if self.train.optimizer.lr() == 0.0 {
            return bad("with a learning rate of 0 nothing is learnt: set it above 0");
        }
        self.fit.check()?;
        self.warp.check()?;
        let ModelConfig { levels, condition, .. } = self.model;
        // Large enough for all that can be, so that the rest is named.
        let scale = condition.map_or(1, |condition| condition.scale.clamp(1, 64).next_power_of_two());
        let side = scale.max(1 << levels.min(10));
        let [height, width] = self.fit.size.unwrap_or([side; 2]);
        self.glow_of([1, height, width], &[String::new()]).check()?;
        // All that is wrong with the training shows on a small model.
        let trial = GlowConfig { levels: 1, steps: 1, hidden: 1, ..GlowConfig::new([1, 2, 2]) };
        let trial = Glow::new(trial, &mut Rng::seed(0))?;
        Trainer::new(trial.parameters(), self.train.clone(), Rng::seed(0)).map(drop)
    }
}

/// What the model is given for these images, whose colours are `colours`: their classes, or what they are like at lower
/// resolution, if it is conditional on either.
pub fn context(glow: &Glow, images: &Images, indices: &[u32], colours: &Tensor) -> Result<Option<Tensor>> {
    let GlowConfig { classes, condition, .. } = *glow.config();
    if let Some(condition) = condition {
        return glow.given(&shrink(colours, condition.scale)?).map(Some);
    }
    let classes = classes.map(|_| Ok(images.context(indices)?.to_device(glow.parameters().device())?));
    classes.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::testing::check_presets;

    #[test]
    fn every_preset_is_a_run_and_survives_its_file() -> Result<()> {
        check_presets(PRESETS, "images", RunConfig::check)
    }
}
