//! A short training run that must reach a stated figure.

use candle_core::{Device, Tensor};
use flows_core::distributions::Distribution;
use flows_core::evaluate::Mean;
use flows_core::train::{LossGradients, OptimizerConfig, Schedule, TrainConfig, Trainer, forward_kl};
use flows_core::{Result, Rng};
use waveglow::audio::{AudioConfig, LogMel};
use waveglow::data::{Clips, Segments, plucks};
use waveglow::{
    Architecture, AudioFlow, AudioFlowConfig, LappedConfig, WaveNetConfig, copy_synthesis, nats_per_sample,
};

/// A lapped flow of some thousand weights learns plucked strings given their spectrograms. The spectrogram itself tells
/// their level, so that it is close from the start.
#[test]
fn plucks_are_learnt() -> Result<()> {
    let mut rng = Rng::seed(0);
    let audio =
        AudioConfig { rate: 8000, fft: 256, hop: 64, window: 256, bands: 32, high: 4000.0, ..AudioConfig::default() };
    let network = WaveNetConfig { layers: 2, channels: 24, kernel: 3 };
    let architecture = Architecture::Lapped(LappedConfig { couplings: 3, features: 32, network });
    let config = AudioFlowConfig { audio, samples: 2048, architecture, weight_norm: true };
    let clips = |count: usize, rng: &mut Rng| {
        let mut clips = Clips::default();
        (0..count).for_each(|i| clips.push(i.to_string(), plucks(8000, 1.0, rng)));
        clips
    };
    let (train, test) = (clips(60, &mut rng), clips(6, &mut rng));
    let log_mel = LogMel::new(&config.audio)?;
    let model = AudioFlow::new(config, &mut rng)?;
    let nats = |rng: &mut Rng| {
        Ok::<_, flows_core::Error>(Mean::of(&nats_per_sample(&model, &test, &log_mel, rng, || {})?).mean)
    };
    let before = nats(&mut Rng::seed(1))?;

    let config = TrainConfig {
        steps: 120,
        optimizer: OptimizerConfig::adam(3e-3),
        schedule: Schedule::Cosine { warmup: 10, floor: 0.0 },
        clip_norm: Some(10.0),
        ..Default::default()
    };
    let mut trainer = Trainer::new(model.parameters(), config, rng.fork())?;
    let segments = Segments::new(&train, 2048)?;
    let loss = |_: u64, rng: &mut Rng| {
        let x = segments.draw(8, rng, &Device::Cpu)?;
        LossGradients::of_pieces(8, 2, rng, |rows, rng| {
            let x = x.narrow(0, rows.start, rows.len())?;
            Ok((forward_kl(&model, &x, Some(&log_mel.forward(&x.squeeze(1)?)?), rng)? / 2048.0)?)
        })
    };
    trainer.run(loss, None, &mut ())?;
    let after = nats(&mut Rng::seed(1))?;
    println!("{before} nats/sample before, {after} after");
    assert!(before > 0.0 && after > 3.5, "{before} nats/sample before, {after} after");

    // A sound is recovered from its latent, and one is made of a spectrogram that resembles it.
    let signal = &test.signals[0][..7680];
    let x = Tensor::from_vec(signal.to_vec(), (1, 1, signal.len()), &Device::Cpu)?;
    let whole = model.with_config(model.config().with_samples(signal.len()))?;
    let mel = log_mel.forward(&x.squeeze(1)?)?;
    let z = whole.detached().latent(&x, Some(&mel))?;
    let back = whole.detached().bijector().forward(&z, Some(&mel))?.0;
    let off = (back - &x)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(off < 1e-4, "off by {off}");
    let copy = copy_synthesis(&model, signal, &log_mel, 0.6, &mut rng)?;
    let distance = copy.map_or(f64::NAN, |copy| copy.log_mel_distance);
    println!("log-mel distance {distance}");
    assert!(distance < 1.5, "{distance}");
    assert_eq!(whole.sample(1, Some(&mel), &mut rng)?.dims(), [1, 1, 7680]);
    Ok(())
}
