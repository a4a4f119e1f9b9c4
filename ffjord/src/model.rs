//! Continuous flows over vectors and configurations of particles.

use crate::ZeroCentre;
use crate::cnf::{Cnf, CnfSettings, Cost, Pairing};
use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::{Bijector, Chain, Standardize};
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::nn::Scope;
use flows_core::{Config, Error, Model, Result, Rng, Structure};
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// The architecture of a [`ContinuousFlow`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContinuousFlowConfig {
    /// The number of columns of the data.
    pub features: usize,
    /// The names of the columns, if they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// The number of continuous flows in sequence.
    pub flows: usize,
    /// The settings of each flow.
    pub flow: CnfSettings,
}

/// A trainable density over vectors: continuous flows from a standard normal, followed by a shift and scale to the
/// units of the data.
///
/// With a field over particles ([`Graph`](crate::field::Graph)) the features are the positions of the particles, and
/// the density is one over configurations with centre 0: see [`ZeroCentre`].
///
/// ```
/// use ffjord::{CnfSettings, ContinuousFlow, ContinuousFlowConfig};
/// use flows_core::{Rng, distributions::Distribution};
/// let config = ContinuousFlowConfig { features: 3, columns: None, flows: 1, flow: CnfSettings::default() };
/// let mut rng = Rng::seed(0);
/// let model = ContinuousFlow::new(config, &mut rng)?;
/// let x = model.sample(5, None, &mut rng)?;
/// assert_eq!(model.log_prob(&x, None)?.dims(), [5]);
/// # Ok::<(), flows_core::Error>(())
/// ```
pub type ContinuousFlow = Model<ContinuousFlowConfig>;

/// The density that a [`ContinuousFlowConfig`] builds.
#[derive(Debug)]
pub struct ContinuousDensity {
    /// In order from the base to the data.
    flows: Vec<Cnf>,
    units: Units,
    transformed: Transformed,
    /// Whether the weights are constants, so that samples carry no gradient.
    is_detached: bool,
}

/// The last map of the chain, from standardized data to the units of the data; it is fitted to the training data.
#[derive(Clone, Debug)]
enum Units {
    Columns(Standardize),
    Particles(ZeroCentre),
}

impl Units {
    fn bijector(&self) -> &dyn Bijector {
        match self {
            Self::Columns(map) => map,
            Self::Particles(map) => map,
        }
    }
}

impl Config for ContinuousFlowConfig {
    const KIND: &'static str = "ffjord";
    type Built = ContinuousDensity;

    fn build(&self, scope: &Scope) -> Result<ContinuousDensity> {
        let Self { features, flows, ref columns, ref flow } = *self;
        if !(1..=100).contains(&flows) || !(1..=100_000).contains(&features) {
            return Err(Error::Config("a model needs 1 to 100 `flows` and 1 to 100,000 `features`".into()));
        }
        if columns.as_ref().is_some_and(|names| names.len() != features) {
            return Err(Error::Config(
                "the number of `columns` differs from `features`: name every column, or none".into(),
            ));
        }
        let data_scope = scope.enter("data");
        let units = match flow.field.space() {
            None => Units::Columns(Standardize::new(&[features], &data_scope)?),
            Some(space) if space > 0 && features.is_multiple_of(space) => {
                Units::Particles(ZeroCentre::new(features / space, space, &data_scope)?)
            }
            Some(space) => {
                return Err(Error::Config(format!(
                    "{features} columns are not the positions of particles in {space} dimensions: set the \
                     `dimension` of `flow.field`"
                )));
            }
        };
        let dim = units.bijector().latent_shape()[0];
        let part = |i: usize| Cnf::new(dim, flow, None, &scope.enter("flow").enter(i));
        let flows = (0..flows).map(part).collect::<Result<Vec<_>>>()?;
        let mut chain: Vec<Box<dyn Bijector>> = Vec::new();
        chain.extend(flows.iter().map(|cnf| Box::new(cnf.clone()) as Box<dyn Bijector>));
        chain.push(match &units {
            Units::Columns(map) => Box::new(map.clone()),
            Units::Particles(map) => Box::new(map.clone()),
        });
        let base = StandardNormal::new([dim], scope.dtype(), scope.device())?;
        let transformed = Transformed::new(base, Chain::new(chain)?)?.without_context();
        Ok(ContinuousDensity { flows, units, transformed, is_detached: scope.is_detached() })
    }

    fn root(&self) -> Structure {
        Structure::new("ffjord", format!("over {} features", self.features))
    }
}

impl Deref for ContinuousDensity {
    type Target = Transformed;

    fn deref(&self) -> &Transformed {
        &self.transformed
    }
}

impl Distribution for ContinuousDensity {
    fn event_shape(&self) -> &[usize] {
        self.transformed.event_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.transformed.log_prob(x, context)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.transformed.log_prob_training(x, context, rng)
    }

