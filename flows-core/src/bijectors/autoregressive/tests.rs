use super::*;
use crate::bijectors::univariate::{Affine, DeepSigmoid, Inverted, MonotonicIntegral, RqSpline};
use crate::nn::{Activation, Parameters};
use crate::testing::{difference, perturb};
use candle_core::{Device, Var};

type Family = fn(&Scope) -> Result<Arc<dyn Univariate>>;

const FAMILIES: [(&str, Family); 7] = [
    ("affine", |_| Ok(Arc::new(Affine::default()))),
    ("affine, sigmoid", |_| Ok(Arc::new(Affine::sigmoid(2.0)))),
    ("affine, gated", |_| Ok(Arc::new(Affine::gated(1.0)))),
    ("inverse of affine, gated", |_| Ok(Arc::new(Inverted(Affine::gated(1.0))))),
    ("RQ-spline", |_| Ok(Arc::new(RqSpline::linear_tails(5, 3.0)?))),
    ("deep sigmoid", |_| Ok(Arc::new(Inverted(DeepSigmoid::new(3)?)))),
    ("integral", |s| Ok(Arc::new(Inverted(MonotonicIntegral::new(2, &[6], 10, s)?)))),
];

fn layer(
    (features, context): (usize, Option<usize>),
    order: Option<Vec<usize>>,
    network: &NetworkConfig,
    family: Family,
    dtype: DType,
) -> Result<(Parameters, Autoregressive)> {
    let parameters = Parameters::new(dtype, &Device::Cpu, Rng::seed(1));
    let scope = parameters.scope().with_context_units(true);
    let layer = Autoregressive::new(features, family(&scope.enter("family"))?, context, order, network, &scope)?;
    perturb(&parameters, 0.1, &mut Rng::seed(2))?;
    Ok((parameters, layer))
}

/// Models of a config that says nothing keep what they compute.
#[test]
fn the_first_dimension_sees_the_context_where_the_scope_says_so() -> Result<()> {
    let depends = |scope: fn(&Parameters) -> Scope, order: Option<Vec<usize>>| {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
        let affine = Arc::new(Affine::default());
        let network = NetworkConfig::mlp([9]);
        let layer = Autoregressive::new(3, affine, Some(1), order, &network, &scope(&parameters))?;
        perturb(&parameters, 0.3, &mut Rng::seed(2))?;
        let (z, c) = (Tensor::zeros((2, 3), DType::F64, &Device::Cpu)?, Tensor::new(&[[-1.0], [1.0]], &Device::Cpu)?);
        let (x, _) = layer.map(Direction::Forward, &z, Some(&c), &mut Mode::evaluation())?;
        let x = x.to_vec2::<f64>()?;
        Ok::<_, Error>([0, 1, 2].map(|i| (x[0][i] - x[1][i]).abs() > 1e-6))
    };
    let silent = |parameters: &Parameters| parameters.scope();
    let units = |parameters: &Parameters| parameters.scope().with_context_units(true).enter("layer");
    assert_eq!(depends(silent, None)?, [false, true, true]);
    assert_eq!(depends(silent, Some(vec![1, 0, 2]))?, [true, false, true]);
    assert_eq!(depends(units, None)?, [true; 3]);
    Ok(())
}

fn masked(layer: &Autoregressive) -> &Map {
    match &layer.kind {
        Kind::Masked(map) => map,
        Kind::Own(_) => panic!("a network of its own"),
    }
}

#[test]
fn an_own_network_is_a_masked_one_if_it_keeps_the_order() -> Result<()> {
    let (features, context, order) = (4, Some(2), vec![2, 0, 3, 1]);
    let (parameters, layer) =
        layer((features, context), Some(order.clone()), &NetworkConfig::mlp([9]), FAMILIES[0].1, DType::F64)?;
    let own = |order: Vec<usize>| {
        let network = Box::new(masked(&layer).made.clone());
        Autoregressive::with_network(Arc::new(Affine::default()), context, order, network, &parameters.scope())
    };
    let same = own(order)?;
    let rng = &mut Rng::seed(4);
    let z = rng.normal_tensor((5, features), DType::F64, &Device::Cpu)?;
    let c = rng.normal_tensor((5, 2), DType::F64, &Device::Cpu)?;
    for direction in [Direction::Forward, Direction::Inverse] {
        let run = |layer: &Autoregressive| layer.map(direction, &z, Some(&c), &mut Mode::evaluation());
        let ((want, want_log), (got, log)) = (run(&layer)?, run(&same)?);
        assert!(difference(&want, &got)? < 1e-12 && difference(&want_log, &log)? < 1e-12);
    }
    let message = own(vec![0, 1, 2, 3]).unwrap_err().to_string();
    assert!(message.contains("not autoregressive"), "{message}");
    assert!(own(vec![0, 1, 2, 2]).is_err());
    assert!(own(vec![1, 0, 2]).is_err());
    Ok(())
}

