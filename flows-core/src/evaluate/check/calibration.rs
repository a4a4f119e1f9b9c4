//! Whether values are where the model expects them: probability integral transforms.

use super::distance::Distance;
use serde::Serialize;

/// The probability integral transforms of data: of each value the probability that the model gives to a smaller one. They
/// are uniform on [0, 1] if the model is right.
#[derive(Clone, Debug)]
pub struct Transforms {
    /// What they are, in words.
    pub of: String,
    /// The columns with their transforms, one for each row.
    pub columns: Vec<TransformedColumn>,
}

/// The transforms of a column.
#[derive(Clone, Debug)]
pub struct TransformedColumn {
    /// The name of the column.
    pub name: String,
    /// Whether its values are numbers, of which intervals have a meaning.
    pub is_number: bool,
    /// The transforms; NaN where a row is outside of the model's range, and has none.
    pub values: Vec<f64>,
}

/// How far transforms are from uniform.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// The column.
    pub column: String,
    /// The distance of its transforms from the uniform distribution (Kolmogorov and Smirnov).
    pub uniform: Distance,
    /// How many values are in the model's central intervals; none of a category.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<Coverage>,
    /// Where the data lie, if they are not where the model has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<&'static str>,
}

/// The share of values that a central interval holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// The share that it should hold.
    pub nominal: f64,
    /// The share that it holds.
    pub found: f64,
    /// The standard error of the latter where the former, q, is right: `sqrt(q (1 - q) / n)` for one column, and for several
    /// `sqrt(sum_i (f_i - q)^2) / n` over the shares f of n rows, whose cells may depend on each other.
    pub standard_error: f64,
}

/// The shares that central intervals should hold.
pub(super) const NOMINAL: [f64; 4] = [0.5, 0.8, 0.9, 0.95];

impl Coverage {
    /// The coverage of the central interval that should hold the share `nominal` of values with these transforms, without
    /// NaN.
    pub fn of(values: &[f64], nominal: f64) -> Self {
        let inside: Vec<f64> =
            values.iter().map(|&u| is_inside(u, nominal)).filter(|inside| !inside.is_nan()).collect();
        let n = inside.len() as f64;
        let found = inside.iter().sum::<f64>() / n;
        Self { nominal, found, standard_error: (nominal * (1.0 - nominal) / n).sqrt() }
    }
}

/// 1 for a transform in the central interval, 0 for another one, NaN for NaN.
fn is_inside(u: f64, nominal: f64) -> f64 {
    if u.is_nan() { u } else { f64::from(u8::from((u - 0.5).abs() <= 0.5 * nominal)) }
}

impl Transforms {
    /// The calibration of each column.
    pub fn calibrations(&self) -> Vec<Calibration> {
        let of = |column: &TransformedColumn| {
            let values: Vec<f64> = column.values.iter().copied().filter(|u| !u.is_nan()).collect();
            let uniform = Distance::from_uniform(&values)?;
            let intervals = match column.is_number {
                true => NOMINAL.map(|nominal| Coverage::of(&values, nominal)).into(),
                false => Vec::new(),
            };
            let shape = shape(&values).filter(|_| column.is_number && uniform.p_value < 0.05);
            Some(Calibration { column: column.name.clone(), uniform, intervals, shape })
        };
        self.columns.iter().filter_map(of).collect()
    }

    /// The number of rows that have no transform.
    pub fn without(&self) -> usize {
        let rows = self.columns.iter().map(|column| column.values.len()).max().unwrap_or(0);
        let has_none =
            |row: &usize| self.columns.iter().any(|column| column.values.get(*row).is_some_and(|u| u.is_nan()));
        (0..rows).filter(has_none).count()
    }

    /// The coverage of the intervals of all columns of numbers together; none without any.
    pub fn intervals(&self) -> Vec<Coverage> {
        NOMINAL.iter().filter_map(|&nominal| self.coverage(nominal)).collect()
    }

    /// The coverage of the central intervals of all columns of numbers together that should hold the share `nominal`, in
    /// the rows that have transforms; none without any.
    pub fn coverage(&self, nominal: f64) -> Option<Coverage> {
        let numbers: Vec<&[f64]> =
            self.columns.iter().filter(|column| column.is_number).map(|column| &column.values[..]).collect();
        let rows = numbers.iter().map(|values| values.len()).min()?;
        let share = |row: usize| {
            numbers.iter().map(|values| is_inside(values[row], nominal)).sum::<f64>() / numbers.len() as f64
        };
        let shares: Vec<f64> = (0..rows).map(share).filter(|share| !share.is_nan()).collect();
        if shares.is_empty() {
            return None;
        }
        if let [values] = numbers[..] {
            return Some(Coverage::of(values, nominal));
        }
        let n = shares.len() as f64;
        let squares: f64 = shares.iter().map(|share| (share - nominal).powi(2)).sum();
        Some(Coverage { nominal, found: shares.iter().sum::<f64>() / n, standard_error: squares.sqrt() / n })
    }
}

