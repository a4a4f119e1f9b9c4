//! Scale and shift of channels, and their moments, in one pass over memory.
//!
//! candle's broadcasting does the same, but its backward pass reduces over all dimensions but the
//! second one element at a time, which costs ten times the whole operation here.

use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Shape, Tensor, WithDType};
use rayon::prelude::*;

/// `y = scale_c x + shift_c` for x (B, C, ...), scale (C) and shift (C).
///
/// # Errors
/// When a shape does not fit or the types differ.
pub fn channel_affine(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let channels = channels(x)?;
    for (what, t) in [("the scale", scale), ("the shift", shift)] {
        if t.dims() != [channels] {
            return Err(Error::shape(what, t.dims(), format!("({channels})")));
        }
    }
    if is_fused(x) {
        return Ok(x.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, ChannelAffine)?);
    }
    let along = along_channels(x.rank(), channels);
    Ok(x.broadcast_mul(&scale.reshape(along.as_slice())?)?.broadcast_add(&shift.reshape(along)?)?)
}

/// `(mean, variance)` of each channel of x (B, C, ...), both (C); the variance is the biased one.
///
/// # Errors
/// When there is no second dimension.
pub fn channel_moments(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let channels = channels(x)?;
    if is_fused(x) {
        let both = x.contiguous()?.apply_op1(Moments)?;
        return Ok((both.get(0)?, both.get(1)?));
    }
    let others: Vec<usize> = (0..x.rank()).filter(|&d| d != 1).collect();
    let mean = x.mean_keepdim(others.as_slice())?;
    let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(others)?;
    Ok((mean.reshape(channels)?, variance.reshape(channels)?))
}

fn channels(x: &Tensor) -> Result<usize> {
    match x.dims() {
        [_, channels, ..] => Ok(*channels),
        got => Err(Error::shape("a batch with channels", got, "(B, C, ...)")),
    }
}

/// (1, C, 1, ...)
fn along_channels(rank: usize, channels: usize) -> Vec<usize> {
    (0..rank).map(|d| if d == 1 { channels } else { 1 }).collect()
}

fn is_fused(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64) && x.elem_count() > 0
}

/// The elements of a contiguous tensor.
fn values<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => candle_core::bail!("channel operations are for contiguous tensors"),
    }
}

/// (B, C, the product of the rest)
fn sizes(layout: &Layout) -> (usize, usize, usize) {
    let dims = layout.dims();
    (dims[0], dims[1], dims[2..].iter().product())
}

/// How many events one thread takes at a time: not the number of threads but the shape decides, so
/// that sums are the same on every machine.
fn events_per_block(batch: usize, event: usize) -> usize {
    batch.div_ceil(32).max(16_384usize.div_ceil(event.max(1)))
}

/// For each channel c the sums of both parts of `term(c, x, y)` over batch and places.
fn channel_sums<T: WithDType>(
    x: &[T],
    y: &[T],
    (batch, channels, places): (usize, usize, usize),
    term: impl Fn(usize, T, T) -> (T, T) + Sync,
) -> Vec<[f64; 2]> {
    const LANES: usize = 8;
    let event = channels * places;
    let block = |x: &[T], y: &[T]| {
        let mut sums = vec![[0.0; 2]; channels];
        for (x, y) in x.chunks_exact(event).zip(y.chunks_exact(event)) {
            if places == 1 {
                for (c, (sum, (&x, &y))) in sums.iter_mut().zip(x.iter().zip(y)).enumerate() {
                    let (a, b) = term(c, x, y);
                    *sum = [sum[0] + a.to_f64(), sum[1] + b.to_f64()];
                }
                continue;
            }
            let rows = x.chunks_exact(places).zip(y.chunks_exact(places));
            for (c, (sum, (x, y))) in sums.iter_mut().zip(rows).enumerate() {
                // Sums side by side, which the compiler turns into vector instructions.
                let mut lanes = [[T::from_f64(0.0); LANES]; 2];
                let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
                let rest = xs.remainder().iter().zip(ys.remainder());
                for (x, y) in xs.zip(ys) {
                    for i in 0..LANES {
                        let (a, b) = term(c, x[i], y[i]);
                        lanes[0][i] += a;
                        lanes[1][i] += b;
                    }
                }
                for (i, (&x, &y)) in rest.enumerate() {
                    let (a, b) = term(c, x, y);
                    lanes[0][i] += a;
                    lanes[1][i] += b;
                }
                for (sum, lanes) in sum.iter_mut().zip(lanes) {
                    *sum += lanes.into_iter().map(T::to_f64).sum::<f64>();
                }
            }
        }
        sums
    };
    let size = events_per_block(batch, event) * event;
    let blocks: Vec<_> = x.par_chunks(size).zip(y.par_chunks(size)).map(|(x, y)| block(x, y)).collect();
    let mut total = vec![[0.0; 2]; channels];
    for block in blocks {
        for (total, part) in total.iter_mut().zip(block) {
            *total = [total[0] + part[0], total[1] + part[1]];
        }
    }
    total
}

