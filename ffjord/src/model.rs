//! Continuous flows over vectors and configurations of particles.

use crate::ZeroCentre;
use crate::cnf::{Cnf, CnfSettings, Cost, Coupling};
use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::{Bijector, Chain, Standardize};
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::nn::Scope;
use flows_core::{Config, Error, Model, Result, Rng, Structure};
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// All that says which density a [`ContinuousFlow`] is; its parameters are the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContinuousFlowConfig {
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

/// What a [`ContinuousFlowConfig`] builds.
#[derive(Debug)]
pub struct ContinuousDensity {
    /// From the base to the data.
    flows: Vec<Cnf>,
    frame: Frame,
    transformed: Transformed,
    /// Whether its weights are constants, so that samples need no gradient.
    is_detached: bool,
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

impl Config for ContinuousFlowConfig {
    const KIND: &'static str = "ffjord";
    type Built = ContinuousDensity;

    fn build(&self, scope: &Scope) -> Result<ContinuousDensity> {
        let Self { features, flows, ref columns, ref flow } = *self;
        if !(1..=100).contains(&flows) || !(1..=100_000).contains(&features) {
            return Err(Error::Config("a model has 1 to 100 flows, over 1 to 100,000 features".into()));
        }
        if columns.as_ref().is_some_and(|names| names.len() != features) {
            return Err(Error::Config("the names of the columns are not one a column: give as many, or none".into()));
        }
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
        let base = StandardNormal::new([dim], scope.dtype(), scope.device())?;
        let transformed = Transformed::new(base, Chain::new(chain)?)?.without_context();
        Ok(ContinuousDensity { flows, frame, transformed, is_detached: scope.is_detached() })
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

    /// Those of the detached twin are found without their density, and carry no gradient.
    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        if !self.is_detached {
            return self.transformed.sample(count, context, rng);
        }
        let mut at = self.base().sample(count, context, rng)?;
        for cnf in &self.flows {
            let states = cnf.trajectory(&at, None, &[cnf.end_time()?, 0.0])?;
            at = states.into_iter().next_back().unwrap_or(at);
        }
        Ok(self.frame.bijector().forward(&at, None)?.0)
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
    /// The continuous flows, from the base to the data.
    pub fn flows(&self) -> &[Cnf] {
        &self.flows
    }

    /// What the solves have cost since this was last asked.
    pub fn take_cost(&self) -> Cost {
        self.flows.iter().map(Cnf::take_cost).fold(Cost::default(), Cost::plus)
    }

    /// The number of dimensions that a density is counted in: that of the features, or of configurations
    /// of particles whose centre is 0.
    pub fn dimensions(&self) -> usize {
        self.frame.bijector().latent_shape()[0]
    }

    /// Sets shift and scale from the columns of the training data, (B, features), or a scale from the
    /// configurations of particles.
    ///
    /// # Errors
    /// When a shape is wrong or a value is not finite.
    pub fn standardize(&self, x: &Tensor) -> Result<()> {
        match &self.frame {
            Frame::Columns(map) => map.fit(x),
            Frame::Particles(map) => map.fit(x),
        }
    }

    /// The loss of flow matching for data x (B, features), a scalar: training without a solver.
    ///
    /// # Errors
    /// When a shape is wrong, or the model has more flows than one.
    pub fn matching_loss(&self, x: &Tensor, coupling: Coupling, rng: &mut Rng) -> Result<Tensor> {
        let [cnf] = &self.flows[..] else {
            return Err(Error::Config("flow matching trains a single flow: set `flows = 1` or `matching = 0`".into()));
        };
        cnf.matching_loss(&self.frame.bijector().inverse(x, None)?.0, None, coupling, rng)
    }

    /// The end times of the flows.
    fn end_times(&self) -> Result<Vec<f64>> {
        self.flows.iter().map(Cnf::end_time).collect()
    }

    /// Points z (B, dimensions) of the base on their way to the data: where they are at each of `shares`,
    /// which rise from 0, the base, to 1, the data.
    ///
    /// # Errors
    /// When a shape is wrong or a solver cannot go on.
    pub fn path(&self, z: &Tensor, shares: &[f64]) -> Result<Vec<Tensor>> {
        let (ends, mut at, mut states) = (self.end_times()?, z.clone(), Vec::new());
        let (span, mut first) = (ends.iter().sum::<f64>(), 0.0);
        for (cnf, end) in self.flows.iter().zip(ends) {
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
        states.iter().map(|z| Ok(self.frame.bijector().forward(z, None)?.0)).collect()
    }

    /// The log-density of the points x (B, features) at a share of the way from the base (0) to the data
    /// (1), in the data's units; (B).
    ///
    /// # Errors
    /// When a shape is wrong or a solver cannot go on.
    pub fn log_prob_at(&self, x: &Tensor, share: f64) -> Result<Tensor> {
        let (mut z, mut log_det) = self.frame.bijector().inverse(x, None)?;
        let ends = self.end_times()?;
        let mut first: f64 = ends.iter().sum();
        let reached = share * first;
        for (cnf, end) in self.flows.iter().zip(ends).rev() {
            first -= end;
            let within = (reached - first).clamp(0.0, end);
            let (next, part) = cnf.to_base(&z, end - within, None)?;
            (z, log_det) = (next, (log_det + part)?);
        }
        Ok((self.transformed.base().log_prob(&z, None)? + log_det)?)
    }
}
