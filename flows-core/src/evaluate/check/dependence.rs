//! Differences between the correlations of two samples.

use super::chance::Chance;
use super::variable::{Variable, VariableKind, evenly};
use crate::Rng;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashMap;

/// How the correlations of draws differ from those of data: of the ranks of numbers, and of whether a cell has a
/// category's value or is missing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dependence {
    /// The pairs of columns that differ most, the first the most.
    pub largest: Vec<PairDifference>,
    /// What the largest difference is above in 5% of samples from equal distributions.
    pub critical: f64,
    /// The share of samples from equal distributions whose largest difference is as large.
    pub p_value: f64,
    /// The rows that were compared.
    pub rows: usize,
    /// The columns that were left out, where there are too many.
    pub left_out: usize,
}

/// A correlation in two samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairDifference {
    /// The columns, with a value where it is one of a category.
    pub pair: [String; 2],
    /// The correlation in the data.
    pub data: f64,
    /// That in the draws.
    pub drawn: f64,
}

/// The most rows, and the most scores of cells, that are compared.
const ROWS: usize = 2000;
const SCORES: usize = 40;
/// The most values of a category that have a score, and the least share that they have.
const VALUES: usize = 4;
const LEAST_SHARE: f64 = 0.02;
/// How often the samples are exchanged.
const EXCHANGES: usize = 199;
/// The pairs that are named.
const NAMED: usize = 3;

/// A number for each row of both samples, one after the other.
struct Score {
    column: usize,
    label: String,
    values: Vec<f64>,
}

impl Dependence {
    /// The comparison; none of fewer than 8 rows, or where no two columns vary, of which one is not of the context. Its
    /// p-value is exact: data and draws with the same context are exchanged at random, which changes nothing if their
    /// distributions are equal.
    pub fn of(variables: &[Variable], rng: &mut Rng) -> Option<Self> {
        let all = variables.first()?.data.len();
        let rows = all.min(ROWS);
        let chosen: Vec<usize> = evenly(all, ROWS).collect();
        let mut scores: Vec<Score> = Vec::new();
        let mut used = 0;
        // The columns of the context last, so that many of them leave no others out.
        let mut order: Vec<(usize, &Variable)> = variables.iter().enumerate().collect();
        order.sort_by_key(|(_, variable)| variable.given);
        for (column, variable) in order {
            let more = scores_of(column, variable, &chosen);
            if scores.len() + more.len() > SCORES {
                break;
            }
            scores.extend(more);
            used += 1;
        }
        let pairs: Vec<(usize, usize)> = (0..scores.len())
            .flat_map(|i| (0..i).map(move |j| (j, i)))
            .filter(|&(i, j)| {
                let [a, b] = [i, j].map(|i| scores[i].column);
                a != b && !(variables[a].given && variables[b].given)
            })
            .collect();
        if pairs.is_empty() || rows < 8 {
            return None;
        }
        let found = correlations(&scores, &pairs, rows, &vec![false; rows]);
        let exchanges: Vec<Vec<bool>> =
            (0..EXCHANGES).map(|_| (0..rows).map(|_| rng.below(2) == 0).collect()).collect();
        let largest =
            |[data, drawn]: &[Vec<f64>; 2]| data.iter().zip(drawn).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let of_exchange = |exchanged: &Vec<bool>| largest(&correlations(&scores, &pairs, rows, exchanged));
        let chance = Chance::of(exchanges.par_iter().map(of_exchange).collect());
        let [data, drawn] = &found;
        // The most different pair of scores of each pair of columns.
        let mut most: HashMap<(usize, usize), usize> = HashMap::new();
        let off = |k: usize| (data[k] - drawn[k]).abs();
        for (k, &(i, j)) in pairs.iter().enumerate() {
            let known = most.entry((scores[i].column, scores[j].column)).or_insert(k);
            if off(k) > off(*known) {
                *known = k;
            }
        }
        let mut order: Vec<usize> = most.into_values().collect();
        order.sort_by(|&a, &b| off(b).total_cmp(&off(a)).then(a.cmp(&b)));
        let named = |&k: &usize| {
            let (i, j) = pairs[k];
            PairDifference { pair: [i, j].map(|i| scores[i].label.clone()), data: data[k], drawn: drawn[k] }
        };
        Some(Self {
            largest: order.iter().take(NAMED).map(named).collect(),
            critical: chance.critical(),
            p_value: chance.p_value(largest(&found)),
            rows,
            left_out: variables.len() - used,
        })
    }
}