/// (2, C) from pairs.
fn packed<T: WithDType>(pairs: &[[f64; 2]]) -> (CpuStorage, Shape) {
    let values = [0, 1].into_iter().flat_map(|i| pairs.iter().map(move |p| T::from_f64(p[i]))).collect();
    (T::to_cpu_storage_owned(values), (2, pairs.len()).into())
}

struct ChannelAffine;

impl ChannelAffine {
    fn run<T: WithDType>(
        x: &[T],
        scale: &[T],
        shift: &[T],
        (batch, channels, places): (usize, usize, usize),
    ) -> CpuStorage {
        let event = channels * places;
        let mut y = vec![T::from_f64(0.0); x.len()];
        let size = events_per_block(batch, event) * event;
        y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(event).zip(x.chunks_exact(event)) {
                if places == 1 {
                    for (((y, &x), &scale), &shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                        *y = x * scale + shift;
                    }
                    continue;
                }
                let rows = y.chunks_exact_mut(places).zip(x.chunks_exact(places));
                for (((y, x), &scale), &shift) in rows.zip(scale).zip(shift) {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = x * scale + shift;
                    }
                }
            }
        });
        T::to_cpu_storage_owned(y)
    }
}

impl CustomOp3 for ChannelAffine {
    fn name(&self) -> &'static str {
        "channel-affine"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let sizes = sizes(x_layout);
        let y = match x {
            CpuStorage::F32(_) => Self::run::<f32>(
                values(x, x_layout)?,
                values(scale, scale_layout)?,
                values(shift, shift_layout)?,
                sizes,
            ),
            _ => Self::run::<f64>(
                values(x, x_layout)?,
                values(scale, scale_layout)?,
                values(shift, shift_layout)?,
                sizes,
            ),
        };
        Ok((y, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (x_grad, grad) = (x.track_op(), grad.contiguous()?.detach());
        let x_grad = match x_grad {
            true => Some(grad.apply_op3_no_bwd(&scale.detach(), &scale.zeros_like()?, &Self)?),
            false => None,
        };
        if !scale.track_op() && !shift.track_op() {
            return Ok((x_grad, None, None));
        }
        let sums = grad.apply_op2_no_bwd(&x.detach(), &GradientSums)?;
        Ok((x_grad, Some(sums.get(0)?), Some(sums.get(1)?)))
    }
}

/// `sum grad x` and `sum grad` of each channel, (2, C).
struct GradientSums;

impl CustomOp2 for GradientSums {
    fn name(&self) -> &'static str {
        "channel-gradient-sums"
    }

    fn cpu_fwd(
        &self,
        grad: &CpuStorage,
        grad_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(grad: &[T], x: &[T], sizes: (usize, usize, usize)) -> (CpuStorage, Shape) {
            packed::<T>(&channel_sums(grad, x, sizes, |_, grad, x| (grad * x, grad)))
        }
        let sizes = sizes(x_layout);
        Ok(match x {
            CpuStorage::F32(_) => run::<f32>(values(grad, grad_layout)?, values(x, x_layout)?, sizes),
            _ => run::<f64>(values(grad, grad_layout)?, values(x, x_layout)?, sizes),
        })
    }
}

/// Mean and variance of each channel, (2, C).
struct Moments;

