//! The fused spline against the plain composition, over random shapes and settings.

use super::*;
use crate::Rng;
use crate::ops::transformer::{transform, worst_difference};
use candle_core::{DType, Device, Var};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
    })]
    #[test]
    fn the_kernel_is_the_plain_composition(
        batch in 1usize..50, n in 1usize..8, shared: bool, bins in 1usize..20, bound in 0.5f64..20.0,
        ends in prop_oneof![Just(Ends::Linear), Just(Ends::Closed), Just(Ends::Periodic)],
        direction in prop_oneof![Just(Direction::Forward), Just(Direction::Inverse)],
        seed: u64,
    ) {
        let settings = RqSplineSettings { bins, low: -bound, high: 0.7 * bound, ends, min_bin: 1e-3, min_slope: 1e-3 };
        let ends_of = [settings.low, settings.high];
        let (op, shape) = (RqSpline { settings, direction }, [batch, n, if shared { 1 } else { batch }]);
        let fine = worst_difference(op, shape, ends_of, DType::F64, seed);
        prop_assert!(fine.as_ref().is_ok_and(|d| *d < 1e-9), "{fine:?}");
        // The rounding of the shares moves a knot by a ten-thousandth of the narrowest bin.
        let coarse = worst_difference(op, shape, ends_of, DType::F32, seed);
        prop_assert!(coarse.as_ref().is_ok_and(|d| *d < 1e-3), "{coarse:?}");
    }
}

/// Values, log-derivatives, and gradients with respect to points and parameters, converted to f64.
fn results(
    kernel: RqSpline,
    dtype: DType,
    x: &Tensor,
    raw: &Tensor,
    [gvalues, glogs]: &[Tensor; 2],
) -> Result<[Vec<f64>; 4]> {
    let (x, raw) = (Var::from_tensor(&x.to_dtype(dtype)?)?, Var::from_tensor(&raw.to_dtype(dtype)?)?);
    let (value, log) = transform(kernel, &x, &raw)?;
    let loss = ((&value * gvalues.to_dtype(dtype)?)?.sum_all()? + (&log * glogs.to_dtype(dtype)?)?.sum_all()?)?;
    let gradients = loss.backward()?;
    let of = |leaf: &Var| gradients.get(leaf).cloned().map_or_else(|| leaf.zeros_like(), Ok);
    let numbers = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    Ok([numbers(&value)?, numbers(&log)?, numbers(&of(&x)?)?, numbers(&of(&raw)?)?])
}

/// The error of f32 relative to the error that rounding the inputs and the result to f32 causes, the largest of all
/// elements.
///
/// The error due to rounding is the root of the sum of squares of the changes that follow a relative change of 2^-24 in
/// the result, in the point or in a raw parameter.
fn loss_of_digits(kernel: RqSpline, spread: f64, seed: u64) -> Result<[f64; 4]> {
    const ROWS: usize = 32;
    const UNIT: f64 = 0.5 * f32::EPSILON as f64;
    let (rng, p) = (&mut Rng::seed(seed), kernel.settings.parameter_count());
    let RqSplineSettings { low, high, .. } = kernel.settings;
    let single = |t: Tensor| -> Result<Tensor> { Ok(t.to_dtype(DType::F32)?.to_dtype(DType::F64)?) };
    let x = single(rng.uniform_tensor((ROWS, 1), DType::F64, &Device::Cpu)?.affine(high - low, low)?)?;
    let raw = single((rng.normal_tensor((ROWS, 1, p), DType::F64, &Device::Cpu)? * spread)?)?;
    let mut weight = || single(rng.normal_tensor((ROWS, 1), DType::F64, &Device::Cpu)?);
    let weights = [weight()?, weight()?];
    let exact = results(kernel, DType::F64, &x, &raw, &weights)?;
    let coarse = results(kernel, DType::F32, &x, &raw, &weights)?;
    let mut costs = exact.clone().map(|values| values.iter().map(|v| (v * UNIT).powi(2)).collect::<Vec<_>>());
    for input in 0..=p {
        let moved = match input.checked_sub(1) {
            None => results(kernel, DType::F64, &(&x * (1.0 + UNIT))?, &raw, &weights)?,
            Some(j) => {
                let factors: Vec<f64> = (0..p).map(|i| if i == j { 1.0 + UNIT } else { 1.0 }).collect();
                let factors = Tensor::new(factors, &Device::Cpu)?;
                results(kernel, DType::F64, &x, &raw.broadcast_mul(&factors)?, &weights)?
            }
        };
        for ((costs, moved), exact) in costs.iter_mut().zip(&moved).zip(&exact) {
            costs.iter_mut().zip(moved.iter().zip(exact)).for_each(|(cost, (m, e))| *cost += (m - e).powi(2));
        }
    }
    let mut worst = [0.0f64; 4];
    for (worst, ((coarse, exact), cost)) in worst.iter_mut().zip(coarse.iter().zip(&exact).zip(&costs)) {
        for ((c, e), cost) in coarse.iter().zip(exact).zip(cost) {
            let ratio = (c - e).abs() / cost.sqrt().max(f64::from(f32::MIN_POSITIVE));
            *worst = if ratio.is_nan() { f64::INFINITY } else { worst.max(ratio) };
        }
    }
    Ok(worst)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
    })]
    #[test]
    fn single_precision_loses_only_what_rounding_does(
        bins in 4usize..=40, spread in 0.5f64..3.0,
        ends in prop_oneof![Just(Ends::Linear), Just(Ends::Closed), Just(Ends::Periodic)],
        direction in prop_oneof![Just(Direction::Forward), Just(Direction::Inverse)],
        seed: u64,
    ) {
        let settings = RqSplineSettings { bins, low: -5.0, high: 5.0, ends, min_bin: 1e-3, min_slope: 1e-3 };
        let worst = loss_of_digits(RqSpline { settings, direction }, spread, seed);
        prop_assert!(worst.as_ref().is_ok_and(|w| w.iter().all(|w| *w < 4.0)), "{worst:?}");
    }
}

#[test]
fn closed_splines_stay_within_their_ends() -> Result<()> {
    let settings =
        RqSplineSettings { bins: 7, low: -5.0, high: 5.0, ends: Ends::Closed, min_bin: 1e-3, min_slope: 1e-3 };
    let rng = &mut Rng::seed(0);
    for dtype in [DType::F32, DType::F64] {
        let raw = (rng.normal_tensor((20_000, 2, settings.parameter_count()), dtype, &Device::Cpu)? * 2.0)?;
        let x = Tensor::new(&[[-5.0, 5.0]], &Device::Cpu)?.to_dtype(dtype)?.broadcast_as((20_000, 2))?.contiguous()?;
        for direction in [Direction::Forward, Direction::Inverse] {
            let (value, log) = rq_spline(&x, &raw, settings, direction)?;
            let values = value.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            assert!(values.iter().all(|v| v.abs() <= 5.0 && (v.abs() - 5.0).abs() < 1e-5));
            let (_, back) = rq_spline(&value, &raw, settings, direction.opposite())?;
            for log in [log, back] {
                assert!(log.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().all(|l| l.is_finite()));
            }
        }
    }
    Ok(())
}
