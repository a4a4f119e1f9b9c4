//! The settings of a run over images: what its `config.toml` holds.

use crate::config::matching_steps;
use candle_core::{DType, Device};
use ffjord::field::{Divergence, FieldConfig};
use ffjord::{CnfSettings, Coupling, ImageConfig, ImageModel};
use flows_core::cli::{Presets, check_count};
use flows_core::data::images::{Fit, ImageSource, Splits};
use flows_core::train::{TrainConfig, Trainer};
use flows_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// The presets by name.
pub const PRESETS: Presets = Presets::new(include_str!("presets.toml"));

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
    /// The most images of validation and of test that a run evaluates: solves take their time.
    #[serde(default = "default_evaluated")]
    pub evaluated: [usize; 2],
    /// What images are made to be.
    #[serde(default)]
    pub fit: Fit,
    /// The model, its flows aside.
    pub model: ContinuousFlowConfig,
    /// What each flow is.
    pub flow: CnfSettings,
    /// How the model is trained.
    #[serde(default)]
    pub train: TrainConfig,
}

/// What says which model it is, the images and the flows aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContinuousFlowConfig {
    /// How far the logit stays away from black and white.
    pub alpha: f64,
    /// Whether colours are equalised in place of the logit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub equalize: bool,
    /// Whether the flows work on whitened images.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whiten: bool,
    /// Scales.
    pub scales: usize,
    /// Flows before each squeeze, and as many behind it.
    pub flows: usize,
}

fn default_evaluated() -> [usize; 2] {
    [256, 1000]
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
    /// The noise of the images that are evaluated.
    pub evaluation: Rng,
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
            evaluation: seed.fork(),
        }
    }

    /// The images in their parts, the same at every call.
    pub fn load(&self, skip: Option<&mut dyn FnMut(Error)>) -> Result<Splits> {
        let splits = self.data.load(&self.fit, skip, &mut self.generators().data)?;
        check_count(self.images, splits.count(), "image", &self.data)?;
        Ok(splits)
    }

    /// The model for the images, its weights drawn anew and its colours' numbers set by the first images.
    pub fn build(&self, splits: &Splits, device: &Device) -> Result<ImageModel> {
        let mut generators = self.generators();
        let config = self.model_of(splits.train.shape());
        let model = ImageModel::on(config, DType::F32, device, &mut generators.weights)?;
        let rng = &mut generators.first;
        let [_, height, width] = splits.train.shape();
        let count = (FIRST * 1024 / (height * width)).clamp(16, FIRST);
        let first: Vec<u32> = rng.permutation(splits.train.len()).into_iter().take(count).collect();
        model.standardize(&model.dequantize(&splits.train.tensor(&first, || false)?, rng)?)?;
        Ok(model)
    }

    fn model_of(&self, shape: [usize; 3]) -> ImageConfig {
        let ContinuousFlowConfig { alpha, equalize, whiten, scales, flows } = self.model;
        ImageConfig { shape, alpha, equalize, whiten, scales, flows, flow: self.flow.clone() }
    }

    /// The same with the steps of flow matching as a number.
    pub fn settled(mut self, resumed: bool) -> Result<Self> {
        let steps = matching_steps(self.matching.take(), self.matching_steps, self.train.steps, resumed)?;
        self.matching_steps = Some(steps);
        Ok(self)
    }

    /// Passes if a run can be made of these settings, whatever the images.
    pub fn check(&self) -> Result<()> {
        if self.batch == 0 || self.evaluated.contains(&0) {
            return Err(Error::Config("`batch` and both numbers of `evaluated` must be at least 1".into()));
        }
        if self.matching_steps.is_some_and(|steps| steps > 0) && (self.model.scales > 1 || self.model.flows > 1) {
            return Err(Error::Config(
                "flow matching trains a single flow: set `model.scales = 1` and `model.flows = 1`, or `matching = 0`"
                    .into(),
            ));
        }
        if self.train.optimizer.lr() == 0.0 {
            return Err(Error::Config("with a learning rate of 0 nothing is learnt: set it above 0".into()));
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
        let trial = ImageModel::new(trial, &mut Rng::seed(0))?;
        Trainer::new(trial.parameters(), self.train.clone(), Rng::seed(0)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::testing::check_presets;

    #[test]
    fn every_preset_is_a_run_and_survives_its_file() -> Result<()> {
        check_presets(PRESETS, "images.npy", RunConfig::check)
    }
}
