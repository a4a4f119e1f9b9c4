//! The scores of rows that a model was not trained on, which new scores are compared with.

use crate::cli::log_likelihoods;
use crate::data::{Dataset, Examples, Hash};
use crate::distributions::score;
use crate::evaluate::{Ranked, Typical, evenly, log_sum_exp};
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

/// Of so many rows at most, the most unusual ones, a flow's column is named, and in tables of at most so many columns: each
/// row takes 16 densities a column.
const NAMED: usize = 1000;
const COLUMNS: usize = 128;

/// Cells whose densities are found at once, unless a single row has more.
const CELLS: usize = 1 << 22;

/// What helps against a damaged file.
const REMEDY: &str = "remove it, and the scores are found again from the data of the run";

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
    /// The column that makes the row unlikely; empty where none is named.
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
            let message = "no row that is held out has a log-likelihood: `flows score` needs others by --reference";
            return Err(Error::Data(message.into()));
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

    /// Writes the scores beside the file of their model, with a hash of it.
    ///
    /// # Errors
    /// When the one cannot be read, or the other cannot be written.
    pub fn write_beside(&self, model: &Path) -> Result<()> {
        let path = model.with_file_name(Self::FILE);
        let entries = [("format", FORMAT.to_string()), ("version", "1".into()), ("model", hash(model)?)];
        let scores = Tensor::new(self.log_likelihood.as_slice(), &Device::Cpu)?;
        let mut tensors = vec![("log_likelihood".to_string(), scores), ("rows".into(), self.rows.clone())];
        tensors.extend(self.terms.clone().map(|terms| ("terms".into(), terms)));
        write_tensors(&path, &BTreeMap::from(entries), &tensors)
    }

    /// The scores beside a model's file, if they were written for the model that it has.
    ///
    /// # Errors
    /// When the file is there, but is damaged.
    pub fn beside(path: &Path, model: &TableModel) -> Result<Option<Self>> {
        let (model_file, path) = (path, path.with_file_name(Self::FILE));
        match read_metadata(&path).and_then(|metadata| metadata.get("model").cloned()) {
            Some(of_scores) if of_scores == hash(model_file)? => {}
            _ => return Ok(None),
        }
        let mut contents = read_tensors(&path, FORMAT, REMEDY)?;
        let mut take = |name: &str| contents.tensors.remove(name);
        let (scores, rows, terms) = (take("log_likelihood"), take("rows"), take("terms"));
        let (features, is_mixed) = (model.config().features(), matches!(model.config(), TableConfig::Mixed(_)));
        let is = |tensor: &Tensor, want: &[usize]| tensor.dims() == want && tensor.dtype() == DType::F64;
        let (Some(scores), Some(rows)) = (scores, rows) else {
            return Err(Error::file(path, format!("holds no scores; {REMEDY}")));
        };
        let (n, few) = (scores.elem_count(), scores.elem_count().min(EXCHANGED));
        let has_terms = terms.as_ref().map_or(!is_mixed, |terms| is_mixed && is(terms, &[features, n]));
        if n == 0 || !is(&scores, &[n]) || !is(&rows, &[few, features]) || !has_terms {
            return Err(Error::file(path, format!("holds no scores of this model; {REMEDY}")));
        }
        Self::new(scores.to_vec1()?, terms, rows).map(Some)
    }

    /// The scores of rows. The column of a mixed table that makes a row unlikely is that whose term of the log-density, given
    /// the columns before it, is the least likely one among those of the reference rows. Of a flow it is that column for which
    /// the density would be greatest, on the average, with cells of reference rows in place of the row's own; it is named
    /// for the 1,000 most unusual rows whose p-value is at most 5%, in tables of at most 128 columns.
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
                let d = rows.features();
                let is_unusual = |row: &u32| scores[*row as usize].p_value <= UNUSUAL && d <= COLUMNS;
                let mut unusual: Vec<u32> = (0..rows.len() as u32).filter(is_unusual).collect();
                unusual.sort_by(|&a, &b| log_likelihoods[a as usize].total_cmp(&log_likelihoods[b as usize]));
                unusual.truncate(NAMED);
                let mut names = vec![String::new(); rows.len()];
                for chunk in unusual.chunks((CELLS / (d * EXCHANGED * d)).max(1)) {
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

    /// For each row the column whose exchange with cells of reference rows makes it most likely; none if no exchange makes
    /// it possible.
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
            let sums = found.chunks(count).map(log_sum_exp).enumerate().filter(|(_, sum)| *sum > f64::NEG_INFINITY);
            let Some((column, _)) = sums.reduce(|a, b| if b.1 > a.1 { b } else { a }) else { return String::new() };
            names.map_or_else(|| (column + 1).to_string(), |names| names[column].clone())
        };
        Ok(found.chunks(d * count).map(of_row).collect())
    }
}

