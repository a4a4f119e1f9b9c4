//! A complete flow: config, parameters and distribution in one.

use super::NamedFlow;
use crate::bijectors::{Bijector, Bounds, Chain, Embed, Standardize, Support};
use crate::data::Schema;
use crate::distributions::{Distribution, Onto, Transformed};
use crate::nn::Scope;
use crate::shape::check_event;
use crate::{Config, Error, Model, Result, Structure};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::sync::Arc;

/// The config of a [`Flow`]: everything but its parameters.
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
    /// The names of the columns of the context, if they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_columns: Option<Vec<String>>,
    /// What the columns of the table hold that the flow was trained on, if it was one of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// The bounds of each column, if known: samples lie within them, and the density is 0 outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Vec<Bounds>>,
    /// Where the data lie, if it is not given by `bounds`: samples do too, and the density is 0 elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support: Option<Support>,
    /// Whether the networks of autoregressive layers have hidden units that see the context alone, so that the first
    /// dimension of each layer depends on it; absent from files older than this field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub context_units: bool,
    /// The architecture.
    pub model: NamedFlow,
}

impl FlowConfig {
    /// An unconditional flow over `features` columns.
    pub fn new(features: usize, model: impl Into<NamedFlow>) -> Self {
        Self {
            features,
            context: None,
            columns: None,
            context_columns: None,
            schema: None,
            bounds: None,
            support: None,
            context_units: true,
            model: model.into(),
        }
    }

    /// A flow over a support of vectors, such as named parameters. Its last step is [`Support::bijector`].
    ///
    /// ```
    /// use flows_core::{bijectors::Support, distributions::Distribution, flows::{Flow, FlowConfig, Nsf}, Rng};
    /// let mut rng = Rng::seed(0);
    /// let support = Support::named([("scale", Support::positive([])), ("shares", Support::Simplex { size: 3 })]);
    /// let flow = Flow::new(FlowConfig::over(support.clone(), Nsf::default()), &mut rng)?;
    /// let x = flow.sample(100, None, &mut rng)?;
    /// assert_eq!((x.dims(), support.part(&x, "shares")?.dims()), (&[100, 4][..], &[100, 3][..]));
    /// # Ok::<(), flows_core::Error>(())
    /// ```
    pub fn over(support: Support, model: impl Into<NamedFlow>) -> Self {
        let features = support.shape().first().copied().unwrap_or(0);
        Self { support: Some(support), ..Self::new(features, model) }
    }

    /// Conditions the flow on `context` columns.
    pub fn with_context(self, context: usize) -> Self {
        Self { context: Some(context), ..self }
    }

    /// Sets the bounds of each column, in order.
    ///
    /// The last step of the chain maps a flow over the reals into the bounds; see [`Support::Bounded`].
    ///
    /// ```
    /// use flows_core::{bijectors::Bounds, distributions::Distribution, flows::{Flow, FlowConfig, Maf}, Rng};
    /// let mut rng = Rng::seed(0);
    /// let bounds = [Bounds::NONE, Bounds::above(0.0), Bounds::between(-1.0, 1.0)];
    /// let flow = Flow::new(FlowConfig::new(3, Maf::default()).with_bounds(bounds), &mut rng)?;
    /// let rows = flow.sample(100, None, &mut rng)?.to_vec2::<f32>()?;
    /// assert!(rows.iter().all(|row| row[1] > 0.0 && row[2].abs() < 1.0));
    /// # Ok::<(), flows_core::Error>(())
    /// ```
    pub fn with_bounds(self, bounds: impl Into<Vec<Bounds>>) -> Self {
        Self { bounds: Some(bounds.into()), ..self }
    }

