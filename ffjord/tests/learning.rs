//! Short but real training runs.

use candle_core::{DType, Device, Tensor};
use ffjord::field::MlpConfig;
use ffjord::solver::{Method, Solver};
use ffjord::{CnfSettings, ContinuousFlow, ContinuousFlowConfig, Pairing};
use flows_core::data::Toy;
use flows_core::distributions::score;
use flows_core::train::{OptimizerConfig, Schedule, TrainConfig, Trainer, forward_kl};
use flows_core::{Result, Rng};

/// The gap in nats between the exact density and a model after so many steps of flow matching and then of likelihood.
fn gap(toy: Toy, matching: u64, likelihood: u64) -> Result<f64> {
    let mut rng = Rng::seed(0);
    let flow = CnfSettings {
        field: MlpConfig { hidden: vec![32, 32], ..MlpConfig::default() }.into(),
        end_time: 1.0,
        solver: Solver::new(Method::Dopri5, 1e-2),
        evaluation: Some(Solver::new(Method::Dopri5, 1e-4)),
        ..CnfSettings::default()
    };
    let model = ContinuousFlow::new(ContinuousFlowConfig { features: 2, columns: None, flows: 1, flow }, &mut rng)?;
    model.standardize(&toy.sample(5000, &mut rng)?)?;
    let config = TrainConfig {
        steps: matching + likelihood,
        optimizer: OptimizerConfig::adam(1e-2),
        schedule: Schedule::Cosine { warmup: 20, floor: 0.0 },
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(model.parameters(), config, rng.fork())?;
    let loss = |i: u64, rng: &mut Rng| {
        let x = toy.sample(256, rng)?;
        if i < matching { model.matching_loss(&x, Pairing::Optimal, rng) } else { forward_kl(&model, &x, None, rng) }
    };
    trainer.run(loss, None, &mut ())?;
    let x = toy.sample(4000, &mut rng)?;
    let gap = (toy.log_density(&x.to_dtype(DType::F64)?)? - score(&model, &x, None)?.to_dtype(DType::F64)?)?;
    Ok(gap.mean_all()?.to_scalar()?)
}

#[test]
fn likelihood_learns_two_moons() -> Result<()> {
    let gap = gap(Toy::TwoMoons, 0, 300)?;
    assert!(gap < 0.3, "a gap of {gap}");
    Ok(())
}

#[test]
fn matching_learns_eight_gaussians() -> Result<()> {
    let gap = gap(Toy::EightGaussians, 1500, 0)?;
    assert!(gap < 0.3, "a gap of {gap}");
    Ok(())
}

/// A model saved by an earlier version loads unchanged: the log-likelihoods are those that `ffjord eval` of that version
/// printed, each of a table of this one row.
#[test]
fn an_old_model_is_read() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/continuous-flow.safetensors");
    let model = ContinuousFlow::load(path, &Device::Cpu)?;
    for (row, want) in [
        ([0.1f32, 0.2], -2.652_595),
        ([-1.0, 0.5], -3.159_890_2),
        ([1.5, -0.3], -2.859_829),
        ([0.9, 0.4], -2.629_816_5),
        ([3.0, 2.0], -4.668_279),
    ] {
        let got = score(&model, &Tensor::new(&[row], &Device::Cpu)?, None)?.to_vec1::<f32>()?[0];
        assert!((got - want).abs() < 1e-5, "{row:?}: {got}, not {want}");
    }
    Ok(())
}
