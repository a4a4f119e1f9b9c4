//! Densities of tables: a flow over columns of numbers, or the exact density of columns of several kinds.

mod check;
mod impute;
mod mixed;
mod proposal;
#[cfg(test)]
mod tests;

pub use check::TableCheck;
pub use impute::{Imputation, impute};
pub use mixed::{Mixed, MixedConfig, MixedDensity};

use super::{FlowConfig, FlowDensity, NamedFlow};
use crate::bijectors::Bounds;
use crate::data::{Dataset, Examples, Schema};
use crate::distributions::{Column, Distribution};
use crate::evaluate::{Mean, Split, baselines};
use crate::nn::Scope;
use crate::train::{FlowLoss, Memory, forward_kl};
use crate::{Config, Error, Model, Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The architecture of a density of a table, told apart by `kind` when serialised.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TableArchitecture {
    /// A flow over columns of numbers.
    Flow(NamedFlow),
    /// The density of columns of several kinds, `kind = "mixed"`.
    Mixed(Mixed),
}

impl TableArchitecture {
    /// The names of the architectures.
    pub fn names() -> impl Iterator<Item = &'static str> {
        std::iter::once(Mixed::NAME).chain(NamedFlow::NAMES.iter().copied())
    }

    /// The name of the architecture.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flow(flow) => flow.name(),
            Self::Mixed(_) => Mixed::NAME,
        }
    }

    /// The config of a model of the data, whose columns of the `context` are those named, by name or by index.
    ///
    /// # Errors
    /// When columns of several kinds are not those of a table, or a column cannot be modelled.
    pub fn config(&self, data: &Dataset, context: &[String]) -> Result<TableConfig> {
        match (self, &data.schema) {
            (Self::Flow(flow), schema) => {
                let bounds = schema.as_ref().map(|schema| bounds(schema, context)).transpose()?.flatten();
                Ok(TableConfig::Flow(Box::new(FlowConfig {
                    context: data.train.context_width(),
                    columns: data.columns.clone(),
                    context_columns: data.context_columns.clone(),
                    schema: schema.clone(),
                    bounds,
                    ..FlowConfig::new(data.train.features(), flow.clone())
                })))
            }
            (Self::Mixed(mixed), Some(schema)) => {
                mixed.fit(schema, context, data).map(|config| TableConfig::Mixed(Box::new(config)))
            }
            (Self::Mixed(_), None) => {
                Err(Error::Config("the model `mixed` is for the columns of a table: take a flow for other data".into()))
            }
        }
    }

    /// Data in the type that the model takes, on this device, after checking that f32 resolves the columns of a flow.
    ///
    /// # Errors
    /// When the model cannot take a number.
    pub fn check(&self, data: Dataset, device: &Device) -> Result<Dataset> {
        match self {
            Self::Mixed(_) => data.to(DType::F64, device),
            Self::Flow(flow) => {
                data.check_resolution()?;
                check_for(flow, data, device)
            }
        }
    }

    /// A model of two columns given `context` others, which reveals all errors in the settings.
    ///
    /// # Errors
    /// When a setting is invalid.
    pub fn trial(&self, context: Option<usize>) -> Result<TableModel> {
        let config = match self {
            Self::Flow(flow) => TableConfig::Flow(Box::new(FlowConfig { context, ..FlowConfig::new(2, flow.clone()) })),
            Self::Mixed(mixed) => TableConfig::Mixed(Box::new(mixed.trial()?)),
        };
        Model::new(config, &mut Rng::seed(0))
    }
}

/// Data in f32 on a device, if a flow can take it.
fn check_for(flow: &NamedFlow, data: Dataset, device: &Device) -> Result<Dataset> {
    if !flow.architecture().is_standardized() {
        data.check_angles()?;
    }
    data.to(DType::F32, device)
}

/// The bounds of the columns but those of the context, if one has any.
fn bounds(schema: &Schema, context: &[String]) -> Result<Option<Vec<Bounds>>> {
    let order = schema.order(context)?;
    let bounds: Vec<Bounds> = order[context.len()..].iter().map(|&i| schema.columns[i].bounds).collect();
    Ok(Some(bounds).filter(|bounds| bounds.iter().any(|bounds| *bounds != Bounds::NONE)))
}

impl<'de> Deserialize<'de> for TableArchitecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.get("kind").and_then(Value::as_str) == Some(Mixed::NAME) {
            true => parse(value).map(Self::Mixed),
            false => parse(value).map(Self::Flow),
        }
    }
}

fn parse<T: DeserializeOwned, E: serde::de::Error>(value: Value) -> std::result::Result<T, E> {
    serde_json::from_value(value).map_err(E::custom)
}

/// The config of a [`TableModel`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TableConfig {
    /// That of a flow.
    Flow(Box<FlowConfig>),
    /// That of columns of several kinds.
    Mixed(Box<MixedConfig>),
}

impl<'de> Deserialize<'de> for TableConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.get("mixed").is_some() {
            true => parse(value).map(Self::Mixed),
            false => parse(value).map(Self::Flow),
        }
    }
}

/// A density of a table: a [`Flow`](super::Flow), or one of columns of several kinds.
///
/// A file of a `Flow` is one of a `TableModel` as well.
pub type TableModel = Model<TableConfig>;

/// The density built from a [`TableConfig`].
#[derive(Debug)]
pub enum TableDensity {
    /// A flow.
    Flow(FlowDensity),
    /// A density of columns of several kinds.
    Mixed(MixedDensity),
}

impl TableDensity {
    fn density(&self) -> &dyn Distribution {
        match self {
            Self::Flow(flow) => flow,
            Self::Mixed(mixed) => mixed,
        }
    }