    /// The support of the data, if they have bounds.
    fn support(&self) -> Result<Option<Support>> {
        let features = self.features;
        let support = match (&self.bounds, &self.support) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(Error::Config("give the `bounds` of the data or their `support`, not both".into()));
            }
            (Some(bounds), None) if bounds.len() != features => {
                let got = bounds.len();
                return Err(Error::Config(format!("{got} bounds for {features} columns: give one pair for each")));
            }
            (Some(bounds), None) => Support::bounded([features], bounds.as_slice()),
            (None, Some(support)) => {
                support.check()?;
                if support.shape() != [features] {
                    let message = format!("{support} has events of shape {:?}, not [{features}]", support.shape());
                    return Err(Error::Config(format!("{message}: for one that has no vectors use `Support::named`")));
                }
                support.clone()
            }
        };
        if !self.model.architecture().is_standardized() {
            let name = self.model.name();
            return Err(Error::Config(format!("`{name}` is a flow of angles: omit the bounds, or use another flow")));
        }
        Ok(Some(support))
    }

    fn bounded(&self, scope: &Scope) -> Result<Option<Bounded>> {
        let Some(support) = self.support()? else { return Ok(None) };
        let bijector = support.bijector(scope.dtype(), scope.device())?.into();
        Ok(Some(Bounded { support, columns: self.columns.clone(), bijector }))
    }

    fn check(&self) -> Result<()> {
        let Self { features, context, .. } = *self;
        if !COLUMNS.contains(&features) || context.is_some_and(|width| !COLUMNS.contains(&width)) {
            let most = COLUMNS.end();
            return Err(Error::Config(format!(
                "a flow needs 1 to {most} features, and a context of 1 to {most} if any"
            )));
        }
        let named = |names: &Option<Vec<String>>, width| names.as_ref().is_none_or(|names| names.len() == width);
        if !named(&self.columns, features) || !named(&self.context_columns, context.unwrap_or(0)) {
            return Err(Error::Config("the number of column names differs: give one per column, or none".into()));
        }
        Ok(())
    }
}

/// The allowed number of columns.
const COLUMNS: std::ops::RangeInclusive<usize> = 1..=1_000_000;

/// A trainable density over vectors, with its config and its parameters.
///
/// The model standardizes data and context by a shift and scale that are part of it
/// (the identity until [`FlowDensity::standardize`] is called), so that log-likelihoods refer to the
/// original data.
///
/// ```
/// use flows_core::{distributions::Distribution, flows::{Flow, FlowConfig, Maf}, Rng};
/// let mut rng = Rng::seed(0);
/// let flow = Flow::new(FlowConfig::new(3, Maf::default()), &mut rng)?;
/// let x = flow.sample(5, None, &mut rng)?;
/// assert_eq!(flow.log_prob(&x, None)?.dims(), [5]);
/// # Ok::<(), flows_core::Error>(())
/// ```
pub type Flow = Model<FlowConfig>;

/// The density built from a [`FlowConfig`]: a flow between standardizing maps.
#[derive(Debug)]
pub struct FlowDensity {
    transformed: Transformed,
    data: Option<Standardize>,
    context: Option<Standardize>,
    bounds: Option<Bounded>,
}

/// The last step of a flow with bounds.
#[derive(Debug)]
struct Bounded {
    support: Support,
    columns: Option<Vec<String>>,
    bijector: Arc<dyn Bijector>,
}

impl Config for FlowConfig {
    const KIND: &'static str = "flow";
    type Built = FlowDensity;

    fn build(&self, scope: &Scope) -> Result<FlowDensity> {
        let FlowConfig { features, context, ref model, .. } = *self;
        self.check()?;
        let bounds = self.bounded(scope)?;
        let width = bounds.as_ref().map_or(features, |bounds| bounds.bijector.latent_shape()[0]);
        let data = Standardize::new(&[width], &scope.enter("data"))?;
        let architecture = model.architecture();
        let flow =
            architecture.bijector(width, context, &scope.enter("flow").with_context_units(self.context_units))?;
        let context = context.map(|width| Standardize::new(&[width], &scope.enter("context"))).transpose()?;
        let mut steps = vec![flow];
        if architecture.is_standardized() {
            steps.push(Box::new(data.clone()));
        }
        steps.extend(bounds.iter().map(|bounds| Box::new(bounds.bijector.clone()) as Box<dyn Bijector>));
        let chain = Chain::new(steps)?;
        let base = architecture.base(width, scope)?;
        let transformed = match &context {
            Some(context) => Transformed::new(base, Embed::new(Box::new(context.clone()), Box::new(chain)))?,
            None => Transformed::new(base, chain)?.without_context(),
        };
        // No named flow has a base with bounds, but for that of angles, whose maps are onto the circle; the others are
        // onto the reals.
        let transformed = match (architecture.is_standardized(), &bounds) {
            (false, _) => transformed.unchecked(),
            (true, None) => transformed.unchecked().onto(Onto::Reals),
            (true, Some(bounds)) => transformed.unchecked().onto(Onto::Range(bounds.bijector.clone())),
        };
        let data = architecture.is_standardized().then_some(data);
        Ok(FlowDensity { transformed, data, context, bounds })
    }

