//! A Glow as people use it: config, parameters and distribution in one.

use crate::{GlowConfig, dequantizer, flow};
use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::Bijector;
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::files::{load_model, save_model};
use flows_core::nn::Parameters;
use flows_core::ops::log_sum_exp;
use flows_core::train::{FlowLoss, LossGradients, Memory};
use flows_core::{Error, Result, Rng, Structure};
use rayon::prelude::*;
use std::collections::HashMap;
use std::f64::consts::LN_2;
use std::ops::Range;
use std::path::Path;

/// A trainable density over images (C, H, W) whose colours lie in [-1/2, 1/2], and one bijection between them and
/// vectors of standard normal numbers.
///
/// A model with classes takes them as context, (B, 1) of u32; one that is given images of lower resolution takes what
/// [`Glow::given`] makes of them.
#[derive(Debug)]
pub struct Glow {
    config: GlowConfig,
    parameters: Parameters,
    distribution: Transformed,
    /// The distribution of the noise within the values of colours, if it is learnt.
    noise: Option<Transformed>,
    /// The distribution with its weights as constants.
    detached: Transformed,
    parts: Vec<usize>,
}

impl Glow {
    /// The `kind` that the file of a Glow names.
    pub const KIND: &str = "glow";

    /// A Glow of f32 on the CPU whose weights are drawn from `rng`.
    ///
    /// # Errors
    /// When the config names a size that cannot be.
    pub fn new(config: GlowConfig, rng: &mut Rng) -> Result<Self> {
        Self::on(config, DType::F32, &Device::Cpu, rng)
    }