impl CustomOp1 for Moments {
    fn name(&self) -> &'static str {
        "channel-moments"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(x: &[T], sizes: (usize, usize, usize)) -> (CpuStorage, Shape) {
            let count = (sizes.0 * sizes.2) as f64;
            let means: Vec<f64> = channel_sums(x, x, sizes, |_, x, _| (x, x)).iter().map(|s| s[0] / count).collect();
            let centres: Vec<T> = means.iter().map(|&m| T::from_f64(m)).collect();
            let squares = channel_sums(x, x, sizes, |c, x, _| {
                let centred = x - centres[c];
                (centred, centred * centred)
            });
            // The rounding error of the centre is corrected with the sum of the centred values.
            let variance = |[rest, squares]: &[f64; 2]| squares / count - (rest / count).powi(2);
            // Below 0 by rounding only; a comparison, because max would hide a NaN.
            let positive = |v: f64| if v < 0.0 { 0.0 } else { v };
            let pairs: Vec<_> = means.iter().zip(&squares).map(|(&mean, s)| [mean, positive(variance(s))]).collect();
            packed::<T>(&pairs)
        }
        Ok(match x {
            CpuStorage::F32(_) => run::<f32>(values(x, layout)?, sizes(layout)),
            _ => run::<f64>(values(x, layout)?, sizes(layout)),
        })
    }

    // d mean / dx = 1 / n, d variance / dx = 2 (x - mean) / n.
    fn bwd(&self, x: &Tensor, moments: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (batch, _, places) = sizes(x.layout());
        let each = 1.0 / (batch * places) as f64;
        let scale = (grad.get(1)? * (2.0 * each))?.detach();
        let shift = ((grad.get(0)? * each)? - (&scale * moments.get(0)?)?)?.detach();
        Ok(Some(x.detach().apply_op3_no_bwd(&scale, &shift, &ChannelAffine)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn as_the_plain_compositions(
            batch in 1usize..40, channels in 1usize..6, places in prop::collection::vec(1usize..24, 0..3), seed: u64,
        ) {
            compare([&[batch, channels], places.as_slice()].concat(), seed).map_err(|e| TestCaseError::fail(e.to_string()))?;
        }
    }

    fn compare(shape: Vec<usize>, seed: u64) -> Result<()> {
        let rng = &mut Rng::seed(seed);
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-4)] {
            let mut draw = |shape: &[usize]| rng.normal_tensor(shape, dtype, &Device::Cpu);
            let (x, gy) = (Var::from_tensor(&draw(&shape)?)?, draw(&shape)?);
            let (scale, shift) = (Var::from_tensor(&draw(&shape[1..2])?)?, Var::from_tensor(&draw(&shape[1..2])?)?);
            let (gm, gv) = (draw(&shape[1..2])?, draw(&shape[1..2])?);
            let along = along_channels(shape.len(), shape[1]);
            let others: Vec<usize> = (0..shape.len()).filter(|&d| d != 1).collect();

            let fused = channel_affine(&x, &scale, &shift)?;
            let plain = x.broadcast_mul(&scale.reshape(along.as_slice())?)?;
            let plain = plain.broadcast_add(&shift.reshape(along.as_slice())?)?;
            assert!(difference(&plain, &fused)? < tolerance);
            let (mean, variance) = channel_moments(&x)?;
            let plain_mean = x.mean_keepdim(others.as_slice())?;
            let plain_variance = x.broadcast_sub(&plain_mean)?.sqr()?.mean_keepdim(others.as_slice())?.flatten_all()?;
            assert!(difference(&plain_mean.flatten_all()?, &mean)? < tolerance);
            assert!(difference(&plain_variance, &variance)? < tolerance);

            let loss = |y: Tensor, mean: Tensor, variance: Tensor| -> Result<_> {
                Ok((((y * &gy)?.sum_all()? + (mean * &gm)?.sum_all()?)? + (variance * &gv)?.sum_all()?)?.backward()?)
            };
            let fused = loss(fused, mean, variance)?;
            let plain = loss(plain, plain_mean.flatten_all()?, plain_variance)?;
            for var in [&x, &scale, &shift] {
                let (Some(a), Some(b)) = (plain.get(var), fused.get(var)) else { panic!("no gradient") };
                assert!(difference(a, b)? < tolerance, "{dtype:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn large_means_do_not_hurt() -> Result<()> {
        let x = ((Rng::seed(0).normal_tensor((1000, 2, 30), DType::F32, &Device::Cpu)? * 3.0)? + 1e5)?;
        let (mean, variance) = channel_moments(&x)?;
        assert!((mean.to_vec1::<f32>()?[0] - 1e5).abs() < 0.1);
        assert!((variance.to_vec1::<f32>()?[0] - 9.0).abs() < 0.2);
        assert!(channel_affine(&x, &mean.narrow(0, 0, 1)?, &mean).is_err());
        Ok(())
    }
}
