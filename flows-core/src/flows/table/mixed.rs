//! Tables whose columns are of several kinds, with the words and dates that they hold.

use crate::data::{ColumnKind, ColumnSchema, Dataset, Examples, Frame, Schema};
use crate::distributions::{Column, Distribution, MixedTable, MixedTableConfig};
#[cfg(feature = "cli")]
use crate::evaluate::Ranked;
use crate::nn::{NetworkConfig, Scope};
use crate::shape::check_context;
use crate::{Error, Result, Rng, Structure};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The settings of a density of columns of several kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mixed {
    /// `"mixed"`.
    kind: Kind,
    /// The masked network.
    pub network: NetworkConfig,
    /// Bins of the splines.
    pub bins: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Kind {
    #[default]
    #[serde(rename = "mixed")]
    Mixed,
}

impl Default for Mixed {
    fn default() -> Self {
        Self { kind: Kind::Mixed, network: NetworkConfig::residual(128, 2), bins: 16 }
    }
}

impl Mixed {
    /// The name of the architecture.
    pub const NAME: &str = "mixed";

    /// A table of two columns, one given the other.
    pub(super) fn trial(&self) -> Result<MixedConfig> {
        let column = |name: &str| Column::category(name, 2, &[0.0, 1.0]);
        let mixed = MixedTableConfig::new([column("a")?, column("b")?]);
        let mixed = MixedTableConfig { network: self.network.clone(), bins: self.bins, ..mixed };
        let schema = Schema::of_categories(["a", "b"]);
        Ok(MixedConfig { schema, order: vec![0, 1], given: 0, columns: None, context_columns: None, mixed })
    }

    /// The config of the density for a table, fitted to the rows to train on, as [`Schema::numbers`] gives them. The
    /// columns of the `context`, by name or by index from 0 among those that are used, are those of the rows' context.
    ///
    /// # Errors
    /// When there is no such column, a column cannot be modelled, or another part of the data has a cell that is none of
    /// its column.
    pub fn fit(&self, schema: &Schema, context: &[String], data: &Dataset) -> Result<MixedConfig> {
        let order = schema.order(context)?;
        if order.len() == context.len() {
            return Err(Error::Config("every column is context; leave at least one to model".into()));
        }
        let [train, validation, test] = [&data.train, &data.validation, &data.test].map(Examples::columns);
        let (train, others) = (train?, [validation?, test?]);
        let mut columns = Vec::with_capacity(order.len());
        for (column, &i) in order.iter().enumerate() {
            let others = || others.iter().map(|part| &part[column]);
            let fitted = fit(schema, i, &train[column], others().flatten())?;
            for values in others() {
                values.iter().enumerate().try_for_each(|(row, &value)| fitted.log_prob(row, value).map(drop))?;
            }
            columns.push(fitted);
        }
        let (given, features) = order.split_at(context.len());
        let names = |which: &[usize]| which.iter().map(|&i| schema.columns[i].name.clone()).collect();
        Ok(MixedConfig {
            columns: names(features),
            context_columns: names(given).filter(|_| !given.is_empty()),
            given: given.len(),
            schema: schema.clone(),
            mixed: MixedTableConfig {
                network: self.network.clone(),
                bins: self.bins,
                ..MixedTableConfig::new(columns)
            },
            order,
        })
    }
}

/// A column of the density, fitted to its values in the rows to train on; it also has to have room for those of the
/// `others`.
fn fit<'a>(schema: &Schema, i: usize, values: &'a [f64], others: impl Iterator<Item = &'a f64>) -> Result<Column> {
    let ColumnSchema { kind, bounds, step, .. } = &schema.columns[i];
    let unit = step.unwrap_or(1.0);
    let name = schema.columns[i].label(i).trim_matches('`').to_string();
    let is_whole = values.iter().chain(others).all(|value| value.is_nan() || value.fract() == 0.0);
    let column = match kind {
        ColumnKind::Category(_) | ColumnKind::Binary(_) => {
            Column::category(name, kind.values().len() + usize::from(schema.keeps_missing(i)), values)
        }
        ColumnKind::Integer | ColumnKind::Number | ColumnKind::Date
            if is_whole && (step.is_some() || *kind != ColumnKind::Number) =>
        {
            let least = bounds.lower.map(|bound| (bound / unit).floor() + 1.0);
            Column::whole(name, values, [least, bounds.upper.map(|bound| (bound / unit).ceil() - 1.0)])
        }
        _ => Column::number(name, values, *bounds),
    }?;
    // They may be missing in the other rows alone.
    Ok(if schema.keeps_missing(i) { column.with_missing() } else { column })
}

