//! The classifier two-sample test.

use super::tails::at_least;
use super::trees::{Binned, Trees};
use super::variable::Variable;
use crate::Rng;
use crate::evaluate::Mean;
use serde::Serialize;

/// How well a classifier, boosted trees fitted to half of the rows, tells draws from data among the other half
/// (Lopez-Paz and Oquab, 2017): in a half of all cases where it finds no difference, as by guessing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classifier {
    /// The share of rows, of data and draws together, that it tells rightly.
    pub accuracy: f64,
    /// The standard error of the share.
    pub standard_error: f64,
    /// The share of samples from equal distributions that are told apart as well. A row of the data and a draw, with the
    /// same context, are two sides of a coin where the distributions are equal: of the pairs that it gives to different
    /// samples, it is right for one half.
    pub p_value: f64,
    /// The rows that it was fitted to, of data and draws together.
    pub fitted: usize,
    /// The rows that it was tested with.
    pub tested: usize,
    /// The columns by which it tells them apart, with their shares in what was gained, the most important first.
    pub columns: Vec<(String, f64)>,
}

impl Classifier {
    /// The test; none for fewer than 4 rows.
    pub fn of(variables: &[Variable], rng: &mut Rng) -> Option<Self> {
        let rows = variables.first()?.data.len();
        if rows < 4 {
            return None;
        }
        let both = |variable: &Variable| [&variable.data[..], &variable.drawn].concat();
        let data = Binned::new(&variables.iter().map(both).collect::<Vec<_>>());
        let order: Vec<usize> = rng.permutation(rows).into_iter().map(|row| row as usize).collect();
        let (train, test) = order.split_at(rows / 2);
        let fitted: Vec<usize> = train.iter().flat_map(|&row| [row, rows + row]).collect();
        let trees = Trees::fit(&data, &fitted, |row| row >= rows);
        let (mut shares, mut different, mut right) = (Vec::with_capacity(test.len()), 0, 0);
        for &row in test {
            let is_drawn = [row, rows + row].map(|row| trees.log_odds(&data, row) > 0.0);
            if is_drawn[0] != is_drawn[1] {
                different += 1;
                right += usize::from(is_drawn[1]);
            }
            shares.push(0.5 * f64::from(u8::from(!is_drawn[0]) + u8::from(is_drawn[1])));
        }
        let Mean { mean, standard_error } = Mean::of(&shares);
        let mut columns: Vec<(String, f64)> =
            variables.iter().zip(&trees.gains).map(|(variable, gain)| (variable.name.clone(), *gain)).collect();
        columns.sort_by(|a, b| b.1.total_cmp(&a.1));
        Some(Self {
            accuracy: mean,
            standard_error,
            p_value: at_least(right, different),
            fitted: fitted.len(),
            tested: 2 * test.len(),
            columns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::variable::VariableKind;
    use super::*;

    fn test(n: usize, shift: f64, rng: &mut Rng) -> Classifier {
        let variable = |name: &str, shift: f64, rng: &mut Rng| Variable {
            name: name.into(),
            kind: VariableKind::Number(Vec::new()),
            given: false,
            data: (0..n).map(|_| rng.normal()).collect(),
            drawn: (0..n).map(|_| shift + rng.normal()).collect(),
        };
        Classifier::of(&[variable("a", 0.0, rng), variable("b", shift, rng)], rng).unwrap()
    }

    #[test]
    fn a_shift_is_found_and_equal_distributions_are_not() {
        let rng = &mut Rng::seed(0);
        let found = test(2000, 1.0, rng);
        // The best that can be done is Phi(1/2) = 0.691.
        assert!((found.accuracy - 0.691).abs() < 0.03 && found.p_value < 1e-6, "{found:?}");
        assert!(found.columns[0].0 == "b" && found.columns[0].1 > 0.7 && found.tested == 2000, "{found:?}");
        assert!((found.standard_error - (0.25f64 / 2000.0).sqrt()).abs() < 0.003, "{found:?}");
        let flagged = (0..100).filter(|_| test(60, 0.0, rng).p_value < 0.05).count();
        assert!(flagged <= 10, "{flagged} of 100");
        assert!(test(4, 0.0, rng).p_value > 0.2);
    }
}
