//! What the columns of a table hold.

use super::odd;
use super::parts::Frames;
use super::{Cells, Column, Frame, date};
use crate::bijectors::Bounds;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Names under which programs write the numbers of rows, in lower case.
const ROW_NUMBER_NAMES: [&str; 8] = ["", "unnamed: 0", "index", "row", "rownum", "row_number", "rownames", "id"];

/// What the columns of a table hold, as found from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The columns, in the order of the table.
    pub columns: Vec<ColumnSchema>,
    /// Whether a model takes words and the values of categories as codes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub coded: bool,
    /// Whether missing cells are values to a model, rather than a reason to leave out the row.
    #[serde(default, skip_serializing_if = "is_default")]
    pub models_missing: bool,
    /// Whether a value that is none of its column is read all the same, as a number that no cell can have.
    #[serde(skip)]
    pub(crate) takes_unknown: bool,
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSchema {
    /// The name, if the table has names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kind of its values.
    pub kind: ColumnKind,
    /// The number of missing cells.
    pub missing: usize,
    /// The number of different values, counted up to [`Schema::MOST_DISTINCT`].
    pub distinct: usize,
    /// The least and the greatest number; of dates, as days since the first of January 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// The most frequent number and its share of the rows, if it is in a twentieth of them or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequent: Option<[f64; 2]>,
    /// A number that repeats far from all others, as those do that stand for missing cells, and in how many cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<[f64; 2]>,
    /// What all numbers are multiples of, in a column of rounded numbers that repeat; 1 is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// What all possible numbers lie between.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bounds: Bounds,
    /// Whether a model uses the column.
    pub used: bool,
}

/// The kind of a column's values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnKind {
    /// Numbers.
    Number,
    /// Whole numbers.
    Integer,
    /// One of a few words; these, the most frequent first.
    Category(Vec<String>),
    /// One of two words or whole numbers, such as yes and no; these.
    Binary([String; 2]),
    /// Words that hardly occur twice.
    Text,
    /// Dates or times.
    Date,
    /// The same value in every row; this.
    Constant(String),
    /// The number of the row.
    RowNumber,
}

impl ColumnKind {
    /// The values that are named, the most frequent first.
    pub fn values(&self) -> &[String] {
        match self {
            Self::Category(values) => values,
            Self::Binary(values) => values,
            Self::Constant(value) => std::slice::from_ref(value),
            _ => &[],
        }
    }

    /// What users call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Integer => "whole number",
            Self::Category(_) => "category",
            Self::Binary(_) => "yes or no",
            Self::Text => "text",
            Self::Date => "date",
            Self::Constant(_) => "constant",
            Self::RowNumber => "row number",
        }
    }
}

impl ColumnSchema {
    fn new(name: Option<String>, kind: ColumnKind, missing: usize, distinct: usize, range: Option<[f64; 2]>) -> Self {
        let distinct = distinct.min(Schema::MOST_DISTINCT);
        let bounds = Bounds::NONE;
        let (frequent, fill, step) = (None, None, None);
        let column = Self { name, kind, missing, distinct, range, frequent, fill, step, bounds, used: true };
        Self { used: column.useless().is_none(), ..column }
    }

    /// What the column is called: its name, or its number, counted from 1.
    pub fn label(&self, index: usize) -> String {
        match self.name.as_deref() {
            Some(name) if !name.is_empty() => format!("`{name}`"),
            _ => format!("column {}", index + 1),
        }
    }

    /// Why the column is of no use to a model, if it is not.
    pub fn useless(&self) -> Option<String> {
        match &self.kind {
            ColumnKind::Constant(value) => Some(format!("is {value} in every row")),
            ColumnKind::RowNumber => Some("numbers the rows".into()),
            ColumnKind::Text => Some("holds text that hardly repeats".into()),
            ColumnKind::Date if self.range.is_none() => {
                Some("holds dates whose day and month are not told apart (write them as 2024-11-30)".into())
            }
            _ => None,
        }
    }

    /// Whether it takes so few values that each has a probability rather than a density.
    pub(super) fn takes_few_values(&self, rows: usize) -> bool {
        self.distinct < 20 && rows >= 10 * self.distinct
    }