/// The config of a [`MixedDensity`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedConfig {
    /// What the columns of the table hold.
    pub schema: Schema,
    /// The columns of the model by their indices in the schema, first those of the context.
    pub order: Vec<usize>,
    /// The number of columns of the context.
    pub given: usize,
    /// The names of the columns, but those of the context, if they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// The names of the columns of the context, if they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_columns: Option<Vec<String>>,
    /// The density of all these columns.
    pub mixed: MixedTableConfig,
}

impl MixedConfig {
    /// The number of columns, but those of the context.
    pub fn features(&self) -> usize {
        self.order.len().saturating_sub(self.given)
    }

    /// The contexts that a table holds in the columns of the context, (rows, given) in f64.
    ///
    /// # Errors
    /// As [`Schema::numbers`], and when a cell is missing.
    pub fn contexts(&self, frame: &Frame) -> Result<Tensor> {
        let columns = self.order[..self.given].iter().map(|&i| self.schema.columns[i].clone()).collect();
        let (table, incomplete) = Schema { columns, ..self.schema }.numbers(frame)?;
        match incomplete {
            0 => Ok(table.data),
            count => Err(Error::Data(format!("rows with a missing cell: {count}; remove them or fill them in"))),
        }
    }

    /// The table of rows (B, D) of the model: words, dates and numbers, and missing cells where there is NaN.
    ///
    /// # Errors
    /// When the rows have another number of columns.
    pub fn decode(&self, rows: &Tensor) -> Result<Frame> {
        self.schema.decode(&self.order[self.given..], rows)
    }

    /// For each row the first column that cannot have its value, see [`Schema::with_unknown`]: its name, or its number from 1.
    ///
    /// # Errors
    /// When the tensor library fails.
    #[cfg(feature = "cli")]
    pub(crate) fn impossible(&self, rows: &Examples) -> Result<Vec<Option<String>>> {
        let columns = rows.columns()?;
        let is_impossible = |i: usize, row: usize| self.mixed.columns[i].log_prob(row, columns[i][row]).is_err();
        let first = |row: usize| (0..columns.len()).find(|&i| is_impossible(i, row)).map(|i| self.label(i));
        Ok((0..rows.len()).map(first).collect())
    }

    /// The name of a column of the model, or its number from 1 in the table.
    #[cfg(feature = "cli")]
    fn label(&self, column: usize) -> String {
        let i = self.order[column];
        self.schema.columns[i].label(i).trim_matches('`').to_string()
    }

    /// For each row the column whose term of the log-density, one of the `terms` by column, is the least likely one among
    /// those of reference rows: its name, or its number from 1.
    #[cfg(feature = "cli")]
    pub(crate) fn least_likely(&self, terms: &[Vec<f64>], reference: &[Ranked]) -> Vec<String> {
        let least = |row: usize| {
            let ranked = terms.iter().zip(reference).map(|(terms, known)| known.percentile(terms[row])).enumerate();
            ranked
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .map_or(String::new(), |(column, _)| self.label(self.given + column))
        };
        (0..terms.first().map_or(0, Vec::len)).map(least).collect()
    }

    pub(super) fn root(&self) -> Structure {
        let given = if self.given > 0 { format!(" given {}", self.given) } else { String::new() };
        Structure::new(Mixed::NAME, format!("over {} columns{given}", self.features()))
    }

