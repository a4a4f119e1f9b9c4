//! The speed of WaveGlow: `cargo bench -p waveglow --bench waveglow`.
//!
//! Synthesis of half a second by the published sizes (256 channels, 87,731,816 parameters), a training step of a WaveGlow
//! of 64 channels on two segments of 4096 samples, and synthesis of ten seconds by the lapped flow of the preset
//! `speech-small`.

#[path = "../../flows-core/benches/report.rs"]
mod report;

use candle_core::{DType, Device, Tensor};
use criterion::Criterion;
use flows_core::train::{LossGradients, Optimizer, OptimizerConfig, forward_kl};
use flows_core::{Result, Rng};
use std::time::{Duration, SystemTime};
use waveglow::published::without_weight_norm;
use waveglow::run::{PRESETS, RunConfig};
use waveglow::{AudioFlow, AudioFlowConfig, WaveGlowConfig, WaveNetConfig};

#[global_allocator]
static ALLOCATOR: flows_core::cli::Allocator = flows_core::cli::Allocator;

/// Synthesis of one signal.
struct Synthesis {
    model: AudioFlow,
    mel: Tensor,
    rng: Rng,
}

impl Synthesis {
    fn new(config: AudioFlowConfig, frames: usize) -> Result<Self> {
        let mut rng = Rng::seed(0);
        let config = config.with_samples(config.samples_of(frames));
        let mel = rng.normal_tensor((1, config.audio.bands, frames), DType::F32, &Device::Cpu)?;
        let model = without_weight_norm(&AudioFlow::new(config, &mut rng)?)?;
        Ok(Self { model, mel, rng })
    }

    fn run(&mut self) -> Result<Tensor> {
        self.model.detached().synthesize(&self.mel, 0.6, &mut self.rng)
    }
}

/// Training of a small WaveGlow.
struct Training {
    model: AudioFlow,
    x: Tensor,
    mel: Tensor,
    optimizer: Optimizer,
    rng: Rng,
}

impl Training {
    fn new() -> Result<Self> {
        let mut rng = Rng::seed(0);
        let network = WaveNetConfig { channels: 64, ..WaveNetConfig::default() };
        let config = AudioFlowConfig::waveglow(WaveGlowConfig { network, ..WaveGlowConfig::default() }, 4096);
        let x = (rng.normal_tensor((2, 1, 4096), DType::F32, &Device::Cpu)? * 0.1)?;
        let mel = rng.normal_tensor((2, 80, 17), DType::F32, &Device::Cpu)?;
        let model = AudioFlow::new(config, &mut rng)?;
        let optimizer = Optimizer::new(OptimizerConfig::adam(1e-4), model.parameters())?;
        Ok(Self { model, x, mel, optimizer, rng })
    }

    fn step(&mut self) -> Result<()> {
        let Self { model, x, mel, optimizer, rng } = self;
        let loss = LossGradients::of_pieces(2, 2, rng, |rows, rng| {
            let part = |t: &Tensor| t.narrow(0, rows.start, rows.len());
            Ok((forward_kl(&*model, &part(x)?, Some(&part(mel)?), rng)? / 4096.0)?)
        })?;
        loss.gradients.map_or(Ok(()), |gradients| optimizer.step(&gradients, 1e-4))
    }
}

fn main() {
    flows_core::cli::prepare_process();
    let start = SystemTime::now();
    let criterion = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500));
    let mut criterion = criterion.output_directory(&report::folder()).configure_from_args();
    let published = AudioFlowConfig::waveglow(WaveGlowConfig::default(), 8);
    let mut synthesis = Synthesis::new(published, 43).expect("the model is built");
    criterion.bench_function("waveglow.infer", |b| b.iter(|| synthesis.run().expect("a signal")));
    drop(synthesis);
    let mut training = Training::new().expect("the model is built");
    criterion.bench_function("waveglow.train", |b| b.iter(|| training.step().expect("a step")));
    let mut preset = PRESETS.get("speech-small").expect("a preset");
    preset.insert("data".into(), "plucks".into());
    let small: RunConfig = flows_core::run::parse_settings(preset).expect("settings");
    let mut synthesis = Synthesis::new(small.model, 626).expect("the model is built");
    criterion.bench_function("lapped.infer", |b| b.iter(|| synthesis.run().expect("a signal")));
    report::print(start);
}