    /// What is doubtful about its use in a density, with the remedy; none where nothing is.
    pub fn doubt(&self, index: usize, rows: usize, coded: bool) -> Option<String> {
        let label = self.label(index);
        let name = self.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| index.to_string());
        if let Some([value, count]) = self.fill.filter(|_| self.used) {
            let value = odd::short(value);
            return Some(format!(
                "{label} is {value} in {count} rows and otherwise far from it: if it stands for missing cells, leave these empty"
            ));
        }
        let few = self.takes_few_values(rows);
        let what = match self.frequent {
            _ if coded || !self.used || self.range.is_none() => return None,
            _ if few => format!("takes only {} values", self.distinct),
            Some([value, share]) if rows >= 100 => format!("is {value} in {:.0}% of the rows", 100.0 * share),
            _ => return None,
        };
        Some(format!(
            "{label} {what}, where a density has no bound, so the likelihood says nothing of the fit: leave it out by \
             --drop {name}, or condition on it by --context {name}"
        ))
    }
}

impl Schema {
    /// The most different values of a column that are counted.
    pub const MOST_DISTINCT: usize = 1000;

    /// What the columns of a table hold.
    pub fn of(frame: &Frame) -> Self {
        let columns = frame.columns.iter().enumerate().map(|(i, column)| describe(column, i == 0)).collect();
        Self { columns, coded: false, models_missing: false, takes_unknown: false }
    }

    /// Columns of numbers with these names, if they have any.
    #[cfg(feature = "cli")]
    pub(crate) fn of_numbers(names: impl IntoIterator<Item = Option<String>>) -> Self {
        let column = |name| ColumnSchema::new(name, ColumnKind::Number, 0, Self::MOST_DISTINCT, None);
        Self {
            columns: names.into_iter().map(column).collect(),
            coded: false,
            models_missing: false,
            takes_unknown: false,
        }
    }

    /// Columns with these names, each of two values.
    pub(crate) fn of_categories<const N: usize>(names: [&str; N]) -> Self {
        let kind = || ColumnKind::Binary(["0", "1"].map(String::from));
        let column = |name: &str| ColumnSchema::new(Some(name.into()), kind(), 0, 2, None);
        Self { columns: names.map(column).into(), coded: true, models_missing: false, takes_unknown: false }
    }

    /// Uses `columns` alone, if any are given, and not those of `dropped`; both by name, or by index from 0.
    ///
    /// # Errors
    /// When there is no such column, or none is left.
    pub fn select(mut self, columns: &[String], dropped: &[String]) -> Result<Self> {
        if !columns.is_empty() {
            let kept = columns.iter().map(|column| self.position(column)).collect::<Result<Vec<_>>>()?;
            for (i, column) in self.columns.iter_mut().enumerate() {
                column.used = kept.contains(&i);
            }
        }
        for column in dropped {
            let i = self.position(column)?;
            self.columns[i].used = false;
        }
        if self.columns.iter().any(|column| column.used) {
            return Ok(self);
        }
        Err(Error::Data("no column is left to model: the others are constant, number the rows or were left out".into()))
    }

    pub(super) fn position(&self, column: &str) -> Result<usize> {
        let named = self.columns.iter().position(|known| known.name.as_deref() == Some(column));
        let numbered = || column.parse().ok().filter(|i| *i < self.columns.len());
        named.or_else(numbered).ok_or_else(|| {
            let names: Vec<String> = (0..self.columns.len()).map(|i| self.columns[i].label(i)).collect();
            Error::Config(format!("there is no column `{column}`; there are {}", names.join(", ")))
        })
    }

