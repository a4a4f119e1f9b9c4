//! The multi-scale density over images.

use super::ImageConfig;
use super::scale::{ScaleFlow, flows};
use crate::{Cnf, Cost, Pairing};
use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::{Bijector, Chain, Direction, Equalize, Logit, Reshape, Standardize, Whiten};
use flows_core::data::{dequantize, quantize};
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::nn::Scope;
use flows_core::{Config, Error, Model, Result, Rng, Structure};
use std::f64::consts::LN_2;
use std::ops::Deref;
use std::sync::Arc;

/// The number of levels of a colour.
const LEVELS: usize = 256;
/// The range of colours.
const COLOURS: [f64; 2] = [0.0, 1.0];
/// The number of images per solve.
const BLOCK: usize = 64;

/// A trainable density over images (C, H, W) with colours in [0, 1], as one bijection between images and standard
/// normal vectors: the multi-scale flow of Grathwohl et al. (2019, section 4.2).
///
/// From the data to the base, an image passes through the logit or a histogram equalization, one shift and scale for
/// all colours, an optional whitening, and the scales. Each scale consists of continuous flows, a squeeze and more
/// continuous flows, after which half of the channels are factored out; the last scale has flows only.
/// [`Distribution::log_prob`] estimates the divergence of all but the smallest images with noise that is the same at
/// every call; [`ImageDensity::score`] draws the noise from a generator.
///
/// ```
/// use ffjord::field::{ConvConfig, FieldConfig};
/// use ffjord::{CnfSettings, ImageConfig, ImageModel};
/// use flows_core::{Rng, distributions::Distribution};
/// let field = FieldConfig::Conv(ConvConfig { hidden: vec![8], ..ConvConfig::default() });
/// let flow = CnfSettings { field, ..CnfSettings::default() };
/// let config =
///     ImageConfig { shape: [1, 8, 8], alpha: 1e-6, equalize: false, whiten: false, scales: 2, flows: 1, flow };
/// let mut rng = Rng::seed(0);
/// let model = ImageModel::new(config, &mut rng)?;
/// let images = model.sample(2, None, &mut rng)?;
/// assert_eq!((images.dims(), model.score(&images, &mut rng)?.dims()), (&[2, 1, 8, 8][..], &[2][..]));
/// # Ok::<(), flows_core::Error>(())
/// ```
pub type ImageModel = Model<ImageConfig>;

/// The density that an [`ImageConfig`] builds.
#[derive(Debug)]
pub struct ImageDensity {
    config: ImageConfig,
    /// In order from the base to the data.
    flows: Vec<ScaleFlow>,
    standardize: Standardize,
    whiten: Option<Whiten>,
    /// Between unbounded numbers and colours: the logit or an equalization.
    colours: Arc<dyn Bijector>,
    transformed: Transformed,
    dtype: DType,
    device: Device,
}

impl Config for ImageConfig {
    const KIND: &'static str = "ffjord-images";
    type Built = ImageDensity;

    fn build(&self, scope: &Scope) -> Result<ImageDensity> {
        self.check()?;
        let (dtype, device) = (scope.dtype(), scope.device().clone());
        let standardize = Standardize::new(&self.shape, &scope.enter("data"))?;
        let colours: Arc<dyn Bijector> = match self.equalize {
            false => Arc::new(Logit::new(&self.shape, self.alpha, COLOURS)?),
            true => Arc::new(Equalize::new(self.shape, LEVELS, COLOURS, &scope.enter("equalize"))?),
        };
        let whiten = self.whiten.then(|| Whiten::new(self.shape, &scope.enter("whiten"))).transpose()?;
        let flows = flows(self, &scope.enter("scales"))?;
        let mut chain: Vec<Box<dyn Bijector>> = vec![Box::new(Reshape::flatten(&self.shape))];
        chain.extend(flows.iter().map(|flow| Box::new(flow.clone()) as Box<dyn Bijector>));
        chain.extend(whiten.clone().map(|whiten| Box::new(whiten) as Box<dyn Bijector>));
        chain.extend([Box::new(standardize.clone()) as Box<dyn Bijector>, Box::new(colours.clone())]);
        let base = StandardNormal::new([self.dims()], dtype, &device)?;
        let transformed = Transformed::new(base, Chain::new(chain)?)?.without_context();
        Ok(ImageDensity { config: self.clone(), flows, standardize, whiten, colours, transformed, dtype, device })
    }