    fn splits_batches(&self) -> bool {
        self.model.architecture().splits_batches()
    }

    fn root(&self) -> Structure {
        let FlowConfig { features, context, model, .. } = self;
        let given = context.map_or(String::new(), |width| format!(" given {width}"));
        Structure::new(model.name(), format!("over {features} features{given}"))
    }
}

impl FlowDensity {
    /// Sets shift and scale from the columns of the training data, (B, features), and of their
    /// context. Flows of angles do not standardize their data; columns with bounds are standardized after the map to
    /// the reals.
    ///
    /// # Errors
    /// When a shape is wrong, a value is not finite or not within its bounds, or a context is missing or unexpected.
    pub fn standardize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        match (&self.context, context) {
            (Some(standardize), Some(context)) => standardize.fit(context)?,
            (Some(_), None) => {
                return Err(Error::Config("this flow is conditional: standardize its context as well".into()));
            }
            (None, context) => self.transformed.check_context(context)?,
        }
        let unbounded = self.bounds.as_ref().map(|bounds| bounds.remove(x)).transpose()?;
        self.data.as_ref().map_or(Ok(()), |data| data.fit(unbounded.as_ref().unwrap_or(x)))
    }
}

impl Bounded {
    /// Maps data within the bounds to the reals.
    fn remove(&self, x: &Tensor) -> Result<Tensor> {
        check_event("the data to standardize by", x, self.bijector.data_shape())?;
        let bounds = self.support.bounds();
        for (row, values) in x.to_dtype(DType::F64)?.to_vec2::<f64>()?.iter().enumerate() {
            for (column, (bounds, &value)) in bounds.iter().zip(values).enumerate() {
                // NaN is reported when standardizing.
                if bounds.contain(value) || value.is_nan() {
                    continue;
                }
                let name = match &self.columns {
                    Some(names) => format!("`{}`", names[column]),
                    None => column.to_string(),
                };
                return Err(Error::Data(format!(
                    "row {row} has {value} in column {name}, which has {bounds}: numbers must lie strictly inside; widen \
                     the bounds, or remove the row"
                )));
            }
        }
        let (z, log_det) = self.bijector.inverse(x, None)?;
        let log_det = log_det.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        if let Some(row) = log_det.iter().position(|v| *v == f64::NEG_INFINITY) {
            return Err(Error::Data(format!(
                "row {row} is not in the support: {}; correct or remove it",
                self.support
            )));
        }
        Ok(z)
    }
}

impl Deref for FlowDensity {
    type Target = Transformed;

    fn deref(&self) -> &Transformed {
        &self.transformed
    }
}

impl Distribution for FlowDensity {
    crate::delegate_distribution!(@but_initialize |self| self.transformed);

    /// Standardizes by all rows, unless already done, then runs the data-dependent initialisation of the layers.
    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        let is_fitted = |map: &Option<Standardize>| map.as_ref().map_or(Ok(false), Standardize::is_fitted);
        if !is_fitted(&self.data)? && !is_fitted(&self.context)? {
            self.standardize(x, context)?;
        }
        self.transformed.initialize(x, context)
    }

    fn structure(&self) -> Structure {
        self.transformed.structure()
    }
}
