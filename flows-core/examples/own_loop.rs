//! A training loop of your own: each step, its learning rate and the evaluations in between are in plain sight.

use flows_core::data::{Dataset, Shuffle, Toy};
use flows_core::distributions::score;
use flows_core::flows::{Flow, FlowConfig, RealNvp};
use flows_core::nn::NetworkConfig;
use flows_core::train::{Optimizer, OptimizerConfig, Step, forward_kl};
use flows_core::{Result, Rng};

/// Trains until the validation rows have not been found more likely for three evaluations in a row.
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let data = Dataset::from_toy(Toy::EightGaussians, [20_000, 2_000, 5_000], &mut rng)?;
    let model = RealNvp { layers: 6, network: NetworkConfig::mlp([64, 64]), ..RealNvp::default() };
    let flow = Flow::new(FlowConfig::new(2, model), &mut rng)?;
    flow.standardize(&data.train.x, None)?;

    let optimizer = Optimizer::new(OptimizerConfig::adam(3e-3), flow.parameters())?;
    let mut step = Step::new(optimizer, flow.parameters())?.with_clip_norm(5.0)?;
    let mut shuffle = Shuffle::new(data.train.len(), 256, 0)?;
    let nats = |x| Ok::<_, flows_core::Error>(score(&flow, x, None)?.mean_all()?.to_scalar::<f32>()?);
    let (mut best, mut stale) = (f32::NEG_INFINITY, 0);
    for number in 0..2_000 {
        let batch = data.train.select(&shuffle.batch(number))?;
        let outcome = step.minimize(|| forward_kl(&flow, &batch.x, None, &mut rng))?;
        if (number + 1) % 200 == 0 {
            let validation = nats(&data.validation.x)?;
            println!("step {}: loss {:.3}, validation {validation:.3} nats", number + 1, outcome.loss);
            stale = if validation > best { 0 } else { stale + 1 };
            best = best.max(validation);
        }
        if stale == 3 {
            break;
        }
    }
    let (test, most) = (nats(&data.test.x)?, -Toy::EightGaussians.entropy());
    println!("test {test:.3} nats, where the exact density has {most:.3} on average");
    assert!((f64::from(test) - most).abs() < 0.3);
    Ok(())
}
