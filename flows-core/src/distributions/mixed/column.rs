//! What a column of a table holds, and its fit to the column's values.

use super::margin::{Margin, decimal};
use crate::bijectors::{Bounds, Support};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A column of a [`MixedTable`](super::MixedTable).
///
/// ```
/// use flows_core::bijectors::Bounds;
/// use flows_core::distributions::{Column, Content};
/// // Half of the days are dry.
/// let rain: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { 0.0 } else { f64::from(i) / 7.0 }).collect();
/// let column = Column::number("rain", &rain, Bounds::NONE)?;
/// assert!(matches!(column.content, Content::Number(number) if number.atoms == [0.0] && !number.missing));
/// assert!((column.shares[0] - 0.5).abs() < 0.01);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The name, for messages.
    pub name: String,
    /// What it holds.
    pub content: Content,
    /// The share of each class, positive, from which training starts. The classes are the values of a category, or
    /// [those of a number](Numeric::classes).
    pub shares: Vec<f64>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Content {
    /// A category, coded by 0 to `values - 1`.
    Category {
        /// The number of values.
        values: usize,
    },
    /// A real number.
    Number(Numeric),
    /// A whole number.
    Whole(Numeric),
}

/// A real or a whole number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numeric {
    /// The map of its values to about the logistic distribution.
    pub margin: Margin,
    /// Values with a probability of their own.
    #[serde(default)]
    pub atoms: Vec<f64>,
    /// Whether cells may be missing: NaN.
    #[serde(default)]
    pub missing: bool,
    /// The least and the greatest whole number, if they are known.
    #[serde(default)]
    pub range: [Option<f64>; 2],
}

impl Numeric {
    /// The number of classes: the continuous part (or, of a whole number, the flow), the atoms, and missing.
    pub fn classes(&self) -> usize {
        1 + self.atoms.len() + usize::from(self.missing)
    }

    /// The atom that x is, up to the rounding of f32 and of decimals.
    pub(super) fn atom(&self, x: f64) -> Option<usize> {
        let is_near = |atom: f64| (x - atom).abs() <= 2.0 * f64::EPSILON * atom.abs();
        self.atoms.iter().position(|&atom| is_near(atom) || x == f64::from(atom as f32))
    }
}

/// Beyond this, neighbouring whole numbers are not different as f64.
const GREATEST: f64 = 9_007_199_254_740_992.0;

/// An atom has at least this share of the rows, and this many.
const ATOM_SHARE: f64 = 0.002;
const ATOM_ROWS: usize = 5;
/// Of whole numbers, it occurs at least this many times as often as the numbers next to it, or next to it but one.
const ATOM_ABOVE_NEIGHBOURS: usize = 4;
/// The most atoms of a column: the most frequent ones.
const MOST_ATOMS: usize = 128;

impl Column {
    /// A category with codes 0 to `values - 1`, fitted to the codes of a table.
    ///
    /// # Errors
    /// When there are no values, or a code is not among them.
    pub fn category(name: impl Into<String>, values: usize, codes: &[f64]) -> Result<Self> {
        let column = Self { name: name.into(), content: Content::Category { values }, shares: Vec::new() };
        let mut counts = vec![0; values];
        for (row, &code) in codes.iter().enumerate() {
            counts[column.code(code, values, row)?] += 1;
        }
        Ok(Self { shares: shares(&counts), ..column })
    }

    /// A number fitted to the values of a table, NaN where a cell is missing.
    ///
    /// A value is an atom if at least five rows and 0.2% of all have it: real numbers do not repeat.
    ///
    /// # Errors
    /// When a value is infinite, or not within the bounds.
    pub fn number(name: impl Into<String>, values: &[f64], bounds: Bounds) -> Result<Self> {
        let name = name.into();
        // Atoms may lie on a bound.
        let parts = Parts::of(&name, values, |_| 0)?;
        let margin = Margin::fit(&parts.regular, bounds).map_err(|error| in_column(&name, error))?;
        Ok(parts.column(name, margin, [None; 2], Content::Number))
    }

