//! What recomputing activations costs and saves, at depth 64.

use candle_core::{DType, Device, Tensor, Var};
use flows_core::bijectors::univariate::{Affine, RqSpline};
use flows_core::bijectors::*;
use flows_core::distributions::{StandardNormal, Transformed};
use flows_core::nn::{Activation, NetworkConfig, Parameters, Scope};
use flows_core::testing::perturb;
use flows_core::train::{LossGradients, Memory};
use flows_core::{Result, Rng};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The system's allocator, counting the bytes that are in use.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests of this file wait for each other: they would see each other's memory.
static ALONE: Mutex<()> = Mutex::new(());

type Step = fn(usize, usize, &Scope) -> Result<Vec<Box<dyn Bijector>>>;

fn network(width: usize) -> NetworkConfig {
    NetworkConfig::Mlp { hidden: vec![width; 2], activation: Activation::Relu }
}

fn affine(i: usize, width: usize, scope: &Scope) -> Result<Vec<Box<dyn Bijector>>> {
    let mask = Mask::Halves { swap: i % 2 == 1 };
    Ok(vec![Box::new(Coupling::new(&[8], &mask, Arc::new(Affine::default()), None, &network(width), scope)?)])
}

fn spline(_: usize, width: usize, scope: &Scope) -> Result<Vec<Box<dyn Bijector>>> {
    let (mask, spline) = (Mask::Halves { swap: false }, Arc::new(RqSpline::linear_tails(8, 3.0)?));
    Ok(vec![
        Box::new(Coupling::new(&[8], &mask, spline, None, &network(width), scope)?),
        Box::new(LuLinear::new(8, Start::Identity, Some(Order::Random), scope)?),
    ])
}

fn splrandom(_: usize, width: usize, scope: &Scope) -> Result<Vec<Box<dyn Bijector>>> {
    let (mask, spline) = (Mask::Halves { swap: false }, Arc::new(RqSpline::linear_tails(8, 3.0)?));
    Ok(vec![
        Box::new(Coupling::new(&[8], &mask, spline, None, &network(width), scope)?),
        Box::new(LuLinear::new(8, Start::Random, Some(Order::Random), scope)?),
    ])
}

fn glow(_: usize, width: usize, scope: &Scope) -> Result<Vec<Box<dyn Bijector>>> {
    let (shape, mask, affine) = ([4, 4, 4], Mask::Halves { swap: false }, Arc::new(Affine::sigmoid(2.0)));
    Ok(vec![
        Box::new(Coupling::new(&shape, &mask, affine, None, &network(width), scope)?),
        Box::new(Conv1x1::new(&shape, Start::Random, scope)?),
        Box::new(ActNorm::new(&shape, scope)?),
    ])
}

/// A flow of so many steps with f32 weights off their start, and a batch of its data.
fn flow(step: Step, depth: usize, width: usize, noise: f64, rows: usize) -> Result<(Transformed, Parameters, Tensor)> {
    let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
    let mut steps = Vec::new();
    for i in 0..depth {
        steps.extend(step(i, width, &parameters.scope().enter(i))?);
    }
    let chain = Chain::new(steps)?;
    perturb(&parameters, noise, &mut Rng::seed(1))?;
    let base = StandardNormal::new(chain.latent_shape().to_vec(), DType::F32, &Device::Cpu)?;
    let z = Rng::seed(2).normal_tensor([&[rows], chain.latent_shape()].concat(), DType::F32, &Device::Cpu)?;
    let x = chain.forward(&z, None)?.0.detach();
    Ok((Transformed::new(Box::new(base), Box::new(chain))?, parameters, x))
}

/// The relative difference of the gradients of all weights, and of the weight where it is largest.
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
    for (name, step, noises) in [
        ("affine", affine as Step, &[0.02, 0.05, 0.07][..]),
        ("spline", spline, &[0.02, 0.05, 0.1]),
        ("glow", glow, &[0.02, 0.05, 0.1]),
    ] {
        for &noise in noises {
            let (flow, parameters, x) = flow(step, 64, 32, noise, 128)?;
            let gradients = |memory: Memory| memory.forward_kl(&flow, &x, None, &mut Rng::seed(3));
            let (stored, recomputed) = (gradients(Memory::Store)?, gradients(Memory::Recompute)?);
            let (total, worst) = drift(&stored, &recomputed, &parameters.trainable())?;
            println!("{name}, noise {noise}: {total:.1e} in all, {worst:.1e} at most");
            assert!(total < 1e-5 && worst < 1e-5, "{name}, noise {noise}: {total} in all, {worst} at most");
        }
    }
    Ok(())
}

/// Bytes that a step needs at most, over those of the parameters and what else was there before.
fn peak(step: Step, depth: usize, memory: Memory) -> Result<f64> {
    let (flow, _parameters, x) = flow(step, depth, 64, 0.02, 2048)?;
    // Thread pools start at the first call.
    memory.forward_kl(&flow, &x, None, &mut Rng::seed(3))?;
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let start = Instant::now();
    memory.forward_kl(&flow, &x, None, &mut Rng::seed(3))?;
    let peak = (PEAK.load(Relaxed) - before) as f64;
    println!("{memory:?} {depth} steps: {:.1} MB, {:.3} s", peak / 1e6, start.elapsed().as_secs_f64());
    Ok(peak)
}

#[test]
fn memory_does_not_grow_with_depth() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, step) in [("affine", affine as Step), ("spline", spline), ("glow", glow)] {
        println!("{name}");
        let [few, many] = [8, 64].map(|depth| peak(step, depth, Memory::Recompute));
        peak(step, 64, Memory::Store)?;
        let ratio = many? / few?;
        println!("ratio {ratio}");
    }
    Ok(())
}
