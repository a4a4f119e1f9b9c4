//! Fused operations compared with plain compositions of candle's operations, over random shapes.

use candle_core::{DType, Device, Tensor, Var};
use flows_core::ops::{Direction, Ends, FusedActivation, RqSplineSettings, Simd, linear, rq_spline};
use flows_core::testing::difference;
use flows_core::{Error, Result, Rng};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const CPU: &Device = &Device::Cpu;

/// The same cases on every run.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default() }
}

/// The gradients of `loss` for the leaves.
fn gradients(loss: &Tensor, leaves: &[&Var]) -> Result<Vec<Tensor>> {
    let gradients = loss.backward()?;
    let of = |leaf: &&Var| gradients.get(leaf).cloned().ok_or_else(|| Error::Config("a leaf has no gradient".into()));
    leaves.iter().map(of).collect()
}

fn plain_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: FusedActivation) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    let y = bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))?;
    Ok(match activation {
        FusedActivation::Identity => y,
        FusedActivation::Relu => y.relu()?,
        FusedActivation::Tanh => y.tanh()?,
    })
}

/// The largest difference, in value and gradients, between the fused map in `dtype` and the plain one in f64.
fn linear_difference(
    [batch, inputs, outputs]: [usize; 3],
    with_bias: bool,
    activation: FusedActivation,
    dtype: DType,
    seed: u64,
) -> Result<f64> {
    let mut rng = Rng::seed(seed);
    // Random numbers that are exact in both dtypes.
    let mut draw =
        |shape: &[usize]| -> Result<Tensor> { Ok(rng.normal_tensor(shape, DType::F32, CPU)?.to_dtype(DType::F64)?) };
    let scale = (inputs as f64).sqrt().recip();
    let weight = (draw(&[outputs, inputs])? * scale)?.to_dtype(DType::F32)?.to_dtype(DType::F64)?;
    let values = [draw(&[batch, inputs])?, weight, draw(&[outputs])?, draw(&[batch, outputs])?];
    let run = |dtype: DType, plain: bool| -> Result<Vec<Tensor>> {
        let [x, weight, bias, cotangent] =
            values.each_ref().map(|v| v.to_dtype(dtype).and_then(|v| Var::from_tensor(&v)));
        let (x, weight, bias) = (x?, weight?, bias?);
        let given = with_bias.then_some(bias.as_tensor());
        let y =
            if plain { plain_linear(&x, &weight, given, activation)? } else { linear(&x, &weight, given, activation)? };
        let loss = (&y * cotangent?.as_tensor())?.sum_all()?;
        let leaves = [&x, &weight, &bias];
        let mut results = gradients(&loss, if with_bias { &leaves } else { &leaves[..2] })?;
        results.push(y);
        Ok(results)
    };
    let mut worst = 0.0f64;
    for (want, got) in run(DType::F64, true)?.iter().zip(run(dtype, false)?) {
        // Relative to the largest value, since values are sums of many terms.
        let size = want.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?.max(1.0);
        worst = worst.max(difference(&(want / size)?, &(got.to_dtype(DType::F64)? / size)?)?);
    }
    Ok(worst)
}

fn activation() -> impl Strategy<Value = FusedActivation> {
    prop_oneof![Just(FusedActivation::Identity), Just(FusedActivation::Relu), Just(FusedActivation::Tanh)]
}

proptest! {
    #![proptest_config(config(128))]
    #[test]
    fn linear_is_the_plain_composition(
        batch in prop_oneof![Just(1usize), 2usize..70],
        inputs in prop_oneof![Just(1usize), 2usize..40, 100usize..300],
        outputs in prop_oneof![Just(1usize), 2usize..40, 100usize..300],
        with_bias: bool,
        activation in activation(),
        seed: u64,
    ) {
        // In f32 rounding occasionally crosses the kink of a ReLU.
        let single = if activation == FusedActivation::Relu { FusedActivation::Tanh } else { activation };
        let shape = [batch, inputs, outputs];
        let fine = linear_difference(shape, with_bias, activation, DType::F64, seed);
        prop_assert!(fine.as_ref().is_ok_and(|d| *d < 1e-12), "{fine:?}");
        let coarse = linear_difference(shape, with_bias, single, DType::F32, seed);
        prop_assert!(coarse.as_ref().is_ok_and(|d| *d < 1e-5), "{coarse:?}");
    }
}

