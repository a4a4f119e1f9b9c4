//! The Glow model, a density of images.

use crate::{GlowConfig, dequantizer, flow};
use candle_core::{DType, Device, Tensor};
use flows_core::data::{dequantize, quantize, whole_colours};
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::nn::Scope;
use flows_core::ops::log_sum_exp;
use flows_core::train::{FlowLoss, LossGradients, Memory};
use flows_core::{Config, Error, Model, Result, Rng, Structure};
use rayon::prelude::*;
use std::f64::consts::LN_2;
use std::ops::{Deref, Range};

/// A trainable density over images (C, H, W) with values in [-1/2, 1/2], and a bijection between them and
/// standard normal vectors.
///
/// A model with classes takes them as context, (B, 1) of u32; one conditional on images of lower resolution takes the
/// result of [`GlowDensity::context_of`].
pub type Glow = Model<GlowConfig>;

/// The density built from a [`GlowConfig`].
#[derive(Debug)]
pub struct GlowDensity {
    config: GlowConfig,
    images: Transformed,
    /// The distribution of the dequantization noise, if it is learnt.
    noise: Option<Transformed>,
    parts: Vec<usize>,
    dtype: DType,
    device: Device,
}

impl Config for GlowConfig {
    const KIND: &'static str = "glow";
    type Built = GlowDensity;

    fn build(&self, scope: &Scope) -> Result<GlowDensity> {
        self.check()?;
        let (dtype, device) = (scope.dtype(), scope.device());
        let part = |i: usize| {
            let level: usize = self.level_shape(i).iter().product();
            if i + 1 == self.levels { level } else { level / 2 }
        };
        let images = Transformed::new(StandardNormal::new([self.dims()], dtype, device)?, flow(self, scope)?)?;
        let images = if self.is_conditional() { images } else { images.without_context() };
        let noise = |_| -> Result<Transformed> {
            let base = StandardNormal::new(self.level_shape(0), dtype, device)?;
            Transformed::new(base, dequantizer(self, &scope.enter("dequantizer"))?)
        };
        let noise = self.dequantizer.map(noise).transpose()?;
        let parts = (0..self.levels).map(part).collect();
        Ok(GlowDensity { config: self.clone(), images, noise, parts, dtype, device: device.clone() })
    }

    fn root(&self) -> Structure {
        let [channels, height, width] = self.shape;
        Structure::new("Glow", format!("over images of {channels} x {height} x {width}, {} bits", self.bits))
    }
}

impl Deref for GlowDensity {
    type Target = Transformed;

    fn deref(&self) -> &Transformed {
        &self.images
    }
}

/// [`Distribution::log_prob`] takes colours in [-1/2, 1/2], and up to the width of a value beyond, where noise may put
/// them; other colours are an error. Arbitrary points have a density under the [`Transformed`] that this dereferences
/// to.
impl Distribution for GlowDensity {
    fn event_shape(&self) -> &[usize] {
        self.images.event_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.check_colours(x)?;
        self.images.log_prob(x, context)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.check_colours(x)?;
        self.images.log_prob_training(x, context, rng)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.images.sample(count, context, rng)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.images.sample_with_log_prob(count, context, rng)
    }

    fn sample_with_log_prob_training(
        &self,
        count: usize,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor)> {
        self.images.sample_with_log_prob_training(count, context, rng)
    }

    /// Sets the actnorms from a first batch of images, unless that was done before.
    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        self.check_colours(x)?;
        self.images.initialize(x, context)
    }

    fn support(&self) -> flows_core::bijectors::Support {
        self.images.support()
    }

    fn dtype(&self) -> Option<DType> {
        self.images.dtype()
    }

    fn device(&self) -> Device {
        self.images.device()
    }

    fn structure(&self) -> Structure {
        let noise = self.noise.iter().map(|noise| Structure::new("Dequantizer", "").part(noise.structure()));
        Structure::new("Density", "").part(self.images.structure()).parts(noise)
    }
}

impl GlowDensity {
    /// The lengths of the parts of a latent vector, from the first (finest) level on.
    pub fn parts(&self) -> &[usize] {
        &self.parts
    }

