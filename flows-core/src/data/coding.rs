//! The cells of a table as numbers for a model, and back.

use super::{Cells, Column, ColumnKind, ColumnSchema, Frame, Schema, Table, date};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::borrow::Cow;
use std::collections::HashMap;

impl Schema {
    /// The numbers of the columns that are used, without rows in which one of them is missing, and the number of these
    /// rows. Dates are days since the first of January 1970.
    ///
    /// If the schema is [coded](Self::coded), words and the values of categories are codes from 0, in the order of
    /// [`ColumnKind::values`]. If it [models missing cells](Self::models_missing) as well, no row is left out: a missing
    /// cell is NaN, and that of a category the code after the last.
    ///
    /// Columns are found by name where both this schema and the frame have names, else by position.
    ///
    /// # Errors
    /// When a column is missing or holds words that are not coded, a value is none of its column, a number is infinite, or
    /// every row has a missing cell.
    pub fn numbers(&self, frame: &Frame) -> Result<(Table, usize)> {
        let used: Vec<usize> = (0..self.columns.len()).filter(|&i| self.columns[i].used).collect();
        let columns = used.iter().map(|&i| self.cells(frame, i)).collect::<Result<Vec<_>>>()?;
        let is_complete = |row: usize| self.models_missing || columns.iter().all(|column| !column[row].is_nan());
        let rows: Vec<usize> = (0..frame.rows()).filter(|&row| is_complete(row)).collect();
        if rows.is_empty() {
            return Err(Error::Data(
                "every row has a missing cell: leave out the columns that are mostly empty".into(),
            ));
        }
        let mut values = Vec::with_capacity(rows.len() * columns.len());
        for &row in &rows {
            for (column, &i) in columns.iter().zip(&used) {
                if column[row].is_nan() && !self.keeps_missing(i) {
                    let (row, label) = (frame.row_name(row), self.columns[i].label(i));
                    return Err(Error::Data(format!(
                        "row {row}, {label} is missing, but none was in training: fill it in, or remove the row"
                    )));
                }
                if column[row].is_infinite() {
                    let (row, label, value) = (frame.row_name(row), self.columns[i].label(i), column[row]);
                    return Err(Error::Data(format!(
                        "row {row}, {label} is {value}; remove such rows or fill them in"
                    )));
                }
                values.push(column[row]);
            }
        }
        let data = Tensor::from_vec(values, (rows.len(), used.len()), &Device::Cpu)?;
        let names = used.iter().map(|&i| self.columns[i].name.clone()).collect();
        Ok((Table { columns: names, data }, frame.rows() - rows.len()))
    }

    /// The same, to which a value that is none of its column is no error, but a number that no cell can have: of a category
    /// the code -1, of a multiple of a step a number that is not whole.
    #[must_use]
    pub fn with_unknown(self) -> Self {
        Self { takes_unknown: true, ..self }
    }

    /// The same, in which every column may have missing cells: NaN, and of a category the code after the last.
    #[must_use]
    pub fn with_missing(mut self) -> Self {
        self.models_missing = true;
        self.columns.iter_mut().for_each(|column| column.missing = column.missing.max(1));
        self
    }

