//! One cell of a table, and its probability where columns are independent.

use super::column::{Column, Content, Numeric, is_whole, is_within};
use super::heads::{log_add, log_interval};
use crate::{Error, Result};

/// A cell of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    /// Its class.
    pub(super) class: usize,
    /// Its value along the margin, if it has one: of a real number in the continuous class, or a whole number.
    pub(super) z: Option<f64>,
    /// The ends of a whole number's interval along the margin.
    pub(super) edges: [f64; 2],
    /// What is added to its log-probability: the margin's log-derivative, or minus infinity if it is impossible.
    pub(super) offset: f64,
}

/// So far from 0 along a margin that no probability is left beyond, whatever the scale.
const FAR: f64 = 1e12;

impl Column {
    /// The cell of this column with the value x.
    pub(super) fn cell(&self, row: usize, x: f64) -> Result<Cell> {
        let absent = Cell { class: 0, z: None, edges: [0.0; 2], offset: 0.0 };
        let (numeric, is_whole_column) = match &self.content {
            Content::Category { values } => return Ok(Cell { class: self.code(x, *values, row)?, ..absent }),
            Content::Number(numeric) => (numeric, false),
            Content::Whole(numeric) => (numeric, true),
        };
        let Numeric { margin, atoms, missing, range } = numeric;
        if x.is_nan() {
            return match missing {
                true => Ok(Cell { class: 1 + atoms.len(), ..absent }),
                false => Err(Error::Data(format!(
                    "row {row} has no number in column `{}`: set `missing` of the column, or remove the row",
                    self.name
                ))),
            };
        }
        let class = numeric.atom(x).map_or(0, |i| 1 + i);
        if !is_whole_column {
            return Ok(match class {
                0 if !margin.bounds.contain(x) => Cell { z: Some(0.0), offset: f64::NEG_INFINITY, ..absent },
                0 => {
                    let (z, offset) = margin.forward(x);
                    Cell { z: Some(z), offset, ..absent }
                }
                class => Cell { class, ..absent },
            });
        }
        if !is_whole(x) {
            return Err(Error::Data(format!(
                "row {row} has {x} in column `{}` of whole numbers: round it, or make it a column of real numbers",
                self.name
            )));
        }
        let edge = |limit: Option<f64>, at: f64, far: f64| match limit {
            Some(limit) if limit == x => far,
            _ => margin.forward(at).0,
        };
        Ok(Cell {
            class,
            z: Some(margin.forward(x).0),
            edges: [edge(range[0], x - 0.5, -FAR), edge(range[1], x + 0.5, FAR)],
            offset: if is_within(*range, x) { 0.0 } else { f64::NEG_INFINITY },
        })
    }

    /// The value of a cell of this class with this z, as it is sampled.
    pub(super) fn value(&self, class: usize, z: f64) -> f64 {
        match &self.content {
            Content::Category { .. } => class as f64,
            Content::Number(Numeric { margin, atoms, .. }) => match class {
                0 => margin.inverse(z),
                class => atoms.get(class - 1).copied().unwrap_or(f64::NAN),
            },
            Content::Whole(Numeric { margin, atoms, range: [low, high], .. }) => match class {
                0 => {
                    let x = margin.inverse(z).round();
                    let x = low.map_or(x, |low| x.max(low));
                    high.map_or(x, |high| x.min(high))
                }
                class => atoms.get(class - 1).copied().unwrap_or(f64::NAN),
            },
        }
    }

    /// Whether x is in the continuous class of a real number.
    pub(crate) fn is_continuous_at(&self, x: f64) -> bool {
        match &self.content {
            Content::Number(number) => !x.is_nan() && number.atom(x).is_none(),
            _ => false,
        }
    }

    /// The log-probability of x in a row by the column's shares and its margin alone, from which training starts.
    ///
    /// # Errors
    /// When x is no value of the column.
    pub(crate) fn log_prob(&self, row: usize, x: f64) -> Result<f64> {
        let Cell { class, z, edges: [low, high], offset } = self.cell(row, x)?;
        let of_class = self.shares[class].ln();
        Ok(offset
            + match &self.content {
                Content::Number(_) if class == 0 => {
                    let z = z.unwrap_or(0.0).abs();
                    of_class - z - 2.0 * (-z).exp().ln_1p()
                }
                Content::Whole(_) if class == 0 => of_class + log_interval(low, high),
                Content::Whole(_) if !self.is_missing(class) => {
                    log_add(of_class, self.shares[0].ln() + log_interval(low, high))
                }
                _ => of_class,
            })
    }
}
