//! A flow as people use it: config, parameters and distribution in one.

use super::{Base, Model};
use crate::bijectors::{Bijector, Chain, Embed, Standardize};
use crate::distributions::{BoxUniform, Distribution, StandardNormal, Transformed};
use crate::files::{load_model, save_model};
use crate::nn::Parameters;
use crate::{Error, Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::path::Path;

/// All that says which flow a [`Flow`] is; its parameters are the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowConfig {
    /// Number of columns of the data.
    pub features: usize,
    /// Number of columns of the context, if the flow is conditional.
    #[serde(default)]
    pub context: Option<usize>,
    /// The names of the columns of the data, if they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// The names of the columns of the context, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_columns: Option<Vec<String>>,
    /// The architecture.
    pub model: Model,
}

impl FlowConfig {
    /// An unconditional flow over `features` columns.
    pub fn new(features: usize, model: impl Into<Model>) -> Self {
        Self { features, context: None, columns: None, context_columns: None, model: model.into() }
    }

    /// The same, conditioned on `context` columns.
    pub fn with_context(self, context: usize) -> Self {
        Self { context: Some(context), ..self }
    }
}

/// How many columns there may be.
const COLUMNS: std::ops::RangeInclusive<usize> = 1..=1_000_000;

/// A trainable density over vectors, with its config and its parameters.
///
/// Data and context are standardized on the way in, by a shift and scale that are part of the
/// model (none until [`Self::standardize`] is called), so that log-likelihoods are those of the
/// data as they are.
///
/// ```
/// use flows_core::{distributions::Distribution, flows::{Flow, FlowConfig, Maf}, Rng};
/// let mut rng = Rng::seed(0);
/// let flow = Flow::new(FlowConfig::new(3, Maf::default()), &mut rng)?;
/// let x = flow.sample(5, None, &mut rng)?;
/// assert_eq!(flow.log_prob(&x, None)?.dims(), [5]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Flow {
    config: FlowConfig,
    parameters: Parameters,
    distribution: Transformed,
    detached: Transformed,
    data: Standardize,
    context: Option<Standardize>,
}

impl Flow {
    /// The `kind` that a flow's file names.
    pub const KIND: &str = "flow";

    /// A flow of f32 on the CPU whose weights are drawn from `rng`.
    ///
    /// # Errors
    /// When the config names a size that cannot be.
    pub fn new(config: FlowConfig, rng: &mut Rng) -> Result<Self> {
        Self::on(config, DType::F32, &Device::Cpu, rng)
    }

    /// A flow of this type on this device.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on(config: FlowConfig, dtype: DType, device: &Device, rng: &mut Rng) -> Result<Self> {
        Self::build(config, Parameters::new(dtype, device, rng.fork()))
    }

    fn build(config: FlowConfig, parameters: Parameters) -> Result<Self> {
        let FlowConfig { features, context, .. } = config;
        if !COLUMNS.contains(&features) || context.is_some_and(|width| !COLUMNS.contains(&width)) {
            let most = COLUMNS.end();
            return Err(Error::Config(format!("a flow is over 1 to {most} features, given 1 to {most} if any")));
        }
        let named = |names: &Option<Vec<String>>, width| names.as_ref().is_none_or(|names| names.len() == width);
        if !named(&config.columns, features) || !named(&config.context_columns, context.unwrap_or(0)) {
            return Err(Error::Config("the names of the columns are not one a column: give as many, or none".into()));
        }
        let (distribution, data, context) = Self::distribution(&config, &parameters)?;
        let (detached, ..) = Self::distribution(&config, &parameters.detached())?;
        Ok(Self { config, parameters, distribution, detached, data, context })
    }

    /// The density, and what standardizes data and context.
    fn distribution(
        config: &FlowConfig,
        parameters: &Parameters,
    ) -> Result<(Transformed, Standardize, Option<Standardize>)> {
        let FlowConfig { features, context, ref model, .. } = *config;
        let (scope, dtype, device) = (parameters.scope(), parameters.dtype(), parameters.device());
        let data = Standardize::new(&[features], &scope.enter("data"))?;
        let architecture = model.architecture();
        let flow = architecture.bijector(features, context, &scope.enter("flow"))?;
        let context = context.map(|width| Standardize::new(&[width], &scope.enter("context"))).transpose()?;
        let mut bijector: Box<dyn Bijector> = Box::new(Chain::new(vec![flow, Box::new(data.clone())])?);
        if let Some(context) = &context {
            bijector = Box::new(Embed::new(Box::new(context.clone()), bijector));
        }
        let base: Box<dyn Distribution> = match architecture.base() {
            Base::Normal => Box::new(StandardNormal::new([features], dtype, device)?),
            Base::Circle => {
                let bound = Tensor::full(PI, features, device)?.to_dtype(dtype)?;
                Box::new(BoxUniform::new(&bound.neg()?, &bound)?)
            }
        };
        Ok((Transformed::new(base, bijector)?, data, context))
    }

    /// The config it was made from.
    pub fn config(&self) -> &FlowConfig {
        &self.config
    }

    /// Its weights and buffers.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Sets shift and scale from the columns of the training data, (B, features), and of their
    /// context; flows of angles, whose data need none, keep theirs.
    ///
    /// # Errors
    /// When a shape is wrong or a value is not finite.
    pub fn standardize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        if self.config.model.architecture().base() == Base::Normal {
            self.data.fit(x)?;
        }
        match (&self.context, context) {
            (Some(standardize), Some(context)) => standardize.fit(context),
            _ => Ok(()),
        }
    }

    /// Sets what depends on data (actnorm) from a first batch of the training data.
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        self.distribution.initialize(x, context).map(drop)
    }

    /// The points of the base that belong to x, (B, features).
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn latent(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.distribution.latent(x, context)
    }

    /// The bijector between base and data.
    pub fn bijector(&self) -> &dyn Bijector {
        self.distribution.bijector()
    }

    /// Writes weights, buffers and config to one file.
    ///
    /// # Errors
    /// When the file cannot be written; then an older one of the name is still whole.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let config = serde_json::to_string(&self.config).map_err(|e| Error::Config(e.to_string()))?;
        save_model(path.as_ref(), Self::KIND, &config, &self.parameters.tensors())
    }

    /// The flow that [`Self::save`] wrote, on this device.
    ///
    /// # Errors
    /// When the file is missing, broken, of another kind or of a newer format.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let file = load_model(path.as_ref())?;
        file.expect_kind(Self::KIND)?;
        let dtype = file.tensors.values().map(Tensor::dtype).find(|t| t.is_float()).unwrap_or(DType::F32);
        let config = file.config()?;
        let flow = Self::build(config, Parameters::saved(dtype, device, file.tensors));
        let checked = flow.and_then(|flow| flow.parameters.check_saved().map(|()| flow));
        checked.map_err(|e| Error::file(path.as_ref(), e))
    }

    /// What it is made of.
    pub fn structure(&self) -> Structure {
        let FlowConfig { features, context, model, .. } = &self.config;
        let given = context.map_or(String::new(), |width| format!(" given {width}"));
        let details = format!("over {features} features{given}");
        Structure::new(model.name(), details).part(self.distribution.structure())
    }
}

impl Distribution for Flow {
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

impl std::fmt::Display for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.structure().fmt(f)
    }
}
