use super::*;
use crate::Rng;
use crate::testing::difference;
use candle_core::{Device, Var};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const CPU: &Device = &Device::Cpu;

/// Values and gradients of a convolution in `dtype`, by the plain composition or by the kernels; the
/// leaves are transposes in memory, so that the operation's inputs are not contiguous.
fn run(convolution: &Convolution, dtype: DType, plain: bool, seed: u64) -> Result<Vec<Tensor>> {
    let Geometry { batch, inputs, outputs, input, output, kernel, .. } = convolution.geometry;
    let mut rng = Rng::seed(seed);
    let mut draw = |shape: &[usize]| -> Result<Var> {
        let turned: Vec<usize> = shape.iter().rev().copied().collect();
        // The same numbers in both types.
        Ok(Var::from_tensor(&rng.normal_tensor(turned, DType::F32, CPU)?.to_dtype(dtype)?)?)
    };
    let x_shape = match convolution.transposed {
        true => [batch, outputs, output[0], output[1]],
        false => [batch, inputs, input[0], input[1]],
    };
    let y_shape = convolution.shape(4);
    let leaves = [draw(&x_shape)?, draw(&[outputs, inputs, kernel[0], kernel[1]])?, draw(&[convolution.channels()])?];
    let cotangent = draw(y_shape.dims())?;
    let turn = |leaf: &Var| Ok::<_, Error>(leaf.permute((0..leaf.rank()).rev().collect::<Vec<_>>())?);
    let (mut x, mut weight, bias) = (turn(&leaves[0])?, turn(&leaves[1])?, turn(&leaves[2])?);
    if convolution.transposed && input[0] == 1 {
        (x, weight) = (x.squeeze(2)?, weight.squeeze(2)?);
    }
    let y = match plain {
        true => plain::plain(convolution, &x.contiguous()?, &weight.contiguous()?, Some(&bias))?,
        false => convolution.apply(&x, &weight, Some(&bias))?,
    };
    let loss = (y.reshape(y_shape)? * turn(&cotangent)?)?.sum_all()?;
    let gradients = loss.backward()?;
    let mut results = vec![y];
    for leaf in &leaves {
        results.push(gradients.get(leaf).cloned().ok_or_else(|| Error::Config("a leaf has no gradient".into()))?);
    }
    Ok(results)
}

/// The largest difference of the kernels from the plain composition in f64, relative to the largest element of each
/// tensor.
fn worst(convolution: &Convolution, dtype: DType, seed: u64) -> Result<f64> {
    let mut worst = 0.0f64;
    for (want, got) in run(convolution, DType::F64, true, seed)?.iter().zip(run(convolution, dtype, false, seed)?) {
        let size = want.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?.max(1.0);
        worst = worst.max(difference(&(want / size)?, &(got.to_dtype(DType::F64)? / size)?)?);
    }
    Ok(worst)
}

fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), 2usize..9, 30usize..50]
}

fn fused() -> impl Strategy<Value = FusedActivation> {
    prop_oneof![Just(FusedActivation::Identity), Just(FusedActivation::Relu), Just(FusedActivation::Tanh)]
}

/// Kernel, stride, dilation, and numbers from which the padding and the size of the input follow.
fn side(longest: usize, stride: usize, dilation: usize) -> impl Strategy<Value = [usize; 5]> {
    (1usize..5, 1..=stride, 1..=dilation, 0usize..20, 0..longest).prop_map(|(k, s, d, p, rest)| [k, s, d, p, rest])
}

fn geometry(batch: usize, inputs: usize, outputs: usize, sides: [[usize; 5]; 2]) -> Result<Geometry> {
    let mut geometry = Geometry {
        batch,
        inputs,
        outputs,
        input: [1; 2],
        output: [1; 2],
        kernel: [1; 2],
        stride: [1; 2],
        padding: [0; 2],
        dilation: [1; 2],
    };
    for (i, [kernel, stride, dilation, padding, rest]) in sides.into_iter().enumerate() {
        let span = dilation * (kernel - 1) + 1;
        let padding = padding % span;
        geometry.input[i] = span.saturating_sub(2 * padding).max(1) + rest;
        geometry.output[i] = axis(geometry.input[i], kernel, stride, padding, dilation)?;
        (geometry.kernel[i], geometry.stride[i]) = (kernel, stride);
        (geometry.padding[i], geometry.dilation[i]) = (padding, dilation);
    }
    Ok(geometry)
}