    /// What the owner of tables has to know of them: how they were read, what is left out, what is odd in them, and what
    /// is doubtful in a density of them.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn notes(&self, frames: &Frames) -> Result<Vec<String>> {
        let rows = frames.named().map(|(_, frame)| frame.rows()).sum();
        Ok([self.left_out(frames, &[]), odd::notes(self, frames)?, self.doubts(rows, &[])].concat())
    }

    /// How tables were read, and which of their columns and rows are left out, but for the `dropped` columns.
    pub(super) fn left_out(&self, frames: &Frames, dropped: &[String]) -> Vec<String> {
        let mut notes = frames.notes();
        let named: Vec<usize> = dropped.iter().filter_map(|column| self.position(column).ok()).collect();
        let columns = self.columns.iter().enumerate().filter(|(i, column)| !column.used && !named.contains(i));
        let useless = |(i, column): (usize, &ColumnSchema)| {
            Some(format!("{} {}: it is left out", column.label(i), column.useless()?))
        };
        notes.extend(columns.filter_map(useless));
        let frames = || frames.named().map(|(_, frame)| frame);
        let rows: usize = frames().map(Frame::rows).sum();
        let incomplete: usize = frames().map(|frame| self.incomplete(frame)).sum();
        if incomplete > 0 && !self.models_missing {
            let share = 100.0 * incomplete as f64 / rows as f64;
            notes.push(format!("{incomplete} of {rows} rows ({share:.1}%) have a missing cell: they are left out"));
        }
        notes
    }

    /// What is doubtful in a density of the columns, but those of the context.
    pub(super) fn doubts(&self, rows: usize, context: &[String]) -> Vec<String> {
        let given = |column: &ColumnSchema| column.name.as_ref().is_some_and(|name| context.contains(name));
        let columns = self.columns.iter().enumerate().filter(|(_, column)| !given(column));
        columns.filter_map(|(i, column)| column.doubt(i, rows, self.coded)).collect()
    }

    /// The rows in which a column that is used has a missing cell.
    fn incomplete(&self, frame: &Frame) -> usize {
        let used = (0..self.columns.len()).filter(|&i| self.columns[i].used);
        let columns: Vec<&Column> = used.filter_map(|i| self.find(frame, i).ok()).collect();
        (0..frame.rows()).filter(|&row| columns.iter().any(|column| column.cells.is_missing(row))).count()
    }

    /// The columns that are used, first those of the `context`, by name or by index from 0 among those that are used.
    ///
    /// # Errors
    /// When there is no such column, or one is given twice.
    pub fn order(&self, context: &[String]) -> Result<Vec<usize>> {
        let used: Vec<usize> = (0..self.columns.len()).filter(|&i| self.columns[i].used).collect();
        let mut order = Vec::with_capacity(used.len());
        for column in context {
            let named = used.iter().copied().find(|&i| self.columns[i].name.as_ref() == Some(column));
            let numbered = || column.parse().ok().and_then(|i: usize| used.get(i).copied());
            match named.or_else(numbered) {
                Some(i) if !order.contains(&i) => order.push(i),
                Some(_) => {
                    return Err(Error::Config(format!("context column `{column}` is given twice; name it once")));
                }
                None => return Err(Error::Config(format!("there is no column `{column}` for the context"))),
            }
        }
        let rest: Vec<usize> = used.into_iter().filter(|i| !order.contains(i)).collect();
        Ok(order.into_iter().chain(rest).collect())
    }

    /// The column of a frame that this schema's column `i` describes.
    pub(super) fn find<'a>(&self, frame: &'a Frame, i: usize) -> Result<&'a Column> {
        let schema = &self.columns[i];
        let named = frame.columns.iter().all(|column| column.name.is_some()) && schema.name.is_some();
        let found = match named {
            true => frame.columns.iter().find(|column| column.name == schema.name),
            false if frame.columns.len() == self.columns.len() => frame.columns.get(i),
            false => None,
        };
        found.ok_or_else(|| {
            let label = schema.label(i);
            Error::Data(match named {
                true => format!(
                    "there is no {label} among `{}`: give a table with the columns that the model was trained on",
                    frame.names().unwrap_or_default().join("`, `")
                ),
                false => format!(
                    "the table has {} columns, not {}: give the columns that the model was trained on, or names",
                    frame.columns.len(),
                    self.columns.len()
                ),
            })
        })
    }
}

fn describe(column: &Column, first: bool) -> ColumnSchema {
    let name = column.name.clone();
    match &column.cells {
        Cells::Numbers(values) => {
            let known: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
            let least = known.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sorted = known.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            let runs = sorted.chunk_by(|a, b| a == b);
            let different: Vec<f64> = runs.clone().map(|run| run[0]).collect();
            let distinct = different.len();
            let whole = known.iter().all(|value| is_whole_number(*value));
            let kind = match distinct {
                0 | 1 if values.len() > 1 => {
                    ColumnKind::Constant(known.first().map_or_else(|| "missing".into(), |value| value.to_string()))
                }
                _ if is_row_number(values, name.as_deref(), first) => ColumnKind::RowNumber,
                2 if whole => ColumnKind::Binary([different[0].to_string(), different[1].to_string()]),
                _ if whole => ColumnKind::Integer,
                _ => ColumnKind::Number,
            };
            let range = (!known.is_empty()).then_some([least, greatest]);
            let missing = values.len() - known.len();
            let most = runs.max_by_key(|run| run.len()).unwrap_or_default();
            let share = most.len() as f64 / values.len().max(1) as f64;
            let frequent = most.first().filter(|_| share >= 0.05 && most.len() >= 5).map(|value| [*value, share]);
            let fill = odd::fill_value(values);
            let step = if 2 * distinct <= known.len() { step(&different) } else { None };
            let step = step.filter(|step| *step != 1.0 && matches!(kind, ColumnKind::Number | ColumnKind::Integer));
            ColumnSchema { frequent, fill, step, ..ColumnSchema::new(name, kind, missing, distinct, range) }
        }
        Cells::Words { words, codes, .. } => {
            let mut counts = vec![0usize; words.len()];
            codes.iter().flatten().for_each(|&code| counts[code as usize] += 1);
            let known: usize = counts.iter().sum();
            let mut order: Vec<usize> = (0..words.len()).collect();
            order.sort_by_key(|&i| std::cmp::Reverse(counts[i]));
            let sorted: Vec<String> = order.into_iter().map(|i| words[i].clone()).collect();
            let distinct = words.len();
            let kind = match sorted.as_slice() {
                [] => ColumnKind::Constant("missing".into()),
                [only] if codes.len() > 1 => ColumnKind::Constant(only.clone()),
                _ if sorted.iter().all(|word| is_date(word)) => {
                    let days: Option<Vec<f64>> = sorted.iter().map(|word| date::days(word)).collect();
                    let range = days.map(|days| {
                        let least = days.iter().copied().fold(f64::INFINITY, f64::min);
                        [least, days.iter().copied().fold(f64::NEG_INFINITY, f64::max)]
                    });
                    return ColumnSchema::new(name, ColumnKind::Date, codes.len() - known, distinct, range);
                }
                [one, other] => ColumnKind::Binary([one.clone(), other.clone()]),
                _ if distinct > Schema::MOST_DISTINCT || 2 * distinct > known => ColumnKind::Text,
                _ => ColumnKind::Category(sorted),
            };
            let missing = codes.len() - known;
            ColumnSchema::new(name, kind, missing, distinct, None)
        }
    }
}