    /// Checks that no colour is further out than noise can put it, as in images of another convention.
    fn check_colours(&self, x: &Tensor) -> Result<()> {
        if !x.dtype().is_float() || x.elem_count() == 0 {
            // The flow reports these.
            return Ok(());
        }
        let values = x.detach().flatten_all()?;
        let extreme = |t: Tensor| -> Result<f64> { Ok(t.to_dtype(DType::F64)?.to_scalar()?) };
        let (low, high) = (extreme(values.min(0)?)?, extreme(values.max(0)?)?);
        let bound = 0.5 + 1.0 / self.config.bins();
        // A NaN passes: it is reported elsewhere.
        if low < -bound || high > bound {
            return Err(Error::Data(format!(
                "the colours of x range from {low:.4} to {high:.4}, but those of a Glow are in [-1/2, 1/2]: apply \
                 `dequantize` to whole colours from 0 to 255, subtract 1/2 from colours in [0, 1], and clamp samples"
            )));
        }
        Ok(())
    }

    /// The images of latents (B, D).
    ///
    /// # Errors
    /// When the shape is wrong, or a class is missing.
    pub fn decode(&self, z: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.bijector().forward(z, context)?.0)
    }

    /// Samples whose latents have the standard deviation `temperature`.
    ///
    /// # Errors
    /// Same as [`Distribution::sample`].
    pub fn sample_at(&self, temperature: f64, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let (dtype, device) = (self.dtype, &self.device);
        let z = rng.tensor((count, self.config.dims()), dtype, device, |rng| temperature * rng.normal())?;
        self.decode_all(&z, context)
    }

    /// [`Self::decode`] for any number of rows, in parallel blocks; call it on the [`detached`](Model::detached) copy.
    ///
    /// # Errors
    /// Same as [`Self::decode`].
    pub fn decode_all(&self, z: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.in_blocks(z.dims().first().copied().unwrap_or(0), |block| {
            let context = context.map(|c| c.narrow(0, block.start, block.len())).transpose()?;
            Ok(self.bijector().forward(&z.narrow(0, block.start, block.len())?, context.as_ref())?.0)
        })
    }

    /// The log-densities of any number of images, (B), in parallel blocks; call it on the
    /// [`detached`](Model::detached) copy, which builds no graph.
    ///
    /// # Errors
    /// Same as [`Distribution::log_prob`].
    pub fn score(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.check_colours(x)?;
        self.score_noisy(x, context)
    }

    /// [`Self::score`] of what [`Self::with_noise`] made.
    fn score_noisy(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.in_blocks(x.dims().first().copied().unwrap_or(0), |block| {
            let context = context.map(|c| c.narrow(0, block.start, block.len())).transpose()?;
            self.images.log_prob(&x.narrow(0, block.start, block.len())?, context.as_ref())
        })
    }

    /// The concatenated results of `f` for blocks of rows, few enough for a network's activations to stay in the
    /// cache.
    fn in_blocks(&self, rows: usize, f: impl Fn(Range<usize>) -> Result<Tensor> + Sync) -> Result<Tensor> {
        const COLOURS: usize = 1 << 15;
        if rows == 0 {
            return Err(Error::Data("there are no images: give at least one".into()));
        }
        let most = (COLOURS / self.config.dims()).clamp(1, 64);
        // An even number of blocks, which does not depend on the number of threads, so that neither do the results.
        let size = rows.div_ceil(rows.div_ceil(most).next_multiple_of(2));
        let block = |i: usize| Ok(f(i * size..rows.min((i + 1) * size))?.detach());
        let blocks = rows.div_ceil(size);
        let parts: Vec<Tensor> = match self.device.is_cpu() {
            true => (0..blocks).into_par_iter().map(block).collect::<Result<_>>()?,
            // A GPU processes one block at a time.
            false => (0..blocks).map(block).collect::<Result<_>>()?,
        };
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// Dequantizes integer values 0 to 255, (B, C, H, W): reduces them to the model's bits and adds uniform noise of
    /// the width of a value, which gives inputs of the density.
    ///
    /// # Errors
    /// When colours are not integers of 0 to 255.
    pub fn dequantize(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        Ok(dequantize(images, self.config.bins(), -0.5, rng)?.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// Dequantizes integer values 0 to 255 with the model's noise, and returns the log-density of
    /// the noise, (B), in units of the width of a value; none, meaning 0, if the noise is uniform
    /// ([`Self::dequantize`]).
    ///
    /// # Errors
    /// When the shape is wrong, or colours are not integers of 0 to 255.
    pub fn with_noise(&self, images: &Tensor, rng: &mut Rng) -> Result<(Tensor, Option<Tensor>)> {
        let Some(noise) = &self.noise else { return Ok((self.dequantize(images, rng)?, None)) };
        whole_colours(images)?;
        let (dtype, device, bins) = (self.dtype, &self.device, self.config.bins());
        let values = images.to_dtype(DType::F64)?.affine(bins / 256.0, 0.0)?.floor()?;
        let values = values.to_dtype(dtype)?.to_device(device)?;
        let middles = values.affine(1.0 / bins, 0.5 / bins - 0.5)?;
        let (noise, log_density) = noise.sample_with_log_prob(images.dim(0)?, Some(&middles), rng)?;
        Ok(((values + noise)?.affine(1.0 / bins, -0.5)?, Some(log_density)))
    }

    /// Advances the generator as [`Self::with_noise`] would for this many images.
    ///
    /// # Errors
    /// When the device fails.
    pub fn skip_noise(&self, images: usize, rng: &mut Rng) -> Result<()> {
        for _ in 0..images {
            match &self.noise {
                Some(noise) => drop(noise.base().sample(1, None, rng)?),
                None => (0..self.config.dims()).for_each(|_| _ = rng.uniform()),
            }
        }
        Ok(())
    }

    /// A lower bound on `D ln bins` plus the log-probabilities of integer values 0 to 255, (B) in f64, for
    /// [`Self::bits`]: `ln mean(p(x) / q)` over `draws` draws of the noise, where x is the image with noise of density
    /// q (Burda et al., 2015, arXiv:1509.00519). No graph is built.
    ///
    /// # Errors
    /// Same as [`Distribution::log_prob`], and when there are no draws.
    pub fn bound(&self, images: &Tensor, context: Option<&Tensor>, draws: usize, rng: &mut Rng) -> Result<Tensor> {
        let draw = |_| -> Result<Tensor> {
            let (x, log_density) = self.with_noise(images, rng)?;
            let score = self.score_noisy(&x.detach(), context)?.to_dtype(DType::F64)?;
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

    /// The mean of minus [`Self::bound`] with one draw in training mode; its gradients include the weights of the
    /// noise's distribution.
    ///
    /// # Errors
    /// Same as [`Distribution::log_prob`].
    pub fn loss(&self, memory: Memory, images: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<FlowLoss> {
        let (x, log_density) = self.with_noise(images, rng)?;
        let loss = memory.forward_kl(&self.images, &x, context, rng)?;
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

    /// The context of a model conditional on images of lower resolution, for such images with integer values 0 to 255,
    /// (B, C, H / scale, W / scale): the midpoints of their values, in [-1/2, 1/2].
    ///
    /// # Errors
    /// When the model is not conditional on images, the images have another shape, or colours are not integers of 0 to 255.
    pub fn context_of(&self, small: &Tensor) -> Result<Tensor> {
        let Some(shape) = self.config.condition_shape() else {
            return Err(Error::Config("this Glow is not conditional on images: train one with a `condition`".into()));
        };
        if small.dims().get(1..) != Some(&shape) {
            return Err(Error::shape("the image that a Glow is given", small.dims(), format!("(B, {shape:?})")));
        }
        whole_colours(small)?;
        let (dtype, device) = (self.dtype, &self.device);
        Ok(small.to_dtype(DType::F64)?.affine(1.0 / 256.0, 0.5 / 256.0 - 0.5)?.to_dtype(dtype)?.to_device(device)?)
    }

    /// Quantizes the model's images to values in [0, 1]: the lower ends of their bins, scaled to reach 1.
    ///
    /// # Errors
    /// When the device fails.
    pub fn quantize(&self, x: &Tensor) -> Result<Tensor> {
        quantize(x, self.config.bins(), -0.5)
    }

    /// The bits per dimension of an image with this log-density: `(D ln bins - log p(x)) / (D ln 2)`.
    pub fn bits(&self, log_prob: f64) -> f64 {
        let dims = self.config.dims() as f64;
        (dims * self.config.bins().ln() - log_prob) / (dims * LN_2)
    }
}