    /// A Glow of this type on this device.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on(config: GlowConfig, dtype: DType, device: &Device, rng: &mut Rng) -> Result<Self> {
        Self::build(config, Parameters::new(dtype, device, rng.fork()))
    }

    /// A Glow with these weights and buffers by name.
    ///
    /// # Errors
    /// When one is missing, superfluous or of another shape.
    pub fn with_tensors(
        config: GlowConfig,
        dtype: DType,
        device: &Device,
        tensors: HashMap<String, Tensor>,
    ) -> Result<Self> {
        let glow = Self::build(config, Parameters::saved(dtype, device, tensors))?;
        glow.parameters.check_saved()?;
        Ok(glow)
    }

    fn build(config: GlowConfig, parameters: Parameters) -> Result<Self> {
        config.check()?;
        let part = |i: usize| {
            let level: usize = config.level_shape(i).iter().product();
            if i + 1 == config.levels { level } else { level / 2 }
        };
        let parts = (0..config.levels).map(part).collect();
        let (distribution, noise) = Self::distributions(&config, &parameters)?;
        let (detached, _) = Self::distributions(&config, &parameters.detached())?;
        Ok(Self { config, parameters, distribution, noise, detached, parts })
    }

    /// The density of images, and that of the noise within the values of colours if it is learnt.
    fn distributions(config: &GlowConfig, parameters: &Parameters) -> Result<(Transformed, Option<Transformed>)> {
        let (scope, dtype, device) = (parameters.scope(), parameters.dtype(), parameters.device());
        let base = StandardNormal::new([config.dims()], dtype, device)?;
        let distribution = Transformed::new(Box::new(base), flow(config, &scope)?)?;
        let noise = |_| -> Result<Transformed> {
            let noise = dequantizer(config, &scope.enter("dequantizer"))?;
            Transformed::new(Box::new(StandardNormal::new(config.level_shape(0), dtype, device)?), noise)
        };
        Ok((distribution, config.dequantizer.map(noise).transpose()?))
    }

    /// The config it was made from.
    pub fn config(&self) -> &GlowConfig {
        &self.config
    }

    /// Its weights and buffers.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The bijection between vectors of noise and images.
    pub fn bijector(&self) -> &dyn Bijector {
        self.distribution.bijector()
    }

    /// The lengths of the parts of a vector of noise, from the first level (the finest) on.
    pub fn parts(&self) -> &[usize] {
        &self.parts
    }

    /// Sets shift and scale of every actnorm from a first batch of images.
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        self.distribution.initialize(x, context).map(drop)
    }

    /// The noise that belongs to images, (B, D).
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn latent(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.distribution.latent(x, context)
    }

    /// The images that belong to noise (B, D).
    ///
    /// # Errors
    /// When the shape is another, or a class is missing.
    pub fn decode(&self, z: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.bijector().forward(z, context)?.0)
    }

    /// Images whose noise has the standard deviation `temperature`.
    ///
    /// # Errors
    /// As [`Distribution::sample`].
    pub fn sample_at(&self, temperature: f64, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let (dtype, device) = (self.parameters.dtype(), self.parameters.device());
        let z = rng.tensor((count, self.config.dims()), dtype, device, |rng| temperature * rng.normal())?;
        self.decode_all(&z, context)
    }

    /// [`Self::decode`] for any number of rows, without a graph, blocks of them side by side.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_all(&self, z: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.in_blocks(z.dims().first().copied().unwrap_or(0), |block| {
            let context = context.map(|c| c.narrow(0, block.start, block.len())).transpose()?;
            Ok(self.detached.bijector().forward(&z.narrow(0, block.start, block.len())?, context.as_ref())?.0)
        })
    }

    /// The log-densities of any number of images, (B), for use rather than training: no graph is kept, and blocks of
    /// images are evaluated side by side.
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn score(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.in_blocks(x.dims().first().copied().unwrap_or(0), |block| {
            let context = context.map(|c| c.narrow(0, block.start, block.len())).transpose()?;
            self.detached.log_prob(&x.narrow(0, block.start, block.len())?, context.as_ref())
        })
    }

    /// The results for blocks of rows, one below the other: so few rows that what a network computes stays in the
    /// cache.
    fn in_blocks(&self, rows: usize, f: impl Fn(Range<usize>) -> Result<Tensor> + Sync) -> Result<Tensor> {
        const COLOURS: usize = 1 << 15;
        if rows == 0 {
            return Err(Error::Data("there is no image: give at least one".into()));
        }
        let most = (COLOURS / self.config.dims()).clamp(1, 64);
        // An even number, for two threads as much as for many; not that of the threads, so that it decides nothing.
        let size = rows.div_ceil(rows.div_ceil(most).next_multiple_of(2));
        let block = |i: usize| Ok(f(i * size..rows.min((i + 1) * size))?.detach());
        let blocks = rows.div_ceil(size);
        let parts: Vec<Tensor> = match self.parameters.device().is_cpu() {
            true => (0..blocks).into_par_iter().map(block).collect::<Result<_>>()?,
            // A GPU does one thing at a time.
            false => (0..blocks).map(block).collect::<Result<_>>()?,
        };
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// Colours of whole numbers 0 to 255, (B, C, H, W), reduced to the model's bits and spread uniformly over the
    /// width of a value: what the density is of.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn dequantize(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let (dtype, device) = (self.parameters.dtype(), self.parameters.device());
        let (bins, step) = (self.config.bins(), 256.0 / self.config.bins());
        let levels = images.to_dtype(DType::U8)?.flatten_all()?.to_vec1::<u8>()?;
        let values = levels.into_iter().map(|v| ((f64::from(v) / step).floor() + rng.uniform()) / bins - 0.5);
        Ok(Tensor::from_vec(values.collect::<Vec<f64>>(), images.shape(), &Device::Cpu)?
            .to_dtype(dtype)?
            .to_device(device)?)
    }

    /// Colours of whole numbers 0 to 255 with noise within their values, as the model learns them, and the log-density of
    /// the noise, (B), in units of the width of a value. That is 0, and none, where the noise is uniform:
    /// [`Self::dequantize`].
    ///
    /// # Errors
    /// When the shape is another.
    pub fn with_noise(&self, images: &Tensor, rng: &mut Rng) -> Result<(Tensor, Option<Tensor>)> {
        let Some(noise) = &self.noise else { return Ok((self.dequantize(images, rng)?, None)) };
        let (dtype, device, bins) = (self.parameters.dtype(), self.parameters.device(), self.config.bins());
        let values = images.to_dtype(DType::F64)?.affine(bins / 256.0, 0.0)?.floor()?;
        let values = values.to_dtype(dtype)?.to_device(device)?;
        let middles = values.affine(1.0 / bins, 0.5 / bins - 0.5)?;
        let (noise, log_density) = noise.sample_with_log_prob(images.dim(0)?, Some(&middles), rng)?;
        Ok(((values + noise)?.affine(1.0 / bins, -0.5)?, Some(log_density)))
    }

    /// A lower bound on `D ln bins` plus the log-probabilities of whole colours 0 to 255, (B) in f64, for
    /// [`Self::bits`]: `ln mean(p(x) / q)` over `draws` of the noise, x being the image with noise of density q
    /// (Burda et al., 2015, arXiv:1509.00519). No graph is kept.
    ///
    /// # Errors
    /// As [`Distribution::log_prob`], and when there are no draws.
    pub fn bound(&self, images: &Tensor, context: Option<&Tensor>, draws: usize, rng: &mut Rng) -> Result<Tensor> {
        let draw = |_| -> Result<Tensor> {
            let (x, log_density) = self.with_noise(images, rng)?;
            let score = self.score(&x.detach(), context)?.to_dtype(DType::F64)?;
            Ok(match log_density {
                Some(log_density) => (score - log_density.detach().to_dtype(DType::F64)?)?,
                None => score,
            })
        };
        let weights: Vec<Tensor> = (0..draws).map(draw).collect::<Result<_>>()?;
        match &weights[..] {
            [] => Err(Error::Config("a bound of 0 draws: give at least 1".into())),
            [one] => Ok(one.clone()),
            _ => Ok((log_sum_exp(&Tensor::stack(&weights, 1)?)? - (draws as f64).ln())?),
        }
    }

    /// The mean of minus [`Self::bound`] of one draw as a step of training takes it; its gradients are those of the
    /// noise's distribution too.
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn loss(&self, memory: Memory, images: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<FlowLoss> {
        let (x, log_density) = self.with_noise(images, rng)?;
        let loss = memory.forward_kl(self, &x, context, rng)?;
        let Some(log_density) = log_density else { return Ok(loss) };
        let of_noise = log_density.mean_all()?;
        Ok(match loss {
            FlowLoss::Graph(loss) => FlowLoss::Graph((loss + of_noise)?),
            FlowLoss::Known(mut known) => {
                let other = LossGradients::of(&of_noise)?;
                known.value += other.value;
                known.gradients = match (known.gradients, other.gradients) {
                    (Some(mut sum), Some(part)) => {
                        sum.extend(part)?;
                        Some(sum)
                    }
                    _ => None,
                };
                FlowLoss::Known(known)
            }
        })
    }

    /// The context of a model that is given images of lower resolution, for whole colours 0 to 255 of them,
    /// (B, C, H / scale, W / scale): the middles of their values, in [-1/2, 1/2].
    ///
    /// # Errors
    /// When the model is not, or the images have another shape.
    pub fn given(&self, small: &Tensor) -> Result<Tensor> {
        let Some(shape) = self.config.condition_shape() else {
            return Err(Error::Config("this Glow is not given images: train one with a `condition`".into()));
        };
        if small.dims().get(1..) != Some(&shape) {
            return Err(Error::shape("the image that a Glow is given", small.dims(), format!("(B, {shape:?})")));
        }
        let (dtype, device) = (self.parameters.dtype(), self.parameters.device());
        Ok(small.to_dtype(DType::F64)?.affine(1.0 / 256.0, 0.5 / 256.0 - 0.5)?.to_dtype(dtype)?.to_device(device)?)
    }

    /// Colours between 0 and 1 for images of the model: the lower ends of their bins, stretched to reach 1.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn quantize(&self, x: &Tensor) -> Result<Tensor> {
        let bins = self.config.bins();
        let values = x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        // A comparison that NaN fails gives black.
        let level = |v: f32| match (f64::from(v) + 0.5) * bins {
            at if at >= bins => 1.0,
            at if at > 0.0 => (at.floor() / (bins - 1.0)) as f32,
            _ => 0.0,
        };
        Ok(Tensor::from_vec(values.into_iter().map(level).collect::<Vec<f32>>(), x.shape(), &Device::Cpu)?)
    }

    /// The bits a colour of an image takes, given its log-density: `(D ln bins - log p(x)) / (D ln 2)`.
    pub fn bits(&self, log_prob: f64) -> f64 {
        let dims = self.config.dims() as f64;
        (dims * self.config.bins().ln() - log_prob) / (dims * LN_2)
    }

    /// Writes weights, buffers and config to one file.
    ///
    /// # Errors
    /// When the file cannot be written; then an older one of the name is still whole.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let config = serde_json::to_string(&self.config).map_err(|e| Error::Config(e.to_string()))?;
        save_model(path.as_ref(), Self::KIND, &config, &self.parameters.tensors())
    }

    /// The Glow that [`Self::save`] or a training run wrote, on this device.
    ///
    /// # Errors
    /// When the file is missing, broken, of another kind or of a newer format.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let file = load_model(path.as_ref())?;
        file.expect_kind(Self::KIND)?;
        let dtype = file.tensors.values().map(Tensor::dtype).find(|t| t.is_float()).unwrap_or(DType::F32);
        let config = file.config()?;
        Self::with_tensors(config, dtype, device, file.tensors).map_err(|e| Error::file(path.as_ref(), e))
    }

    /// What it is made of.
    pub fn structure(&self) -> Structure {
        let [channels, height, width] = self.config.shape;
        let details = format!("over images of {channels} x {height} x {width}, {} bits", self.config.bits);
        let noise = self.noise.iter().map(|noise| Structure::new("Dequantizer", "").part(noise.structure()));
        Structure::new("Glow", details).part(self.distribution.structure()).parts(noise)
    }
}

impl Distribution for Glow {
    fn event_shape(&self) -> &[usize] {
        self.distribution.event_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.distribution.log_prob(x, context)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.distribution.log_prob_training(x, context, rng)
    }

    fn detached(&self) -> Option<&dyn Distribution> {
        Some(&self.detached)
    }

    fn transformed(&self) -> Option<&Transformed> {
        Some(&self.distribution)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.distribution.sample(count, context, rng)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.distribution.sample_with_log_prob(count, context, rng)
    }
}

impl std::fmt::Display for Glow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.structure().fmt(f)
    }
}
