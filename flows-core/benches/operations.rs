//! Matrix products and convolutions of the shapes of flows, as shares of the processor's rate:
//! `cargo bench -p flows-core --bench operations`, or a part of them by name: `-- conv1d`.
//!
//! The rate is that of a product of two 1024 x 1024 matrices, measured first and last. A backward
//! pass is that of the gradients of input and weights.

use candle_core::{DType, Device, Tensor, Var};
use flows_core::ops::{FusedActivation, conv_transpose1d, conv1d, conv2d, linear, product, sum};
use flows_core::train::LossGradients;
use flows_core::{Result, Rng};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: flows_core::cli::Allocator = flows_core::cli::Allocator;

/// The median time of a call, in seconds.
fn median(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 10 || (start.elapsed() < Duration::from_millis(400) && times.len() < 1000) {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Multiplications and additions a second of a large product, in units of 10^9.
fn rate(rng: &mut Rng) -> Result<f64> {
    const N: usize = 1024;
    let a = rng.normal_tensor((N, N), DType::F32, &Device::Cpu)?;
    Ok(2e-9 * (N * N * N) as f64 / median(|| product(&a, &a).map(drop))?)
}

/// What an operation makes of an input and its weights.
type Operation = fn(&Tensor, &Tensor) -> Result<Tensor>;

fn main() -> Result<()> {
    flows_core::cli::prepare_process();
    rayon::scope(|_| measure())
}

fn measure() -> Result<()> {
    let mut rng = Rng::seed(0);
    let full = rate(&mut rng)?;
    println!("{:<44} {full:>6.0} GFLOP/s", "product 1024 x 1024 x 1024");
    println!("{:<44} {:>8} {:>8}", "", "forward", "backward");
    let dense: Operation = |x, w| linear(x, w, None, FusedActivation::Relu);
    let same: Operation = |x, w| conv2d(x, w, None, 1, 1, FusedActivation::Relu);
    let pointwise: Operation = |x, w| conv2d(x, w, None, 1, 0, FusedActivation::Relu);
    let dilated: Operation = |x, w| conv1d(x, w, None, 1, 16, 16, FusedActivation::Identity);
    let mixing: Operation = |x, w| conv1d(x, w, None, 1, 0, 1, FusedActivation::Identity);
    let upsample: Operation = |x, w| conv_transpose1d(x, w, None, 256, 0);
    let cases: [(&str, Operation, &[usize], &[usize]); 17] = [
        ("linear", dense, &[512, 64], &[64, 64]),
        ("linear", dense, &[512, 256], &[256, 256]),
        ("linear", dense, &[512, 512], &[512, 512]),
        ("linear", dense, &[100, 784], &[512, 784]),
        ("conv2d", same, &[16, 6, 16, 16], &[128, 6, 3, 3]),
        ("conv2d", pointwise, &[16, 128, 16, 16], &[128, 128, 1, 1]),
        ("conv2d", same, &[16, 128, 16, 16], &[12, 128, 3, 3]),
        ("conv2d", same, &[16, 12, 8, 8], &[128, 12, 3, 3]),
        ("conv2d", pointwise, &[16, 128, 8, 8], &[128, 128, 1, 1]),
        ("conv2d", same, &[16, 128, 8, 8], &[24, 128, 3, 3]),
        ("conv2d", same, &[16, 24, 4, 4], &[512, 24, 3, 3]),
        ("conv2d", pointwise, &[16, 512, 4, 4], &[512, 512, 1, 1]),
        ("conv2d", same, &[16, 512, 4, 4], &[48, 512, 3, 3]),
        ("conv1d, dilation 16", dilated, &[1, 256, 2000], &[512, 256, 3]),
        ("conv1d", mixing, &[1, 256, 2000], &[512, 256, 1]),
        ("conv1d", mixing, &[1, 640, 2000], &[4096, 640, 1]),
        ("conv_transpose1d, stride 256", upsample, &[1, 80, 63], &[80, 80, 1024]),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, operation, x, w) in cases {
        let label = format!("{name} {x:?} by {w:?}");
        if !wanted.is_empty() && !wanted.iter().any(|part| label.contains(part)) {
            continue;
        }
        let x = Var::from_tensor(&rng.normal_tensor(x, DType::F32, &Device::Cpu)?)?;
        let w = Var::from_tensor(&rng.normal_tensor(w, DType::F32, &Device::Cpu)?)?;
        let y = operation(&x, &w)?;
        // Each weight of a convolution meets each place of the result; of a transposed one, of the input.
        let meeting = if name.starts_with("conv_t") { x.dims() } else { y.dims() };
        let places = meeting.iter().product::<usize>() / meeting[1];
        let flops = 2e-9 * (places * w.elem_count()) as f64;
        let forward = median(|| operation(&x.detach(), &w.detach()).map(drop))?;
        let leaf = Var::from_tensor(&y.detach())?;
        let backward = |y: &Tensor| {
            let total = sum(&y.flatten_all()?, 0)?;
            median(|| LossGradients::of(&total).map(drop))
        };
        // Less what the loss itself takes.
        let backward = backward(&y)? - backward(&leaf)?;
        let share = |count: f64, time: f64| format!("{:.0}%", 100.0 * count * flops / time / full);
        println!("{label:<60} {:>6} {:>8}", share(1.0, forward), share(2.0, backward));
    }
    println!("{:<44} {:>6.0} GFLOP/s", "product 1024 x 1024 x 1024, again", rate(&mut rng)?);
    sums(&mut rng)
}

/// Sums over a dimension beside candle's.
fn sums(rng: &mut Rng) -> Result<()> {
    println!("\n{:<60} {:>6} {:>8}", "", "GB/s", "candle");
    let cases: [(&[usize], usize); 5] =
        [(&[4096, 64], 1), (&[512, 4096], 1), (&[512, 4096], 0), (&[64, 64, 256], 1), (&[16, 128, 256], 2)];
    for (shape, dim) in cases {
        let x = rng.normal_tensor(shape, DType::F32, &Device::Cpu)?;
        let speed = |time: f64| 4e-9 * x.elem_count() as f64 / time;
        let ours = speed(median(|| sum(&x, dim).map(drop))?);
        let candle = speed(median(|| Ok(x.sum(dim).map(drop)?))?);
        println!("{:<60} {ours:>6.0} {candle:>8.0}", format!("sum of {shape:?} over dimension {dim}"));
    }
    Ok(())
}