    pub(super) fn build(&self, scope: &Scope) -> Result<MixedDensity> {
        let (columns, given) = (self.mixed.columns.len(), self.given);
        if columns != self.order.len() || given >= columns || self.order.iter().any(|i| *i >= self.schema.columns.len())
        {
            return Err(Error::Config("the columns of the model are not those of its schema".into()));
        }
        let table = MixedTable::new(&self.mixed, scope)?;
        let missing = self.order.iter().map(|&i| self.schema.missing_code(i)).collect();
        Ok(MixedDensity { table, given, event: [columns - given], missing })
    }
}

/// The density of the rows of a table given the columns of the context, if there are any: the factors of a
/// [`MixedTable`] that belong to the other columns.
#[derive(Debug)]
pub struct MixedDensity {
    table: MixedTable,
    given: usize,
    event: [usize; 1],
    /// The code of missing cells of a category.
    missing: Vec<Option<usize>>,
}

impl MixedDensity {
    /// The terms of the log-density, (B, D): which columns make a row unusual.
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn log_prob_columns(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let terms = self.table.log_prob_columns(&self.joint(x, context)?, None)?;
        Ok(terms.narrow(1, self.given, self.event[0])?)
    }

    /// The [transforms](MixedTable::transforms) of cells, (B, D).
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn transforms(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let all = self.table.transforms(&self.joint(x, context)?, None, rng)?;
        Ok(all.narrow(1, self.given, self.event[0])?)
    }

    /// Whether each column of the context may have missing numbers, NaN.
    pub(super) fn context_misses(&self) -> Vec<bool> {
        (0..self.given).map(|column| self.table.may_miss(column)).collect()
    }

    /// The rows with draws of cells in place of NaN, but not in the context, see [`MixedTable::fill`].
    ///
    /// # Errors
    /// As [`MixedTable::fill`].
    pub fn fill(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let all = self.table.fill_after(self.given, &self.joint(x, context)?, &self.missing, rng)?;
        Ok(all.narrow(1, self.given, self.event[0])?)
    }

    /// The terms of the log-density by column.
    #[cfg(feature = "cli")]
    pub(crate) fn terms(&self, rows: &Examples) -> Result<Vec<Vec<f64>>> {
        const CHUNK: usize = 4096;
        let mut terms = vec![Vec::with_capacity(rows.len()); self.event[0]];
        for chunk in rows.chunks(CHUNK) {
            let chunk = chunk?;
            let of_chunk = self.log_prob_columns(&chunk.x, chunk.context.as_ref())?;
            for (terms, of_chunk) in terms.iter_mut().zip(crate::data::columns(&of_chunk)?) {
                terms.extend(of_chunk);
            }
        }
        Ok(terms)
    }

    /// Rows with the columns of the context before the others.
    fn joint(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        match (self.given, context) {
            (0, None) => Ok(x.clone()),
            (0, Some(_)) => Err(Error::Config("the model has no context: give none".into())),
            (given, context) => {
                let context = check_context(context, given, x.dims().first().copied().unwrap_or(0))?;
                Ok(Tensor::cat(&[&context.to_dtype(x.dtype())?, x], 1)?)
            }
        }
    }
}

impl Distribution for MixedDensity {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.log_prob_columns(x, context)?.sum(1)?)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let terms = self.table.log_prob_columns_training(&self.joint(x, context)?, None, rng)?;
        Ok(terms.narrow(1, self.given, self.event[0])?.sum(1)?)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        match (self.given, context) {
            (0, None) => self.table.sample(count, None, rng),
            (0, Some(_)) => Err(Error::Config("the model has no context: give none".into())),
            (given, context) => {
                let context = check_context(context, given, count)?;
                Ok(self.table.sample_given(context, None, rng)?.narrow(1, given, self.event[0])?)
            }
        }
    }

    fn device(&self) -> Device {
        self.table.device()
    }

    fn structure(&self) -> Structure {
        self.table.structure()
    }
}
