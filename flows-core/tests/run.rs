//! A run with a custom loop that alternates between collecting and learning, as in reinforcement learning.

use candle_core::{DType, Device, Tensor};
use flows_core::cli::{OutputArgs, RunArgs};
use flows_core::files::save_model;
use flows_core::nn::{Init, Parameters};
use flows_core::run::{Presets, Program, Settings, stream};
use flows_core::train::{LossGradients, Observer, Optimizer, OptimizerConfig, Ranks, StepEvent};
use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;

const PROGRAM: Program = Program {
    name: "bandit",
    presets: Presets::new("[three]\nabout = 'three arms'\nenvironment = 'arms'\nsteps = 300\n"),
    subject: "environment",
    counted: "arms",
    files: &["returns.png"],
    kept: &["environment"],
    changeable: &[],
};

#[derive(Serialize, Deserialize)]
struct Config {
    environment: String,
    #[serde(default)]
    seed: u64,
    steps: u64,
}

impl Settings for Config {}

#[derive(Serialize)]
struct Flags {
    environment: Option<String>,
}

#[derive(Clone, Copy)]
enum Stream {
    Weights,
    Actions,
}

/// The expected rewards of the arms.
const RETURNS: [f32; 3] = [0.1, 1.0, 0.3];

/// Stops at a step, like a user who presses Ctrl-C.
struct Stop(u64);

impl Observer for Stop {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        Ok(if event.step == self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// Trains a policy by REINFORCE, and returns the probability of each arm.
fn train(out: &Path, overwrite: bool, stop: u64) -> Result<Vec<f32>> {
    let args = RunArgs { out: Some(out.into()), overwrite, ..Default::default() };
    let output = OutputArgs { quiet: true, ..Default::default() };
    let (flags, ranks) = (Flags { environment: None }, Ranks::alone());
    let (mut run, config): (_, Config) = PROGRAM.open(&args, output, "three", &flags, &ranks)?;
    let parameters = Parameters::new(DType::F32, &Device::Cpu, stream(config.seed, Stream::Weights as usize));
    let logits = parameters.scope().weight("logits", 3, Init::Constant(0.0))?;
    let mut optimizer = Optimizer::new(OptimizerConfig::adam(0.05), &parameters)?;
    let mut actions = stream(config.seed, Stream::Actions as usize);
    run.begin(&config)?;
    let mut watch = run.watch(0, config.steps)?.named("return").with(Stop(stop));
    let policy = || softmax(&logits);
    for step in 1..=config.steps {
        // Collect.
        let chances = policy()?.to_vec1::<f32>()?;
        let at = actions.uniform() as f32;
        let arm = if at < chances[0] { 0 } else { 1 + usize::from(at >= chances[0] + chances[1]) };
        // Learn.
        let loss = (policy()?.narrow(0, arm, 1)?.log()?.sum_all()? * f64::from(-RETURNS[arm]))?;
        let LossGradients { value, gradients } = LossGradients::of(&loss)?;
        optimizer.step(&gradients.ok_or_else(|| Error::Diverged("no gradient".into()))?, 0.05)?;
        watch.record(&json!({ "step": step, "return": RETURNS[arm] }))?;
        let event = StepEvent {
            step,
            steps: config.steps,
            loss: value,
            lr: 0.05,
            grad_norm: 1.0,
            validation: None,
            best: None,
            skipped: 0,
            seconds: 1.0,
            steps_per_second: 1.0,
        };
        if watch.step(&event)?.is_break() {
            save_model(&run.file("model.safetensors"), "bandit", "{}", &parameters.tensors())?;
            return Err(run.interrupted(step, config.steps));
        }
    }
    drop(watch);
    save_model(&run.file("model.safetensors"), "bandit", "{}", &parameters.tensors())?;
    policy()?.to_vec1().map_err(Error::from)
}

fn softmax(logits: &Tensor) -> candle_core::Result<Tensor> {
    let weights = logits.exp()?;
    weights.broadcast_div(&weights.sum_keepdim(0)?)
}

#[test]
fn a_loop_that_collects_and_then_learns() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let chances = train(&out, false, u64::MAX)?;
    assert!(chances[1] > 0.8, "{chances:?}");
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["return"].is_number()).count(), 300);
    assert_eq!(lines.iter().filter(|line| line["loss"].is_number()).count(), 300);
    let message = |result: Result<Vec<f32>>| result.unwrap_err().to_string();
    assert!(message(train(&out, false, u64::MAX)).contains("--overwrite"));
    let said = message(train(&out, true, 10));
    assert!(said.contains("saved at step 10 of 300") && said.contains("bandit train --out"), "{said}");
    Ok(())
}