const POINT: [usize; 5] = [1, 1, 1, 0, 0];

fn check(convolution: Convolution, seed: u64) -> std::result::Result<(), TestCaseError> {
    let fine = worst(&convolution, DType::F64, seed);
    prop_assert!(fine.as_ref().is_ok_and(|d| *d < 1e-9), "{fine:?} {convolution:?}");
    // In f32, rounding may move a number to the other side of a ReLU's kink.
    if convolution.activation != FusedActivation::Relu {
        let coarse = worst(&convolution, DType::F32, seed);
        prop_assert!(coarse.as_ref().is_ok_and(|d| *d < 1e-4), "{coarse:?} {convolution:?}");
    }
    Ok(())
}

fn failed(error: Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
    })]

    #[test]
    fn images_are_as_the_plain_composition(
        batch in 1usize..20, inputs in channels(), outputs in channels(),
        sides in [side(20, 3, 1), side(20, 3, 1)], activation in fused(), seed: u64,
    ) {
        let geometry = geometry(batch, inputs, outputs, sides).map_err(failed)?;
        check(Convolution { geometry, transposed: false, activation }, seed)?;
    }

    #[test]
    fn signals_are_as_the_plain_composition(
        batch in 1usize..4, inputs in channels(), outputs in channels(), transposed: bool,
        along in prop_oneof![side(60, 4, 9), side(900, 1, 40)], seed: u64,
    ) {
        let mut along = along;
        if transposed {
            along[2] = 1;
        }
        let mut geometry = geometry(batch, inputs, outputs, [POINT, along]).map_err(failed)?;
        if transposed {
            // The output of a transposed convolution has no positions that the convolution would not see.
            let made = (geometry.output[1] - 1) * geometry.stride[1] + geometry.kernel[1];
            prop_assume!(made > 2 * geometry.padding[1]);
            geometry.input[1] = made - 2 * geometry.padding[1];
        }
        check(Convolution { geometry, transposed, activation: FusedActivation::Identity }, seed)?;
    }
}

#[test]
fn transposed_images_are_as_the_plain_composition() -> Result<()> {
    for (inputs, outputs, size, kernel, stride, padding) in
        [(3, 5, [3, 4], 4, 2, 1), (40, 33, [7, 7], 4, 2, 1), (1, 2, [2, 5], 3, 1, 1), (2, 3, [4, 3], 2, 3, 0)]
    {
        let made = |side: usize| transposed_axis(size[side], kernel, stride, padding);
        let geometry = Geometry {
            batch: 6,
            inputs,
            outputs,
            input: [made(0)?, made(1)?],
            output: size,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
            dilation: [1; 2],
        };
        let transposed = Convolution { geometry, transposed: true, activation: FusedActivation::Identity };
        assert!(worst(&transposed, DType::F64, 1)? < 1e-9 && worst(&transposed, DType::F32, 1)? < 1e-4, "{size:?}");
        // It is the transpose as a linear map: <y, conv x> = <conv^T y, x>.
        let rng = &mut Rng::seed(2);
        let mut draw = |shape: [usize; 4]| rng.normal_tensor(shape.to_vec(), DType::F64, CPU);
        let (x, y) = (draw([6, inputs, made(0)?, made(1)?])?, draw([6, outputs, size[0], size[1]])?);
        let weight = draw([outputs, inputs, kernel, kernel])?;
        let there = (conv2d(&x, &weight, None, stride, padding, FusedActivation::Identity)? * &y)?.sum_all()?;
        let back = (conv_transpose2d(&y, &weight, None, stride, padding)? * &x)?.sum_all()?;
        assert!(difference(&there, &back)? < 1e-10, "{size:?}");
    }
    Ok(())
}