/// Whether `f` gives the same bits in pools of one and of three threads.
fn same_on_any_threads(f: impl Fn() -> Result<Vec<Tensor>> + Send + Sync) -> Result<bool> {
    let on = |threads: usize| -> Result<Vec<Tensor>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.map_err(|e| Error::Config(e.to_string()))?.install(&f)
    };
    let bits = |tensors: Vec<Tensor>| -> Result<Vec<u64>> {
        let values = tensors.iter().map(|t| Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?));
        Ok(values.collect::<Result<Vec<_>>>()?.concat().into_iter().map(f64::to_bits).collect())
    };
    Ok(bits(on(1)?)? == bits(on(3)?)?)
}

#[test]
fn linear_does_not_depend_on_the_number_of_threads() -> Result<()> {
    // The last is large enough to be cut into blocks, unevenly.
    for (shape, dtype) in [([1, 3, 2], DType::F32), ([37, 64, 50], DType::F64), ([1003, 70, 90], DType::F32)] {
        let [batch, inputs, outputs] = shape;
        let mut rng = Rng::seed(1);
        let x = Var::from_tensor(&rng.normal_tensor((batch, inputs), dtype, CPU)?)?;
        let weight = Var::from_tensor(&rng.normal_tensor((outputs, inputs), dtype, CPU)?)?;
        let bias = Var::from_tensor(&rng.normal_tensor(outputs, dtype, CPU)?)?;
        let same = same_on_any_threads(|| {
            let y = linear(&x, &weight, Some(&bias), FusedActivation::Tanh)?;
            let mut results = gradients(&y.sum_all()?, &[&x, &weight, &bias])?;
            results.push(y);
            Ok(results)
        })?;
        assert!(same, "{shape:?}");
    }
    Ok(())
}

#[test]
fn splines_do_not_depend_on_the_number_of_threads() -> Result<()> {
    for (rows, ends, direction) in [
        (1, Ends::Linear, Direction::Forward),
        (301, Ends::Closed, Direction::Inverse),
        (1, Ends::Periodic, Direction::Inverse),
    ] {
        let settings = RqSplineSettings { bins: 5, low: -2.0, high: 2.0, ends, min_bin: 1e-3, min_slope: 1e-3 };
        let mut rng = Rng::seed(1);
        let x = Var::from_tensor(&rng.normal_tensor((301, 7), DType::F32, CPU)?)?;
        let raw = Var::from_tensor(&rng.normal_tensor((rows, 7, settings.parameter_count()), DType::F32, CPU)?)?;
        let same = same_on_any_threads(|| {
            let (value, log) = rq_spline(&x, &raw, settings, direction)?;
            // Logarithms are minus infinity outside the support.
            let loss = (value.sum_all()? + log.maximum(-1e3)?.sum_all()?)?;
            let mut results = gradients(&loss, &[&x, &raw])?;
            results.extend([value, log]);
            Ok(results)
        })?;
        assert!(same, "{ends:?} {direction:?}");
    }
    Ok(())
}

/// The tests of this file once more, in a process of its own for each vector instructions below the widest.
#[test]
fn operations_are_right_on_every_path() -> Result<()> {
    let this = std::env::current_exe().map_err(|e| Error::Io(e.to_string()))?;
    let chosen = Simd::chosen()?;
    for simd in Simd::available().into_iter().filter(|simd| *simd != chosen) {
        let mut tests = std::process::Command::new(&this);
        tests.args(["--skip", "on_every_path"]).env("FLOWS_SIMD", simd.name());
        let output = tests.output().map_err(|e| Error::Io(e.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("3 passed"), "{}: {said}", simd.name());
    }
    Ok(())
}