/// The direction in which transforms deviate most: by their mean (1/2 if uniform), or by their spread (variance 1/12).
fn shape(values: &[f64]) -> Option<&'static str> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|u| (u - 0.5).powi(2)).sum::<f64>() / n;
    // In standard errors: the variance of (u - 1/2)^2 is 1/180.
    let (shift, spread) = ((mean - 0.5) * (12.0 * n).sqrt(), (square - 1.0 / 12.0) * (180.0 * n).sqrt());
    match (shift.abs() > spread.abs(), shift > 0.0, spread > 0.0) {
        _ if values.is_empty() || shift.abs().max(spread.abs()) < 3.0 => None,
        (true, true, _) => Some("higher than the model has it"),
        (true, false, _) => Some("lower than the model has it"),
        (false, _, true) => Some("wider than the model has it"),
        (false, _, false) => Some("narrower than the model has it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tails::normal;
    use super::*;
    use crate::Rng;

    /// Of values of mean `shift` and deviation `scale`, where the model is the standard normal.
    fn calibration(n: usize, shift: f64, scale: f64) -> Calibration {
        let rng = &mut Rng::seed(0);
        let values = (0..n).map(|_| normal(shift + scale * rng.normal())).collect();
        let column = TransformedColumn { name: "x".into(), is_number: true, values };
        let transforms = Transforms { of: String::new(), columns: vec![column] };
        assert_eq!(transforms.intervals(), transforms.calibrations()[0].intervals);
        transforms.calibrations().remove(0)
    }

    #[test]
    fn a_wrong_mean_and_a_wrong_variance_are_found_with_their_signs() {
        let right = calibration(2000, 0.0, 1.0);
        assert!(right.uniform.p_value > 0.05 && right.shape.is_none(), "{right:?}");
        assert!(right.intervals.iter().all(|c| (c.found - c.nominal).abs() < 3.0 * c.standard_error), "{right:?}");
        for (shift, scale, words) in
            [(0.2, 1.0, "higher"), (-0.2, 1.0, "lower"), (0.0, 1.3, "wider"), (0.0, 0.75, "narrower")]
        {
            let found = calibration(2000, shift, scale);
            assert!(
                found.uniform.p_value < 0.01 && found.shape.is_some_and(|shape| shape.contains(words)),
                "{found:?}"
            );
        }
        // Phi(1.2816 / 1.3): 80% intervals hold 67.6%.
        let wide = calibration(20_000, 0.0, 1.3).intervals[1];
        assert!((wide.found - 0.676).abs() < 0.01 && wide.nominal == 0.8, "{wide:?}");
    }

    #[test]
    fn rows_without_transforms_are_counted_and_left_out() {
        let rng = &mut Rng::seed(1);
        let values: Vec<f64> = (0..400).map(|i| if i % 4 == 0 { f64::NAN } else { rng.uniform() }).collect();
        let known: Vec<f64> = values.iter().copied().filter(|u| !u.is_nan()).collect();
        let of = |values: Vec<f64>| Transforms {
            of: String::new(),
            columns: vec![TransformedColumn { name: "x".into(), is_number: true, values }],
        };
        let (all, some) = (of(values), of(known));
        assert_eq!((all.without(), some.without()), (100, 0));
        assert_eq!((all.calibrations(), all.intervals()), (some.calibrations(), some.intervals()));
        assert_eq!(all.calibrations()[0].shape, None);
        assert!(of(vec![f64::NAN]).calibrations().is_empty() && of(vec![f64::NAN]).intervals().is_empty());
        assert_eq!(shape(&[]), None);
    }

    #[test]
    fn equal_columns_tell_no_more_of_intervals_than_one() {
        let rng = &mut Rng::seed(2);
        let values: Vec<f64> = (0..2000).map(|_| rng.uniform()).collect();
        let column = |name: &str| TransformedColumn { name: name.into(), is_number: true, values: values.clone() };
        let of = |columns: Vec<TransformedColumn>| Transforms { of: String::new(), columns }.coverage(0.8).unwrap();
        let (one, three) = (of(vec![column("a")]), of(vec![column("a"), column("b"), column("c")]));
        assert!((one.found - three.found).abs() < 1e-12);
        assert!((three.standard_error / one.standard_error - 1.0).abs() < 0.1, "{one:?}, {three:?}");
    }
}