#[test]
fn transposed_convolutions_may_have_long_kernels() -> Result<()> {
    let geometry = Geometry {
        batch: 2,
        inputs: 3,
        outputs: 5,
        input: [1, 190 * 32 + 128],
        output: [1, 191],
        kernel: [1, 128],
        stride: [1, 32],
        padding: [0, 0],
        dilation: [1, 1],
    };
    let off = worst(&Convolution { geometry, transposed: true, activation: FusedActivation::Identity }, DType::F64, 1)?;
    assert!(off < 1e-9, "{off}");
    Ok(())
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let image = |inputs, outputs, size| geometry(7, inputs, outputs, [[3, 1, 1, 1, size], [3, 1, 1, 1, size]]);
    let signal = |stride| geometry(1, 20, 40, [POINT, [3, stride, 8, 8, 1500]]);
    for geometry in [image(3, 70, 15)?, image(70, 3, 7)?, signal(1)?, signal(2)?] {
        for dtype in [DType::F32, DType::F64] {
            let on = |threads: usize| -> Result<Vec<u64>> {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let pool = pool.map_err(|e| Error::Config(e.to_string()))?;
                let convolution = Convolution { geometry, transposed: false, activation: FusedActivation::Tanh };
                let mut bits = Vec::new();
                for result in pool.install(|| run(&convolution, dtype, false, 1))? {
                    let values = result.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                    bits.extend(values.into_iter().map(f64::to_bits));
                }
                Ok(bits)
            };
            assert!(on(1)? == on(3)?, "{geometry:?}");
        }
    }
    Ok(())
}

#[test]
fn bad_shapes_are_errors() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, CPU);
    let image = |x: &[usize], weight: &[usize], stride, padding| -> Result<Tensor> {
        conv2d(&zeros(x)?, &zeros(weight)?, None, stride, padding, FusedActivation::Identity)
    };
    assert!(image(&[1, 2, 4, 4], &[3, 2, 3, 3], 1, 1).is_ok());
    for (x, weight, stride, padding) in [
        ([0, 2, 4, 4], [3, 2, 3, 3], 1, 1),
        ([1, 3, 4, 4], [3, 2, 3, 3], 1, 1),
        ([1, 2, 4, 4], [3, 2, 7, 7], 1, 1),
        ([1, 2, 4, 0], [3, 2, 1, 1], 1, 0),
        ([1, 2, 4, 4], [3, 2, 0, 3], 1, 0),
        ([1, 2, 4, 4], [0, 2, 3, 3], 1, 1),
        ([1, 0, 4, 4], [3, 0, 3, 3], 1, 1),
        ([1, 2, 4, 4], [3, 2, 3, 3], 0, 1),
        ([1, 2, 4, 4], [3, 2, 3, 3], 1, 3),
        ([1, 2, 4, 4], [3, 2, 3, 3], 1, usize::MAX),
    ] {
        assert!(image(&x, &weight, stride, padding).is_err(), "{x:?} {weight:?} {stride} {padding}");
    }
    let (x, weight) = (zeros(&[1, 2, 9])?, zeros(&[3, 2, 3])?);
    assert!(conv1d(&x, &weight, None, 1, 0, 5, FusedActivation::Identity).is_err());
    assert!(conv1d(&x, &weight, None, 1, 0, usize::MAX, FusedActivation::Identity).is_err());
    assert!(conv1d(&x, &weight, Some(&zeros(&[2])?), 1, 0, 1, FusedActivation::Identity).is_err());
    assert!(conv1d(&x, &weight.to_dtype(DType::F64)?, None, 1, 0, 1, FusedActivation::Identity).is_err());
    let weight = zeros(&[2, 3, 4])?;
    assert_eq!(conv_transpose1d(&x, &weight, None, 2, 1)?.dims(), [1, 3, 18]);
    assert!(conv_transpose1d(&x, &weight, None, 0, 0).is_err());
    assert!(conv_transpose1d(&x, &weight, None, usize::MAX, 0).is_err());
    assert!(conv_transpose1d(&x.narrow(2, 0, 1)?, &weight, None, 1, 2).is_err());
    Ok(())
}
