//! The operation against its plain composition.

use super::*;
use crate::Rng;
use crate::testing::difference;
use candle_core::{Device, Var};

/// A network over C channels with a condition of K channels, and its weights.
fn network(c: usize, k: usize, layers: usize, taps: usize, rng: &mut Rng) -> Result<(GatedNetwork, Vec<Var>)> {
    let mut vars = Vec::new();
    let mut var = |shape: Vec<usize>| -> Result<Tensor> {
        let scale = 0.5 / (shape.iter().skip(1).product::<usize>() as f64).sqrt();
        let var = Var::from_tensor(&(rng.normal_tensor(shape, DType::F64, &Device::Cpu)? * scale)?)?;
        vars.push(var.clone());
        Ok(var.as_tensor().clone())
    };
    let layer = |i: usize| -> Result<GatedLayer> {
        let made = if i + 1 == layers { c } else { 2 * c };
        Ok(GatedLayer {
            dilated: var(vec![2 * c, c, taps])?,
            dilated_bias: var(vec![2 * c])?,
            output: var(vec![made, c, 1])?,
            output_bias: var(vec![made])?,
            dilation: 1 << i,
        })
    };
    let made: Vec<GatedLayer> = (0..layers).map(layer).collect::<Result<_>>()?;
    let condition = (k > 0).then(|| Ok::<_, Error>([var(vec![2 * c * layers, k, 1])?, var(vec![2 * c * layers])?]));
    let condition = condition.transpose()?;
    Ok((GatedNetwork { layers: made, condition }, vars))
}

#[test]
fn as_the_plain_composition() -> Result<()> {
    let rng = &mut Rng::seed(1);
    for (batch, c, k, layers, taps, positions) in [
        (2, 3, 4, 3, 3, 9),
        (1, 5, 0, 2, 3, 700),
        (40, 2, 1, 2, 3, 17),
        (3, 4, 6, 4, 5, 1),
        (2, 20, 2, 1, 1, 300),
        (1, 64, 3, 3, 3, 1100),
    ] {
        let (network, vars) = network(c, k, layers, taps, rng)?;
        let x = Var::from_tensor(&rng.normal_tensor((batch, c, positions), DType::F64, &Device::Cpu)?)?;
        let condition = (k > 0)
            .then(|| {
                Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(
                    (batch, k, positions),
                    DType::F64,
                    &Device::Cpu,
                )?)?)
            })
            .transpose()?;
        let given = condition.as_ref().map(|condition| condition.as_tensor());
        let fused = gated_network(&x, given, network.clone())?;
        let plain = composed(&x, given, &network, c)?;
        assert!(difference(&plain, &fused)? < 1e-12);
        let cotangent = rng.normal_tensor(plain.shape().clone(), DType::F64, &Device::Cpu)?;
        let [of_fused, of_plain] =
            [(&fused * &cotangent)?.sum_all()?.backward()?, (&plain * &cotangent)?.sum_all()?.backward()?];
        for (i, var) in vars.iter().chain([&x]).chain(&condition).enumerate() {
            let (Some(a), Some(b)) = (of_fused.get(var), of_plain.get(var)) else {
                return Err(Error::Data(format!("input {i} has no gradient")));
            };
            assert!(difference(b, a)? < 1e-10, "the gradient of input {i}, {:?}", var.dims());
        }
        // Without a graph, and in the lower precision.
        let detached = |t: &Tensor| t.detach().to_dtype(DType::F32);
        let low = |network: &GatedNetwork| -> Result<GatedNetwork> {
            let layer = |l: &GatedLayer| -> Result<GatedLayer> {
                Ok(GatedLayer {
                    dilated: detached(&l.dilated)?,
                    dilated_bias: detached(&l.dilated_bias)?,
                    output: detached(&l.output)?,
                    output_bias: detached(&l.output_bias)?,
                    dilation: l.dilation,
                })
            };
            let condition = match &network.condition {
                Some([weight, bias]) => Some([detached(weight)?, detached(bias)?]),
                None => None,
            };
            Ok(GatedNetwork { layers: network.layers.iter().map(layer).collect::<Result<_>>()?, condition })
        };
        let given = given.map(detached).transpose()?;
        let y = gated_network(&detached(&x)?, given.as_ref(), low(&network)?)?;
        assert!(!y.track_op() && difference(&plain.to_dtype(DType::F32)?, &y)? < 1e-4);
    }
    Ok(())
}

#[test]
fn misuse_is_an_error() -> Result<()> {
    let rng = &mut Rng::seed(1);
    let (network, _) = network(3, 2, 2, 3, rng)?;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu);
    let x = zeros(&[1, 3, 8])?;
    for (x, condition) in [
        (&x, None),
        (&x, Some(zeros(&[1, 2, 7])?)),
        (&x, Some(zeros(&[1, 3, 8])?)),
        (&zeros(&[1, 4, 8])?, Some(zeros(&[1, 2, 8])?)),
        (&zeros(&[1, 3, 0])?, Some(zeros(&[1, 2, 0])?)),
    ] {
        assert!(gated_network(x, condition.as_ref(), network.clone()).is_err());
    }
    let mut far = network.clone();
    far.layers[0].dilation = usize::MAX / 2;
    assert!(gated_network(&x, Some(&zeros(&[1, 2, 8])?), far).is_err());
    let none = GatedNetwork { layers: Vec::new(), condition: None };
    assert!(gated_network(&x, None, none).is_err());
    Ok(())
}
