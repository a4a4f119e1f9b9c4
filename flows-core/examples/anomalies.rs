//! Anomalies: rows that a density trained on ordinary ones finds unlikely.

use flows_core::candle_core::{DType, Device, Tensor};
use flows_core::data::{Dataset, Shuffle, Toy};
use flows_core::distributions::score;
use flows_core::flows::{Flow, FlowConfig, Maf};
use flows_core::nn::NetworkConfig;
use flows_core::train::{OptimizerConfig, TrainConfig, Trainer, forward_kl};
use flows_core::{Result, Rng};

/// Calls a point strange if it is less likely than 99 in 100 of those set aside.
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let data = Dataset::from_toy(Toy::TwoMoons, [20_000, 5_000, 5_000], &mut rng)?;
    let model = Maf { network: NetworkConfig::mlp([64, 64]), batch_norm: false, ..Maf::default() };
    let flow = Flow::new(FlowConfig::new(2, model), &mut rng)?;
    flow.standardize(&data.train.x, None)?;
    let config = TrainConfig { steps: 600, optimizer: OptimizerConfig::adam(3e-3), ..TrainConfig::default() };
    let mut shuffle = Shuffle::new(data.train.len(), 256, 0)?;
    let mut trainer = Trainer::new(flow.parameters(), config, rng.fork())?;
    trainer.run(|i, rng| forward_kl(&flow, &data.train.select(&shuffle.batch(i))?.x, None, rng), None, &mut ())?;

    let scores = |x: &Tensor| Ok::<_, flows_core::Error>(score(&flow, x, None)?.to_vec1::<f32>()?);
    let mut ordinary = scores(&data.validation.x)?;
    ordinary.sort_by(f32::total_cmp);
    let threshold = ordinary[ordinary.len() / 100];
    let below =
        |scores: Vec<f32>| scores.iter().filter(|score| **score < threshold).count() as f64 / scores.len() as f64;
    let square = ((rng.uniform_tensor((5_000, 2), DType::F32, &Device::Cpu)? * 8.0)? - 4.0)?;
    let (alarms, found) = (below(scores(&data.test.x)?), below(scores(&square)?));
    println!("below {threshold:.2} nats: {:.1}% of new ordinary points", 100.0 * alarms);
    println!("and {:.0}% of points anywhere in the square around them", 100.0 * found);
    assert!(alarms < 0.02 && found > 0.6);
    Ok(())
}