/// Whether a number is whole and its neighbours can be told from it.
pub(super) fn is_whole_number(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0
}

/// The greatest number, of at most six decimals, that all these are multiples of.
fn step(values: &[f64]) -> Option<f64> {
    const MOST: f64 = 9e15;
    let (decimals, whole) = (0..=6).find_map(|decimals| {
        let scale = 10f64.powi(decimals);
        let multiple = |value: &f64| {
            let scaled = value * scale;
            let near = (scaled - scaled.round()).abs() <= (1e-9 * scaled.abs().max(1e-3)).min(0.1);
            // Decimals that were rounded to single precision.
            let near = near || f64::from((scaled.round() / scale) as f32) == *value;
            (near && scaled.abs() < MOST).then(|| scaled.round().abs() as u64)
        };
        Some((decimals, values.iter().map(multiple).collect::<Option<Vec<u64>>>()?))
    })?;
    let divisor = whole.into_iter().fold(0, |mut a, mut b| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    });
    (divisor > 0).then(|| divisor as f64 / 10f64.powi(decimals))
}

/// Whether a column counts the rows, and is named so or is the first and has no name.
pub(super) fn is_row_number(values: &[f64], name: Option<&str>, first: bool) -> bool {
    let named = match name {
        Some(name) => ROW_NUMBER_NAMES.contains(&name.to_lowercase().as_str()),
        None => first && matches!(values.first(), Some(0.0 | 1.0)),
    };
    named && values.len() >= 10 && values.windows(2).all(|pair| pair[1] == pair[0] + 1.0)
}