    /// A frame whose missing cells are those of `filled`, in the columns that these of the schema describe; `filled` has
    /// these columns, and as many rows.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn fill(&self, frame: &Frame, columns: &[usize], filled: &Frame) -> Result<Frame> {
        let mut whole = frame.clone();
        for (&i, filled) in columns.iter().zip(&filled.columns) {
            let found = self.find(frame, i)?;
            let at = frame.columns.iter().position(|column| std::ptr::eq(column, found));
            if let Some(column) = at.and_then(|at| whole.columns.get_mut(at)) {
                column.cells = found.cells.or(&filled.cells);
            }
        }
        Ok(whole)
    }

    /// Whether a model has a probability of missing cells in column `i`.
    pub(crate) fn keeps_missing(&self, i: usize) -> bool {
        self.models_missing && self.columns[i].missing > 0
    }

    /// The code of missing cells, the one after the last, if column `i` is of a category whose values are coded and whose
    /// missing cells a model has a probability of.
    pub(crate) fn missing_code(&self, i: usize) -> Option<usize> {
        let kind = &self.columns[i].kind;
        let is_coded = self.coded && matches!(kind, ColumnKind::Category(_) | ColumnKind::Binary(_));
        (is_coded && self.keeps_missing(i)).then(|| kind.values().len())
    }

    /// The cells of a frame in the column that this schema's column `i` describes, as numbers.
    fn cells<'a>(&self, frame: &'a Frame, i: usize) -> Result<Cow<'a, [f64]>> {
        let (schema, cells) = (&self.columns[i], &self.find(frame, i)?.cells);
        let at = |row: usize| format!("row {}, {}", frame.row_name(row), schema.label(i));
        match (&schema.kind, cells) {
            (kind @ (ColumnKind::Category(_) | ColumnKind::Binary(_)), _) if self.coded => {
                let values = kind.values();
                let missing = self.missing_code(i).map_or(f64::NAN, |code| code as f64);
                let unknown_code = self.takes_unknown.then_some(-1.0);
                let codes = codes(values, cells, missing, unknown_code);
                codes.map(Cow::Owned).map_err(|(row, word)| unknown(&at(row), &word, values))
            }
            (ColumnKind::Date, Cells::Numbers(values)) if !values.iter().all(|value| value.is_nan()) => {
                let label = schema.label(i);
                Err(Error::Data(format!("{label} holds numbers, but is of dates: write them as 2024-11-30")))
            }
            (_, Cells::Numbers(values)) => match schema.step.filter(|_| self.coded) {
                None => Ok(Cow::Borrowed(values)),
                Some(step) => multiples(values, step, self.takes_unknown).map(Cow::Owned).map_err(|(row, value)| {
                    let remedy = "round it, or train with such rows";
                    Error::Data(format!("{} is {value}, but all numbers were multiples of {step}: {remedy}", at(row)))
                }),
            },
            (ColumnKind::Date, Cells::Words { words, codes, .. }) => {
                let days: Vec<Option<f64>> = words.iter().map(|word| date::days(word)).collect();
                let day = |(row, code): (usize, &Option<u32>)| match code.map(|code| days[code as usize]) {
                    None => Ok(f64::NAN),
                    Some(Some(day)) => Ok(day),
                    Some(None) => {
                        let word = cells.text(row).unwrap_or_default();
                        Err(Error::Data(format!("{}: `{word}` is not a date such as 2024-11-30; correct it", at(row))))
                    }
                };
                codes.iter().enumerate().map(day).collect()
            }
            (_, Cells::Words { words, numbers, first_word, .. }) => {
                let among_numbers = (*numbers > 0).then_some(first_word);
                Err(words_refused(frame, &schema.label(i), words, among_numbers, self.coded))
            }
        }
    }

    /// The table of a model's rows (B, D), whose columns are these of the schema: codes become words again, days dates,
    /// and NaN a missing cell.
    ///
    /// # Errors
    /// When the number of columns is another.
    pub fn decode(&self, columns: &[usize], rows: &Tensor) -> Result<Frame> {
        let values = rows.to_dtype(DType::F64)?.t()?.to_vec2::<f64>()?;
        if values.len() != columns.len() {
            return Err(Error::shape("the rows", rows.dims(), format!("(rows, {})", columns.len())));
        }
        let column = |(&i, values): (&usize, Vec<f64>)| {
            let schema = &self.columns[i];
            Column { name: schema.name.clone(), cells: decoded(schema, values) }
        };
        Ok(Frame { columns: columns.iter().zip(values).map(column).collect(), ..Frame::default() })
    }
}

/// The position of each cell's value among those of a category, or the code of others; without one, the row and the text of
/// a cell that is none.
fn codes(
    values: &[String],
    cells: &Cells,
    missing: f64,
    others: Option<f64>,
) -> std::result::Result<Vec<f64>, (usize, String)> {
    match cells {
        Cells::Words { words, codes, .. } => {
            let known: HashMap<&str, f64> = values.iter().zip(0..).map(|(v, i)| (v.as_str(), f64::from(i))).collect();
            let of_word: Vec<Option<f64>> = words.iter().map(|word| known.get(word.as_str()).copied()).collect();
            let code = |(row, code): (usize, &Option<u32>)| match *code {
                None => Ok(missing),
                Some(code) => of_word[code as usize].or(others).ok_or_else(|| (row, words[code as usize].clone())),
            };
            codes.iter().enumerate().map(code).collect()
        }
        Cells::Numbers(numbers) => {
            let known: HashMap<u64, f64> =
                values.iter().zip(0..).filter_map(|(v, i)| Some((bits(v.parse().ok()?), f64::from(i)))).collect();
            let code = |(row, &number): (usize, &f64)| match number.is_nan() {
                true => Ok(missing),
                false => known.get(&bits(number)).copied().or(others).ok_or_else(|| (row, number.to_string())),
            };
            numbers.iter().enumerate().map(code).collect()
        }
    }
}

