//! The posterior of a model whose parameters have constraints: variational inference with a flow over their support.

use flows_core::bijectors::Support;
use flows_core::evaluate::ImportanceWeights;
use flows_core::prelude::*;

/// Twenty customers chose among three shops; the time that each of eight took, in minutes.
const CHOICES: [f32; 3] = [12.0, 5.0, 3.0];
const MINUTES: [f64; 8] = [1.2, 0.7, 2.1, 1.6, 0.4, 1.1, 1.9, 1.3];

/// Fits shares of the shops, Dirichlet(1, 1, 1) before the data, and the rate of exponential times, Gamma(2, 1).
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let support = Support::named([("shares", Support::Simplex { size: 3 }), ("rate", Support::positive([]))]);
    let choices = Tensor::new(&CHOICES, &Device::Cpu)?;
    let log_joint = |x: &Tensor| -> Result<Tensor> {
        let (shares, rate) = (support.part(x, "shares")?, support.part(x, "rate")?);
        let of_choices = shares.log()?.broadcast_mul(&choices)?.sum(1)?;
        let (count, total) = (MINUTES.len() as f64, MINUTES.iter().sum::<f64>());
        let of_rate = ((rate.log()? * (count + 1.0))? - (rate * (total + 1.0))?)?;
        Ok((of_choices + of_rate)?)
    };

    let model = RealNvp { layers: 4, network: NetworkConfig::mlp([32]), ..RealNvp::default() };
    let posterior = Flow::new(FlowConfig::over(support.clone(), model), &mut rng)?;
    let config = TrainConfig { steps: 400, optimizer: OptimizerConfig::adam(1e-2), ..TrainConfig::default() };
    let mut trainer = Trainer::new(posterior.parameters(), config, rng.fork())?;
    trainer.run(|_, rng| reverse_kl(&posterior, log_joint, 128, rng), None, &mut ())?;

    let weights = ImportanceWeights::draw(posterior.detached(), log_joint, 4_000, None, &mut rng)?;
    let draws = draw(&posterior, 20_000, None, &mut rng)?;
    let shares = support.part(&draws, "shares")?.mean(0)?.to_vec1::<f32>()?;
    let rate = support.part(&draws, "rate")?.mean(0)?.to_scalar::<f32>()?;
    println!("shares {shares:.3?}, in truth [0.565, 0.261, 0.174]; rate {rate:.3}, in truth 0.885");
    println!("a draw is worth {:.2} of one of the posterior itself", weights.efficiency());
    let exact = [13.0 / 23.0, 6.0 / 23.0, 4.0 / 23.0];
    assert!(shares.iter().zip(exact).all(|(share, exact)| (share - exact).abs() < 0.02));
    assert!((rate - 10.0 / 11.3).abs() < 0.03 && weights.efficiency() > 0.8);
    Ok(())
}
