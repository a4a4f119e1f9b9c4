//! A continuous flow as people use it: config, parameters and distribution in one.

use crate::ZeroCentre;
use crate::cnf::{Cnf, CnfSettings, Cost, Coupling};
use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::{Bijector, Chain, Standardize};
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::files::{load_model, save_model};
use flows_core::nn::Parameters;
use flows_core::{Error, Result, Rng, Structure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// All that says which density a [`Model`] is; its parameters are the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of columns of the data.
    pub features: usize,
    /// The names of the columns, if they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Continuous flows, one after another.
    pub flows: usize,
    /// What each of them is.
    pub flow: CnfSettings,
}

/// A trainable density over vectors: continuous flows from a standard normal, and a shift and scale of
/// the data that are part of the model.
///
/// With a field over particles ([`Graph`](crate::field::Graph)) the features are their positions, and the
/// density one of configurations up to where they are: see [`ZeroCentre`].
///
/// ```
/// use ffjord::{CnfSettings, Model, ModelConfig};
/// use flows_core::{Rng, distributions::Distribution};
/// let config = ModelConfig { features: 3, columns: None, flows: 1, flow: CnfSettings::default() };
/// let mut rng = Rng::seed(0);
/// let model = Model::new(config, &mut rng)?;
/// let x = model.sample(5, None, &mut rng)?;
/// assert_eq!(model.log_prob(&x, None)?.dims(), [5]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    parameters: Parameters,
    parts: Parts,
    detached: Parts,
}

/// What a model is made of; a second time with the weights as constants, for use rather than training.
#[derive(Debug)]
struct Parts {
    /// From the base to the data.
    flows: Vec<Cnf>,
    frame: Frame,
    distribution: Transformed,
}

/// The last step, which depends on the training data alone.
#[derive(Clone, Debug)]
enum Frame {
    Columns(Standardize),
    Particles(ZeroCentre),
}

impl Frame {
    fn bijector(&self) -> &dyn Bijector {
        match self {
            Self::Columns(map) => map,
            Self::Particles(map) => map,
        }
    }
}

impl Parts {
    fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        let ModelConfig { features, flows, ref flow, .. } = *config;
        let scope = parameters.scope();
        let of_data = scope.enter("data");
        let frame = match flow.field.space() {
            None => Frame::Columns(Standardize::new(&[features], &of_data)?),
            Some(space) if space > 0 && features.is_multiple_of(space) => {
                Frame::Particles(ZeroCentre::new(features / space, space, &of_data)?)
            }
            Some(space) => {
                return Err(Error::Config(format!(
                    "{features} columns are not the positions of particles in {space} dimensions: set the \
                     `dimension` of `flow.field`"
                )));
            }
        };
        let dim = frame.bijector().latent_shape()[0];
        let part = |i: usize| Cnf::new(dim, flow, None, &scope.enter("flow").enter(i));
        let flows = (0..flows).map(part).collect::<Result<Vec<_>>>()?;
        let mut chain: Vec<Box<dyn Bijector>> = Vec::new();
        chain.extend(flows.iter().map(|cnf| Box::new(cnf.clone()) as Box<dyn Bijector>));
        chain.push(match &frame {
            Frame::Columns(map) => Box::new(map.clone()),
            Frame::Particles(map) => Box::new(map.clone()),
        });
        let base = StandardNormal::new([dim], parameters.dtype(), parameters.device())?;
        let distribution = Transformed::new(Box::new(base), Box::new(Chain::new(chain)?))?;
        Ok(Self { flows, frame, distribution })
    }

    /// What the solves have cost since this was last asked.
    fn take_cost(&self) -> Cost {
        self.flows.iter().map(Cnf::take_cost).fold(Cost::default(), Cost::plus)
    }
}

/// Samples carry no gradient, and are found without their density.
impl Distribution for Parts {
    fn event_shape(&self) -> &[usize] {
        self.distribution.event_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.distribution.log_prob(x, context)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let mut at = self.distribution.base().sample(count, context, rng)?;
        for cnf in &self.flows {
            let states = cnf.trajectory(&at, None, &[cnf.end_time()?, 0.0])?;
            at = states.into_iter().next_back().unwrap_or(at);
        }
        Ok(self.frame.bijector().forward(&at, None)?.0)
    }
}

impl Model {
    /// The `kind` that a model's file names.
    pub const KIND: &str = "ffjord";

    /// A model of f32 on the CPU whose weights are drawn from `rng`.
    ///
    /// # Errors
    /// When the config names a size or a setting that cannot be.
    pub fn new(config: ModelConfig, rng: &mut Rng) -> Result<Self> {
        Self::on(config, DType::F32, &Device::Cpu, rng)
    }

