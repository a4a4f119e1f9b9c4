//! What a user says of columns, in place of what is found from the data.

use super::schema::{is_default, is_whole_number};
use super::{Cells, Column, ColumnKind, ColumnSchema, Frame, Frames, Schema};
use crate::bijectors::Bounds;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Columns, by name or by index from 0, whose kind or bounds are given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args), command(next_help_heading = "Data"))]
#[serde(default, deny_unknown_fields)]
pub struct Kinds {
    /// Columns whose values are categories
    #[cfg_attr(feature = "cli", arg(long, value_name = "COLUMNS", value_delimiter = ','))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categorical: Vec<String>,
    /// Columns of whole numbers
    #[cfg_attr(feature = "cli", arg(long, value_name = "COLUMNS", value_delimiter = ','))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub integer: Vec<String>,
    /// Columns of numbers above 0
    #[cfg_attr(feature = "cli", arg(long, value_name = "COLUMNS", value_delimiter = ','))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub positive: Vec<String>,
    /// Columns of numbers between bounds, as share=0:1
    #[cfg_attr(feature = "cli", arg(long, value_name = "COLUMN=A:B", value_delimiter = ','))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bounded: Vec<String>,
    /// What becomes of rows with missing cells [default: drop]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHAT"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// What becomes of rows with missing cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// They are left out
    #[default]
    Drop,
    /// That a cell is missing is a value of it, and the number that it might have is integrated out
    Model,
}

impl Kinds {
    /// Checks that a model takes what is given: a flow has no categories, whole numbers and missing cells.
    ///
    /// # Errors
    /// When one of these is given for a flow.
    pub fn check(&self, coded: bool) -> Result<()> {
        let given = [
            ("--categorical", !self.categorical.is_empty()),
            ("--integer", !self.integer.is_empty()),
            ("--missing model", self.missing == Some(Missing::Model)),
        ];
        match given.into_iter().find(|(_, given)| *given && !coded) {
            Some((flag, _)) => Err(Error::Config(format!("{flag} is for the model `mixed`: take it by --model mixed"))),
            None => Ok(()),
        }
    }

    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        is_default(self)
    }
}

impl Schema {
    /// What the columns of tables hold, as found from the rows to train on and as given. Numbers that are not whole are
    /// categories where there are few different ones; the values of categories are those of all parts.
    ///
    /// # Errors
    /// When there is no such column, or it holds something else.
    pub fn with_kinds(frames: &Frames, kinds: &Kinds) -> Result<Self> {
        let mut schema = Self { models_missing: kinds.missing == Some(Missing::Model), ..Self::of(&frames.train) };
        for i in 0..schema.columns.len() {
            let column = &mut schema.columns[i];
            if column.kind == ColumnKind::Number
                && column.step.is_none()
                && column.takes_few_values(frames.train.rows() - column.missing)
            {
                column.kind = ColumnKind::Category(values(&frames.train.columns[i]));
            }
        }
        for column in &kinds.categorical {
            let i = schema.position(column)?;
            let values = values(&frames.train.columns[i]);
            if values.len() > Self::MOST_DISTINCT {
                return Err(schema.other(i, &format!("{} different values", values.len()), "--categorical"));
            }
            schema.columns[i].kind = ColumnKind::Category(values);
            schema.columns[i].used = true;
        }
        for column in &kinds.integer {
            let i = schema.position(column)?;
            let is_whole = |value: &f64| value.is_nan() || is_whole_number(*value);
            match &frames.train.columns[i].cells {
                Cells::Numbers(values) if values.iter().all(is_whole) => {
                    schema.columns[i].kind = ColumnKind::Integer;
                    schema.columns[i].used = true;
                }
                _ => return Err(schema.other(i, "not all whole numbers", "--integer")),
            }
        }
        for column in &kinds.positive {
            let i = schema.position(column)?;
            schema.bound(i, Bounds::above(0.0), "--positive")?;
        }
        for text in &kinds.bounded {
            let (column, bounds) = parse_bounds(text)?;
            let i = schema.position(column)?;
            schema.bound(i, bounds, "--bounded")?;
        }
        for (_, frame) in frames.named().skip(1) {
            schema.add_values(frame)?;
        }
        Ok(schema)
    }

    /// The schema of a model that takes codes if `coded`.
    #[must_use]
    pub fn coded(self, coded: bool) -> Self {
        Self { coded, models_missing: coded && self.models_missing, ..self }
    }

    /// Whether a column that is used is no column of real numbers, or has values with a probability of their own, so
    /// that no flow over real numbers is a density of the table.
    pub fn is_mixed(&self) -> bool {
        let is_mixed = |column: &ColumnSchema| {
            let spike = column.frequent.is_some() || self.models_missing && column.missing > 0;
            column.used && (spike || column.step.is_some() || column.kind != ColumnKind::Number)
        };
        self.columns.iter().any(is_mixed)
    }

    fn other(&self, i: usize, what: &str, flag: &str) -> Error {
        Error::Config(format!("{} holds {what}: leave it out of {flag}", self.columns[i].label(i)))
    }

    fn bound(&mut self, i: usize, bounds: Bounds, flag: &str) -> Result<()> {
        let Some([least, greatest]) = self.columns[i].range else {
            return Err(self.other(i, "words", flag));
        };
        if !(bounds.contain(least) && bounds.contain(greatest)) {
            return Err(self.other(i, &format!("numbers from {least} to {greatest}, not all {bounds}"), flag));
        }
        self.columns[i].bounds = bounds;
        Ok(())
    }

