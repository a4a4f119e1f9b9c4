//! Anomalies: rows that a density trained on ordinary ones finds unlikely.

use flows_core::data::Toy;
use flows_core::prelude::*;

/// Calls a point strange if it is less likely than 99 in 100 of those set aside.
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let [train, validation, test] = [20_000, 5_000, 5_000].map(|count| Toy::TwoMoons.sample(count, &mut rng));
    let model = Maf { network: NetworkConfig::mlp([64, 64]), batch_norm: false, ..Maf::default() };
    let flow = Flow::new(FlowConfig::new(2, model), &mut rng)?;
    let train_config = TrainConfig { steps: 600, optimizer: OptimizerConfig::adam(3e-3), ..TrainConfig::default() };
    fit(&flow, &train?, FitConfig { train: train_config, ..FitConfig::default() }, &mut rng)?;

    let scores = |x: &Tensor| Ok::<_, Error>(score(&flow, x, None)?.to_vec1::<f32>()?);
    let mut ordinary = scores(&validation?)?;
    ordinary.sort_by(f32::total_cmp);
    let threshold = ordinary[ordinary.len() / 100];
    let below =
        |scores: Vec<f32>| scores.iter().filter(|score| **score < threshold).count() as f64 / scores.len() as f64;
    let square = ((rng.uniform_tensor((5_000, 2), DType::F32, &Device::Cpu)? * 8.0)? - 4.0)?;
    let (alarms, found) = (below(scores(&test?)?), below(scores(&square)?));
    println!("below {threshold:.2} nats: {:.1}% of new ordinary points", 100.0 * alarms);
    println!("and {:.0}% of points anywhere in the square around them", 100.0 * found);
    assert!(alarms < 0.02 && found > 0.6);
    Ok(())
}