/// Value, log-determinant, and their gradients for z, the context and all weights under random
/// gradients, by the sequential direction and by one pass of the network for each dimension.
fn compare(
    layer: &Autoregressive,
    parameters: &Parameters,
    batch: usize,
    context: Option<usize>,
    limits: [f64; 2],
) -> Result<()> {
    let (dtype, mut rng) = (parameters.dtype(), Rng::seed(3));
    let mut draw = |columns: usize| rng.normal_tensor((batch, columns), dtype, &Device::Cpu);
    let d = layer.shape[0];
    // Within the range of the integral.
    let z = Var::from_tensor(&(draw(d)? * 0.5)?)?;
    let context = context.map(|width| Ok::<_, crate::Error>(Var::from_tensor(&draw(width)?)?)).transpose()?;
    let (gx, gl) = (draw(d)?, draw(1)?.squeeze(1)?);
    let given = context.as_ref().map(|context| context.as_tensor());
    let (x, log) = layer.forward(&z, given)?;
    let (want_x, want_log) = masked(layer).passes().to_data(&z, given, &mut Mode::evaluation())?;
    assert!(difference(&want_x, &x)? < limits[0] && difference(&want_log, &log)? < limits[0]);
    let gradients =
        |x: Tensor, log: Tensor| -> Result<_> { Ok(((x * &gx)?.sum_all()? + (log * &gl)?.sum_all()?)?.backward()?) };
    let (got, want) = (gradients(x, log)?, gradients(want_x, want_log)?);
    let inputs = [("z", Some(&z)), ("context", context.as_ref())];
    let inputs = inputs.into_iter().filter_map(|(name, var)| Some((name.to_string(), var?.clone())));
    for (name, var) in parameters.trainable().into_iter().chain(inputs) {
        let (Some(got), Some(want)) = (got.get(&var), want.get(&var)) else { panic!("no gradient for {name}") };
        let scale = want.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.max(1.0);
        let off = difference(&(want / scale)?, &(got / scale)?)?;
        assert!(off < limits[1], "{name} is off by {off:e} of {scale:e}");
    }
    Ok(())
}

#[test]
fn the_sequential_direction_equals_one_pass_a_dimension() -> Result<()> {
    let shuffled = Some(vec![2, 0, 4, 1, 3]);
    let mlp = |activation| NetworkConfig::Mlp { hidden: vec![9, 14], activation };
    for (name, family) in FAMILIES {
        for (features, order, context, batch) in [
            (5, None, None, 3),
            (5, shuffled.clone(), Some(2), 70),
            (1, None, Some(1), 2),
            (2, Some(vec![1, 0]), None, 1),
        ] {
            for network in [mlp(Activation::Tanh), NetworkConfig::residual(11, 2)] {
                let (parameters, layer) = layer((features, context), order.clone(), &network, family, DType::F64)?;
                eprintln!("{name}, {features} features, {batch} rows, {network:?}");
                compare(&layer, &parameters, batch, context, [1e-11, 1e-9])?;
            }
        }
    }
    Ok(())
}

#[test]
fn every_activation_has_its_derivative() -> Result<()> {
    use Activation::*;
    for activation in [Relu, Tanh, Elu, Silu, Gelu, Sigmoid, Softplus, LeakyRelu] {
        let network = NetworkConfig::Residual { hidden: 8, blocks: 1, activation, dropout: 0.0 };
        let (parameters, layer) = layer((4, None), None, &network, FAMILIES[0].1, DType::F64)?;
        compare(&layer, &parameters, 5, None, [1e-11, 1e-9])?;
    }
    Ok(())
}

#[test]
fn single_precision_holds() -> Result<()> {
    for (_, family) in FAMILIES {
        let order = Some(vec![3, 2, 1, 0]);
        let (parameters, layer) = layer((4, Some(2)), order, &NetworkConfig::mlp([12]), family, DType::F32)?;
        compare(&layer, &parameters, 100, Some(2), [1e-5, 1e-4])?;
    }
    Ok(())
}