    /// Adds the missing cells of another part of the data, and the values that categories have there after those known.
    fn add_values(&mut self, frame: &Frame) -> Result<()> {
        for i in 0..self.columns.len() {
            if !self.columns[i].used {
                continue;
            }
            // A column that is left out need not be there.
            let Ok(column) = self.find(frame, i) else { continue };
            self.columns[i].missing += (0..column.cells.len()).filter(|&row| column.cells.is_missing(row)).count();
            if let Cells::Numbers(numbers) = &column.cells {
                self.columns[i].check_bounds(numbers)?;
            }
            let kind = &mut self.columns[i].kind;
            if !matches!(kind, ColumnKind::Category(_) | ColumnKind::Binary(_)) {
                continue;
            }
            let (known, found) = (kind.values().to_vec(), values(column));
            let new: Vec<String> = found.into_iter().filter(|value| !known.contains(value)).collect();
            if !new.is_empty() {
                *kind = ColumnKind::Category(known.into_iter().chain(new).collect());
            }
        }
        Ok(())
    }
}

impl ColumnSchema {
    /// Checks that numbers of another part of the data lie within the bounds.
    fn check_bounds(&self, numbers: &[f64]) -> Result<()> {
        let out = |value: &&f64| !value.is_nan() && !self.bounds.contain(**value);
        match numbers.iter().find(out).filter(|_| self.bounds != Bounds::NONE) {
            None => Ok(()),
            Some(value) => {
                let name = self.name.as_deref().unwrap_or("a column");
                Err(Error::Data(format!("`{name}` has {value}, which is not {}: widen the bounds", self.bounds)))
            }
        }
    }
}

/// The different values of a column as text, the most frequent first.
fn values(column: &Column) -> Vec<String> {
    let mut counts = std::collections::HashMap::new();
    for row in 0..column.cells.len() {
        if let Some(text) = column.cells.text(row) {
            counts.entry(text).or_insert((0usize, row)).0 += 1;
        }
    }
    let mut values: Vec<_> = counts.into_iter().collect();
    // Equally frequent ones in the order of the rows.
    values.sort_by_key(|(_, (count, first))| (std::cmp::Reverse(*count), *first));
    values.into_iter().map(|(value, _)| value.into_owned()).collect()
}

fn parse_bounds(text: &str) -> Result<(&str, Bounds)> {
    let wrong = || {
        let form = "give a column and its bounds as `share=0:1`, or one bound as `share=:1`";
        Error::Config(format!("`{text}` does not give bounds: {form}"))
    };
    let (column, bounds) = text.rsplit_once('=').ok_or_else(wrong)?;
    let (lower, upper) = bounds.split_once(':').ok_or_else(wrong)?;
    let bound = |text: &str| match text.trim() {
        "" => Ok(None),
        text => text.parse().ok().filter(|bound: &f64| bound.is_finite()).map(Some).ok_or_else(wrong),
    };
    let bounds = Bounds { lower: bound(lower)?, upper: bound(upper)? };
    match bounds {
        Bounds { lower: Some(lower), upper: Some(upper) } if lower >= upper => Err(wrong()),
        Bounds::NONE => Err(wrong()),
        bounds => Ok((column, bounds)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn frame(text: &str) -> Frame {
        text::read("a.csv".as_ref(), text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn kinds_are_told() -> Result<()> {
        let train =
            frame("grade,share,price,k\n1,0.5,10,0\n2,0.25,30.5,1\n2,0.75,1,0\n3,0.1,2,1\n1,0.9,3,1\n2,0.3,4,0\n");
        let test = frame("grade,share,price,k\n7,0.5,10,2\n");
        let frames = Frames { train, validation: None, test: Some(test) };
        let kinds = Kinds {
            categorical: vec!["grade".into()],
            integer: vec!["3".into()],
            positive: vec!["price".into()],
            bounded: vec!["share=0:1".into()],
            missing: None,
        };
        let schema = Schema::with_kinds(&frames, &kinds)?.coded(true);
        assert!(schema.is_mixed());
        let values = ["2", "1", "3", "7"].map(String::from).to_vec();
        assert_eq!(schema.columns[0].kind, ColumnKind::Category(values));
        assert_eq!(schema.columns[1].bounds, Bounds::between(0.0, 1.0));
        assert_eq!(schema.columns[2].bounds, Bounds::above(0.0));
        assert_eq!(schema.columns[3].kind, ColumnKind::Integer);
        let (table, _) = schema.numbers(frames.test.as_ref().unwrap_or(&frames.train))?;
        assert_eq!(table.data.to_vec2::<f64>()?, [[3.0, 0.5, 10.0, 2.0]]);
        for (bad, why) in [
            (Kinds { integer: vec!["share".into()], ..Kinds::default() }, "not all whole numbers"),
            (Kinds { bounded: vec!["share=0.5:1".into()], ..Kinds::default() }, "from 0.1 to 0.9"),
            (Kinds { bounded: vec!["share".into()], ..Kinds::default() }, "`share=0:1`"),
            (Kinds { bounded: vec!["share=1:0".into()], ..Kinds::default() }, "does not give bounds"),
            (Kinds { positive: vec!["cost".into()], ..Kinds::default() }, "`cost`"),
        ] {
            let error = Schema::with_kinds(&frames, &bad).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(kinds.check(true).is_ok() && kinds.check(false).unwrap_err().to_string().contains("--model mixed"));
        // A column that is left out need not be in another part, whose cells count too.
        let test = |text| Frames { test: Some(frame(text)), ..frames.clone() };
        let schema = Schema::with_kinds(&test("grade,share,price\n,0.5,1\n"), &kinds)?;
        assert_eq!((schema.columns[0].missing, schema.columns[1].missing), (1, 0));
        let error = Schema::with_kinds(&test("grade,share,price,k\n1,0.5,0,1\n"), &kinds).unwrap_err().to_string();
        assert!(error.contains("`price` has 0"), "{error}");
        Ok(())
    }
}