    /// A model of this type on this device.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on(config: ModelConfig, dtype: DType, device: &Device, rng: &mut Rng) -> Result<Self> {
        let ModelConfig { features, flows, ref columns, .. } = config;
        if !(1..=100).contains(&flows) || !(1..=100_000).contains(&features) {
            return Err(Error::Config("a model has 1 to 100 flows, over 1 to 100,000 features".into()));
        }
        if columns.as_ref().is_some_and(|names| names.len() != features) {
            return Err(Error::Config("the names of the columns are not one a column: give as many, or none".into()));
        }
        let parameters = Parameters::new(dtype, device, rng.fork());
        let (parts, detached) = (Parts::new(&config, &parameters)?, Parts::new(&config, &parameters.detached())?);
        Ok(Self { config, parameters, parts, detached })
    }

    /// The config it was made from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Its weights and buffers.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The continuous flows, from the base to the data.
    pub fn flows(&self) -> &[Cnf] {
        &self.parts.flows
    }

    /// The number of dimensions that a density is counted in: that of the features, or of configurations
    /// of particles whose centre is 0.
    pub fn dimensions(&self) -> usize {
        self.parts.frame.bijector().latent_shape()[0]
    }

    /// Sets shift and scale from the columns of the training data, (B, features), or a scale from the
    /// configurations of particles.
    ///
    /// # Errors
    /// When a shape is wrong or a value is not finite.
    pub fn standardize(&self, x: &Tensor) -> Result<()> {
        match &self.parts.frame {
            Frame::Columns(map) => map.fit(x),
            Frame::Particles(map) => map.fit(x),
        }
    }

    /// The loss of flow matching for data x (B, features), a scalar: training without a solver.
    ///
    /// # Errors
    /// When a shape is wrong, or the model has more flows than one.
    pub fn matching_loss(&self, x: &Tensor, coupling: Coupling, rng: &mut Rng) -> Result<Tensor> {
        let [cnf] = &self.parts.flows[..] else {
            return Err(Error::Config("flow matching trains a single flow: set `flows = 1` or `matching = 0`".into()));
        };
        cnf.matching_loss(&self.parts.frame.bijector().inverse(x, None)?.0, None, coupling, rng)
    }

    /// What the solves have cost since this was last asked.
    pub fn take_cost(&self) -> Cost {
        self.parts.take_cost().plus(self.detached.take_cost())
    }

    /// The end times of the flows.
    fn end_times(&self) -> Result<Vec<f64>> {
        self.detached.flows.iter().map(Cnf::end_time).collect()
    }

    /// Points z (B, dimensions) of the base on their way to the data: where they are at each of `shares`,
    /// which rise from 0, the base, to 1, the data.
    ///
    /// # Errors
    /// When a shape is wrong or a solver cannot go on.
    pub fn path(&self, z: &Tensor, shares: &[f64]) -> Result<Vec<Tensor>> {
        let (ends, mut at, mut states) = (self.end_times()?, z.clone(), Vec::new());
        let (span, mut first) = (ends.iter().sum::<f64>(), 0.0);
        for (cnf, end) in self.detached.flows.iter().zip(ends) {
            // Times within this flow, which begins at its base.
            let within = shares.iter().map(|share| share * span - first).filter(|t| (1e-9..=end + 1e-9).contains(t));
            let inner: Vec<f64> = within.map(|t| (end - t).max(0.0)).collect();
            let mut times = vec![end];
            times.extend(inner.iter().filter(|t| **t > 0.0));
            times.push(0.0);
            let seen = cnf.trajectory(&at, None, &times)?;
            states.extend(seen[1..=inner.len()].iter().cloned());
            at = seen.into_iter().next_back().unwrap_or(at);
            first += end;
        }
        if shares.first().is_some_and(|share| *share * span < 1e-9) {
            states.insert(0, z.clone());
        }
        states.iter().map(|z| Ok(self.detached.frame.bijector().forward(z, None)?.0)).collect()
    }

    /// The log-density of the points x (B, features) at a share of the way from the base (0) to the data
    /// (1), in the data's units; (B).
    ///
    /// # Errors
    /// When a shape is wrong or a solver cannot go on.
    pub fn log_prob_at(&self, x: &Tensor, share: f64) -> Result<Tensor> {
        let (mut z, mut log_det) = self.detached.frame.bijector().inverse(x, None)?;
        let ends = self.end_times()?;
        let mut first: f64 = ends.iter().sum();
        let reached = share * first;
        for (cnf, end) in self.detached.flows.iter().zip(ends).rev() {
            first -= end;
            let within = (reached - first).clamp(0.0, end);
            let (next, part) = cnf.to_base(&z, end - within, None)?;
            (z, log_det) = (next, (log_det + part)?);
        }
        Ok((self.detached.distribution.base().log_prob(&z, None)? + log_det)?)
    }

    /// Writes weights, buffers and config to one file.
    ///
    /// # Errors
    /// When the file cannot be written; then an older one of the name is still whole.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let config = serde_json::to_string(&self.config).map_err(|e| Error::Config(e.to_string()))?;
        save_model(path.as_ref(), Self::KIND, &config, &self.parameters.tensors())
    }

    /// The model that [`Self::save`] wrote, on this device.
    ///
    /// # Errors
    /// When the file is missing, broken, of another kind or of a newer format.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let file = load_model(path)?;
        file.expect_kind(Self::KIND)?;
        let dtype = file.tensors.values().map(Tensor::dtype).find(|t| t.is_float()).unwrap_or(DType::F32);
        let loaded = Self::on(file.config()?, dtype, device, &mut Rng::seed(0))
            .and_then(|model| model.parameters.load(&file.tensors).map(|()| model));
        loaded.map_err(|e| Error::file(path, e))
    }

    /// What it is made of.
    pub fn structure(&self) -> Structure {
        Structure::new("ffjord", format!("over {} features", self.config.features))
            .part(self.parts.distribution.structure())
    }
}

impl Distribution for Model {
    fn event_shape(&self) -> &[usize] {
        self.parts.distribution.event_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.parts.distribution.log_prob(x, context)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.parts.distribution.log_prob_training(x, context, rng)
    }

    fn detached(&self) -> Option<&dyn Distribution> {
        Some(&self.detached)
    }

    fn transformed(&self) -> Option<&Transformed> {
        Some(&self.parts.distribution)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.parts.distribution.sample(count, context, rng)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.parts.distribution.sample_with_log_prob(count, context, rng)
    }
}