/// The scores of a column in these rows of both samples: ranks of numbers, and indicators of missing cells and of values.
fn scores_of(column: usize, variable: &Variable, rows: &[usize]) -> Vec<Score> {
    let cells: Vec<f64> =
        [&variable.data, &variable.drawn].into_iter().flat_map(|cells| rows.iter().map(|&row| cells[row])).collect();
    let is_frequent = |count: usize| {
        let share = count as f64 / cells.len() as f64;
        (LEAST_SHARE..=1.0 - LEAST_SHARE).contains(&share)
    };
    let indicator = |label: String, is: &dyn Fn(f64) -> bool| {
        let values: Vec<f64> = cells.iter().map(|&cell| f64::from(u8::from(is(cell)))).collect();
        let count = values.iter().sum::<f64>() as usize;
        is_frequent(count).then_some((count, Score { column, label, values }))
    };
    match &variable.kind {
        VariableKind::Number(_) => {
            let ranks = Score { column, label: variable.name.clone(), values: ranks(&cells) };
            let missing = indicator(format!("{} missing", variable.name), &f64::is_nan);
            let varies = ranks.values.iter().any(|rank| *rank != 0.0);
            varies.then_some(ranks).into_iter().chain(missing.map(|(_, score)| score)).collect()
        }
        VariableKind::Category(names) => {
            let of = |(code, name): (usize, &String)| {
                indicator(format!("{} = {name}", variable.name), &|cell| cell == code as f64)
            };
            let mut found: Vec<(usize, Score)> = names.iter().enumerate().filter_map(of).collect();
            found.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
            // Of two values the second tells nothing more.
            found.truncate(if names.len() == 2 { 1 } else { VALUES });
            found.into_iter().map(|(_, score)| score).collect()
        }
    }
}

/// The ranks of numbers among all, with mean 0; 0 where one is missing.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&i| !values[i].is_nan()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let middle = (order.len() as f64 - 1.0) / 2.0;
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for run in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let rank = before as f64 + (run.len() as f64 - 1.0) / 2.0 - middle;
        run.iter().for_each(|&i| ranks[i] = rank / (order.len() as f64));
        before += run.len();
    }
    ranks
}

/// The correlations of pairs of scores in both samples, of which these rows are exchanged.
fn correlations(scores: &[Score], pairs: &[(usize, usize)], rows: usize, exchanged: &[bool]) -> [Vec<f64>; 2] {
    [false, true].map(|second| {
        let at = |row: usize| if exchanged[row] == second { row } else { rows + row };
        let standard: Vec<Vec<f64>> = scores
            .iter()
            .map(|score| {
                let mut values: Vec<f64> = (0..rows).map(|row| score.values[at(row)]).collect();
                let mean = values.iter().sum::<f64>() / rows as f64;
                values.iter_mut().for_each(|value| *value -= mean);
                let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
                // A score that is the same in all rows has no correlations.
                let scale = if norm > 1e-12 { 1.0 / norm } else { 0.0 };
                values.iter_mut().for_each(|value| *value *= scale);
                values
            })
            .collect();
        let product =
            |&(i, j): &(usize, usize)| -> f64 { standard[i].iter().zip(&standard[j]).map(|(a, b)| a * b).sum() };
        pairs.iter().map(product).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(n: usize, model: f64, rng: &mut Rng) -> Vec<Variable> {
        let mut rows = |strength: f64| -> [Vec<f64>; 3] {
            let (mut x, mut y, mut kind) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..n {
                let (a, b) = (rng.normal(), rng.normal());
                x.push(a);
                y.push(strength * a + (1.0 - strength * strength).sqrt() * b);
                kind.push(if rng.below(3) == 0 { 2.0 } else { f64::from(u8::from(a > 0.0)) });
            }
            [x, y, kind]
        };
        let (data, drawn) = (rows(0.6), rows(model));
        let kind = |i: usize| match i {
            2 => VariableKind::Category(["low", "high", "none"].map(String::from).into()),
            _ => VariableKind::Number(Vec::new()),
        };
        let names = ["x", "y", "kind"];
        let variable = |(i, (data, drawn)): (usize, (Vec<f64>, Vec<f64>))| Variable {
            name: names[i].into(),
            kind: kind(i),
            given: false,
            data,
            drawn,
        };
        data.into_iter().zip(drawn).enumerate().map(variable).collect()
    }

    #[test]
    fn a_lost_correlation_is_named_and_equal_ones_are_not_flagged() {
        let rng = &mut Rng::seed(0);
        let found = Dependence::of(&variables(500, 0.0, rng), rng).unwrap();
        let first = &found.largest[0];
        assert_eq!(first.pair, ["x", "y"].map(String::from), "{found:?}");
        assert!(first.data > 0.5 && first.drawn.abs() < 0.15 && found.p_value < 0.01, "{found:?}");
        let opposite = Dependence::of(&variables(500, -0.6, rng), rng).unwrap();
        assert!(opposite.largest[0].drawn < -0.5, "{opposite:?}");
        let flagged =
            (0..100).filter(|_| Dependence::of(&variables(60, 0.6, rng), rng).unwrap().p_value <= 0.05).count();
        assert!(flagged <= 12, "{flagged} of 100");
        assert!(Dependence::of(&variables(60, 0.6, rng)[..1], rng).is_none());
        // Many columns of context leave no others out.
        let modelled = variables(200, 0.0, rng);
        let context = (0..60).map(|i| Variable { name: format!("c{i}"), given: true, ..modelled[0].clone() });
        let many: Vec<Variable> = context.chain(modelled.clone()).collect();
        let found = Dependence::of(&many, rng).unwrap();
        assert!(found.left_out > 0 && found.largest[0].pair.iter().all(|name| !name.starts_with('c')), "{found:?}");
    }

    #[test]
    fn ranks_of_ties_are_equal() {
        assert_eq!(ranks(&[3.0, 1.0, f64::NAN, 3.0, 7.0]), [0.0, -0.375, 0.0, 0.0, 0.375]);
    }
}