    /// A whole number fitted to the values of a table, NaN where a cell is missing. The least and the greatest value, if
    /// given, are those that are possible. A number is an atom if at least five rows and 0.2% of all have it, and it is at
    /// least four times as frequent as the two numbers on either side: the flow is smooth.
    ///
    /// # Errors
    /// When a value is not a whole number, or out of range.
    pub fn whole(name: impl Into<String>, values: &[f64], range: [Option<f64>; 2]) -> Result<Self> {
        let name = name.into();
        if let Some(row) = values.iter().position(|x| !(x.is_nan() || is_whole(*x) && is_within(range, *x))) {
            return Err(in_column(
                &name,
                Error::Data(format!(
                    "row {row} has {}, which is not a whole number of its range: fit a number, or widen the range",
                    values[row]
                )),
            ));
        }
        let parts = Parts::of(&name, values, |near| ATOM_ABOVE_NEIGHBOURS * near)?;
        let margin = Margin::fit_whole(&parts.regular)?;
        Ok(parts.column(name, margin, range, Content::Whole))
    }

    /// The same column of numbers with a class of missing cells; a column that has one, or of categories, as it is.
    pub(crate) fn with_missing(mut self) -> Self {
        if let Content::Number(numeric) | Content::Whole(numeric) = &mut self.content
            && !numeric.missing
        {
            numeric.missing = true;
            let least = self.shares.iter().copied().fold(1.0, f64::min);
            self.shares.push(0.5 * least);
        }
        self
    }

    /// A real number without atoms and bounds.
    pub(crate) fn smooth(name: impl Into<String>, values: &[f64]) -> Result<Self> {
        let parts = Parts { regular: values.to_vec(), atoms: Vec::new(), counts: Vec::new(), missing: 0 };
        let margin = Margin::fit(values, Bounds::NONE)?;
        Ok(parts.column(name.into(), margin, [None; 2], Content::Number))
    }

    /// The number of classes; a column of one class has no softmax.
    pub(super) fn classes(&self) -> usize {
        match &self.content {
            Content::Category { values } => *values,
            Content::Number(numeric) | Content::Whole(numeric) => numeric.classes(),
        }
    }

    /// Whether a class is that of missing cells.
    pub(super) fn is_missing(&self, class: usize) -> bool {
        match &self.content {
            Content::Category { .. } => false,
            Content::Number(numeric) | Content::Whole(numeric) => class > numeric.atoms.len(),
        }
    }

    /// The class of missing cells, if it is one of numbers that may be missing.
    pub(super) fn missing_class(&self) -> Option<usize> {
        match &self.content {
            Content::Number(numeric) | Content::Whole(numeric) if numeric.missing => Some(1 + numeric.atoms.len()),
            _ => None,
        }
    }

    /// Whether the probability of cells of a class has a part given by the column's flow.
    pub(super) fn flows_in(&self, class: usize) -> bool {
        match &self.content {
            Content::Category { .. } => false,
            Content::Number(_) => class == 0,
            Content::Whole(_) => !self.is_missing(class),
        }
    }

    /// The category of a code.
    pub(super) fn code(&self, code: f64, values: usize, row: usize) -> Result<usize> {
        if code >= 0.0 && code < values as f64 && code.fract() == 0.0 {
            return Ok(code as usize);
        }
        let remedy = match code.is_nan() {
            true => "code missing cells as a category of their own",
            false => "give the rare categories a common code, or a code to each when the column is fitted",
        };
        Err(Error::Data(format!(
            "row {row} has the code {code} in column `{}`, whose categories are 0 to {}: {remedy}",
            self.name,
            values.saturating_sub(1)
        )))
    }

    /// Fails unless the column can be modelled.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::Config(format!("column `{}`: {what}", self.name)));
        match &self.content {
            Content::Category { values: 0 } => return refuse("a category needs at least one value".into()),
            Content::Category { .. } => {}
            Content::Number(Numeric { margin, atoms, range, .. })
            | Content::Whole(Numeric { margin, atoms, range, .. }) => {
                margin.check().or_else(|error| refuse(error.to_string()))?;
                let mut sorted = atoms.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                sorted.dedup();
                if sorted.len() < atoms.len() || atoms.iter().any(|x| !x.is_finite()) {
                    return refuse(format!("the atoms {atoms:?} are not finite and different: list each once"));
                }
                let is_whole_column = matches!(self.content, Content::Whole(_));
                let limits = range.iter().flatten();
                if is_whole_column && !atoms.iter().chain(limits).all(|x| is_whole(*x)) {
                    return refuse("atoms and limits of a whole number are whole numbers".into());
                }
                if !is_whole_column && range.iter().any(Option::is_some) {
                    return refuse("a real number has no `range`: give its margin `bounds`".into());
                }
                if is_whole_column && margin.bounds != Bounds::NONE {
                    return refuse("the margin of a whole number has no `bounds`: give its `range`".into());
                }
                if let [Some(low), Some(high)] = range
                    && low > high
                {
                    return refuse(format!("no number is at least {low} and at most {high}: exchange the limits"));
                }
            }
        }
        let positive = self.shares.iter().all(|s| s.is_finite() && *s > 0.0);
        if self.shares.len() != self.classes() || !positive {
            return refuse(format!("it has {} classes: give each a positive share", self.classes()));
        }
        Ok(())
    }

    /// A set that contains all values, but not NaN.
    pub(super) fn support(&self) -> Support {
        match &self.content {
            Content::Category { values } => {
                Support::Integers { shape: vec![1], low: 0, high: i64::try_from(*values).unwrap_or(i64::MAX) - 1 }
            }
            Content::Number(number) if number.atoms.is_empty() && !number.missing => {
                Support::bounded([1], [number.margin.bounds])
            }
            Content::Whole(Numeric { range: [Some(low), Some(high)], missing: false, .. }) => {
                Support::Integers { shape: vec![1], low: *low as i64, high: *high as i64 }
            }
            _ => Support::real([1]),
        }
    }
}

