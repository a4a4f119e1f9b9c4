//! The fused functions against the plain compositions.

use super::*;
use crate::Rng;
use crate::testing::difference;
use candle_core::{Device, Var};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const ALL: [Function; 16] = [
    Function::Exp,
    Function::Ln,
    Function::Ln1p,
    Function::Tanh,
    Function::Sigmoid,
    Function::Softplus,
    Function::LogSigmoid,
    Function::Silu,
    Function::Erf,
    Function::Gelu,
    Function::Elu,
    Function::Onto(Open::Exp),
    Function::Onto(Open::Softplus),
    Function::Onto(Open::Sigmoid),
    Function::Onto(Open::Tanh),
    Function::Onto(Open::Scaled { scale: 3.0, shift: -1.0, ends: [-1.0, 2.0] }),
];

/// The value of `f` and its vector-Jacobian product with `cotangent`, in f64.
fn run(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    cotangent: &Tensor,
    dtype: DType,
) -> Result<(Tensor, Tensor)> {
    let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
    // Neither the argument nor the gradient is contiguous.
    let y = f(&x.t()?)?;
    let grads = (y.t()? * cotangent.to_dtype(dtype)?)?.sum_all()?.backward()?;
    let gradient = grads.get(&x).map_or_else(|| x.zeros_like(), |g| Ok(g.clone()))?;
    Ok((y.to_dtype(DType::F64)?, gradient.to_dtype(DType::F64)?))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
    })]
    #[test]
    fn fused_is_plain(
        rows in prop_oneof![Just(1usize), 2usize..40],
        columns in prop_oneof![Just(1usize), 2usize..70, 1000usize..1100],
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::seed(seed);
        let mut draw = || rng.normal_tensor((rows, columns), DType::F32, &Device::Cpu).unwrap();
        let (normal, cotangent) = (draw(), draw().t().unwrap().contiguous().unwrap().t().unwrap());
        for function in ALL {
            let x = match function {
                Function::Ln | Function::Ln1p => (normal.abs().unwrap() + 0.1).unwrap(),
                _ => (&normal * 3.0).unwrap(),
            };
            let want = run(|x| function.plain(x), &x, &cotangent, DType::F64).unwrap();
            for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
                let got = run(|x| apply(x, function), &x, &cotangent, dtype).unwrap();
                let value = difference(&got.0, &want.0).unwrap();
                let slope = difference(&got.1, &want.1).unwrap();
                // candle's gradient of gelu is exact to six digits.
                let loose = if matches!(function, Function::Gelu) { 1e-5 } else { tolerance };
                prop_assert!(value < tolerance && slope < loose, "{function:?} {dtype:?} {value} {slope}");
            }
        }
    }
}

#[test]
fn open_intervals_are_not_left() -> Result<()> {
    let inf = f64::INFINITY;
    let at = [-inf, -1e30, -800.0, -90.0, -20.0, 20.0, 90.0, 800.0, 1e30, inf, f64::NAN];
    let cases = [
        (Open::Exp, [0.0, inf]),
        (Open::Softplus, [0.0, inf]),
        (Open::Sigmoid, [0.0, 1.0]),
        (Open::Tanh, [-1.0, 1.0]),
        (
            Open::Scaled { scale: 4.0, shift: -2.0, ends: [-1.999_999_880_790_710_4, 1.999_999_880_790_710_4] },
            [-2.0, 2.0],
        ),
    ];
    for (open, [low, high]) in cases {
        for dtype in [DType::F32, DType::F64] {
            let x = Tensor::new(&at, &Device::Cpu)?.to_dtype(dtype)?;
            for y in [onto(&x, open)?, open.plain(&x)?] {
                let y = y.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                let (nan, numbers) = y.split_last().unwrap();
                assert!(numbers.iter().all(|&y| y > low && y < high) && nan.is_nan(), "{open:?} {dtype:?} {y:?}");
                assert!(numbers.is_sorted(), "{open:?} {dtype:?} {y:?}");
            }
        }
    }
    // The last number below 1, whose logit is ln(2^24 - 1).
    let y = onto(&Tensor::new(&[40f32], &Device::Cpu)?, Open::Sigmoid)?.to_vec1::<f32>()?;
    assert_eq!(y, [1.0 - f32::EPSILON / 2.0]);
    Ok(())
}

#[test]
fn softplus_keeps_its_digits() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let y = softplus(&Tensor::new(&[-17.0, 800.0], &Device::Cpu)?.to_dtype(dtype)?)?.to_dtype(DType::F64)?;
        let y = y.to_vec1::<f64>()?;
        assert!((y[0] / (-17f64).exp() - 1.0).abs() < 1e-6 && y[1] == 800.0, "{y:?}");
    }
    Ok(())
}
