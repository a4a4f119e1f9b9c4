//! Gradients and memory of recomputed activations, at depth 64.

use candle_core::{DType, Device, Tensor, Var};
use flows_core::bijectors::univariate::{Affine, RqSpline};
use flows_core::bijectors::*;
use flows_core::distributions::{StandardNormal, Transformed};
use flows_core::nn::{Activation, NetworkConfig, Parameters, Scope};
use flows_core::testing::perturb;
use flows_core::train::{Loss, LossGradients, Memory};
use flows_core::{Result, Rng};
use peak_alloc::PeakAlloc;
use std::sync::{Arc, Mutex, PoisonError};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Serialises the tests of this file, which would measure each other's memory.
static ALONE: Mutex<()> = Mutex::new(());

type Step = fn(usize, &Scope) -> Result<Vec<Box<dyn Bijector>>>;

fn network() -> NetworkConfig {
    NetworkConfig::Mlp { hidden: vec![128; 2], activation: Activation::Relu }
}

fn affine(i: usize, scope: &Scope) -> Result<Vec<Box<dyn Bijector>>> {
    let (mask, affine) = (Mask::Halves { swap: i % 2 == 1 }, Arc::new(Affine::default()));
    Ok(vec![Box::new(Coupling::new(&[8], &mask, affine, None, &network(), scope)?)])
}

fn spline(_: usize, scope: &Scope) -> Result<Vec<Box<dyn Bijector>>> {
    let (mask, spline) = (Mask::Halves { swap: false }, Arc::new(RqSpline::linear_tails(8, 3.0)?));
    Ok(vec![
        Box::new(Coupling::new(&[8], &mask, spline, None, &network(), scope)?),
        Box::new(LuLinear::new(8, Start::Identity, Some(Order::Random), scope)?),
    ])
}

fn glow(shape: &[usize], scope: &Scope) -> Result<Vec<Box<dyn Bijector>>> {
    let (mask, affine) = (Mask::Halves { swap: false }, Arc::new(Affine::sigmoid(2.0)));
    Ok(vec![
        Box::new(Coupling::new(shape, &mask, affine, None, &network(), scope)?),
        Box::new(Conv1x1::new(shape, Start::Random, scope)?),
        Box::new(ActNorm::new(shape, scope)?),
    ])
}

fn small_glow(_: usize, scope: &Scope) -> Result<Vec<Box<dyn Bijector>>> {
    glow(&[4, 2, 2], scope)
}

fn steps(step: Step, depth: usize, scope: &Scope) -> Result<Vec<Box<dyn Bijector>>> {
    let steps = (0..depth).map(|i| step(i, &scope.enter(i))).collect::<Result<Vec<_>>>()?;
    Ok(steps.into_iter().flatten().collect())
}

fn chain(step: Step, depth: usize, scope: &Scope) -> Result<Box<dyn Bijector>> {
    Ok(Box::new(Chain::new(steps(step, depth, scope)?)?))
}

/// Two levels of `depth` steps each.
fn multi_scale(depth: usize, scope: &Scope) -> Result<Box<dyn Bijector>> {
    let level = |data: &[usize], step: Step, scope: Scope| -> Result<Level> {
        let mut flow = steps(step, depth, &scope)?;
        flow.push(Box::new(Squeeze::new(data, 2)?));
        Ok(Level { flow: Box::new(Chain::new(flow)?), prior: None })
    };
    let levels = vec![
        level(&[1, 4, 4], small_glow, scope.enter("large"))?,
        level(&[2, 2, 2], |_, scope| glow(&[8, 1, 1], scope), scope.enter("small"))?,
    ];
    Ok(Box::new(MultiScale::new(levels)?))
}

