//! A density from data: train a flow, score points that it has not seen, draw new ones.

use flows_core::data::Toy;
use flows_core::evaluate::Exact;
use flows_core::prelude::*;

/// Learns the two moons, whose exact density is known.
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let (x, test) = (Toy::TwoMoons.sample(20_000, &mut rng)?, Toy::TwoMoons.sample(5_000, &mut rng)?);
    let model = Nsf { layers: 4, network: NetworkConfig::residual(32, 1), ..Nsf::default() };
    let flow = Flow::new(FlowConfig::new(2, model), &mut rng)?;

    let train =
        TrainConfig { steps: 600, optimizer: OptimizerConfig::adam(5e-3), clip_norm: Some(5.0), ..Default::default() };
    let fitted = fit(&flow, &x, FitConfig { train, ..FitConfig::default() }, &mut rng)?;
    println!("{} steps", fitted.steps);

    let log_prob = score(&flow, &test, None)?.to_dtype(DType::F64)?.to_vec1()?;
    let exact = Exact::of(Toy::TwoMoons, &(&test).into(), &log_prob)?;
    println!("{} nats short of the exact density, which has {:.3}", exact.divergence, exact.log_likelihood);
    assert!(exact.divergence.mean.abs() < 0.1);

    let (drawn, log_prob) = draw_with_log_prob(&flow, 1_000, None, &mut rng)?;
    let mean = log_prob.mean_all()?.to_scalar::<f32>()?;
    println!("{mean:.3} nats: how likely it finds its own {} samples", drawn.dim(0)?);
    Ok(())
}
