//! The columns of two samples, and the distances between their margins.

use super::distance::{Distance, wasserstein};
use crate::Rng;
use serde::Serialize;

/// A column of a table in two samples of as many rows: data, and a model's draws. A draw has the context of its row.
#[derive(Clone, Debug)]
pub struct Variable {
    /// The name of the column.
    pub name: String,
    /// What it holds.
    pub kind: VariableKind,
    /// Whether it is one of the context, which both samples have in common.
    pub given: bool,
    /// The cells of the data: numbers, NaN where missing, or codes of categories.
    pub data: Vec<f64>,
    /// The cells of the draws.
    pub drawn: Vec<f64>,
}

/// What a [`Variable`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum VariableKind {
    /// Numbers; these are values with a probability of their own, and what they are called.
    Number(Vec<(f64, String)>),
    /// Categories, coded from 0; their names.
    Category(Vec<String>),
}

/// How far the draws of a column are from its data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Margin {
    /// The column.
    pub column: String,
    /// The distance between the distribution functions of numbers (Kolmogorov and Smirnov).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Distance>,
    /// How far numbers have to be moved to become those of the other sample, in standard deviations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasserstein: Option<f64>,
    /// The distance between the shares (total variation) of categories, or of repeated values and missing cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<Distance>,
    /// The value whose share differs most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_different: Option<ValueShares>,
}

/// The share of a value in two samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueShares {
    /// The value.
    pub value: String,
    /// Its share in the data.
    pub data: f64,
    /// Its share in the draws.
    pub drawn: f64,
}

/// The indices of at most so many of `all` rows, spread evenly.
pub(crate) fn evenly(all: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = all.min(most);
    (0..count).map(move |i| (i as u128 * all as u128 / count as u128) as usize)
}

impl Variable {
    /// The names of the classes that cells are of, and a function from a cell to its class: categories; or repeated values,
    /// missing, and other numbers.
    pub(super) fn classes(&self) -> (Vec<String>, impl Fn(f64) -> usize + '_) {
        let names: Vec<String> = match &self.kind {
            VariableKind::Category(names) => names.clone(),
            VariableKind::Number(repeated) => {
                let missing = self.data.iter().chain(&self.drawn).any(|x| x.is_nan()).then(|| "missing".to_string());
                let others = ["other numbers".to_string()];
                others.into_iter().chain(missing).chain(repeated.iter().map(|(_, name)| name.clone())).collect()
            }
        };
        let first = names.len() - if let VariableKind::Number(repeated) = &self.kind { repeated.len() } else { 0 };
        let class = move |x: f64| match &self.kind {
            VariableKind::Category(names) => (x as usize).min(names.len().saturating_sub(1)),
            VariableKind::Number(_) if x.is_nan() => 1,
            VariableKind::Number(repeated) => {
                repeated.iter().position(|(value, _)| *value == x).map_or(0, |i| first + i)
            }
        };
        (names, class)
    }

    /// The distances between the two samples.
    pub(super) fn margin(&self, rng: &mut Rng) -> Margin {
        let is_number = matches!(self.kind, VariableKind::Number(_));
        let (names, class) = self.classes();
        let counts = |cells: &[f64]| {
            let mut counts = vec![0.0; names.len()];
            cells.iter().for_each(|&cell| counts[class(cell)] += 1.0);
            counts
        };
        let (data, drawn) = (counts(&self.data), counts(&self.drawn));
        let classes = |cells: &[f64]| cells.iter().map(|&cell| class(cell)).collect::<Vec<_>>();
        let shares = match names.len() {
            0 | 1 => None,
            count => Distance::between_classes(&classes(&self.data), &classes(&self.drawn), count, rng),
        };
        let [n, m] = [&self.data, &self.drawn].map(|cells| cells.len() as f64);
        let off = |i: &usize| (data[*i] / n - drawn[*i] / m).abs();
        let most = (0..names.len()).max_by(|i, j| off(i).total_cmp(&off(j))).filter(|_| shares.is_some());
        Margin {
            column: self.name.clone(),
            numbers: if is_number { Distance::between(&self.data, &self.drawn) } else { None },
            wasserstein: if is_number { wasserstein(&self.data, &self.drawn) } else { None },
            shares,
            most_different: most.map(|i| ValueShares {
                value: names[i].clone(),
                data: data[i] / n,
                drawn: drawn[i] / m,
            }),
        }
    }
}

impl Margin {
    /// The least p-value of the column's distances, times their number.
    pub fn p_value(&self) -> f64 {
        let found = [self.numbers, self.shares];
        let found = || found.iter().flatten();
        (found().map(|found| found.p_value).fold(1.0, f64::min) * found().count().max(1) as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_counted() {
        let rain = Variable {
            name: "rain".into(),
            kind: VariableKind::Number(vec![(0.0, "0".into())]),
            given: false,
            data: [vec![0.0; 50], vec![f64::NAN; 10], (0..40).map(f64::from).map(|x| x + 0.5).collect()].concat(),
            drawn: [vec![0.0; 80], vec![f64::NAN; 10], (0..10).map(f64::from).map(|x| 4.0 * x + 0.5).collect()]
                .concat(),
        };
        let margin = rain.margin(&mut Rng::seed(0));
        let shares = margin.shares.unwrap();
        assert!((shares.distance - 0.3).abs() < 1e-12 && shares.p_value < 0.01, "{margin:?}");
        let most = margin.most_different.clone().unwrap();
        assert!(most.value == "0" || most.value == "other numbers", "{most:?}");
        assert!(margin.numbers.unwrap().distance > 0.3 && margin.p_value() < 0.01, "{margin:?}");
        let kind = VariableKind::Category(["a", "b"].map(String::from).into());
        let word = Variable { kind, data: vec![0.0, 1.0], drawn: vec![1.0, 0.0], ..rain };
        let margin = word.margin(&mut Rng::seed(0));
        assert!(margin.numbers.is_none() && margin.shares.unwrap().distance == 0.0 && margin.p_value() == 1.0);
    }
}