/// A flow with perturbed f32 weights, and a batch of its data.
fn flow(
    build: impl Fn(&Scope) -> Result<Box<dyn Bijector>>,
    noise: f64,
    rows: usize,
) -> Result<(Transformed, Parameters, Tensor)> {
    let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
    let bijector = build(&parameters.scope())?;
    perturb(&parameters, noise, &mut Rng::seed(1))?;
    let shape = bijector.latent_shape().to_vec();
    let base = StandardNormal::new(shape.clone(), DType::F32, &Device::Cpu)?;
    let z = Rng::seed(2).normal_tensor([vec![rows], shape].concat(), DType::F32, &Device::Cpu)?;
    let x = bijector.forward(&z, None)?.0.detach();
    Ok((Transformed::new(Box::new(base), bijector)?, parameters, x))
}

/// The relative difference of the gradients, over all weights together and for the worst weight.
fn drift(stored: &LossGradients, other: &LossGradients, weights: &[(String, Var)]) -> Result<(f64, f64)> {
    let (mut difference, mut norm, mut worst) = (0.0, 0.0, 0.0f64);
    let (Some(stored), Some(other)) = (&stored.gradients, &other.gradients) else { panic!("the loss is not finite") };
    for (name, var) in weights {
        let (Some(a), Some(b)) = (stored.get(var), other.get(var)) else { panic!("`{name}` has no gradient") };
        let square = |t: &Tensor| t.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>();
        let (d, n) = (square(&(a - b)?)?, square(a)?);
        worst = worst.max((d / n).sqrt());
        difference += d;
        norm += n;
    }
    Ok(((difference / norm).sqrt(), worst))
}

#[test]
fn gradients_are_the_same_at_depth_64() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, step) in [("affine", affine as Step), ("spline", spline), ("glow", small_glow)] {
        for noise in [0.01, 0.03] {
            let (flow, parameters, x) = flow(|scope| chain(step, 64, scope), noise, 128)?;
            let gradients =
                |memory: Memory| memory.forward_kl(&flow, &x, None, &mut Rng::seed(3)).and_then(Loss::gradients);
            let (stored, recomputed) = (gradients(Memory::Store)?, gradients(Memory::Recompute)?);
            let (total, worst) = drift(&stored, &recomputed, &parameters.trainable())?;
            assert!(total < 1e-5 && worst < 1e-5, "{name}, noise {noise}: {total} in all, {worst} at most");
        }
    }
    Ok(())
}

/// The peak memory of a training step in bytes, beyond the weights, their gradients and what was allocated
/// before.
fn peak(build: impl Fn(&Scope) -> Result<Box<dyn Bijector>>, memory: Memory) -> Result<f64> {
    let (flow, parameters, x) = flow(build, 0.02, 512)?;
    let run = || memory.forward_kl(&flow, &x, None, &mut Rng::seed(3)).and_then(Loss::gradients);
    // The first call starts the thread pools.
    run()?;
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = run()?;
    assert!(result.gradients.is_some());
    let weights = parameters.count() * DType::F32.size_in_bytes();
    Ok(MEMORY.peak_usage() as f64 - (before + weights) as f64)
}

#[test]
fn memory_does_not_grow_with_depth() -> Result<()> {
    type Build = fn(usize, &Scope) -> Result<Box<dyn Bijector>>;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let builds: [(&str, Build); 4] = [
        ("affine", |depth, scope| chain(affine, depth, scope)),
        ("spline", |depth, scope| chain(spline, depth, scope)),
        ("glow", |depth, scope| chain(small_glow, depth, scope)),
        ("multi-scale", multi_scale),
    ];
    for (name, build) in builds {
        let peak = |depth: usize, memory| peak(|scope| build(depth, scope), memory);
        let (few, many) = (peak(8, Memory::Recompute)?, peak(64, Memory::Recompute)?);
        let stored = peak(64, Memory::Store)?;
        println!("{name}: {:.1} MB at depth 8, {:.1} at 64, {:.1} if stored", few / 1e6, many / 1e6, stored / 1e6);
        assert!(many < 1.3 * few, "{name}: {many} bytes at depth 64, {few} at depth 8");
        assert!(many < 0.1 * stored, "{name}: {many} bytes of {stored}");
    }
    Ok(())
}
