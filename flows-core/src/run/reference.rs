//! The scores of rows that a model was not trained on, which new scores are compared with.

use crate::cli::log_likelihoods;
use crate::data::{Dataset, Examples};
use crate::distributions::score;
use crate::evaluate::{Ranked, Typical};
use crate::files::{read_metadata, read_tensors, write_tensors};
use crate::flows::{TableConfig, TableDensity, TableModel};
use crate::train::Ranks;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// The `format` in the file's metadata.
const FORMAT: &str = "flows-reference";

/// The most rows that are kept.
const ROWS: usize = 10_000;

/// Cells of this many rows take the place of a row's own, to see which of its columns makes it unlikely.
const EXCHANGED: usize = 16;

/// A row is unusual if its p-value is at most this.
const UNUSUAL: f64 = 0.05;

/// Rows whose cells are exchanged at once.
const CHUNK: usize = 64;

/// The scores of reference rows under a model.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The log-likelihood of each row.
    log_likelihood: Vec<f64>,
    /// The terms of it by column, (D, rows), if the model has some.
    terms: Option<Tensor>,
    /// A few of the rows, (up to 16, D).
    rows: Tensor,
    typical: Typical,
    /// Of each column with terms.
    ranked: Vec<Ranked>,
}

/// The scores of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowScore {
    /// The log-likelihood.
    pub log_likelihood: f64,
    /// Its percentile among the reference rows.
    pub percentile: f64,
    /// The conformal p-value of a row that is as unlikely, see [`Ranked::p_value`].
    pub p_value: f64,
    /// That of one whose log-likelihood is as far from the mean, see [`Typical::typicality`].
    pub typicality: f64,
    /// The column that makes the row unlikely.
    pub least_likely: String,
}

impl Reference {
    /// The name of the file in the folder of a run.
    pub const FILE: &str = "reference.safetensors";

    /// The scores of the rows of a run that its weights were not fitted to, those for validation and for testing, at most
    /// 10,000 spread evenly.
    ///
    /// # Errors
    /// As [`log_likelihoods`].
    pub fn held_out(model: &TableModel, data: &Dataset, ranks: &Ranks) -> Result<Self> {
        let join = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        let x = join(&data.validation.x, &data.test.x)?;
        let context = data.validation.context.as_ref().zip(data.test.context.as_ref());
        let context = context.map(|(a, b)| join(a, b)).transpose()?;
        Self::of(model, &Examples { x, context }, ranks, true)
    }

    /// The scores of these rows, at most 10,000 spread evenly.
    ///
    /// # Errors
    /// As [`log_likelihoods`].
    pub fn of(model: &TableModel, rows: &Examples, ranks: &Ranks, quiet: bool) -> Result<Self> {
        let rows = spread(rows, ROWS)?;
        let log_likelihood = log_likelihoods(model, &rows, ranks, quiet)?;
        let terms = match model.detached() {
            TableDensity::Mixed(density) if ranks.is_first() => {
                let terms = density.terms(&rows)?;
                let shape = (terms.len(), rows.len());
                Some(Tensor::from_vec(terms.concat(), shape, &Device::Cpu)?)
            }
            _ => None,
        };
        let few = spread(&rows, EXCHANGED)?.x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        Self::new(log_likelihood, terms, few)
    }

    fn new(log_likelihood: Vec<f64>, terms: Option<Tensor>, rows: Tensor) -> Result<Self> {
        let typical = Typical::of(log_likelihood.clone());
        if typical.likely().is_empty() {
            return Err(Error::Data("there are no reference rows: name others by --reference".into()));
        }
        let ranked = terms.as_ref().map(Tensor::to_vec2::<f64>).transpose()?.unwrap_or_default();
        Ok(Self { log_likelihood, terms, rows, typical, ranked: ranked.into_iter().map(Ranked::new).collect() })
    }

    /// The number of reference rows.
    pub fn len(&self) -> usize {
        self.typical.likely().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the scores of a model that was saved at this step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path, step: u64) -> Result<()> {
        let entries = [("format", FORMAT.to_string()), ("version", "1".into()), ("step", step.to_string())];
        let scores = Tensor::new(self.log_likelihood.as_slice(), &Device::Cpu)?;
        let mut tensors = vec![("log_likelihood".to_string(), scores), ("rows".into(), self.rows.clone())];
        tensors.extend(self.terms.clone().map(|terms| ("terms".into(), terms)));
        write_tensors(path, &BTreeMap::from(entries), &tensors)
    }

    /// The scores beside a model's file, if they were written for this model.
    ///
    /// # Errors
    /// When the file is there, but is damaged.
    pub fn beside(model: &Path) -> Result<Option<Self>> {
        let path = model.with_file_name(Self::FILE);
        let step = |path: &Path| read_metadata(path).and_then(|metadata| metadata.get("step").cloned());
        match (step(&path), step(model)) {
            (Some(of_scores), Some(of_model)) if of_scores == of_model => {}
            _ => return Ok(None),
        }
        let remedy = "remove it, and it is written again by `flows train --resume`";
        let mut contents = read_tensors(&path, FORMAT, remedy)?;
        let mut take = |name: &str| contents.tensors.remove(name);
        let (Some(scores), Some(rows)) = (take("log_likelihood"), take("rows")) else {
            return Err(Error::file(path, format!("holds no scores; {remedy}")));
        };
        Self::new(scores.to_vec1()?, take("terms"), rows).map(Some)
    }

