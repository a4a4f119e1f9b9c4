//! Data sets split into training, validation and test parts.

use super::hash::Hash;
use super::table::numbers;
use super::{Examples, Frame, Frames, Schema, Table, Toy, odd, read_frames};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The proportions of a table's rows in each part; they need not sum to one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proportions {
    /// For training.
    pub train: f64,
    /// For choosing between models and for early stopping.
    pub validation: f64,
    /// For the figure that is reported.
    pub test: f64,
}

impl Default for Proportions {
    fn default() -> Self {
        Self { train: 0.8, validation: 0.1, test: 0.1 }
    }
}

impl Proportions {
    /// The number of rows of each part, at least one, out of `rows`.
    fn counts(self, rows: usize) -> Result<[usize; 3]> {
        let Self { train, validation, test } = self;
        let sum = train + validation + test;
        if [train, validation, test].iter().any(|p| p.is_nan() || *p <= 0.0) || !sum.is_finite() {
            let given = format!("{train}, {validation} and {test}");
            return Err(Error::Config(format!(
                "the proportions of the parts are {given}; give three positive numbers, such as 0.8, 0.1 and 0.1"
            )));
        }
        if rows < 3 {
            return Err(Error::Data(format!(
                "a table of {rows} rows cannot be split into train, validation and test; at least 3 rows are needed"
            )));
        }
        // Each part leaves at least one row for each of the remaining parts.
        let part = |share: f64, most: usize| ((rows as f64 * share / sum).round() as usize).clamp(1, most);
        let test = part(test, rows - 2);
        let validation = part(validation, rows - test - 1);
        Ok([rows - validation - test, validation, test])
    }
}

