//! Tables whose entropy is known are learned.

use super::tensor;
use crate::bijectors::Bounds;
use crate::distributions::{Column, MixedTableConfig, score};
use crate::flows::MixedTableModel;
use crate::nn::NetworkConfig;
use crate::train::{FitConfig, OptimizerConfig, TrainConfig, fit};
use crate::{Result, Rng};
use rand_distr::{Cauchy, Poisson, StudentT};

#[test]
fn a_dependent_table_is_learned() -> Result<()> {
    // A category; a normal number about it; a Poisson count that grows with the number; rain on some days.
    let mut rng = Rng::seed(0);
    let probabilities = [0.5, 0.3, 0.2];
    let sigma = 0.3;
    let wet = |count: f64| 1.0 / (1.0 + (2.0 - count).exp());
    let mut entropy = 0.0;
    let poisson = |k: f64, rate: f64| k * rate.ln() - rate - (1..=k as u64).map(|i| (i as f64).ln()).sum::<f64>();
    let normal = |z: f64| -0.5 * z * z - 0.5 * (2.0 * std::f64::consts::PI).ln();
    let row = |rng: &mut Rng| -> ([f64; 4], f64) {
        let u = rng.uniform();
        let class = if u < 0.5 {
            0
        } else if u < 0.8 {
            1
        } else {
            2
        };
        let z = rng.normal();
        let number = 10.0 * (class as f64 - 1.0).powi(3) + 2.0 * z;
        let rate = (1.0 + z / 2.0).exp();
        let count: f64 = rng.draw(&Poisson::new(rate).unwrap());
        let mut log_prob = f64::ln(probabilities[class]) + normal(z) - 2f64.ln() + poisson(count, rate);
        let rain = match rng.uniform() < wet(count) {
            false => {
                log_prob += (1.0 - wet(count)).ln();
                0.0
            }
            true => {
                let z = rng.normal();
                let rain = (class as f64 + sigma * z).exp();
                log_prob += wet(count).ln() + normal(z) - sigma.ln() - rain.ln();
                rain
            }
        };
        ([class as f64, number, count, rain], log_prob)
    };
    let data: Vec<[f64; 4]> = (0..4000).map(|_| row(&mut rng).0).collect();
    let test: Vec<([f64; 4], f64)> = (0..4000).map(|_| row(&mut rng)).collect();
    entropy -= test.iter().map(|(_, log_prob)| log_prob).sum::<f64>() / test.len() as f64;
    let values = |i: usize| data.iter().map(|row| row[i]).collect::<Vec<f64>>();
    let columns = [
        Column::category("class", 3, &values(0))?,
        Column::number("number", &values(1), Bounds::NONE)?,
        Column::whole("count", &values(2), [Some(0.0), None])?,
        Column::number("rain", &values(3), Bounds::above(0.0))?,
    ];
    let config =
        MixedTableConfig { network: NetworkConfig::residual(64, 1), bins: 8, ..MixedTableConfig::new(columns) };
    let model = MixedTableModel::new(config, &mut rng)?;
    let test = tensor(&test.iter().map(|(row, _)| *row).collect::<Vec<_>>())?;
    let nats = |model: &MixedTableModel| -> Result<f64> { Ok(-score(model, &test, None)?.mean_all()?.to_scalar()?) };
    let before = nats(&model)?;
    let train = TrainConfig { steps: 300, optimizer: OptimizerConfig::adam(4e-3), ..FitConfig::default().train };
    fit(&model, &tensor(&data)?, FitConfig { train, ..FitConfig::default() }, &mut rng)?;
    let after = nats(&model)?;
    assert!(before > entropy + 1.0 && after - entropy < 0.1, "{before}, then {after}, where the entropy is {entropy}");
    assert!(after > entropy - 0.03, "{after} is below the entropy, {entropy}");
    Ok(())
}

#[test]
fn heavy_tails_train_without_trouble() -> Result<()> {
    // A Cauchy column, a t one of 1.5 degrees of freedom about it, and a log-normal one that depends on both.
    let mut rng = Rng::seed(0);
    let cauchy = |x: f64| -(std::f64::consts::PI * (1.0 + x * x)).ln();
    // The constant is ln(Gamma(1.25) / (Gamma(0.75) sqrt(1.5 pi))).
    let student = |x: f64| -1.076_65 - 1.25 * (x * x / 1.5).ln_1p();
    let normal = |z: f64| -0.5 * z * z - 0.5 * (2.0 * std::f64::consts::PI).ln();
    let mut row = || -> ([f64; 3], f64) {
        let (a, t) = (rng.draw(&Cauchy::new(0.0, 1.0).unwrap()), rng.draw(&StudentT::new(1.5).unwrap()));
        let (z, b): (f64, f64) = (rng.normal(), a + t);
        let c = (z + a / (1.0 + f64::abs(a))).exp();
        ([a, b, c], cauchy(a) + student(t) + normal(z) - c.ln())
    };
    let data: Vec<[f64; 3]> = (0..2000).map(|_| row().0).collect();
    let test: Vec<([f64; 3], f64)> = (0..4000).map(|_| row()).collect();
    let entropy = -test.iter().map(|(_, log_prob)| log_prob).sum::<f64>() / test.len() as f64;
    let column = |i: usize| {
        let values: Vec<f64> = data.iter().map(|row| row[i]).collect();
        Column::number(i.to_string(), &values, Bounds::NONE)
    };
    let columns = (0..3).map(column).collect::<Result<Vec<_>>>()?;
    let config =
        MixedTableConfig { network: NetworkConfig::residual(48, 1), bins: 8, ..MixedTableConfig::new(columns) };
    let model = MixedTableModel::new(config, &mut rng)?;
    let test = tensor(&test.iter().map(|(row, _)| *row).collect::<Vec<_>>())?;
    let nats = |model: &MixedTableModel| -> Result<f64> { Ok(-score(model, &test, None)?.mean_all()?.to_scalar()?) };
    let before = nats(&model)?;
    let train = TrainConfig { steps: 200, optimizer: OptimizerConfig::adam(4e-3), ..FitConfig::default().train };
    fit(&model, &tensor(&data)?, FitConfig { train, batch: 128, ..FitConfig::default() }, &mut rng)?;
    let after = nats(&model)?;
    assert!(before < entropy + 1.2, "{before} at the start, where the entropy is {entropy}");
    assert!(after < entropy + 0.35 && after > entropy - 0.05, "{after}, where the entropy is {entropy}");
    Ok(())
}
