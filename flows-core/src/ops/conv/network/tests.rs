use super::*;
use crate::Rng;
use crate::testing::difference;
use candle_core::{Device, Var};

#[test]
fn networks_are_their_composition() -> Result<()> {
    let mut rng = Rng::seed(0);
    for (batch, channels, [height, width], sizes) in [
        (3, 4, [5, 6], vec![(7, 3), (5, 1), (6, 3)]),
        (1, 1, [1, 1], vec![(2, 3), (2, 3)]),
        (2, 3, [1, 4], vec![(40, 5), (2, 1)]),
        (2, 2, [3, 3], vec![(4, 3)]),
    ] {
        let mut var = |shape: &[usize]| {
            Ok::<_, Error>(Var::from_tensor(&(rng.normal_tensor(shape, DType::F64, &Device::Cpu)? * 0.3)?)?)
        };
        let x = var(&[batch, channels, height, width])?;
        let (mut layers, mut leaves, mut inputs) = (Vec::new(), vec![x.clone()], channels);
        for (i, (outputs, kernel)) in sizes.iter().copied().enumerate() {
            let last = i + 1 == sizes.len();
            let (weight, bias) = (var(&[outputs, inputs, kernel, kernel])?, var(&[outputs])?);
            let log_scale = if last { Some(var(&[outputs])?) } else { None };
            leaves.extend([&weight, &bias].into_iter().chain(&log_scale).cloned());
            layers.push(ConvLayer {
                weight: weight.as_tensor().clone(),
                bias: bias.as_tensor().clone(),
                log_scale: log_scale.map(|v| v.as_tensor().clone()),
                outside: if last || i == 1 { Outside::Ones } else { Outside::Zeros },
                activation: if last { Fused::Identity } else { Fused::Relu },
            });
            inputs = outputs;
        }
        let (plain, fused) = (composed(&x, &layers)?, conv_network(&x, layers)?);
        assert!(difference(&plain, &fused)? < 1e-12);
        let (want, got) = (plain.sin()?.sum_all()?.backward()?, fused.sin()?.sum_all()?.backward()?);
        for (i, leaf) in leaves.iter().enumerate() {
            let (Some(want), Some(got)) = (want.get(leaf), got.get(leaf)) else { panic!("no gradient {i}") };
            assert!(difference(want, got)? < 1e-10, "{i}");
        }
    }
    Ok(())
}

#[test]
fn wrong_layers_are_errors() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let layer = |weight: &[usize], bias: usize| {
        let (weight, bias) = (zeros(weight)?, zeros(&[bias])?);
        Ok::<_, Error>(vec![ConvLayer {
            weight,
            bias,
            log_scale: None,
            outside: Outside::Ones,
            activation: Fused::Relu,
        }])
    };
    let x = zeros(&[2, 3, 4, 4])?;
    assert!(conv_network(&x, layer(&[5, 3, 3, 3], 5)?).is_ok());
    for (weight, bias) in [([5, 2, 3, 3], 5), ([5, 3, 2, 2], 5), ([5, 3, 3, 1], 5), ([5, 3, 3, 3], 4)] {
        assert!(conv_network(&x, layer(&weight, bias)?).is_err());
    }
    assert!(conv_network(&zeros(&[0, 3, 4, 4])?, layer(&[5, 3, 3, 3], 5)?).is_err());
    Ok(())
}