/// Whether a word is a date, with or without a time: year, month and day, or in the other order.
fn is_date(word: &str) -> bool {
    let date = word.split(['T', ' ']).next().unwrap_or_default();
    let parts: Vec<&str> = date.split(['-', '/', '.']).collect();
    let number = |part: &str| part.parse::<u32>().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()));
    let [Some(a), Some(b), Some(c)] = [0, 1, 2].map(|i| parts.get(i).copied().and_then(number)) else { return false };
    let year = |part: &str| part.len() == 4;
    let day_and_month = |a: u32, b: u32| (1..=12).contains(&a.min(b)) && (1..=31).contains(&a.max(b));
    parts.len() == 3 && ((year(parts[0]) && day_and_month(b, c)) || (year(parts[2]) && day_and_month(a, b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(columns: &[(&str, Cells)]) -> Frame {
        let column = |(name, cells): &(&str, Cells)| Column { name: Some(name.to_string()), cells: cells.clone() };
        Frame { columns: columns.iter().map(column).collect(), ..Frame::default() }
    }

    fn numbers(of: impl Fn(usize) -> f64) -> Cells {
        Cells::Numbers((0..30).map(of).collect())
    }

    fn words(of: impl Fn(usize) -> String) -> Cells {
        let words: Vec<String> = (0..30).map(of).collect();
        let mut different = words.clone();
        different.sort();
        different.dedup();
        let codes =
            words.iter().map(|word| different.iter().position(|other| other == word).map(|i| i as u32)).collect();
        Cells::Words { words: different, codes, numbers: 0, first_word: (0, words[0].clone()) }
    }

    #[test]
    fn kinds_are_found() {
        let cases = [
            ("", numbers(|i| 300.0 + i as f64), "row number"),
            ("year", numbers(|i| 1990.0 + i as f64), "whole number"),
            ("x", numbers(|i| (i as f64).sin()), "number"),
            ("gap", numbers(|i| if i % 3 == 0 { f64::NAN } else { i as f64 / 7.0 }), "number"),
            ("k", numbers(|i| (i % 2) as f64), "yes or no"),
            ("c", numbers(|_| 14.62), "constant"),
            ("e", numbers(|_| f64::NAN), "constant"),
            ("sex", words(|i| ["f", "m"][i % 2].into()), "yes or no"),
            ("kind", words(|i| ["a", "b", "c"][i % 3].into()), "category"),
            ("day", words(|i| format!("2024-01-{:02}", i + 1)), "date"),
            ("when", words(|i| format!("{:02}/11/2024 10:00", i % 28 + 1)), "date"),
            ("note", words(|i| format!("row {i}")), "text"),
            ("same", words(|_| "x".into()), "constant"),
        ];
        for (name, cells, kind) in cases {
            let schema = Schema::of(&frame(&[(name, cells)]));
            assert_eq!(schema.columns[0].kind.name(), kind, "{name}");
            let used = !matches!(kind, "constant" | "row number" | "text") && name != "when";
            assert_eq!(schema.columns[0].used, used, "{name}");
        }
    }

    #[test]
    fn steps_of_rounded_numbers_are_found() {
        for (values, want) in [
            (&[0.1, 0.7, -0.3][..], Some(0.1)),
            (&[0.5, 1.5, 3.25], Some(0.25)),
            (&[1000.0, 45_000.0, 0.0], Some(1000.0)),
            (&[1.0, 2.0], Some(1.0)),
            (&[0.333_333_333, 1.0], None),
            (&[1e300, 1.0], None),
            (&[0.0], None),
        ] {
            assert_eq!(step(values), want, "{values:?}");
        }
    }

    #[test]
    fn columns_are_chosen_and_found_again_by_name() -> Result<()> {
        let (x, y) = (numbers(|i| (i as f64).sin()), numbers(|i| if i == 3 { f64::NAN } else { (i as f64).cos() }));
        let data = frame(&[("", numbers(|i| i as f64)), ("x", x.clone()), ("c", numbers(|_| 2.0)), ("y", y.clone())]);
        let schema = Schema::of(&data);
        let remarks = schema.left_out(&data.clone().into(), &[]);
        assert!(remarks.len() == 3 && remarks[2].starts_with("1 of 30 rows (3.3%)"), "{remarks:?}");
        let (table, lost) = schema.numbers(&data)?;
        assert_eq!((table.data.dims(), lost), (&[29, 2][..], 1));
        assert_eq!(table.columns, Some(vec!["x".to_string(), "y".into()]));
        // In another order, and with another column.
        let other = frame(&[("y", y), ("z", numbers(|_| 0.0)), ("x", x)]);
        assert_eq!(schema.numbers(&other)?.0.data.to_vec2::<f64>()?, table.data.to_vec2::<f64>()?);
        assert!(schema.numbers(&frame(&[("x", numbers(|_| 0.0))])).unwrap_err().to_string().contains("`y`"));
        let dropped = schema.clone().select(&[], &["y".into()])?;
        assert_eq!(dropped.numbers(&data)?.0.data.dims(), [30, 1]);
        let chosen = schema.clone().select(&["0".into(), "y".into()], &[])?;
        assert_eq!(chosen.numbers(&data)?.0.data.dims(), [29, 2]);
        assert!(schema.clone().select(&[], &["w".into()]).unwrap_err().to_string().contains("`x`"));
        assert!(schema.select(&["x".into()], &["x".into()]).is_err());
        let spikes = frame(&[("rain", numbers(|i| if i % 2 == 0 { 0.0 } else { i as f64 / 7.0 }))]);
        assert!(
            Schema::of(&spikes).columns[0]
                .doubt(0, 150, false)
                .is_some_and(|doubt| doubt.contains("is 0 in 50% of the rows"))
        );
        let sex = frame(&[("sex", words(|i| ["f", "m"][i % 2].into()))]);
        let error = Schema::of(&sex).numbers(&sex).unwrap_err().to_string();
        assert!(error.contains("`sex` holds words (`f`, `m`)"), "{error}");
        Ok(())
    }
}
