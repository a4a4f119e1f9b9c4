//! The columns of a table's data and draws to compare, and their transforms.

use super::{MixedConfig, TableConfig, TableDensity, TableModel};
use crate::data::{ColumnKind, Examples, columns, date, product};
use crate::distributions::{Content, draw};
use crate::evaluate::{Check, TransformedColumn, Transforms, Variable, VariableKind, chi_squared, evenly, normal};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};

/// Rows whose ranks among draws are found, and the draws for each.
const RANKED: usize = 500;
const DRAWS: usize = 99;

/// Rows that are transformed at once.
const CHUNK: usize = 1024;

/// A value that at least this share of the data has, and this many rows, is one with a probability of its own.
const REPEATED_SHARE: f64 = 0.02;
const REPEATED_ROWS: usize = 5;

/// A check of a model, and what it is of.
#[derive(Clone, Debug)]
pub struct TableCheck {
    /// The comparison.
    pub check: Check,
    /// The columns of data and draws.
    pub variables: Vec<Variable>,
    /// The transforms of the data, if the model has some.
    pub transforms: Option<Transforms>,
}

impl TableCheck {
    /// Compares rows with as many draws of a model, given the same contexts.
    ///
    /// # Errors
    /// As [`Distribution::log_prob`](crate::distributions::Distribution::log_prob) and [`draw`].
    pub fn of(model: &TableModel, rows: &Examples, rng: &mut Rng) -> Result<Self> {
        let drawn = draw(model, rows.len(), rows.context.as_ref(), rng)?;
        let variables = model.config().variables(rows, &drawn)?;
        let transforms = transforms(model, rows, rng)?;
        let check = Check::of(&variables, transforms.as_ref(), rng)?;
        Ok(Self { check, variables, transforms })
    }
}

/// The names of columns, or their numbers.
fn names(names: Option<&[String]>, count: usize, noun: &str) -> Vec<String> {
    let numbered = || (1..=count).map(|i| format!("{noun} {i}")).collect();
    names.map_or_else(numbered, <[String]>::to_vec)
}

impl TableConfig {
    /// The columns of rows and of as many draws, after those of their context.
    ///
    /// # Errors
    /// When a shape is wrong.
    pub fn variables(&self, rows: &Examples, drawn: &Tensor) -> Result<Vec<Variable>> {
        let given = rows.context.as_ref().map(columns).transpose()?.unwrap_or_default();
        let (data, drawn) = (columns(&rows.x)?, columns(drawn)?);
        let mut names_of = names(self.context_columns(), given.len(), "context column");
        names_of.extend(names(self.columns(), data.len(), "column"));
        if (names_of.len(), drawn.len()) != (given.len() + data.len(), self.features()) {
            return Err(Error::shape("the rows", rows.x.dims(), format!("(rows, {})", self.features())));
        }
        let count = given.len();
        let samples = given.iter().cloned().zip(given.clone()).chain(data.into_iter().zip(drawn));
        let variables = samples.zip(names_of).enumerate().map(|(i, ((data, drawn), name))| {
            let (kind, unit) = match self {
                Self::Mixed(mixed) => kind(mixed, i),
                Self::Flow(_) => (VariableKind::Number(repeated(&data)), None),
            };
            let in_unit = |cells: Vec<f64>| match unit {
                Some(unit) => cells.into_iter().map(|cell| product(cell, unit)).collect(),
                None => cells,
            };
            Variable { name, kind, given: i < count, data: in_unit(data), drawn: in_unit(drawn) }
        });
        Ok(variables.collect())
    }
}

/// What column `i` of a model holds, and what its numbers are multiples of.
fn kind(mixed: &MixedConfig, i: usize) -> (VariableKind, Option<f64>) {
    let schema = &mixed.schema.columns[mixed.order[i]];
    let numeric = match &mixed.mixed.columns[i].content {
        Content::Category { values } => {
            let known = schema.kind.values();
            let name = |code: usize| known.get(code).cloned().unwrap_or_else(|| "missing".into());
            return (VariableKind::Category((0..*values).map(name).collect()), None);
        }
        Content::Number(numeric) | Content::Whole(numeric) => numeric,
    };
    let called = |&atom: &f64| {
        let value = schema.step.map_or(atom, |step| product(atom, step));
        let name = if schema.kind == ColumnKind::Date { date(value) } else { value.to_string() };
        (value, name)
    };
    (VariableKind::Number(numeric.atoms.iter().map(called).collect()), schema.step)
}

/// The values that repeat.
fn repeated(values: &[f64]) -> Vec<(f64, String)> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let least = REPEATED_ROWS.max((REPEATED_SHARE * values.len() as f64).ceil() as usize);
    let runs = sorted.chunk_by(|a, b| a == b).filter(|run| run.len() >= least);
    runs.map(|run| (run[0], run[0].to_string())).collect()
}

