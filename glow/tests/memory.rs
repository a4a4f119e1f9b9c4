//! The peak memory of a training step with recomputed activations.

use candle_core::{DType, Device};
use flows_core::distributions::Distribution;
use flows_core::train::{Loss, Memory};
use flows_core::{Result, Rng};
use glow::{Glow, GlowConfig};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Peak memory in bytes, beyond the weights, their gradients and what was allocated before.
fn peak(steps: usize, memory: Memory) -> Result<f64> {
    let mut rng = Rng::seed(0);
    let glow = Glow::new(GlowConfig { levels: 2, steps, hidden: 64, ..GlowConfig::new([3, 16, 16]) }, &mut rng)?;
    let x = (rng.uniform_tensor((16, 3, 16, 16), DType::F32, &Device::Cpu)? - 0.5)?;
    glow.initialize(&x, None)?;
    let run = || memory.forward_kl(&glow, &x, None, &mut Rng::seed(3)).and_then(Loss::gradients);
    // The first call starts the thread pools.
    run()?;
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    assert!(run()?.gradients.is_some());
    let weights = glow.parameters().count() * DType::F32.size_in_bytes();
    Ok(MEMORY.peak_usage() as f64 - (before + weights) as f64)
}

#[test]
fn memory_does_not_grow_with_depth() -> Result<()> {
    let (few, many) = (peak(8, Memory::Recompute)?, peak(32, Memory::Recompute)?);
    let stored = peak(32, Memory::Store)?;
    println!("{:.1} MB at 8 steps a level, {:.1} at 32, {:.1} if stored", few / 1e6, many / 1e6, stored / 1e6);
    assert!(many < 1.3 * few, "{many} bytes at 32 steps a level, {few} at 8");
    assert!(many < 0.2 * stored, "{many} bytes of {stored}");
    Ok(())
}
