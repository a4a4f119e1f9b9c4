//! Scale and shift of channels, and their moments, in one pass over memory.
//!
//! candle's broadcasting does the same, but its backward pass reduces over all dimensions except the
//! second one element at a time, which takes ten times as long as the whole operation here.

use super::cpu::Real;
use super::operation::{Kernel, Operation, View};
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};
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
        return Ok(x.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, Operation(ChannelAffine))?);
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
        let both = x.contiguous()?.apply_op1(Operation(Moments))?;
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

/// The sizes of a batch with channels.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    channels: usize,
    /// The product of the other dimensions.
    positions: usize,
}

impl Sizes {
    fn of(shape: &Shape) -> Self {
        let dims = shape.dims();
        Self { batch: dims[0], channels: dims[1], positions: dims[2..].iter().product() }
    }

    fn event(&self) -> usize {
        self.channels * self.positions
    }

    /// The elements that one task takes, of whole events: the shape decides, not the number of threads, so that
    /// sums are the same on every machine.
    fn block(&self) -> usize {
        self.batch.div_ceil(32).max(16_384usize.div_ceil(self.event().max(1))) * self.event()
    }
}

/// For each channel c the sums of both parts of `term(c, x, y)` over batch and positions.
fn channel_sums<T: Real>(x: &[T], y: &[T], sizes: Sizes, term: impl Fn(usize, T, T) -> (T, T) + Sync) -> Vec<[f64; 2]> {
    const LANES: usize = 8;
    let Sizes { channels, positions, .. } = sizes;
    let event = sizes.event();
    let block = |x: &[T], y: &[T]| {
        let mut sums = vec![[0.0; 2]; channels];
        for (x, y) in x.chunks_exact(event).zip(y.chunks_exact(event)) {
            if positions == 1 {
                for (c, (sum, (&x, &y))) in sums.iter_mut().zip(x.iter().zip(y)).enumerate() {
                    let (a, b) = term(c, x, y);
                    *sum = [sum[0] + a.wide(), sum[1] + b.wide()];
                }
                continue;
            }
            let rows = x.chunks_exact(positions).zip(y.chunks_exact(positions));
            for (c, (sum, (x, y))) in sums.iter_mut().zip(rows).enumerate() {
                // Sums side by side, which the compiler turns into vector instructions.
                let mut lanes = [[T::zero(); LANES]; 2];
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
                    *sum += lanes.into_iter().map(T::wide).sum::<f64>();
                }
            }
        }
        sums
    };
    let size = sizes.block();
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
fn packed<T: Real>(pairs: &[[f64; 2]]) -> (Vec<T>, Shape) {
    let values = [0, 1].into_iter().flat_map(|i| pairs.iter().map(move |p| T::of(p[i]))).collect();
    (values, (2, pairs.len()).into())
}

struct ChannelAffine;

impl Kernel<3> for ChannelAffine {
    const NAME: &'static str = "channel-affine";

    fn value<T: Real>(&self, [x, scale, shift]: [View<'_, T>; 3]) -> candle_core::Result<(Vec<T>, Shape)> {
        let sizes = Sizes::of(x.shape);
        let (event, positions, size) = (sizes.event(), sizes.positions, sizes.block());
        let (scale, shift) = (scale.values, shift.values);
        let mut y = vec![T::zero(); x.values.len()];
        y.par_chunks_mut(size).zip(x.values.par_chunks(size)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(event).zip(x.chunks_exact(event)) {
                let channels = scale.iter().zip(shift);
                if positions == 1 {
                    for ((y, &x), (&scale, &shift)) in y.iter_mut().zip(x).zip(channels) {
                        *y = x * scale + shift;
                    }
                    continue;
                }
                let rows = y.chunks_exact_mut(positions).zip(x.chunks_exact(positions));
                for ((y, x), (&scale, &shift)) in rows.zip(channels) {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = x * scale + shift;
                    }
                }
            }
        });
        Ok((y, x.shape.clone()))
    }

    fn gradients<T: Real>(
        &self,
        [x, scale, shift]: [&Tensor; 3],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let grad = grad.contiguous()?.detach();
        let x_grad = match x.track_op() {
            true => Some(grad.apply_op3_no_bwd(&scale.detach(), &scale.zeros_like()?, &Operation(Self))?),
            false => None,
        };
        if !scale.track_op() && !shift.track_op() {
            return Ok([x_grad, None, None]);
        }
        let sums = grad.apply_op2_no_bwd(&x.detach(), &Operation(GradientSums))?;
        Ok([x_grad, Some(sums.get(0)?), Some(sums.get(1)?)])
    }
}

/// `sum grad x` and `sum grad` of each channel, (2, C).
struct GradientSums;

impl Kernel<2> for GradientSums {
    const NAME: &'static str = "channel-gradient-sums";

    fn value<T: Real>(&self, [grad, x]: [View<'_, T>; 2]) -> candle_core::Result<(Vec<T>, Shape)> {
        let sizes = Sizes::of(x.shape);
        Ok(packed(&channel_sums(grad.values, x.values, sizes, |_, grad, x| (grad * x, grad))))
    }
}

/// Mean and variance of each channel, (2, C).
struct Moments;

impl Kernel<1> for Moments {
    const NAME: &'static str = "channel-moments";

    fn value<T: Real>(&self, [View { values: x, shape }]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        let sizes = Sizes::of(shape);
        let count = (sizes.batch * sizes.positions) as f64;
        let means: Vec<f64> = channel_sums(x, x, sizes, |_, x, _| (x, x)).iter().map(|s| s[0] / count).collect();
        let centres: Vec<T> = means.iter().map(|&m| T::of(m)).collect();
        let squares = channel_sums(x, x, sizes, |c, x, _| {
            let centred = x - centres[c];
            (centred, centred * centred)
        });
        // The sum of the centred values corrects for the rounding of the centre.
        let variance = |[rest, squares]: &[f64; 2]| squares / count - (rest / count).powi(2);
        // Negative by rounding only; a comparison, because max would hide a NaN.
        let positive = |v: f64| if v < 0.0 { 0.0 } else { v };
        let pairs: Vec<_> = means.iter().zip(&squares).map(|(&mean, s)| [mean, positive(variance(s))]).collect();
        Ok(packed(&pairs))
    }

    // d mean / dx = 1 / n, d variance / dx = 2 (x - mean) / n.
    fn gradients<T: Real>(
        &self,
        [x]: [&Tensor; 1],
        moments: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let Sizes { batch, positions, .. } = Sizes::of(x.shape());
        let each = 1.0 / (batch * positions) as f64;
        let scale = (grad.get(1)? * (2.0 * each))?.detach();
        let shift = ((grad.get(0)? * each)? - (&scale * moments.get(0)?)?)?.detach();
        Ok([Some(x.detach().apply_op3_no_bwd(&scale, &shift, &Operation(ChannelAffine))?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 24, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
        })]
        #[test]
        fn as_the_plain_compositions(
            batch in 1usize..40, channels in 1usize..6, positions in prop::collection::vec(1usize..24, 0..3), seed: u64,
        ) {
            let shape = [&[batch, channels], positions.as_slice()].concat();
            compare(shape, seed).map_err(|e| TestCaseError::fail(e.to_string()))?;
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
                // Sums of many terms, of which some are large.
                let size = 1.0 + a.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
                assert!(difference(a, b)? < tolerance * size, "{dtype:?}");
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
