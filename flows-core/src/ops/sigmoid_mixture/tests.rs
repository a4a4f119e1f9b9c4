//! The fused mixture against the plain composition, and far in the tails.

use super::*;
use crate::ops::transformer::worst_difference;
use crate::testing::difference;
use candle_core::{DType, Device, Var};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const KINDS: [Mixture; 2] = [Mixture::DeepSigmoid, Mixture::Logistic(5.0)];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
    })]
    #[test]
    fn the_kernel_is_the_plain_composition(
        batch in prop_oneof![1usize..40, 200usize..300], n in 1usize..8, shared: bool, units in 1usize..12,
        inverted: bool, deep: bool, bound in 0.5f64..10.0, seed: u64,
    ) {
        let kernel = SigmoidMixture { mixture: KINDS[usize::from(!deep)], units, inverted };
        let shape = [batch, n, if shared { 1 } else { batch }];
        let fine = worst_difference(kernel, shape, [-bound, bound], DType::F64, seed);
        prop_assert!(fine.as_ref().is_ok_and(|d| *d < 1e-9), "{fine:?}");
        let coarse = worst_difference(kernel, shape, [-bound, bound], DType::F32, seed);
        prop_assert!(coarse.as_ref().is_ok_and(|d| *d < 1e-4), "{coarse:?}");
    }
}

/// The same raw parameters for every element.
fn parameters(raw: &[f64], elements: usize, dtype: DType) -> Result<Tensor> {
    Ok(Tensor::from_vec(raw.repeat(elements), (1, elements, raw.len()), &Device::Cpu)?.to_dtype(dtype)?)
}

#[test]
fn tails_and_gaps_keep_their_digits() -> Result<()> {
    // Two logistics of scale 1 at -300 and 100, with weights 1/4 and 3/4, and a gap between them.
    let raw = [0.0, 3f64.ln(), -300.0, 100.0, 0.0, 0.0, 0.0, 0.0];
    let at = [-1e6, -800.0, -100.0, 1e4, 3e8];
    // -100 is in the middle of the gap, where F = 1/4 and F' = e^-200.
    let want = [
        -1e6 + 300.0 - 4f64.ln(),
        -500.0 - 4f64.ln(),
        -3f64.ln(),
        1e4 - 100.0 - 0.75f64.ln(),
        3e8 - 100.0 - 0.75f64.ln(),
    ];
    let log = [0.0, 0.0, -200.0 - (0.25 * 0.75f64).ln(), 0.0, 0.0];
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
        let raw = Var::from_tensor(&parameters(&raw, at.len(), dtype)?)?;
        let tensor = |v: &[f64]| Tensor::from_slice(v, (1, at.len()), &Device::Cpu)?.to_dtype(dtype);
        let x = Var::from_tensor(&tensor(&at)?)?;
        let (value, log_slope) = sigmoid_mixture(&x, &raw, KINDS[1], 2, false)?;
        assert!(difference(&tensor(&want)?, &value)? < tolerance, "{dtype:?}: {value}");
        // The log-derivative is a difference of logarithms as large as the points.
        assert!(difference(&tensor(&log)?, &log_slope)? < tolerance.max(1e-8), "{dtype:?}: {log_slope}");
        let gradients = log_slope.sum_all()?.backward()?;
        let zero = Tensor::zeros_like(&raw)?;
        let finite = gradients.get(&raw).unwrap_or(&zero).flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        assert!(finite.iter().all(|g| g.is_finite() && g.abs() < 1e3), "{finite:?}");
        // The inverse, except in the gap, where the value does not determine the point.
        let (back, back_log) = sigmoid_mixture(&value, &raw, KINDS[1], 2, true)?;
        for i in [0, 1, 3, 4] {
            let off = difference(&x.narrow(1, i, 1)?, &back.narrow(1, i, 1)?)?;
            assert!(off < tolerance, "{} comes back as {back}", at[i]);
            assert!(back_log.narrow(1, i, 1)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?[0].abs() < 1e-5);
        }
    }
    Ok(())
}

#[test]
fn the_density_is_zero_where_values_overflow() -> Result<()> {
    let inf = f32::INFINITY;
    for (mixture, raw) in [(KINDS[0], vec![0.5; 6]), (KINDS[1], vec![0.5; 8])] {
        for inverted in [false, true] {
            let raw = Var::from_tensor(&parameters(&raw, 4, DType::F32)?)?;
            let x = Var::new(&[[inf, -inf, 1.0, f32::NAN]], &Device::Cpu)?;
            let (value, log) = sigmoid_mixture(&x, &raw, mixture, 2, inverted)?;
            let (values, logs) = (value.to_vec2::<f32>()?.remove(0), log.to_vec2::<f32>()?.remove(0));
            assert_eq!((&values[..2], &logs[..2]), (&[f32::MAX, f32::MIN][..], &[-inf, -inf][..]));
            assert!(values[2].is_finite() && logs[2].is_finite() && values[3].is_nan() && logs[3].is_nan());
            let gradients = value.narrow(1, 0, 3)?.sum_all()?.backward()?;
            let zero = raw.zeros_like()?;
            let of_raw = gradients.get(&raw).unwrap_or(&zero).narrow(1, 0, 3)?.flatten_all()?.to_vec1::<f32>()?;
            assert!(of_raw.iter().all(|g| g.is_finite()) && of_raw[2 * raw.dim(2)?..].iter().any(|g| *g != 0.0));
        }
    }
    Ok(())
}
