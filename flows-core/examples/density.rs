//! A density from data: train a flow, score points that it has not seen, draw new ones.

use flows_core::data::{Dataset, Shuffle, Toy};
use flows_core::distributions::{draw, score};
use flows_core::evaluate::{Exact, log_likelihoods};
use flows_core::flows::{Flow, FlowConfig, Nsf};
use flows_core::nn::NetworkConfig;
use flows_core::train::{OptimizerConfig, Schedule, TrainConfig, Trainer, forward_kl};
use flows_core::{Result, Rng};

/// Learns the two moons, whose exact density is known.
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let data = Dataset::from_toy(Toy::TwoMoons, [20_000, 1, 5_000], &mut rng)?;
    let model = Nsf { layers: 4, network: NetworkConfig::residual(32, 1), ..Nsf::default() };
    let flow = Flow::new(FlowConfig::new(2, model), &mut rng)?;
    flow.standardize(&data.train.x, None)?;

    let config = TrainConfig {
        steps: 400,
        optimizer: OptimizerConfig::adam(5e-3),
        schedule: Schedule::Cosine { warmup: 0, floor: 0.0 },
        clip_norm: Some(5.0),
        ..TrainConfig::default()
    };
    let mut shuffle = Shuffle::new(data.train.len(), 256, 0)?;
    let mut trainer = Trainer::new(flow.parameters(), config, rng.fork())?;
    trainer.run(|i, rng| forward_kl(&flow, &data.train.select(&shuffle.batch(i))?.x, None, rng), None, &mut ())?;

    let exact = Exact::of(Toy::TwoMoons, &data.test, &log_likelihoods(&flow, &data.test, |_| ())?)?;
    println!("{} nats short of the exact density, which has {:.3}", exact.divergence, exact.log_likelihood);
    assert!(exact.divergence.mean.abs() < 0.1);

    let drawn = draw(&flow, 1_000, None, &mut rng)?;
    println!(
        "{:.3} nats: how likely it finds its own samples",
        score(&flow, &drawn, None)?.mean_all()?.to_scalar::<f32>()?
    );
    Ok(())
}