    /// Samples of a detached model are computed without their density, and carry no gradient.
    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        if !self.is_detached {
            return self.transformed.sample(count, context, rng);
        }
        let mut at = self.base().sample(count, context, rng)?;
        for cnf in &self.flows {
            let states = cnf.trajectory(&at, None, &[cnf.end_time()?, 0.0])?;
            at = states.into_iter().next_back().unwrap_or(at);
        }
        Ok(self.units.bijector().forward(&at, None)?.0)
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
        self.transformed.dtype()
    }

    fn device(&self) -> Device {
        self.transformed.device()
    }

    fn structure(&self) -> Structure {
        self.transformed.structure()
    }
}

impl ContinuousDensity {
    /// The continuous flows, in order from the base to the data.
    pub fn flows(&self) -> &[Cnf] {
        &self.flows
    }

    /// The cost of the solves since the last call.
    pub fn take_cost(&self) -> Cost {
        self.flows.iter().map(Cnf::take_cost).fold(Cost::default(), Cost::plus)
    }

    /// The number of dimensions of the space that the density is over: the number of features, or (N - 1) D for N
    /// particles in D dimensions with centre 0.
    pub fn dimensions(&self) -> usize {
        self.units.bijector().latent_shape()[0]
    }

    /// Fits the shift and scale of each column to training data x (B, features), or one scale to configurations of
    /// particles.
    ///
    /// # Errors
    /// When a shape is wrong or a value is not finite.
    pub fn standardize(&self, x: &Tensor) -> Result<()> {
        match &self.units {
            Units::Columns(map) => map.fit(x),
            Units::Particles(map) => map.fit(x),
        }
    }

    /// The loss of flow matching for data x (B, features), a scalar; see [`Cnf::matching_loss`].
    ///
    /// # Errors
    /// When a shape is wrong, or the model has more than one flow.
    pub fn matching_loss(&self, x: &Tensor, pairing: Pairing, rng: &mut Rng) -> Result<Tensor> {
        let [cnf] = &self.flows[..] else {
            return Err(Error::Config("flow matching trains a single flow: set `flows = 1` or `matching = 0`".into()));
        };
        cnf.matching_loss(&self.units.bijector().inverse(x, None)?.0, None, pairing, rng)
    }

    /// The end times of the flows.
    fn end_times(&self) -> Result<Vec<f64>> {
        self.flows.iter().map(Cnf::end_time).collect()
    }

    /// The positions (B, features) of points that start at z (B, dimensions) in the base, at each of these `fractions` of
    /// the time to the data, which increase from 0, the base, to 1, the data.
    ///
    /// # Errors
    /// When a shape is wrong or a solver fails.
    pub fn path(&self, z: &Tensor, fractions: &[f64]) -> Result<Vec<Tensor>> {
        let (ends, mut at, mut states) = (self.end_times()?, z.clone(), Vec::new());
        let (span, mut first) = (ends.iter().sum::<f64>(), 0.0);
        for (cnf, end) in self.flows.iter().zip(ends) {
            // Times within this flow, counted from its base.
            let within =
                fractions.iter().map(|fraction| fraction * span - first).filter(|t| (1e-9..=end + 1e-9).contains(t));
            let inner: Vec<f64> = within.map(|t| (end - t).max(0.0)).collect();
            let mut times = vec![end];
            times.extend(inner.iter().filter(|t| **t > 0.0));
            times.push(0.0);
            let seen = cnf.trajectory(&at, None, &times)?;
            states.extend(seen[1..=inner.len()].iter().cloned());
            at = seen.into_iter().next_back().unwrap_or(at);
            first += end;
        }
        if fractions.first().is_some_and(|fraction| *fraction * span < 1e-9) {
            states.insert(0, z.clone());
        }
        states.iter().map(|z| Ok(self.units.bijector().forward(z, None)?.0)).collect()
    }

    /// The log-density (B) of points x (B, features), in the units of the data, under the distribution at a `fraction` of
    /// the time between the base (0) and the data (1).
    ///
    /// # Errors
    /// When a shape is wrong or a solver fails.
    pub fn log_prob_at(&self, x: &Tensor, fraction: f64) -> Result<Tensor> {
        let (mut z, mut log_det) = self.units.bijector().inverse(x, None)?;
        let ends = self.end_times()?;
        let mut first: f64 = ends.iter().sum();
        let reached = fraction * first;
        for (cnf, end) in self.flows.iter().zip(ends).rev() {
            first -= end;
            let within = (reached - first).clamp(0.0, end);
            let (next, part) = cnf.to_base(&z, end - within, None)?;
            (z, log_det) = (next, (log_det + part)?);
        }
        Ok((self.transformed.base().log_prob(&z, None)? + log_det)?)
    }
}