/// A data set in three parts, which have the same columns.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// For training.
    pub train: Examples,
    /// For choosing between models and for early stopping.
    pub validation: Examples,
    /// For the figure that is reported.
    pub test: Examples,
    /// The names of the columns of `x`, if the file has a header.
    pub columns: Option<Vec<String>>,
    /// The names of the columns of the contexts, if the file has a header.
    pub context_columns: Option<Vec<String>>,
    /// What the columns of the file hold, if they were chosen by it.
    pub schema: Option<Schema>,
    /// How the file was read and what was left out of it, in sentences for its owner.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Independent samples of a 2-D density; `counts` are the numbers for train, validation and test.
    ///
    /// # Errors
    /// When a count is 0.
    pub fn from_toy(toy: Toy, counts: [usize; 3], rng: &mut Rng) -> Result<Self> {
        if counts.contains(&0) {
            let message = "train, validation and test need at least 1 sample each";
            return Err(Error::Config(format!("{message}, not {}, {} and {}", counts[0], counts[1], counts[2])));
        }
        let [train, validation, test] = counts;
        Self::new([toy.sample(train, rng)?, toy.sample(validation, rng)?, toy.sample(test, rng)?], None)
    }

    /// A table whose rows are split at random, at least one for each part.
    ///
    /// # Errors
    /// When the table has fewer than 3 rows or a proportion is not positive.
    pub fn from_table(table: &Table, proportions: Proportions, rng: &mut Rng) -> Result<Self> {
        let (rows, _) = dims(&table.data)?;
        let [train, validation, test] = proportions.counts(rows)?;
        let order = Tensor::from_vec(rng.permutation(rows), rows, table.data.device())?;
        let part = |start, length| table.data.index_select(&order.narrow(0, start, length)?, 0);
        let parts = [part(0, train)?, part(train, validation)?, part(train + validation, test)?];
        Self::new(parts, table.columns.clone())
    }

    /// The columns of tables that a schema uses, as [`Schema::numbers`] gives them; `dropped` are those left out by name, of
    /// which nothing is noted. A table that is not split is so as by [`Self::from_table`];
    /// a part that is not given is held out from the rows to train on, in the same proportion to these.
    ///
    /// # Errors
    /// As [`Schema::numbers`], [`Self::from_table`] and [`Self::from_parts`].
    pub fn from_frames(
        frames: &Frames,
        schema: Schema,
        dropped: &[String],
        proportions: Proportions,
        rng: &mut Rng,
    ) -> Result<Self> {
        let data = Self::of(frames, |frame| schema.numbers(frame).map(|(table, _)| table), proportions, rng)?;
        let mut notes = schema.left_out(frames, dropped);
        notes.extend(odd::notes(&schema, frames)?);
        notes.extend(data.notes);
        Ok(Self { notes, schema: Some(schema), ..data })
    }

    /// All columns of tables of finite numbers, split as by [`Self::from_frames`].
    ///
    /// # Errors
    /// When a cell is not a finite number, and as [`Self::from_table`] and [`Self::from_parts`].
    pub fn from_numbers(frames: &Frames, proportions: Proportions, rng: &mut Rng) -> Result<Self> {
        let data = Self::of(frames, numbers, proportions, rng)?;
        Ok(Self { notes: [frames.notes(), data.notes].concat(), ..data })
    }

    fn of(
        frames: &Frames,
        table: impl Fn(&Frame) -> Result<Table>,
        proportions: Proportions,
        rng: &mut Rng,
    ) -> Result<Self> {
        if frames.validation.is_none() && frames.test.is_none() {
            return Self::from_table(&table(&frames.train)?, proportions, rng);
        }
        let mut tables = Vec::new();
        for (part, frame) in frames.named() {
            tables.push(table(frame).map_err(|error| match error {
                Error::Data(message) => Error::Data(format!("{part}: {message}")),
                error => error,
            })?);
        }
        let train = tables.remove(0);
        let Proportions { train: rest, validation, test } = proportions;
        match (frames.validation.is_some(), tables.pop(), tables.pop()) {
            (_, Some(test), Some(validation)) => Self::from_parts([train, validation, test]),
            (true, Some(given), _) => {
                let (train, held_out, note) = train.hold_out(test / (rest + test), "test", rng)?;
                Ok(Self { notes: vec![note], ..Self::from_parts([train, given, held_out])? })
            }
            (_, Some(given), _) => {
                let (train, held_out, note) = train.hold_out(validation / (rest + validation), "validation", rng)?;
                Ok(Self { notes: vec![note], ..Self::from_parts([train, held_out, given])? })
            }
            (_, None, _) => Err(Error::Internal("a data set without its parts".into())),
        }
    }

    /// What the owner of the data has to know: how they were read, what was left out, and in which columns a density
    /// has no bound.
    pub fn remarks(&self) -> Vec<String> {
        let context = self.context_columns.as_deref().unwrap_or_default();
        let doubts = self.schema.iter().flat_map(|schema| schema.doubts(self.rows(), context));
        self.notes.iter().cloned().chain(doubts).collect()
    }

    /// The parts of a folder, such as the files `train.npy`, `validation.npy` and `test.npy`, as [`read_frames`] finds
    /// them.
    ///
    /// # Errors
    /// When one is missing or cannot be read, or they differ in their number of columns.
    pub fn from_directory(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let frames = read_frames(folder)?;
        let (Some(validation), Some(test)) = (&frames.validation, &frames.test) else {
            let missing = if frames.validation.is_none() { "validation" } else { "test" };
            let message = format!("has no {missing} part: add it as {missing}.npy (or .csv, .parquet)");
            return Err(Error::file(folder, message));
        };
        Self::from_parts([numbers(&frames.train)?, numbers(validation)?, numbers(test)?])
    }

    /// Tables that are already split: train, validation and test.
    ///
    /// # Errors
    /// When they differ in their number of columns.
    pub fn from_parts(parts: [Table; 3]) -> Result<Self> {
        let [train, validation, test] = parts;
        Self::new([train.data, validation.data, test.data], train.columns)
    }

    /// A data set each of whose parts is the whole table.
    ///
    /// # Errors
    /// When the table does not have two dimensions.
    pub fn whole(table: Table) -> Result<Self> {
        Self::from_parts([table.clone(), table.clone(), table])
    }

    fn new([train, validation, test]: [Tensor; 3], columns: Option<Vec<String>>) -> Result<Self> {
        let width = dims(&train)?.1;
        for (name, part) in [("validation", &validation), ("test", &test)] {
            let got = dims(part)?.1;
            if got != width {
                return Err(Error::Data(format!(
                    "train has {width} columns but {name} has {got}; give all parts the same columns"
                )));
            }
        }
        let examples = |x| Examples { x, context: None };
        let (train, validation, test) = (examples(train), examples(validation), examples(test));
        Ok(Self { train, validation, test, columns, context_columns: None, schema: None, notes: Vec::new() })
    }

    /// Moves the given columns of `x` to the context, in the order given.
    ///
    /// A column is given by its name, or else by its index from 0.
    ///
    /// # Errors
    /// When there is no such column, one is given twice, none is left, or there is already a context.
    pub fn with_context(self, columns: &[impl AsRef<str>]) -> Result<Self> {
        if columns.is_empty() {
            return Ok(self);
        }
        if self.train.context.is_some() {
            return Err(Error::Config("the data already has a context; name all its columns at once".into()));
        }
        let width = dims(&self.train.x)?.1;
        let mut chosen = Vec::new();
        for column in columns.iter().map(AsRef::as_ref) {
            let named = self.columns.as_ref().and_then(|names| names.iter().position(|n| n == column));
            let index = named.or_else(|| column.parse().ok().filter(|i| *i < width));
            match index {
                Some(i) if chosen.contains(&(i as u32)) => {
                    return Err(Error::Config(format!("context column `{column}` is given twice; name it once")));
                }
                Some(i) => chosen.push(i as u32),
                None => {
                    let names = self.columns.as_ref().map(|c| format!("`{}` or ", c.join("`, `"))).unwrap_or_default();
                    let known = format!("it is one of {names}0 to {}", width.saturating_sub(1));
                    return Err(Error::Config(format!("there is no column `{column}` for the context; {known}")));
                }
            }
        }
        let kept: Vec<u32> = (0..width as u32).filter(|i| !chosen.contains(i)).collect();
        if kept.is_empty() {
            return Err(Error::Config("every column is context; leave at least one to model".into()));
        }
        let split = |part: &Examples| {
            let pick = |which: &[u32]| {
                let indices = Tensor::from_slice(which, which.len(), part.x.device())?;
                part.x.index_select(&indices, 1)
            };
            Ok::<_, Error>(Examples { x: pick(&kept)?, context: Some(pick(&chosen)?) })
        };
        let names = |which: &[u32]| {
            let name = |names: &Vec<String>| which.iter().filter_map(|i| names.get(*i as usize).cloned()).collect();
            self.columns.as_ref().map(name)
        };
        Ok(Self {
            train: split(&self.train)?,
            validation: split(&self.validation)?,
            test: split(&self.test)?,
            columns: names(&kept),
            context_columns: names(&chosen),
            ..self
        })
    }

    /// The data converted to a dtype and moved to a device.
    ///
    /// # Errors
    /// When a number is out of the range of the dtype, or the device cannot hold the data.
    pub fn to(&self, dtype: DType, device: &Device) -> Result<Self> {
        let limit = match dtype {
            DType::F32 => f64::from(f32::MAX),
            DType::F16 => 65_504.0,
            DType::BF16 => 3.389e38,
            _ => f64::MAX,
        };
        let remedy = format!("is out of the range of {dtype:?}; rescale the column or use f64");
        self.check_magnitude(true, limit, &remedy)?;
        let convert = |t: &Tensor| Ok(t.to_dtype(dtype)?.to_device(device)?);
        Ok(Self {
            train: self.train.map(convert)?,
            validation: self.validation.map(convert)?,
            test: self.test.map(convert)?,
            ..self.clone()
        })
    }

    /// Checks that the columns of `x` are angles in radians.
    ///
    /// # Errors
    /// When a number is outside [-pi, pi]; both ends are the same angle.
    pub fn check_angles(&self) -> Result<()> {
        // An f32 may be a little above pi.
        let limit = f64::from(std::f32::consts::PI);
        self.check_magnitude(false, limit, "is outside [-pi, pi); give angles in radians, reduced to that range")
    }

    /// A hash of all values in their order, the same on every machine: of two data sets with the same hash the numbers
    /// are the same.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn hash(&self) -> Result<u64> {
        let mut hash = Hash::NEW;
        for part in [&self.train, &self.validation, &self.test] {
            for x in [Some(&part.x), part.context.as_ref()].into_iter().flatten() {
                let values = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                values.into_iter().for_each(|value| hash.number(value));
            }
        }
        Ok(hash.value())
    }

    /// The number of rows of all parts.
    pub fn rows(&self) -> usize {
        [&self.train, &self.validation, &self.test].map(Examples::len).iter().sum()
    }

    /// Checks that f32 resolves the numbers of each column.
    ///
    /// # Errors
    /// When the mean of a column of the training rows exceeds 10^5 standard deviations in magnitude.
    pub fn check_resolution(&self) -> Result<()> {
        let parts = [(Some(&self.train.x), &self.columns), (self.train.context.as_ref(), &self.context_columns)];
        for (x, names) in parts.into_iter().filter_map(|(x, names)| Some((x?, names))) {
            // Relative to the first row, so that a constant column has a deviation of exactly 0.
            let first = x.narrow(0, 0, 1)?.to_dtype(DType::F64)?;
            let x = x.to_dtype(DType::F64)?.broadcast_sub(&first)?;
            let mean = x.mean_keepdim(0)?;
            let deviation = x.broadcast_sub(&mean)?.sqr()?.mean(0)?.sqrt()?.to_vec1::<f64>()?;
            let mean = (mean + first)?.squeeze(0)?.to_vec1::<f64>()?;
            // A hundred times the least number of full precision.
            let tiny = 100.0 * f64::from(f32::MIN_POSITIVE);
            if let Some(i) = (0..mean.len()).find(|&i| deviation[i] > 0.0 && deviation[i] < tiny) {
                return Err(Error::Data(format!(
                    "{} has deviation {:e}, too small for single precision; multiply its numbers, as by another unit",
                    label(names.as_deref(), i),
                    deviation[i]
                )));
            }
            if let Some(i) = (0..mean.len()).find(|&i| deviation[i] > 0.0 && mean[i].abs() > 1e5 * deviation[i]) {
                return Err(Error::Data(format!(
                    "{} has mean {:e} and deviation {:e}: single precision cannot resolve its numbers; subtract \
                     an offset, for example the mean",
                    label(names.as_deref(), i),
                    mean[i],
                    deviation[i]
                )));
            }
        }
        Ok(())
    }

    /// Checks that no number of `x`, nor of the context if `context`, exceeds `limit` in magnitude.
    fn check_magnitude(&self, context: bool, limit: f64, remedy: &str) -> Result<()> {
        for part in [&self.train, &self.validation, &self.test].into_iter().filter(|part| !part.is_empty()) {
            let context = part.context.as_ref().filter(|_| context);
            let both = [(Some(&part.x), &self.columns), (context, &self.context_columns)];
            for (x, names) in both.into_iter().filter_map(|(x, names)| Some((x?, names))) {
                let greatest = x.abs()?.max(0)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                if let Some(i) = greatest.iter().position(|v| *v > limit) {
                    let column = label(names.as_deref(), i);
                    return Err(Error::Data(format!("{column}: a number of magnitude {:e} {remedy}", greatest[i])));
                }
            }
        }
        Ok(())
    }
}

