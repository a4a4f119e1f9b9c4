//! A flow fitted to a density of your own that is known up to a factor, with no data: variational inference.

use flows_core::evaluate::ImportanceWeights;
use flows_core::prelude::*;
use flows_core::train::Schedule;

/// `-x1^2 / 8 - 2 (x2 - x1^2 / 4)^2`: a banana, whose integral is `sqrt(8 pi) sqrt(pi / 2) = 2 pi`.
fn log_density(x: &Tensor) -> Result<Tensor> {
    let (x1, x2) = (x.narrow(1, 0, 1)?.squeeze(1)?, x.narrow(1, 1, 1)?.squeeze(1)?);
    let off = (x2 - (x1.sqr()? * 0.25)?)?;
    Ok(((x1.sqr()? * -0.125)? - (off.sqr()? * 2.0)?)?)
}

/// Fits the flow by its own samples, then finds the integral by importance sampling.
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let model = RealNvp { layers: 6, network: NetworkConfig::mlp([32, 32]), max_log_scale: 3.0 };
    let flow = Flow::new(FlowConfig::new(2, model), &mut rng)?;
    let config = TrainConfig {
        steps: 800,
        optimizer: OptimizerConfig::adam(5e-3),
        schedule: Schedule::Cosine { warmup: 0, floor: 0.0 },
        clip_norm: Some(5.0),
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(flow.parameters(), config, rng.fork())?;
    trainer.run(|_, rng| reverse_kl(&flow, log_density, 128, rng), None, &mut ())?;

    let weights = ImportanceWeights::draw(flow.detached(), log_density, 10_000, None, &mut rng)?;
    let (found, error, truth) = (weights.log_evidence(), weights.log_evidence_error(), std::f64::consts::TAU.ln());
    println!("log-integral {found:.4} ± {error:.4}, in truth {truth:.4}");
    println!("10,000 draws of the flow are worth {:.0} of the density itself", weights.effective_sample_size());
    assert!((found - truth).abs() < 0.05 && weights.efficiency() > 0.5);
    Ok(())
}