    /// The loss of maximum likelihood, as [`Memory::forward_kl`]. A density of columns of several kinds is one step, so
    /// its activations are stored in any case.
    ///
    /// # Errors
    /// As [`forward_kl`].
    pub fn loss(&self, memory: Memory, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<FlowLoss> {
        match self {
            Self::Flow(flow) => memory.forward_kl(flow, x, context, rng),
            Self::Mixed(mixed) => forward_kl(mixed, x, context, rng).map(FlowLoss::Graph),
        }
    }

    /// Fits what is computed from data before training: shift and scale from all `rows` if `standardize`, and the layers'
    /// own initialisation from the first `batch` of them.
    ///
    /// # Errors
    /// As [`FlowDensity::standardize`] and [`Distribution::initialize`].
    pub fn initialize_from(&self, rows: &Examples, standardize: bool, batch: usize) -> Result<()> {
        let Self::Flow(flow) = self else { return self.initialize(&rows.x, rows.context.as_ref()) };
        if standardize {
            flow.standardize(&rows.x, rows.context.as_ref())?;
        }
        let first = rows.rows(0..batch.min(rows.len()))?;
        flow.bijector().initialize(&first.x, first.context.as_ref())?;
        Ok(())
    }
}

impl TableConfig {
    /// The number of columns.
    pub fn features(&self) -> usize {
        match self {
            Self::Flow(flow) => flow.features,
            Self::Mixed(mixed) => mixed.features(),
        }
    }

    /// The names of the columns, if they have any.
    pub fn columns(&self) -> Option<&[String]> {
        match self {
            Self::Flow(flow) => flow.columns.as_deref(),
            Self::Mixed(mixed) => mixed.columns.as_deref(),
        }
    }

    /// The number of columns of the context, if there is one.
    pub fn context(&self) -> Option<usize> {
        match self {
            Self::Flow(flow) => flow.context,
            Self::Mixed(mixed) => Some(mixed.given).filter(|given| *given > 0),
        }
    }

    /// The names of the columns of the context, if they have any.
    pub fn context_columns(&self) -> Option<&[String]> {
        match self {
            Self::Flow(flow) => flow.context_columns.as_deref(),
            Self::Mixed(mixed) => mixed.context_columns.as_deref(),
        }
    }

    /// Data in the type that the model takes, on this device: f64 for columns of several kinds, whose values are normalised
    /// in f64, else f32.
    ///
    /// # Errors
    /// When the model cannot take a number.
    pub fn check(&self, data: Dataset, device: &Device) -> Result<Dataset> {
        match self {
            Self::Mixed(_) => data.to(DType::F64, device),
            Self::Flow(flow) => check_for(&flow.model, data, device),
        }
    }

    /// The mean log-likelihood of the test rows under simple densities of the same columns without their context, to stand
    /// beside the model's, see [`baselines`]; none for data that are no table of a file. Of longer parts it takes 20,000
    /// rows, spread evenly.
    ///
    /// # Errors
    /// As [`baselines`].
    pub fn baselines(&self, data: &Dataset, rng: &mut Rng) -> Result<BTreeMap<&'static str, Mean>> {
        const MOST: usize = 20_000;
        if data.schema.is_none() {
            return Ok(BTreeMap::new());
        }
        let rows = |part: &Examples| {
            let every: Vec<u32> = (0..part.len() as u32).step_by(part.len().div_ceil(MOST).max(1)).collect();
            Ok(part.select(&every)?.x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
        };
        let parts = [&data.train, &data.validation, &data.test].map(rows);
        let [train, validation, test]: [Result<Vec<f64>>; 3] = parts;
        let (train, validation, test) = (train?, validation?, test?);
        let split = Split { train: &train, validation: &validation, test: &test };
        let found = match self {
            Self::Mixed(mixed) => baselines(&mixed.mixed.columns[mixed.given..], split, rng)?,
            Self::Flow(flow) => {
                let column = |i: usize| {
                    let values: Vec<f64> = train.iter().skip(i).step_by(flow.features).copied().collect();
                    Column::smooth(i.to_string(), &values)
                };
                baselines(&(0..flow.features).map(column).collect::<Result<Vec<_>>>()?, split, rng)?
            }
        };
        Ok(found.into_iter().map(|baseline| (baseline.name, baseline.mean())).collect())
    }

    /// What the columns of the table hold that the model was trained on, if it was one of a file.
    pub fn schema(&self) -> Option<&Schema> {
        match self {
            Self::Flow(flow) => flow.schema.as_ref(),
            Self::Mixed(mixed) => Some(&mixed.schema),
        }
    }
}

impl Config for TableConfig {
    const KIND: &'static str = FlowConfig::KIND;
    type Built = TableDensity;

    fn build(&self, scope: &Scope) -> Result<TableDensity> {
        Ok(match self {
            Self::Flow(flow) => TableDensity::Flow(flow.build(scope)?),
            Self::Mixed(mixed) => TableDensity::Mixed(mixed.build(scope)?),
        })
    }

    fn splits_batches(&self) -> bool {
        match self {
            Self::Flow(flow) => flow.splits_batches(),
            Self::Mixed(_) => true,
        }
    }

    fn root(&self) -> Structure {
        match self {
            Self::Flow(flow) => flow.root(),
            Self::Mixed(mixed) => mixed.root(),
        }
    }
}

impl Distribution for TableDensity {
    crate::delegate_distribution!(|self| self.density());

    fn structure(&self) -> Structure {
        self.density().structure()
    }
}