/// The name of a column in messages.
fn label(names: Option<&[String]>, column: usize) -> String {
    match names.and_then(|names| names.get(column)) {
        Some(name) => format!("column {} (`{name}`)", column + 1),
        None => format!("column {}", column + 1),
    }
}

pub(super) fn dims(x: &Tensor) -> Result<(usize, usize)> {
    x.dims2().map_err(|_| Error::shape("the data", x.dims(), "(rows, columns)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::write_table;

    fn table(rows: usize) -> Table {
        let values: Vec<f64> = (0..rows).flat_map(|i| [i as f64, -(i as f64), 7.0]).collect();
        let columns = Some(vec!["a".to_string(), "b".into(), "1".into()]);
        Table { columns, data: Tensor::from_vec(values, (rows, 3), &Device::Cpu).unwrap() }
    }

    fn column(x: &Tensor, j: usize) -> Vec<f64> {
        x.narrow(1, j, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_row_goes_to_one_part() -> Result<()> {
        for rows in [3, 4, 5, 10, 101] {
            let data = Dataset::from_table(&table(rows), Proportions::default(), &mut Rng::seed(3))?;
            let parts = [&data.train, &data.validation, &data.test];
            assert!(parts.iter().all(|p| !p.is_empty()));
            let mut all: Vec<f64> = parts.iter().flat_map(|p| column(&p.x, 0)).collect();
            all.sort_by(f64::total_cmp);
            assert_eq!(all, (0..rows).map(|i| i as f64).collect::<Vec<_>>());
            if rows == 10 {
                assert_eq!(parts.map(Examples::len), [8, 1, 1]);
            }
        }
        let few = Dataset::from_table(&table(2), Proportions::default(), &mut Rng::seed(3)).unwrap_err();
        assert!(few.to_string().contains("at least 3 rows"), "{few}");
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let proportions = Proportions { test: bad, ..Default::default() };
            assert!(Dataset::from_table(&table(10), proportions, &mut Rng::seed(3)).is_err());
        }
        let lopsided = Proportions { train: 1e-9, validation: 1e9, test: 1.0 };
        let data = Dataset::from_table(&table(5), lopsided, &mut Rng::seed(3))?;
        assert_eq!([&data.train, &data.validation, &data.test].map(Examples::len), [1, 3, 1]);
        Ok(())
    }

    #[test]
    fn context_is_found_by_name_then_by_index() -> Result<()> {
        let data = Dataset::from_table(&table(10), Proportions::default(), &mut Rng::seed(3))?;
        let named = data.clone().with_context(&["1", "0"])?;
        assert_eq!(named.columns, Some(vec!["b".to_string()]));
        assert_eq!(named.context_columns, Some(vec!["1".to_string(), "a".into()]));
        let context = named.train.context.as_ref().unwrap();
        assert!(column(context, 0).iter().all(|v| *v == 7.0));
        assert_eq!(column(&named.train.x, 0), column(context, 1).iter().map(|v| -v).collect::<Vec<_>>());
        for (bad, why) in [(&["c"][..], "`a`, `b`, `1` or 0 to 2"), (&["a", "0"], "twice"), (&["0", "b", "2"], "leave")]
        {
            let error = data.clone().with_context(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(named.with_context(&["0"]).is_err());
        let first = data.with_context(&["b"])?.train.select(&[1, 1])?;
        assert_eq!((first.x.dims(), first.context.as_ref().unwrap().dims()), (&[2, 2][..], &[2, 1][..]));
        assert!(first.select(&[2]).is_err());
        Ok(())
    }

    #[test]
    fn a_folder_must_agree_on_its_columns() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_table(at("train.npy"), &table(4))?;
        write_table(at("validation.npy"), &table(2))?;
        assert!(Dataset::from_directory(folder.path()).unwrap_err().to_string().contains("test.npy"));
        write_table(at("test.npy"), &Table { columns: None, data: Tensor::zeros((2, 2), DType::F64, &Device::Cpu)? })?;
        let error = Dataset::from_directory(folder.path()).unwrap_err().to_string();
        assert!(error.contains("3 columns but test has 2"), "{error}");
        write_table(at("test.npy"), &table(1))?;
        assert_eq!(Dataset::from_directory(folder.path())?.train.len(), 4);
        Ok(())
    }

    #[test]
    fn numbers_beyond_a_dtype_are_found() -> Result<()> {
        let wide = Table { columns: None, data: Tensor::new(&[[1e300], [1.0], [2.0]], &Device::Cpu)? };
        let data = Dataset::from_table(&wide, Proportions::default(), &mut Rng::seed(0))?;
        let error = data.to(DType::F32, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("column 1") && error.contains("range of F32"), "{error}");
        Ok(())
    }

    #[test]
    fn columns_that_a_type_or_a_model_cannot_take_are_named() -> Result<()> {
        let columns = Some(vec!["time".to_string(), "angle".into()]);
        let values: Vec<f64> = (0..20).flat_map(|i| [1.7e9 + f64::from(i), f64::from(i) / 5.0]).collect();
        let table = Table { columns, data: Tensor::from_vec(values, (20, 2), &Device::Cpu)? };
        let data = Dataset::from_table(&table, Proportions::default(), &mut Rng::seed(0))?;
        let error = data.check_resolution().unwrap_err().to_string();
        assert!(error.contains("`time`") && error.contains("mean 1.7") && error.contains("offset"), "{error}");
        assert!(data.clone().with_context(&["time"])?.check_resolution().is_err());
        let angles = data.with_context(&["time"])?;
        assert!(angles.check_angles().unwrap_err().to_string().contains("`angle`"));
        let constant = Table { columns: None, data: Tensor::full(1.7e9, (5, 1), &Device::Cpu)? };
        let data = Dataset::from_table(&constant, Proportions::default(), &mut Rng::seed(0))?;
        data.check_resolution()
    }
}
