use super::*;
use crate::bijectors::Bounds;

fn number_columns(rows: &[f64], d: usize) -> Result<Vec<Column>> {
    let column = |i: usize| {
        let values: Vec<f64> = rows.iter().skip(i).step_by(d).copied().collect();
        Column::number(format!("column {i}"), &values, Bounds::NONE)
    };
    (0..d).map(column).collect()
}

/// The baselines of 1,000 rows, 400 more for choices and 2,000 to test; and the entropy, from the log-densities.
fn found(d: usize, mut draw: impl FnMut(&mut Rng) -> (Vec<f64>, f64)) -> Result<(Vec<f64>, f64)> {
    let rng = &mut Rng::seed(0);
    let mut rows = |n: usize| -> (Vec<f64>, f64) {
        let drawn: Vec<(Vec<f64>, f64)> = (0..n).map(|_| draw(rng)).collect();
        let entropy = -drawn.iter().map(|(_, log)| log).sum::<f64>() / n as f64;
        (drawn.into_iter().flat_map(|(row, _)| row).collect(), entropy)
    };
    let ((train, _), (validation, _), (test, entropy)) = (rows(1000), rows(400), rows(2000));
    let split = Split { train: &train, validation: &validation, test: &test };
    let all = baselines(&number_columns(&train, d)?, split, &mut Rng::seed(1))?;
    Ok((all.iter().map(|baseline| -baseline.mean().mean).collect(), entropy))
}

fn normal(z: f64) -> f64 {
    -0.5 * z * z - 0.5 * (2.0 * std::f64::consts::PI).ln()
}

#[test]
fn the_density_that_fits_is_as_good_as_the_true_one() -> Result<()> {
    // A Gaussian with correlation, of other scales.
    let (nats, entropy) = found(2, |rng| {
        let (a, b) = (rng.normal(), rng.normal());
        (vec![1000.0 + 50.0 * a, 0.01 * (a + 0.5 * b)], normal(a) + normal(b) - (50.0 * 0.005f64).ln())
    })?;
    assert!((nats[1] - entropy).abs() < 0.02, "{nats:?}, {entropy}");
    assert!((nats[2] - entropy).abs() < 0.03 && nats[0] > entropy + 0.5, "{nats:?}, {entropy}");
    assert!(nats[3] > entropy && nats[3] < entropy + 0.25, "{nats:?}, {entropy}");
    // Two Gaussians far apart.
    let (nats, entropy) = found(2, |rng| {
        let at = if rng.below(2) == 0 { -5.0 } else { 5.0 };
        let (a, b) = (rng.normal(), rng.normal());
        (vec![at + a, at - b], normal(a) + normal(b) - 2f64.ln())
    })?;
    assert!((nats[2] - entropy).abs() < 0.04 && nats[1] > entropy + 0.5, "{nats:?}, {entropy}");
    // Independent columns that are not Gaussian.
    let (nats, entropy) = found(2, |rng| {
        let (a, b) = (rng.normal(), rng.uniform().ln());
        (vec![a.exp(), b], normal(a) - a + b)
    })?;
    assert!((nats[0] - entropy).abs() < 0.25 && nats[1] > nats[0] + 0.3, "{nats:?}, {entropy}");
    Ok(())
}

#[test]
fn margins_of_other_columns_are_exact() -> Result<()> {
    // A category, a whole number, and a number with an atom.
    let rng = &mut Rng::seed(0);
    let mut rows = |n: usize| -> Vec<f64> {
        let row = |rng: &mut Rng| {
            let dry = rng.below(2) == 0;
            [rng.below(4) as f64, rng.below(10) as f64, if dry { 0.0 } else { rng.normal().exp() }]
        };
        (0..n).flat_map(|_| row(rng)).collect()
    };
    let (train, validation, test) = (rows(4000), rows(500), rows(4000));
    let column = |i: usize| train.iter().skip(i).step_by(3).copied().collect::<Vec<f64>>();
    let columns = [
        Column::category("four", 4, &column(0))?,
        Column::whole("ten", &column(1), [Some(0.0), Some(9.0)])?,
        Column::number("rain", &column(2), Bounds::above(0.0))?,
    ];
    let split = Split { train: &train, validation: &validation, test: &test };
    let found = baselines(&columns, split, rng)?;
    assert_eq!(found.len(), 1);
    let entropy = 4f64.ln() + 10f64.ln() + 2f64.ln() + 0.5 * (0.5 * (2.0 * std::f64::consts::PI).ln() + 0.5);
    assert!((-found[0].mean().mean - entropy).abs() < 0.05, "{} and {entropy}", found[0].mean());
    assert!(baselines(&columns, Split { test: &[], ..split }, rng).is_err());
    assert!(baselines(&columns, Split { test: &[7.0, 0.0, 0.0], ..split }, rng).is_err());
    Ok(())
}

#[test]
fn few_rows_are_shrunk() -> Result<()> {
    // 12 rows of 10 independent columns.
    let rng = &mut Rng::seed(0);
    let mut rows = |n: usize| -> Vec<f64> { (0..10 * n).map(|_| rng.normal()).collect() };
    let (train, validation, test) = (rows(12), rows(50), rows(500));
    let split = Split { train: &train, validation: &validation, test: &test };
    let found = baselines(&number_columns(&train, 10)?, split, &mut Rng::seed(1))?;
    let entropy = -10.0 * (normal(0.0) - 0.5);
    for baseline in &found {
        let mean = -baseline.mean().mean;
        assert!(mean > entropy && mean < entropy + 8.0, "{}: {mean}, where the entropy is {entropy}", baseline.name);
    }
    Ok(())
}