    fn root(&self) -> Structure {
        let [channels, height, width] = self.shape;
        Structure::new("ffjord", format!("over images of {channels} x {height} x {width}"))
    }
}

impl ImageDensity {
    /// The continuous flows, in order from the base to the data.
    pub fn flows(&self) -> Vec<Cnf> {
        self.flows.iter().map(|flow| flow.cnf().clone()).collect()
    }

    /// The bijector between unbounded numbers and colours: a logit or a histogram equalization.
    pub fn colours(&self) -> &dyn Bijector {
        &*self.colours
    }

    /// Fits the common shift and scale, and if enabled the histogram and the whitening, to images x (B, C, H, W) with
    /// colours in [0, 1].
    ///
    /// # Errors
    /// When a shape is wrong or a value is not finite.
    pub fn standardize(&self, x: &Tensor) -> Result<()> {
        let z = self.colours.initialize(x, None)?.to_dtype(DType::F64)?;
        let mean = z.mean_all()?.to_scalar::<f64>()?;
        let deviation = (z - mean)?.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt();
        // Two images that have this mean and this standard deviation at every position.
        let [channels, height, width] = self.config.shape;
        let two = Tensor::new(&[mean - deviation, mean + deviation], &Device::Cpu)?;
        self.standardize.fit(&two.reshape((2, 1, 1, 1))?.broadcast_as((2, channels, height, width))?)?;
        let Some(whiten) = &self.whiten else { return Ok(()) };
        whiten.fit(&self.standardize.inverse(&self.colours.inverse(x, None)?.0, None)?.0)
    }

    /// The loss of flow matching for images x (B, C, H, W), a scalar; see [`Cnf::matching_loss`].
    ///
    /// # Errors
    /// When a shape is wrong, or the model has more than one flow.
    pub fn matching_loss(&self, x: &Tensor, pairing: Pairing, rng: &mut Rng) -> Result<Tensor> {
        let [flow] = &self.flows[..] else {
            return Err(several_flows());
        };
        let z = self.unbounded(x)?.0;
        flow.matching_loss(&z, pairing, rng)
    }

    /// The cost of the solves since the last call.
    pub fn take_cost(&self) -> Cost {
        self.flows.iter().map(|flow| flow.cnf().take_cost()).fold(Cost::default(), Cost::plus)
    }

    /// The log-densities (B) of images x (B, C, H, W), without gradients: the divergence of all but the smallest images
    /// is estimated with noise from `rng`.
    ///
    /// # Errors
    /// When a shape is wrong or a solver fails.
    pub fn score(&self, x: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        in_blocks(x, |x| {
            let (mut v, mut log_det) = self.unbounded(x)?;
            for flow in self.flows.iter().rev() {
                let (next, part) = flow.estimate(Direction::Inverse, &v.detach(), rng)?;
                (v, log_det) = (next, (log_det + part)?);
            }
            let log_prob = (self.base().log_prob(&v.flatten_from(1)?, None)? + log_det)?;
            Ok(vec![log_prob.detach()])
        })
        .map(|mut found| found.remove(0))
    }

    /// Advances the generator as [`Self::dequantize`] and then [`Self::score`] would for this many images, at most a
    /// block.
    #[cfg(feature = "cli")]
    pub(super) fn skip_noise(&self, images: usize, rng: &mut Rng) -> Result<()> {
        (0..images * self.config.dims()).for_each(|_| _ = rng.uniform());
        self.flows.iter().rev().try_for_each(|flow| flow.skip_noise(images, rng))
    }