/// The transforms of rows: exact ones of a mixed table, ranks among draws of a conditional flow, and those of the latents
/// of another one whose base is the standard normal.
fn transforms(model: &TableModel, rows: &Examples, rng: &mut Rng) -> Result<Option<Transforms>> {
    let density = model.detached();
    match (density, &rows.context) {
        (TableDensity::Mixed(mixed), context) => {
            let is_number = |i: usize| match model.config() {
                TableConfig::Mixed(config) => {
                    !matches!(config.mixed.columns[config.given + i].content, Content::Category { .. })
                }
                TableConfig::Flow(_) => true,
            };
            let mut parts = Vec::new();
            for part in rows.chunks(CHUNK) {
                let part = part?;
                parts.push(mixed.transforms(&part.x, part.context.as_ref(), rng)?);
            }
            let values = columns(&Tensor::cat(&parts, 0)?)?;
            let names = names(model.config().columns(), values.len(), "column");
            let column = |(i, (values, name))| TransformedColumn { name, is_number: is_number(i), values };
            let given = if context.is_some() { "the context and " } else { "" };
            Ok(Some(Transforms {
                of: format!("each column given {given}the columns before it"),
                columns: values.into_iter().zip(names).enumerate().map(column).collect(),
            }))
        }
        (TableDensity::Flow(_), Some(_)) => ranks(model, rows, rng).map(Some),
        (TableDensity::Flow(flow), None) => {
            let mut parts = Vec::new();
            for part in rows.chunks(CHUNK) {
                let z = flow.latent(&part?.x, None)?.detach();
                let log_prob = flow.base().log_prob(&z, None)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                if z.rank() != 2 || !is_standard_normal(&z, &log_prob)? {
                    return Ok(None);
                }
                parts.push(z);
            }
            latents(columns(&Tensor::cat(&parts, 0)?)?).map(Some)
        }
    }
}

/// Whether these log-densities of latents are those of the standard normal.
fn is_standard_normal(z: &Tensor, log_prob: &[f64]) -> Result<bool> {
    let rows = z.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec2::<f64>()?;
    let want = |row: &Vec<f64>| row.iter().map(|z| -0.5 * (z * z + (2.0 * std::f64::consts::PI).ln())).sum::<f64>();
    Ok(rows.iter().zip(log_prob).all(|(row, found)| {
        let want = want(row);
        // A row outside of the range of the flow has no latent.
        !want.is_finite() || (found - want).abs() <= 1e-3 * want.abs().max(1.0)
    }))
}

/// The transforms of latents: `Phi(z)` for each, and the distribution function of `|z|^2`; NaN for a row without a latent.
fn latents(z: Vec<Vec<f64>>) -> Result<Transforms> {
    let squares = (0..z[0].len()).map(|row| z.iter().map(|z| z[row] * z[row]).sum::<f64>());
    let radii = squares.map(|square| chi_squared(square, z.len())).collect();
    let radius = TransformedColumn { name: "|z|".into(), is_number: false, values: radii };
    let several = z.len() > 1;
    let latent = |(i, z): (usize, Vec<f64>)| {
        let values = z.into_iter().map(normal).collect();
        TransformedColumn { name: format!("z{}", i + 1), is_number: true, values }
    };
    let columns = z.into_iter().enumerate().map(latent).chain(several.then_some(radius)).collect();
    Ok(Transforms { of: "the noise z that the flow maps rows to, standard normal if it is right".into(), columns })
}

/// The transforms of columns given the context, by their ranks among draws, at most 500 rows spread evenly.
fn ranks(model: &TableModel, rows: &Examples, rng: &mut Rng) -> Result<Transforms> {
    let count = rows.len().min(RANKED);
    let chosen: Vec<u32> = evenly(rows.len(), RANKED).map(|row| row as u32).collect();
    let rows = rows.select(&chosen)?;
    let repeated: Vec<u32> = (0..count as u32).flat_map(|row| [row; DRAWS]).collect();
    let contexts = rows.select(&repeated)?.context;
    let drawn = columns(&draw(model, count * DRAWS, contexts.as_ref(), rng)?)?;
    let data = columns(&rows.x)?;
    let names = names(model.config().columns(), data.len(), "column");
    let column = |((values, drawn), name): ((Vec<f64>, Vec<f64>), String)| {
        let transform = |(value, drawn): (&f64, &[f64])| {
            let below = drawn.iter().filter(|drawn| *drawn < value).count();
            let equal = drawn.iter().filter(|drawn| *drawn == value).count();
            (below as f64 + rng.uniform() * (equal as f64 + 1.0)) / (DRAWS as f64 + 1.0)
        };
        let values = values.iter().zip(drawn.chunks(DRAWS)).map(transform).collect();
        TransformedColumn { name, is_number: true, values }
    };
    let columns = data.into_iter().zip(drawn).zip(names).map(column).collect();
    Ok(Transforms { of: format!("each column given the context, by its rank among {DRAWS} draws"), columns })
}
