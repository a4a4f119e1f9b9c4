use super::*;
use crate::Rng;
use crate::testing::difference;
use candle_core::{Device, Var};

#[test]
fn networks_are_their_composition() -> Result<()> {
    let mut rng = Rng::seed(0);
    for (batch, channels, positions, sizes, [stride, dilation]) in [
        (3, 4, &[5, 6][..], vec![(7, 3), (5, 1), (6, 3)], [1, 1]),
        (1, 1, &[1, 1], vec![(2, 3), (2, 3)], [1, 1]),
        (2, 3, &[1, 4], vec![(40, 5), (2, 1)], [1, 1]),
        (2, 2, &[3, 3], vec![(4, 3)], [1, 1]),
        (2, 2, &[5, 9], vec![(4, 3), (3, 3)], [1, 2]),
        (2, 2, &[7, 8], vec![(4, 4), (3, 3)], [2, 1]),
        (3, 4, &[11], vec![(7, 3), (5, 1), (6, 3)], [1, 1]),
        (2, 1, &[60], vec![(3, 3), (2, 5)], [1, 4]),
        (1, 2, &[3], vec![(3, 3), (2, 3)], [1, 5]),
        (2, 3, &[17], vec![(3, 4), (2, 3)], [3, 2]),
    ] {
        let mut var = |shape: &[usize]| {
            Ok::<_, Error>(Var::from_tensor(&(rng.normal_tensor(shape, DType::F64, &Device::Cpu)? * 0.3)?)?)
        };
        let x = var(&[&[batch, channels], positions].concat())?;
        let (mut layers, mut leaves, mut inputs) = (Vec::new(), vec![x.clone()], channels);
        for (i, (outputs, size)) in sizes.iter().copied().enumerate() {
            let last = i + 1 == sizes.len();
            let kernel = vec![size; positions.len()];
            let (weight, bias) = (var(&[&[outputs, inputs], &kernel[..]].concat())?, var(&[outputs])?);
            let log_scale = if last { Some(var(&[outputs])?) } else { None };
            leaves.extend([&weight, &bias].into_iter().chain(&log_scale).cloned());
            layers.push(ConvLayer {
                weight: weight.as_tensor().clone(),
                bias: bias.as_tensor().clone(),
                log_scale: log_scale.map(|v| v.as_tensor().clone()),
                stride: if i == 0 { stride } else { 1 },
                padding: (size - 1) * if i == 0 { dilation } else { 1 } / 2,
                dilation: if i == 0 { dilation } else { 1 },
                outside: if last || i == 1 || stride > 1 { Outside::Ones } else { Outside::Zeros },
                activation: if last { FusedActivation::Identity } else { FusedActivation::Relu },
            });
            inputs = outputs;
        }
        let (plain, fused) = (composed(&x, &layers, &check(&x, &layers)?)?, conv_network(&x, layers)?);
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
            stride: 1,
            padding: 1,
            dilation: 1,
            outside: Outside::Ones,
            activation: FusedActivation::Relu,
        }])
    };
    let x = zeros(&[2, 3, 4, 4])?;
    assert!(conv_network(&x, layer(&[5, 3, 3, 3], 5)?).is_ok());
    for (weight, bias) in [([5, 2, 3, 3], 5), ([5, 3, 1, 3], 5), ([0, 3, 3, 3], 0), ([5, 3, 3, 3], 4)] {
        assert!(conv_network(&x, layer(&weight, bias)?).is_err());
    }
    assert!(conv_network(&zeros(&[0, 3, 4, 4])?, layer(&[5, 3, 3, 3], 5)?).is_err());
    let signal = zeros(&[2, 3, 16])?;
    assert!(conv_network(&signal, layer(&[5, 3, 3], 5)?).is_ok());
    assert!(
        conv_network(&signal, layer(&[5, 3, 3, 3], 5)?).is_err() && conv_network(&x, layer(&[5, 3, 3], 5)?).is_err()
    );
    for dilation in [0, usize::MAX] {
        let layers = layer(&[5, 3, 3], 5)?.into_iter().map(|layer| ConvLayer { dilation, padding: dilation, ..layer });
        assert!(conv_network(&signal, layers.collect()).is_err());
    }
    Ok(())
}