    /// The scores of rows. The column of a mixed table that makes a row unlikely is that whose term of the log-density, given
    /// the columns before it, is the least likely one among those of the reference rows. Of a flow it is that column for which
    /// the density would be greatest, on the average, with cells of reference rows in place of the row's own; it is named
    /// for rows alone whose p-value is at most 5%.
    ///
    /// # Errors
    /// As [`score`].
    pub fn scores(&self, model: &TableModel, rows: &Examples, log_likelihoods: &[f64]) -> Result<Vec<RowScore>> {
        let mut scores: Vec<RowScore> = log_likelihoods.iter().map(|&log| self.score(log)).collect();
        let least_likely = match (model.config(), model.detached()) {
            (TableConfig::Mixed(config), TableDensity::Mixed(density)) => {
                config.least_likely(&density.terms(rows)?, &self.ranked)
            }
            _ => {
                let is_unusual = |row: &usize| scores[*row].p_value <= UNUSUAL;
                let unusual: Vec<u32> = (0..rows.len()).filter(is_unusual).map(|row| row as u32).collect();
                let mut names = vec![String::new(); rows.len()];
                for chunk in unusual.chunks(CHUNK) {
                    let found = self.exchanged(model, &rows.select(chunk)?)?;
                    chunk.iter().zip(found).for_each(|(&row, name)| names[row as usize] = name);
                }
                names
            }
        };
        scores.iter_mut().zip(least_likely).for_each(|(score, column)| score.least_likely = column);
        Ok(scores)
    }

    /// The scores of rows whose log-likelihoods are found here, on all ranks; on those but the first there are none. Rows
    /// with a value that is none of its column, see [`Schema::with_unknown`](crate::data::Schema::with_unknown), are
    /// impossible.
    ///
    /// # Errors
    /// As [`log_likelihoods`] and [`Self::scores`].
    pub fn scores_of(&self, model: &TableModel, rows: &Examples, ranks: &Ranks, quiet: bool) -> Result<Vec<RowScore>> {
        let impossible = match model.config() {
            TableConfig::Mixed(config) => config.impossible(rows)?,
            TableConfig::Flow(_) => vec![None; rows.len()],
        };
        let possible: Vec<u32> = (0..rows.len() as u32).filter(|&row| impossible[row as usize].is_none()).collect();
        let rows = if possible.len() < impossible.len() { &rows.select(&possible)? } else { rows };
        let found = match possible.is_empty() {
            true => Vec::new(),
            false => log_likelihoods(model, rows, ranks, quiet)?,
        };
        if !ranks.is_first() {
            return Ok(Vec::new());
        }
        let found = if possible.is_empty() { Vec::new() } else { self.scores(model, rows, &found)? };
        let mut found = found.into_iter();
        let score = |column: Option<String>| match column {
            None => found.next(),
            Some(column) => Some(RowScore { least_likely: column, ..self.score(f64::NEG_INFINITY) }),
        };
        Ok(impossible.into_iter().filter_map(score).collect())
    }

    fn score(&self, log_likelihood: f64) -> RowScore {
        let likely = self.typical.likely();
        RowScore {
            log_likelihood,
            percentile: likely.percentile(log_likelihood),
            p_value: likely.p_value(log_likelihood),
            typicality: self.typical.typicality(log_likelihood),
            least_likely: String::new(),
        }
    }

    /// For each row the column whose exchange with cells of reference rows makes it most likely.
    fn exchanged(&self, model: &TableModel, rows: &Examples) -> Result<Vec<String>> {
        let (d, count) = (rows.features(), self.rows.dim(0)?);
        let cells = rows.x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let others = self.rows.to_vec2::<f64>()?;
        let mut all = Vec::with_capacity(cells.len() * d * count * d);
        for row in &cells {
            for column in 0..d {
                for other in &others {
                    all.extend_from_slice(row);
                    let at = all.len() - d + column;
                    all[at] = other[column];
                }
            }
        }
        let repeated: Vec<u32> = (0..cells.len() as u32).flat_map(|row| vec![row; d * count]).collect();
        let context = rows.select(&repeated)?.context;
        let x = Tensor::from_vec(all, (repeated.len(), d), &Device::Cpu)?;
        let x = x.to_dtype(rows.x.dtype())?.to_device(rows.x.device())?;
        let found = score(model, &x, context.as_ref())?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let names = model.config().columns();
        let of_row = |found: &[f64]| {
            let log_sum = |logs: &[f64]| {
                let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = logs.iter().map(|log| (log - top).exp()).sum();
                if top.is_finite() { top + sum.ln() } else { f64::NEG_INFINITY }
            };
            let sums = found.chunks(count).map(log_sum).enumerate();
            let (column, _) = sums.fold((0, f64::NEG_INFINITY), |a, b| if b.1 > a.1 { b } else { a });
            names.map_or_else(|| (column + 1).to_string(), |names| names[column].clone())
        };
        Ok(found.chunks(d * count).map(of_row).collect())
    }
}

/// At most so many of the rows, spread evenly.
pub(super) fn spread(rows: &Examples, most: usize) -> Result<Examples> {
    let (all, count) = (rows.len(), rows.len().min(most));
    if all == count {
        return Ok(rows.clone());
    }
    rows.select(&(0..count).map(|i| (i as u64 * all as u64 / count as u64) as u32).collect::<Vec<_>>())
}