/// At most so many of the rows, spread evenly.
pub(super) fn spread(rows: &Examples, most: usize) -> Result<Examples> {
    match rows.len() {
        all if all <= most => Ok(rows.clone()),
        all => rows.select(&evenly(all, most).map(|row| row as u32).collect::<Vec<_>>()),
    }
}

/// A hash of a file.
fn hash(path: &Path) -> Result<String> {
    let cannot = |e| Error::file(path, format_args!("cannot be read ({e}); check that you may read it"));
    let bytes = std::fs::read(path).map_err(cannot)?;
    let mut hash = Hash::NEW;
    hash.bits(bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        hash.bits(chunk.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
    }
    Ok(format!("{:016x}", hash.value()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::flows::{FlowConfig, RealNvp};

    fn flow(features: usize, seed: u64) -> Result<TableModel> {
        TableModel::new(
            TableConfig::Flow(Box::new(FlowConfig::new(features, RealNvp::default()))),
            &mut Rng::seed(seed),
        )
    }

    fn normal(rows: usize, features: usize) -> Result<Examples> {
        Ok(Examples::from(&Rng::seed(9).normal_tensor((rows, features), DType::F32, &Device::Cpu)?))
    }

    #[test]
    fn scores_are_those_of_one_model() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let (model, ranks) = (flow(2, 0)?, Ranks::alone());
        let known = Reference::of(&model, &normal(50, 2)?, &ranks, true)?;
        std::fs::write(&path, "one model").unwrap();
        known.write_beside(&path)?;
        let found = Reference::beside(&path, &model)?.unwrap();
        assert_eq!(found.log_likelihood, known.log_likelihood);
        // The same model by its hash, which has columns that the scores are not of.
        let error = Reference::beside(&path, &flow(3, 0)?).unwrap_err().to_string();
        assert!(error.contains("scores of this model") && error.contains("remove it"), "{error}");
        std::fs::write(&path, "one modem").unwrap();
        assert!(Reference::beside(&path, &model)?.is_none());
        let none = Reference { rows: known.rows.narrow(0, 0, 0)?, ..known };
        none.write_beside(&path)?;
        assert!(Reference::beside(&path, &model).is_err());
        Ok(())
    }

    #[test]
    fn columns_are_named_for_some_rows() -> Result<()> {
        let ranks = Ranks::alone();
        let mut named = Vec::new();
        // Of a row whose other column stays impossible, none is named.
        for (features, row) in [(2, [90.0, 0.0]), (2, [f32::NAN, f32::NAN]), (129, [90.0, 0.0])] {
            let model = flow(features, 0)?;
            let known = Reference::of(&model, &normal(50, features)?, &ranks, true)?;
            let mut cells = vec![0f32; features];
            cells[..2].copy_from_slice(&row);
            let rows = Examples::from(&Tensor::from_vec(cells, (1, features), &Device::Cpu)?);
            named.push(known.scores(&model, &rows, &[f64::NEG_INFINITY])?.remove(0).least_likely);
        }
        assert_eq!(named, ["1", "", ""]);
        Ok(())
    }
}
