//! Training, density and sampling of a continuous flow: `cargo bench -p ffjord --bench ffjord`.
//!
//! 2 columns, batch 512, concat-squash tanh 64-64-64, time 0 to 1, dopri5 at 1e-5. A training step computes the loss
//! and its gradients and updates by Adam, with the adjoint and Hutchinson's estimate unless the name says otherwise.
//! Densities use the exact divergence, and samples are drawn without their density; both at initial weights.
//!
//! Particles: 13 in three dimensions, the default graph network; a step of flow matching for 64 configurations, and
//! the exact density of 8 at a tolerance of 1e-3.

use candle_core::{DType, Device, Tensor};
use criterion::Criterion;
use ffjord::field::{Divergence, GraphConfig};
use ffjord::solver::{Method, Solver};
use ffjord::{CnfSettings, ContinuousFlow, ContinuousFlowConfig, Gradient, Pairing};
use flows_core::distributions::{draw, score};
use flows_core::train::{Loss, Optimizer, OptimizerConfig, forward_kl};
use flows_core::{Result, Rng};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: flows_core::cli::Allocator = flows_core::cli::Allocator;

const ROWS: usize = 512;

struct Workload {
    model: ContinuousFlow,
    x: Tensor,
    optimizer: Optimizer,
    rng: Rng,
}

impl Workload {
    fn new(divergence: Divergence, gradient: Gradient) -> Result<Self> {
        let mut rng = Rng::seed(0);
        let flow = CnfSettings { end_time: 1.0, divergence, gradient, ..CnfSettings::default() };
        Self::of((ROWS, 2), flow, &mut rng)
    }

    fn particles(rows: usize) -> Result<Self> {
        let field = GraphConfig::default().into();
        let solver = Solver::new(Method::Dopri5, 1e-3);
        Self::of((rows, 39), CnfSettings { end_time: 1.0, field, solver, ..CnfSettings::default() }, &mut Rng::seed(0))
    }

    fn of((rows, features): (usize, usize), flow: CnfSettings, rng: &mut Rng) -> Result<Self> {
        let model = ContinuousFlow::new(ContinuousFlowConfig { features, columns: None, flows: 1, flow }, rng)?;
        let x = rng.normal_tensor((rows, features), DType::F32, &Device::Cpu)?;
        let optimizer = Optimizer::new(OptimizerConfig::adam(1e-3), model.parameters())?;
        Ok(Self { model, x, optimizer, rng: rng.fork() })
    }

    fn matching(&mut self) -> Result<()> {
        let loss = self.model.matching_loss(&self.x, Pairing::Independent, &mut self.rng)?.gradients()?;
        loss.gradients.map_or(Ok(()), |gradients| self.optimizer.step(&gradients, 1e-3))
    }

    fn train(&mut self) -> Result<()> {
        let loss = forward_kl(&self.model, &self.x, None, &mut self.rng)?.gradients()?;
        loss.gradients.map_or(Ok(()), |gradients| self.optimizer.step(&gradients, 1e-3))
    }

    fn log_prob(&mut self) -> Result<()> {
        score(&self.model, &self.x, None).map(drop)
    }

    fn sample(&mut self) -> Result<()> {
        draw(&self.model, ROWS, None, &mut self.rng).map(drop)
    }
}

fn main() {
    flows_core::cli::prepare_process();
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("criterion");
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .output_directory(&folder)
        .configure_from_args();
    for (name, divergence, gradient) in [
        ("ffjord", Divergence::Rademacher, Gradient::Adjoint),
        ("ffjord_discrete", Divergence::Rademacher, Gradient::Discrete),
        ("ffjord_exact", Divergence::Exact, Gradient::Adjoint),
        ("ffjord_exact_discrete", Divergence::Exact, Gradient::Discrete),
    ] {
        let mut workload = Workload::new(divergence, gradient).expect("the model is built");
        let mut steps = 0;
        criterion.bench_function(&format!("{name}.train"), |b| {
            b.iter(|| {
                steps += 1;
                workload.train().expect("the workload runs");
            });
        });
        let cost = workload.model.take_cost();
        let mean = |n: usize| n as f64 / f64::from(steps.max(1));
        println!("{name}: {:.1} evaluations forward, {:.1} backward", mean(cost.forward), mean(cost.backward));
    }
    let mut workload = Workload::new(Divergence::Exact, Gradient::Discrete).expect("the model is built");
    criterion.bench_function("ffjord.log_prob", |b| b.iter(|| workload.log_prob().expect("the workload runs")));
    let cost = workload.model.take_cost();
    println!("ffjord.log_prob: {:.1} evaluations a solve", cost.forward as f64 / cost.solves.max(1) as f64);
    criterion.bench_function("ffjord.sample", |b| b.iter(|| workload.sample().expect("the workload runs")));
    let mut workload = Workload::particles(64).expect("the model is built");
    criterion
        .bench_function("ffjord_particles.matching", |b| b.iter(|| workload.matching().expect("the workload runs")));
    let mut workload = Workload::particles(8).expect("the model is built");
    criterion
        .bench_function("ffjord_particles.log_prob", |b| b.iter(|| workload.log_prob().expect("the workload runs")));
}
