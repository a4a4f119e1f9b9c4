//! Short training runs that must reach a stated figure.

use candle_core::{DType, Tensor};
use flows_core::data::{Dataset, Energy, Shuffle, Toy};
use flows_core::distributions::Distribution;
use flows_core::flows::{Flow, FlowConfig, NamedFlow, Nsf, RealNvp};
use flows_core::nn::NetworkConfig;
use flows_core::train::{OptimizerConfig, Schedule, TrainConfig, Trainer, forward_kl, reverse_kl};
use flows_core::{Result, Rng};

fn settings(steps: u64, lr: f64) -> TrainConfig {
    let optimizer: OptimizerConfig = serde_json::from_value(serde_json::json!({ "kind": "adam", "lr": lr })).unwrap();
    let schedule: Schedule = serde_json::from_value(serde_json::json!({ "kind": "cosine" })).unwrap();
    TrainConfig { steps, optimizer, schedule, clip_norm: Some(5.0), ..Default::default() }
}

fn mean(t: &Tensor) -> Result<f64> {
    Ok(t.to_dtype(DType::F64)?.mean_all()?.to_scalar()?)
}

#[test]
fn a_spline_flow_learns_two_moons() -> Result<()> {
    let mut rng = Rng::seed(0);
    let data = Dataset::from_toy(Toy::TwoMoons, [20_000, 1, 5_000], &mut rng)?;
    let model = Nsf { layers: 4, network: NetworkConfig::residual(32, 1), ..Default::default() };
    let flow = Flow::new(FlowConfig::new(2, model), &mut rng)?;
    flow.standardize(&data.train.x, None)?;
    let mut shuffle = Shuffle::new(data.train.len(), 256, 0)?;
    let mut trainer = Trainer::new(flow.parameters(), settings(400, 5e-3), rng.fork())?;
    trainer.run(|i, rng| forward_kl(&flow, &data.train.select(&shuffle.batch(i))?.x, None, rng), None, &mut ())?;
    let short = mean(&Toy::TwoMoons.log_density(&data.test.x)?)? - mean(&flow.log_prob(&data.test.x, None)?)?;
    // 0.04 when written; the divergence of the best diagonal normal is 0.8.
    assert!((-0.01..0.1).contains(&short), "{short} nats short of the exact density");
    Ok(())
}

#[test]
fn a_coupling_flow_fits_an_energy_by_reverse_kl() -> Result<()> {
    let mut rng = Rng::seed(0);
    let model: NamedFlow = RealNvp { layers: 6, network: NetworkConfig::mlp([32, 32]), max_log_scale: 3.0 }.into();
    let flow = Flow::new(FlowConfig::new(2, model), &mut rng)?;
    let mut trainer = Trainer::new(flow.parameters(), settings(2000, 5e-3), rng.fork())?;
    let target = |x: &Tensor| Energy::U2.log_density(x);
    trainer.run(|_, rng| reverse_kl(&flow, target, 256, rng), None, &mut ())?;
    let divergence = mean(&reverse_kl(&flow, target, 5_000, &mut rng)?)? + Energy::U2.log_normalizer()?;
    assert!((-0.02..0.2).contains(&divergence), "{divergence} nats from the target");
    Ok(())
}

/// Reproduces the figures of `docs/results.md` with the program.
#[cfg(feature = "cli")]
#[test]
#[ignore = "trains for up to a minute a density"]
fn every_toy_is_learnt_to_the_figure_of_the_results() {
    let rings = ["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rings.toml")];
    let mut failures = Vec::new();
    for toy in Toy::ALL {
        let flags: &[&str] = match toy {
            Toy::TwoSpirals => &["--steps", "3500"],
            Toy::Rings => &rings,
            _ => &[],
        };
        let folder = tempfile::tempdir().unwrap();
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_flows"));
        program.current_dir(folder.path()).args(["train", "--data", toy.name(), "--out", "run", "--json", "--quiet"]);
        let output = program.args(flags).output().unwrap();
        assert!(output.status.success(), "{}: {}", toy.name(), String::from_utf8_lossy(&output.stderr));
        let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let short = results["exact"]["divergence"]["mean"].as_f64().unwrap();
        println!("{:16} {short:.4} nats short of the exact density", toy.name());
        if !(-0.01..=0.05).contains(&short) {
            failures.push((toy.name(), short));
        }
    }
    assert!(failures.is_empty(), "too far from the exact density: {failures:?}");
}
