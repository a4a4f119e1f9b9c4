use super::*;
use crate::testing::difference;
use crate::{Rng, ops::accumulate};
use candle_core::{Device, Var};

fn sorted(n: usize, top: usize) -> Vec<usize> {
    (0..n).map(|i| i * top / n).collect()
}

/// Values and gradients, accumulated by candle and by this crate, are those of the plain composition.
#[test]
fn networks_are_their_composition() -> Result<()> {
    let mut rng = Rng::seed(0);
    let cases = [
        (FusedActivation::Relu, 7, [3, 5, 4], None),
        (FusedActivation::Tanh, 1, [1, 1, 1], None),
        (FusedActivation::Identity, 3, [3, 5, 4], None),
        (FusedActivation::Relu, 9, [3, 150, 260], Some([vec![2, 0, 1], sorted(150, 3), sorted(260, 4)])),
        (FusedActivation::Tanh, 300, [20, 130, 70], Some([sorted(20, 20), sorted(130, 21), sorted(70, 5)])),
        (FusedActivation::Relu, 1, [1, 4, 2], Some([vec![1], vec![0; 4], vec![0, 0]])),
    ];
    for (activation, batch, [inputs, hidden, outputs], degrees) in cases {
        let mut var =
            |shape: &[usize]| Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(shape, DType::F64, &Device::Cpu)?)?);
        let sizes = [[hidden, inputs], [hidden, hidden], [hidden, hidden], [outputs, hidden]];
        let weights: Vec<[Var; 2]> =
            sizes.iter().map(|&[o, i]| Ok([var(&[o, i])?, var(&[o])?])).collect::<Result<_>>()?;
        let layer = |i: usize| {
            let layer = LinearLayer::new(&weights[i][0], &weights[i][1])?;
            let Some([first, middle, last]) = degrees.clone() else { return Ok::<_, Error>(layer) };
            let (from, to) = match i {
                0 => (first, middle),
                3 => (middle, last),
                _ => (middle.clone(), middle.iter().map(|degree| degree + 1).collect()),
            };
            Ok(layer.masked(Arc::new(Staircase::new(from, to))))
        };
        let (x, shift) = (var(&[batch, inputs])?, var(&[batch, hidden])?);
        let steps = vec![
            Step::Linear(layer(0)?, activation),
            Step::Residual([layer(1)?, layer(2)?], activation),
            Step::Linear(layer(3)?, FusedActivation::Identity),
        ];
        // One weight is also used outside of the network.
        let loss = |y: &Tensor| Ok::<_, Error>((y.sin()?.sum_all()? + weights[1][0].sqr()?.sum_all()?)?);
        for shift in [None, Some(&shift)] {
            let plain = composed(&x, shift.map(Var::as_tensor), &steps)?;
            let want = loss(&plain)?.backward()?;
            let run = || dense(&x, shift.map(Var::as_tensor), steps.clone());
            let got = run()?;
            let scale = plain.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(difference(&(got.clone() / scale)?, &(plain / scale)?)? < 1e-12);
            let by_candle = loss(&got)?.backward()?;
            let mut sums = accumulate::Sums::default();
            let mut in_place = accumulate::backward(&loss(&run()?)?, &mut sums)?;
            sums.finish(&mut in_place)?;
            for (i, var) in weights.iter().flatten().chain([&x]).chain(shift).enumerate() {
                for grads in [&by_candle, &in_place] {
                    let (Some(want), Some(got)) = (want.get(var), grads.get(var)) else { panic!("no gradient {i}") };
                    let scale = want.abs()?.max_all()?.to_scalar::<f64>()?.max(1.0);
                    assert!(difference(&(want / scale)?, &(got / scale)?)? < 1e-9, "{i}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn wrong_shapes_are_errors() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let (w, b) = (zeros(&[4, 3])?, zeros(&[4])?);
    assert!(linear(&zeros(&[2, 2])?, &w, Some(&b), FusedActivation::Relu).is_err());
    assert!(linear(&zeros(&[2, 3])?, &w, Some(&zeros(&[3])?), FusedActivation::Relu).is_err());
    assert!(linear(&zeros(&[3])?, &w, None, FusedActivation::Relu).is_err());
    Ok(())
}
