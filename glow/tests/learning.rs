//! A short training run that must reach a stated figure.

use candle_core::{DType, Tensor};
use flows_core::data::images::drawn_digits;
use flows_core::distributions::Distribution;
use flows_core::train::{LossGradients, OptimizerConfig, Schedule, TrainConfig, Trainer, forward_kl};
use flows_core::{Result, Rng};
use glow::{Glow, GlowConfig};

/// A Glow of a few thousand weights learns synthetic digits of 8 x 8 with far fewer bits than independent pixels.
#[test]
fn digits_are_learnt() -> Result<()> {
    let mut rng = Rng::seed(0);
    let images = drawn_digits(2000, 8, &mut rng)?;
    let config = GlowConfig { levels: 2, steps: 4, hidden: 16, ..GlowConfig::new([1, 8, 8]) };
    let glow = Glow::new(config, &mut rng)?;
    let batch = |indices: std::ops::Range<u32>| images.tensor(&indices.collect::<Vec<u32>>(), || false);
    glow.initialize(&glow.dequantize(&batch(0..256)?, &mut rng)?, None)?;
    let test = glow.dequantize(&batch(1500..2000)?, &mut rng)?;
    let bits = |log_prob: Tensor| {
        Ok::<_, flows_core::Error>(glow.bits(log_prob.to_dtype(DType::F64)?.mean_all()?.to_scalar()?))
    };
    let before = bits(glow.detached().score(&test, None)?)?;

    let config = TrainConfig {
        steps: 400,
        optimizer: OptimizerConfig::adam(2e-3),
        schedule: Schedule::Cosine { warmup: 40, floor: 0.0 },
        clip_norm: Some(100.0),
        ..Default::default()
    };
    let mut trainer = Trainer::new(glow.parameters(), config, rng.fork())?;
    let loss = |number: u64, rng: &mut Rng| {
        let start = (number as u32 * 32) % 1472;
        let images = batch(start..start + 32)?;
        LossGradients::of_pieces(32, 2, rng, |rows, rng| {
            forward_kl(&glow, &glow.dequantize(&images.narrow(0, rows.start, rows.len())?, rng)?, None, rng)
        })
    };
    trainer.run(loss, None, &mut ())?;
    let after = bits(glow.detached().score(&test, None)?)?;
    println!("{before} bits/dim before, {after} after");
    assert!(after < 6.8 && before > after + 0.3, "{before} bits/dim before, {after} after");

    // In f32 both an image and a sample are recovered from their latents.
    let worst = |x: &Tensor| -> Result<f32> {
        let back = glow.decode(&glow.latent(x, None)?, None)?;
        Ok((x - back)?.abs()?.flatten_all()?.max(0)?.to_scalar()?)
    };
    let samples = glow.detached().sample_at(0.7, 100, None, &mut rng)?;
    let (of_images, of_samples) = (worst(&test)?, worst(&samples)?);
    assert!(of_images < 1e-3 && of_samples < 1e-3, "{of_images} {of_samples}");
    assert_eq!(glow.sample(3, None, &mut rng)?.dims(), [3, 1, 8, 8]);
    Ok(())
}