/// The numbers in units of a step; without `others`, the row and the value of one that is no multiple of it.
fn multiples(values: &[f64], step: f64, others: bool) -> std::result::Result<Vec<f64>, (usize, f64)> {
    let multiple = |(row, &value): (usize, &f64)| {
        let (units, whole) = (value / step, (value / step).round());
        match units.is_finite() && (units - whole).abs() > (1e-6 * units.abs().max(1.0)).min(0.1) {
            true if others && units.is_finite() => Ok(units),
            true => Err((row, value)),
            false => Ok(whole),
        }
    };
    values.iter().enumerate().map(multiple).collect()
}

/// A multiple of a step, without the rounding error of the product.
pub(crate) fn product(units: f64, step: f64) -> f64 {
    let value = units * step;
    format!("{value:.14e}").parse().unwrap_or(value)
}

/// The bits of a number, the same for both zeros.
fn bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

fn decoded(schema: &ColumnSchema, values: Vec<f64>) -> Cells {
    let code = |value: f64, count: usize| Some(value as u32).filter(|&code| (code as usize) < count && !value.is_nan());
    let words = |words: Vec<String>, codes: Vec<Option<u32>>| {
        let first_word = (0, words.first().cloned().unwrap_or_default());
        Cells::Words { words, codes, numbers: 0, first_word }
    };
    match &schema.kind {
        kind @ (ColumnKind::Category(_) | ColumnKind::Binary(_)) => {
            let known = kind.values();
            let numbers: Option<Vec<f64>> = known.iter().map(|value| value.parse().ok()).collect();
            if let Some(numbers) = numbers {
                let number = |value| code(value, known.len()).map_or(f64::NAN, |code| numbers[code as usize]);
                return Cells::Numbers(values.into_iter().map(number).collect());
            }
            words(known.to_vec(), values.into_iter().map(|value| code(value, known.len())).collect())
        }
        ColumnKind::Date => {
            let mut different: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
            different.sort_unstable_by(f64::total_cmp);
            different.dedup();
            let position = |value: &f64| different.binary_search_by(|day| day.total_cmp(value)).ok().map(|i| i as u32);
            let codes = values.iter().map(position).collect();
            words(different.iter().map(|day| date::date(*day)).collect(), codes)
        }
        _ => match schema.step {
            Some(step) => Cells::Numbers(values.into_iter().map(|units| product(units, step)).collect()),
            None => Cells::Numbers(values),
        },
    }
}

/// A word, cut where it is long.
fn short(word: &str) -> String {
    word.chars().take(40).collect()
}

/// The first few words of a column, and how many more there are.
fn first_few(words: &[String]) -> String {
    let first: Vec<String> = words.iter().take(3).map(|word| format!("`{}`", short(word))).collect();
    let more = if words.len() > 3 { format!(" and {} more", words.len() - 3) } else { String::new() };
    format!("{}{more}", first.join(", "))
}

fn unknown(cell: &str, word: &str, values: &[String]) -> Error {
    let (word, known) = (short(word), first_few(values));
    Error::Data(format!("{cell} is `{word}`, which is none of its values ({known}): correct it, or remove such rows"))
}