    /// The images of noise (B, D).
    ///
    /// # Errors
    /// When the shape is wrong or a solver fails.
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok(self.path(z, &[1.0])?.remove(0))
    }

    /// The images (B, C, H, W) on the path from noise z (B, D) to the data, at each of these `fractions` of the path, which
    /// increase from 0, the base, to 1, the data. The flows act one after another, so channels that were factored out
    /// remain noise until the flows of their scale.
    ///
    /// # Errors
    /// When a shape is wrong or a solver fails.
    pub fn path(&self, z: &Tensor, fractions: &[f64]) -> Result<Vec<Tensor>> {
        let count = self.flows.len() as f64;
        let reshape = Reshape::flatten(&self.config.shape);
        in_blocks(z, |z| {
            let mut at = reshape.forward(z, None)?.0;
            let mut states = Vec::new();
            for (i, flow) in self.flows.iter().enumerate() {
                let (end, first, last) = (flow.cnf().end_time()?, i == 0, i + 1 == self.flows.len());
                // The fractions of this flow's part of the path.
                let within = fractions.iter().map(|fraction| fraction * count - i as f64);
                let within = within.filter(|at| (first || *at > 0.0) && (last || *at <= 1.0));
                let times: Vec<f64> = within.map(|at| (end * (1.0 - at)).clamp(0.0, end)).collect();
                let mut stops = vec![end];
                stops.extend(times.iter().filter(|t| **t > 0.0 && **t < end));
                stops.push(0.0);
                let seen = flow.trajectory(&at, &stops)?;
                for t in times {
                    let place = stops.iter().position(|stop| *stop == t).unwrap_or(0);
                    states.push(seen[place].clone());
                }
                at = seen.into_iter().next_back().unwrap_or(at);
            }
            states.iter().map(|v| self.image(v)).collect()
        })
    }

    /// What the flows map to the base, (B, C, H, W), and the log-determinant so far, (B).
    fn unbounded(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (v, colours) = self.colours.inverse(x, None)?;
        let (v, scale) = self.standardize.inverse(&v, None)?;
        let log_det = (colours + scale)?;
        let Some(whiten) = &self.whiten else { return Ok((v, log_det)) };
        let (v, white) = whiten.inverse(&v, None)?;
        Ok((v, (log_det + white)?))
    }

    /// The images (B, C, H, W) of what the flows map from the base.
    fn image(&self, v: &Tensor) -> Result<Tensor> {
        let v = self.whiten.as_ref().map_or(Ok(v.clone()), |whiten| Ok::<_, Error>(whiten.forward(v, None)?.0))?;
        Ok(self.colours.forward(&self.standardize.forward(&v, None)?.0, None)?.0.detach())
    }

    /// Dequantizes integer values 0 to 255, (B, C, H, W), to colours in [0, 1], with uniform noise of the width of a
    /// level, which gives inputs of the density.
    ///
    /// # Errors
    /// When the device fails.
    pub fn dequantize(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        Ok(dequantize(images, LEVELS as f64, COLOURS[0], rng)?.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// Quantizes the model's images to values in [0, 1]: the lower ends of their bins, scaled to reach 1.
    ///
    /// # Errors
    /// When the device fails.
    pub fn quantize(&self, x: &Tensor) -> Result<Tensor> {
        quantize(x, LEVELS as f64, COLOURS[0])
    }

    /// The bits per dimension of an image, given its log-density in nats: `(ln 256 - log p(x) / D) / ln 2`.
    pub fn bits(&self, log_prob: f64) -> f64 {
        ((LEVELS as f64).ln() - log_prob / self.config.dims() as f64) / LN_2
    }
}

fn several_flows() -> Error {
    Error::Config("flow matching trains a single flow: set `scales = 1` and `flows = 1`, or `matching = 0`".into())
}

/// Applies `f` to blocks of rows and concatenates the results.
fn in_blocks(x: &Tensor, mut f: impl FnMut(&Tensor) -> Result<Vec<Tensor>>) -> Result<Vec<Tensor>> {
    let rows = x.dims().first().copied().unwrap_or(0);
    if rows == 0 {
        return Err(Error::Data("there is no image: give at least one".into()));
    }
    let blocks = (0..rows).step_by(BLOCK).map(|start| f(&x.narrow(0, start, BLOCK.min(rows - start))?));
    let blocks = blocks.collect::<Result<Vec<_>>>()?;
    let part = |i: usize| {
        let parts: Vec<&Tensor> = blocks.iter().filter_map(|block| block.get(i)).collect();
        Ok(Tensor::cat(&parts, 0)?)
    };
    (0..blocks[0].len()).map(part).collect()
}

impl Deref for ImageDensity {
    type Target = Transformed;

    fn deref(&self) -> &Transformed {
        &self.transformed
    }
}

impl Distribution for ImageDensity {
    fn event_shape(&self) -> &[usize] {
        self.transformed.event_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.transformed.log_prob(x, context)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.transformed.log_prob_training(x, context, rng)
    }

    fn sample(&self, count: usize, _: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.decode(&rng.normal_tensor((count, self.config.dims()), self.dtype, &self.device)?)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.transformed.sample_with_log_prob(count, context, rng)
    }

    fn sample_with_log_prob_training(
        &self,
        count: usize,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor)> {
        self.transformed.sample_with_log_prob_training(count, context, rng)
    }

    fn dtype(&self) -> Option<DType> {
        Some(self.dtype)
    }

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn structure(&self) -> Structure {
        self.transformed.structure()
    }
}
