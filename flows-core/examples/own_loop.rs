//! A training loop of your own: every step, its learning rate and the evaluations between steps are in plain sight.

use flows_core::data::{Dataset, Shuffle, Toy};
use flows_core::prelude::*;
use flows_core::train::{Optimizer, Step};

/// Halves the learning rate whenever the validation points are found no more likely than before, until it is small.
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let data = Dataset::from_toy(Toy::TwoMoons, [20_000, 2_000, 5_000], &mut rng)?;
    let model = RealNvp { layers: 6, network: NetworkConfig::mlp([64, 64]), ..RealNvp::default() };
    let flow = Flow::new(FlowConfig::new(2, model), &mut rng)?;
    flow.standardize(&data.train.x, None)?;

    let optimizer = Optimizer::new(OptimizerConfig::adam(5e-3), flow.parameters())?;
    let mut step = Step::new(optimizer, flow.parameters())?.with_clip_norm(5.0)?;
    let mut shuffle = Shuffle::new(data.train.len(), 256, 0)?;
    let nats = |x| Ok::<_, Error>(score(&flow, x, None)?.mean_all()?.to_scalar::<f32>()?);
    let (mut rate, mut best, mut number) = (5e-3, f32::NEG_INFINITY, 0);
    while rate > 2e-3 {
        for _ in 0..200 {
            let batch = data.train.select(&shuffle.batch(number))?;
            step.minimize_at(rate, || forward_kl(&flow, &batch.x, None, &mut rng))?;
            number += 1;
        }
        let validation = nats(&data.validation.x)?;
        if validation <= best {
            rate /= 2.0;
        }
        best = best.max(validation);
    }
    let (test, most) = (nats(&data.test.x)?, -Toy::TwoMoons.entropy());
    println!("{number} steps: {test:.3} nats a point, where the exact density has {most:.3} on average");
    assert!((f64::from(test) - most).abs() < 0.2);
    Ok(())
}
