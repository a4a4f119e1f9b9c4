//! The speed of a Glow: `cargo bench -p glow --bench glow`; `docs/speed.md` has the figures.
//!
//! One step of training, or one draw, of 16 images of 3 x 32 x 32: 3 levels of 8 steps, 128 channels within the
//! couplings, affine.

#[path = "../../flows-core/benches/report.rs"]
mod report;

use candle_core::{DType, Device, Tensor};
use criterion::Criterion;
use flows_core::distributions::Distribution;
use flows_core::train::{LossGradients, Optimizer, OptimizerConfig, forward_kl};
use flows_core::{Result, Rng};
use glow::{Glow, GlowConfig};
use std::time::{Duration, SystemTime};

#[global_allocator]
static ALLOCATOR: flows_core::cli::Allocator = flows_core::cli::Allocator;

const IMAGES: usize = 16;

/// Pieces of a batch, as in a run of `glow train`.
const PIECES: usize = 2;

struct Workload {
    glow: Glow,
    x: Tensor,
    optimizer: Optimizer,
    rng: Rng,
}

impl Workload {
    fn new() -> Result<Self> {
        let mut rng = Rng::seed(0);
        let glow = Glow::new(GlowConfig { steps: 8, hidden: 128, ..GlowConfig::new([3, 32, 32]) }, &mut rng)?;
        let x = (rng.uniform_tensor((IMAGES, 3, 32, 32), DType::F32, &Device::Cpu)? - 0.5)?;
        glow.initialize(&x, None)?;
        let optimizer = Optimizer::new(OptimizerConfig::adam(1e-3), glow.parameters())?;
        Ok(Self { glow, x, optimizer, rng })
    }

    fn train(&mut self) -> Result<()> {
        let Self { glow, x, optimizer, rng } = self;
        let loss = LossGradients::of_pieces(IMAGES, PIECES, rng, |rows, rng| {
            forward_kl(&*glow, &x.narrow(0, rows.start, rows.len())?, None, rng)
        })?;
        loss.gradients.map_or(Ok(()), |gradients| optimizer.step(&gradients, 1e-5))
    }

    fn sample(&mut self) -> Result<()> {
        self.glow.detached().sample_at(1.0, IMAGES, None, &mut self.rng).map(drop)
    }
}

fn main() {
    flows_core::cli::prepare_process();
    let start = SystemTime::now();
    let criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500));
    let mut criterion = criterion.output_directory(&report::folder()).configure_from_args();
    let mut workload = Workload::new().expect("the model is built");
    criterion.bench_function("glow.train", |b| b.iter(|| workload.train().expect("a step")));
    criterion.bench_function("glow.sample", |b| b.iter(|| workload.sample().expect("a draw")));
    report::print(start);
}