/// Whether x is a whole number that its neighbours can be told from.
pub(super) fn is_whole(x: f64) -> bool {
    x.fract() == 0.0 && x.abs() < GREATEST
}

/// Whether x is not out of a range.
pub(super) fn is_within([low, high]: [Option<f64>; 2], x: f64) -> bool {
    low.is_none_or(|low| x >= low) && high.is_none_or(|high| x <= high)
}

fn in_column(name: &str, error: Error) -> Error {
    Error::Data(format!("column `{name}`: {error}"))
}

/// Shares of classes, with half a row more in each, so that none is 0.
fn shares(counts: &[usize]) -> Vec<f64> {
    let rows = counts.iter().sum::<usize>() as f64 + 0.5 * counts.len() as f64;
    counts.iter().map(|&count| decimal((count as f64 + 0.5) / rows)).collect()
}

/// The values of a column of numbers by class.
struct Parts {
    regular: Vec<f64>,
    atoms: Vec<f64>,
    /// Rows of each atom.
    counts: Vec<usize>,
    missing: usize,
}

impl Parts {
    /// Atoms have at least the rows that `least` gives for the greatest number of rows of a value no farther than 2.
    fn of(name: &str, values: &[f64], least: impl Fn(usize) -> usize) -> Result<Self> {
        if let Some(row) = values.iter().position(|x| x.is_infinite()) {
            let message = format!("row {row} is infinite: remove it, or mark it as missing");
            return Err(in_column(name, Error::Data(message)));
        }
        let mut sorted: Vec<f64> = values.iter().copied().filter(|x| !x.is_nan()).collect();
        let missing = values.len() - sorted.len();
        sorted.sort_unstable_by(f64::total_cmp);
        let runs: Vec<(f64, usize)> = sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
        let is_atom = |i: usize| {
            let (value, count) = runs[i];
            let near = (i.saturating_sub(2)..runs.len().min(i + 3)).filter(|&j| j != i);
            let near = near.filter(|&j| (runs[j].0 - value).abs() <= 2.0).map(|j| runs[j].1).max();
            count >= ATOM_ROWS.max((ATOM_SHARE * values.len() as f64).ceil() as usize).max(least(near.unwrap_or(0)))
        };
        let mut chosen: Vec<usize> = (0..runs.len()).filter(|&i| is_atom(i)).collect();
        chosen.sort_by_key(|&i| std::cmp::Reverse(runs[i].1));
        chosen.truncate(MOST_ATOMS);
        chosen.sort_unstable();
        let (mut atoms, mut counts) = (Vec::new(), Vec::new());
        for i in chosen {
            // Minus zero is zero.
            atoms.push(runs[i].0 + 0.0);
            counts.push(runs[i].1);
        }
        let regular = sorted.into_iter().filter(|x| !atoms.contains(&(x + 0.0))).collect();
        Ok(Self { regular, atoms, counts, missing })
    }

    fn column(
        self,
        name: String,
        margin: Margin,
        range: [Option<f64>; 2],
        content: impl FnOnce(Numeric) -> Content,
    ) -> Column {
        let Self { regular, atoms, counts, missing } = self;
        let mut all = vec![regular.len()];
        all.extend(counts);
        all.extend((missing > 0).then_some(missing));
        let numeric = Numeric { margin, atoms, missing: missing > 0, range };
        Column { name, content: content(numeric), shares: shares(&all) }
    }
}