fn words_refused(
    frame: &Frame,
    label: &str,
    words: &[String],
    among_numbers: Option<&(usize, String)>,
    coded: bool,
) -> Error {
    Error::Data(match among_numbers {
        Some((row, word)) => format!(
            "row {}, {label}: `{}` is not a number; correct or remove the row, or leave the column out by --drop",
            frame.row_name(*row),
            short(word)
        ),
        None if coded => format!(
            "{label} holds words ({}), but is a column of numbers or of text: correct them, or make it a category by \
             --categorical when training",
            first_few(words)
        ),
        None => format!(
            "{label} holds words ({}): take a model of mixed columns by --model mixed, or leave the column out by --drop",
            first_few(words)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn frame(text: &str) -> Frame {
        text::read("a.csv".as_ref(), text.as_bytes().to_vec()).unwrap()
    }

    const TABLE: &str = "x,colour,n,day,sure,note\n\
        1.5,red,3,2024-01-31,yes,a1\n2.5,blue,4,2024-02-01,no,a2\n0.1,red,2,2024-02-29,yes,a3\n\
        -7.25,green,9,2023-12-01,no,a4\n4.5,blue,3,2024-05-05,yes,a5\n,red,1,2024-01-01,no,a6\n0.3,,5,2024-01-02,yes,a7\n";

    #[test]
    fn words_become_codes_and_words_again() -> Result<()> {
        let data = frame(TABLE);
        let mut schema = Schema { coded: true, ..Schema::of(&data) };
        let kinds: Vec<&str> = schema.columns.iter().map(|column| column.kind.name()).collect();
        assert_eq!(kinds, ["number", "category", "whole number", "date", "yes or no", "text"]);
        let (table, left_out) = schema.numbers(&data)?;
        assert_eq!((table.data.dims(), left_out), (&[5, 5][..], 2));
        // Red is the most frequent.
        assert_eq!(table.data.to_vec2::<f64>()?[0], [1.5, 0.0, 3.0, 19_753.0, 0.0]);
        schema.models_missing = true;
        let (table, left_out) = schema.numbers(&data)?;
        assert_eq!((table.data.dims(), left_out), (&[7, 5][..], 0));
        let rows = table.data.to_vec2::<f64>()?;
        assert!(rows[5][0].is_nan() && rows[6][1] == 3.0);
        let back = schema.decode(&[0, 1, 2, 3, 4], &table.data)?;
        for (column, original) in back.columns.iter().zip(&data.columns) {
            assert_eq!(column.name, original.name);
            for row in 0..7 {
                assert_eq!(column.cells.text(row), original.cells.text(row), "{:?}", column.name);
            }
        }
        Ok(())
    }

    #[test]
    fn unknown_values_can_be_read() -> Result<()> {
        let rows: String = (0..60).map(|i| format!("{},{}\n", ["a", "b"][i % 2], (i % 20) as f64 * 0.5)).collect();
        let schema = Schema { coded: true, ..Schema::of(&frame(&format!("word,x\n{rows}"))) };
        let strange = frame("word,x\na,1.5\nc,0.7\n");
        assert!(schema.numbers(&strange).is_err());
        let (table, _) = schema.with_unknown().numbers(&strange)?;
        assert_eq!(table.data.to_vec2::<f64>()?, [[0.0, 3.0], [-1.0, 1.4]]);
        Ok(())
    }

    #[test]
    fn numbers_that_are_categories_or_rounded_come_back_as_they_were() -> Result<()> {
        let rows: String = (0..60).map(|i| format!("{},{}\n", i % 2, f64::from(i % 20) * 0.1 + 12_345.0)).collect();
        let data = frame(&format!("yes,x\n{rows}"));
        let schema = Schema { coded: true, ..Schema::of(&data) };
        assert_eq!(schema.columns[1].step, Some(0.1));
        let (table, _) = schema.numbers(&data)?;
        let back = schema.decode(&[0, 1], &table.data)?;
        for i in 0..2 {
            let Cells::Numbers(back) = &back.columns[i].cells else { panic!("words") };
            let Cells::Numbers(want) = &data.columns[i].cells else { panic!("words") };
            assert!(back.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9), "{back:?}");
        }
        let off = schema.numbers(&frame("yes,x\n1,12345.67\n")).unwrap_err().to_string();
        assert!(off.contains("multiples of 0.1"), "{off}");
        Ok(())
    }

    #[test]
    fn what_is_no_value_of_a_column_is_named() {
        let schema = Schema { coded: true, ..Schema::of(&frame(TABLE)) };
        let error = |from: &str, to: &str| schema.numbers(&frame(&TABLE.replace(from, to))).unwrap_err().to_string();
        let purple = error("green", "purple");
        assert!(purple.contains("row 5, `colour` is `purple`") && purple.contains("`red`, `blue`"), "{purple}");
        assert!(error("2023-12-01", "soon").contains("`day`: `soon` is not a date"));
        assert!(error("-7.25", "cold").contains("`cold` is not a number"));
        let words = Schema::of(&frame(TABLE)).numbers(&frame(TABLE)).unwrap_err().to_string();
        assert!(
            words.contains("`colour` holds words (`red`, `blue`, `green`)") && words.contains("--model mixed"),
            "{words}"
        );
    }
}
