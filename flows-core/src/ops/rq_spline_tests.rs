//! The fused spline against the plain composition, over random shapes and settings.

use super::*;
use crate::Rng;
use crate::testing::difference;
use candle_core::{Device, Var};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The largest difference, in value, log-derivative and gradients, of the kernel in `dtype` from the
/// plain composition in f64.
fn worst_difference(op: RqSpline, [batch, n, rows]: [usize; 3], dtype: DType, seed: u64) -> Result<f64> {
    let RqSplineSettings { low, high, .. } = op.settings;
    let rng = &mut Rng::seed(seed);
    // Random numbers that are the same in both types; some x lie outside of the interval.
    let x = ((rng.uniform_tensor((batch, n), DType::F32, &Device::Cpu)? * 1.4)? - 0.2)?.affine(high - low, low)?;
    let raw = rng.normal_tensor((rows, n, op.settings.parameters()), DType::F32, &Device::Cpu)?;
    let weights = [0; 2].map(|_| rng.normal_tensor((batch, n), DType::F64, &Device::Cpu));
    let [gx, gl] = weights;
    let (gx, gl) = (gx?, gl?);
    let run = |dtype: DType, plain: bool| -> Result<Vec<Tensor>> {
        let (x, raw) = (Var::from_tensor(&x.to_dtype(dtype)?)?, Var::from_tensor(&raw.to_dtype(dtype)?)?);
        let (value, log) = if plain { op.plain(&x, &raw)? } else { rq_spline(&x, &raw, op.settings, op.direction)? };
        let loss = ((&value * gx.to_dtype(dtype)?)?.sum_all()? + (&log * gl.to_dtype(dtype)?)?.sum_all()?)?;
        let gradients = loss.backward()?;
        let of = |leaf: &Var| gradients.get(leaf).cloned().map_or_else(|| leaf.zeros_like(), Ok);
        Ok(vec![of(&x)?, of(&raw)?, value, log])
    };
    let mut worst = 0.0f64;
    for (i, (want, got)) in run(DType::F64, true)?.iter().zip(run(dtype, false)?).enumerate() {
        // Gradients of large parts that cancel are compared with the parts.
        let size = if i < 2 { want.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?.max(1.0) } else { 1.0 };
        worst = worst.max(difference(&(want / size)?, &(got.to_dtype(DType::F64)? / size)?)?);
    }
    Ok(worst)
}

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
        let (op, shape) = (RqSpline { settings, direction }, [batch, n, if shared { 1 } else { batch }]);
        let fine = worst_difference(op, shape, DType::F64, seed);
        prop_assert!(fine.as_ref().is_ok_and(|d| *d < 1e-9), "{fine:?}");
        // Rounding of the shares moves a knot by a ten-thousandth of the narrowest bin.
        let coarse = worst_difference(op, shape, DType::F32, seed);
        prop_assert!(coarse.as_ref().is_ok_and(|d| *d < 1e-3), "{coarse:?}");
    }
}
