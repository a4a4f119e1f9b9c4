use super::*;
use candle_core::{DType, Device, Var};
use flows_core::Rng;
use flows_core::nn::Parameters;
use flows_core::testing::{difference, gradient_difference, perturb};

/// Fields with all kinds of layers, and their names.
fn fields() -> Vec<(String, [usize; 3], ConvConfig)> {
    let plain = |layer, activation| ConvConfig { hidden: vec![5, 4], layer, activation, ..ConvConfig::default() };
    let mut fields = Vec::new();
    for layer in [TimeLayer::Ignore, TimeLayer::Concat, TimeLayer::ConcatSquash] {
        for activation in [Activation::Softplus, Activation::Swish] {
            fields.push((format!("{layer:?} {activation}"), [2, 3, 4], plain(layer, activation)));
        }
        let (hidden, strides) = (vec![3, 4, 4, 5, 4, 3], vec![2, 1, 2, 1, -2, 1, -2]);
        let config = ConvConfig { hidden, strides, skips: true, linear: true, ..plain(layer, Activation::Silu) };
        fields.push((format!("{layer:?} with strides"), [1, 4, 8], config));
    }
    fields
}

#[test]
fn fields_are_differentiated_exactly() -> Result<()> {
    let mut rng = Rng::seed(0);
    for ((name, shape, config), context) in fields().into_iter().flat_map(|f| [(f.clone(), None), (f, Some(2))]) {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
        let field = ConvField::new(shape, context, &config, &parameters.scope())?;
        perturb(&parameters, 0.2, &mut rng)?;
        assert_eq!(field.structure().total(), parameters.count(), "{name}");
        let (rows, dim) = (3, field.dim());
        let tensor = |shape: &[usize], rng: &mut Rng| rng.normal_tensor(shape, DType::F64, &Device::Cpu);
        let z = Var::from_tensor(&tensor(&[rows, dim], &mut rng)?)?;
        let (t, tangents) = (Var::new(0.7, &Device::Cpu)?, tensor(&[2, rows, dim], &mut rng)?);
        let given = Var::from_tensor(&tensor(&[rows, 2], &mut rng)?)?;
        let (grad_value, grad_products) = (tensor(&[rows, dim], &mut rng)?, tensor(&[2, rows, dim], &mut rng)?);
        let run = |z: &Tensor, tangents: Option<&Tensor>| {
            field.evaluate(
                &field.tensors(),
                &t,
                &Dual::new(z.clone(), tangents.cloned())?,
                context.map(|_| given.as_tensor()),
            )
        };
        let found = run(&z, Some(&tangents))?;
        let products = found.tangents().expect("products");
        assert!(difference(found.value(), run(&z, None)?.value())? < 1e-13, "{name}");
        for k in 0..2 {
            let at = |h: f64| {
                let z = (z.as_tensor() + (tangents.get(k)? * h)?)?;
                Ok::<_, Error>(run(&z, None)?.value().clone())
            };
            let central = ((at(1e-5)? - at(-1e-5)?)? / 2e-5)?;
            assert!(difference(&central, &products.get(k)?)? < 1e-8, "{name}");
        }
        let loss = || {
            let found = run(&z, Some(&tangents))?;
            let products = found.tangents().expect("products");
            Ok(((found.value() * &grad_value)?.sum_all()? + (products * &grad_products)?.sum_all()?)?)
        };
        let ignored = config.layer == TimeLayer::Ignore && !config.linear;
        let inputs = [Some(("z", &z)), (!ignored).then_some(("t", &t)), context.map(|_| ("context", &given))];
        let inputs: Vec<_> = inputs.into_iter().flatten().collect();
        let d = gradient_difference(loss, &parameters, &inputs, &mut Rng::seed(1))?;
        assert!(d < 1e-8, "{name}: {d}");
    }
    Ok(())
}

/// A concat layer is a convolution with t as one more input channel.
#[test]
fn concat_appends_a_time_channel() -> Result<()> {
    let mut rng = Rng::seed(0);
    for stride in [1, 2, -2] {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
        let stride = Stride::of(stride)?;
        let layer = Layer::new(stride, [2, 4, 6], 3, (TimeLayer::Concat, false), Skip::None, &parameters.scope())?;
        let x = rng.normal_tensor((2, 2, 4, 6), DType::F64, &Device::Cpu)?;
        let t = Tensor::new(0.3, &Device::Cpu)?;
        let own: Vec<Tensor> = layer.tensors().cloned().collect();
        let (weight, ActivationInputs { shift, .. }) = layer.at(&own, &t)?;
        let got = stride.convolve(&x, weight, None)?.broadcast_add(&shift.unsqueeze(0)?)?;
        let with_time = Tensor::cat(&[t.broadcast_as((2, 1, 4, 6))?, x], 1)?;
        let axis = if stride == Stride::Double { 0 } else { 1 };
        let whole = Tensor::cat(&[&own[2], weight], axis)?;
        assert!(difference(&stride.convolve(&with_time, &whole, Some(&own[1]))?, &got)? < 1e-13);
    }
    Ok(())
}

#[test]
fn mismatched_layers_are_errors() -> Result<()> {
    let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
    let mut count = 0;
    let mut build = |shape, hidden: &[usize], strides: &[i32], skips| {
        count += 1;
        let (hidden, strides) = (hidden.to_vec(), strides.to_vec());
        let config = ConvConfig { hidden, strides, skips, ..ConvConfig::default() };
        ConvField::new(shape, None, &config, &parameters.scope().enter(count))
    };
    assert!(build([1, 4, 4], &[3, 3], &[2, 1, -2], true).is_ok());
    for (shape, hidden, strides, skips) in [
        ([0, 4, 4], &[3, 3][..], &[][..], false),
        ([1, 4, 4], &[3, 0], &[], false),
        ([1, 4, 4], &[3, 3], &[1, 1], false),
        ([1, 4, 4], &[3, 3], &[1, 3, 1], false),
        ([1, 4, 4], &[3, 3], &[2, 1, 1], false),
        ([1, 4, 5], &[3, 3], &[2, 1, -2], false),
        ([1, 4, 4], &[3, 4, 5, 6], &[1, 2, 1, -2, 1], true),
    ] {
        assert!(build(shape, hidden, strides, skips).is_err(), "{shape:?} {hidden:?} {strides:?}");
    }
    Ok(())
}
