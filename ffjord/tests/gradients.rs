//! The gradients of a solve agree with each other: discrete, adjoint and by plain backpropagation.

use candle_core::{DType, Device, Tensor, Var};
use ffjord::field::{Activation, Bottleneck, Divergence, Dual, GraphConfig, Mlp, MlpConfig, Penalty, VectorField};
use ffjord::solver::{Method, Solver};
use ffjord::{Cnf, CnfSettings, Gradient};
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::nn::Parameters;
use flows_core::testing::{difference, gradient_difference};
use flows_core::{Result, Rng, Structure};

/// An MLP without its kernels, like a user-defined field.
#[derive(Debug)]
struct Bare(Mlp);

impl VectorField for Bare {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn context(&self) -> usize {
        self.0.context()
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.0.tensors()
    }

    fn evaluate(&self, weights: &[Tensor], t: &Tensor, z: &Dual, context: Option<&Tensor>) -> Result<Dual> {
        self.0.evaluate(weights, t, z, context)
    }

    fn bottleneck(&self) -> Option<&dyn Bottleneck> {
        self.0.bottleneck()
    }

    fn structure(&self) -> Structure {
        self.0.structure()
    }
}

/// The value, the log-determinant, and the gradients with respect to weights, data and context of a training pass, over
/// more rows than one piece has.
fn pass(settings: &CnfSettings, bare: Option<&MlpConfig>) -> Result<Vec<Tensor>> {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
    let cnf = match bare {
        Some(config) => {
            let fixed = CnfSettings { train_end_time: false, ..settings.clone() };
            let field = Bare(Mlp::new(2, Some(1), config, &parameters.scope())?);
            Cnf::with_field(field, &fixed)?.train_end_time(&parameters.scope())?
        }
        None => Cnf::new(2, settings, Some(1), &parameters.scope())?,
    };
    let mut rng = Rng::seed(2);
    let x = Var::from_tensor(&rng.normal_tensor((20, 2), DType::F64, &Device::Cpu)?)?;
    let context = Var::from_tensor(&rng.normal_tensor((20, 1), DType::F64, &Device::Cpu)?)?;
    let (z, log_det) = cnf.map(Direction::Inverse, &x, Some(&context), &mut Mode::training(&mut rng))?;
    let loss = ((z.sqr()?.sum_all()? * 0.5)? - log_det.sum_all()?)?;
    let gradients = loss.backward()?;
    let mut found = vec![z, log_det];
    let leaves = parameters.trainable().into_iter().map(|(_, var)| var);
    for var in leaves.chain([x, context]) {
        found.push(gradients.get(&var).expect("a gradient").clone());
    }
    Ok(found)
}

#[test]
fn discrete_gradients_agree_with_backpropagation() -> Result<()> {
    for (i, method) in Method::ALL.into_iter().enumerate() {
        let settings = CnfSettings {
            field: MlpConfig { hidden: vec![7, 5], activation: Activation::Swish, ..MlpConfig::default() }.into(),
            end_time: 1.0,
            train_end_time: true,
            solver: Solver { method, rtol: 1e-3, atol: 1e-3, step: 0.3, ..Solver::default() },
            divergence: [Divergence::Exact, Divergence::Rademacher, Divergence::Gaussian][i % 3],
            penalty: Penalty { kinetic: 0.1, jacobian: 0.2 },
            steer: 0.3,
            ..CnfSettings::default()
        };
        let discrete = pass(&settings, None)?;
        let plain = pass(&CnfSettings { gradient: Gradient::Plain, ..settings }, None)?;
        for (i, (want, got)) in plain.iter().zip(&discrete).enumerate() {
            let d = difference(want, got)?;
            assert!(d < 1e-10, "{method}, result {i}: {d}");
        }
    }
    Ok(())
}

#[test]
fn adjoint_gradients_are_exact_within_the_tolerance() -> Result<()> {
    let settings = CnfSettings {
        field: MlpConfig { hidden: vec![7, 5], ..MlpConfig::default() }.into(),
        solver: Solver::new(Method::Tsit5, 1e-11),
        train_end_time: true,
        penalty: Penalty { kinetic: 0.1, jacobian: 0.2 },
        ..CnfSettings::default()
    };
    let discrete = pass(&settings, None)?;
    let adjoint = pass(&CnfSettings { gradient: Gradient::Adjoint, ..settings }, None)?;
    for (i, (want, got)) in discrete.iter().zip(&adjoint).enumerate() {
        let d = difference(want, got)?;
        assert!(d < 1e-8, "result {i}: {d}");
    }
    Ok(())
}

#[test]
fn fields_without_kernels_have_the_same_gradients() -> Result<()> {
    let config = MlpConfig { hidden: vec![7, 5], activation: Activation::Swish, ..MlpConfig::default() };
    for (divergence, gradient) in [
        (Divergence::Exact, Gradient::Discrete),
        (Divergence::Rademacher, Gradient::Discrete),
        (Divergence::Exact, Gradient::Adjoint),
    ] {
        let settings = CnfSettings {
            field: config.clone().into(),
            solver: Solver::new(Method::Bosh3, 1e-3),
            train_end_time: true,
            divergence,
            gradient,
            penalty: Penalty { kinetic: 0.1, jacobian: 0.2 },
            ..CnfSettings::default()
        };
        let (kernels, composed) = (pass(&settings, None)?, pass(&settings, Some(&config))?);
        for (i, (want, got)) in kernels.iter().zip(&composed).enumerate() {
            let d = difference(want, got)?;
            assert!(d < 1e-10, "{divergence:?}, {gradient:?}, result {i}: {d}");
        }
    }
    Ok(())
}

/// In both directions, from an intermediate time, and for training with a random end time.
#[test]
fn the_gradient_of_the_end_time_agrees_with_finite_differences() -> Result<()> {
    for (gradient, method, tolerance) in [
        (Gradient::Discrete, Method::Rk4, 1e-9),
        (Gradient::Plain, Method::Rk4, 1e-9),
        (Gradient::Discrete, Method::Dopri5, 1e-7),
        (Gradient::Adjoint, Method::Dopri5, 1e-7),
    ] {
        let settings = CnfSettings {
            field: MlpConfig { hidden: vec![6], ..MlpConfig::default() }.into(),
            end_time: 0.8,
            train_end_time: true,
            solver: Solver { step: 0.25, ..Solver::new(method, 1e-11) },
            divergence: Divergence::Rademacher,
            penalty: Penalty { kinetic: 0.1, jacobian: 0.2 },
            steer: 0.3,
            gradient,
            ..CnfSettings::default()
        };
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
        let cnf = Cnf::new(2, &settings, None, &parameters.scope())?;
        let (name, root) = parameters.trainable().pop().expect("weights");
        assert_eq!(name, "sqrt_end_time");
        let x = Rng::seed(2).normal_tensor((3, 2), DType::F64, &Device::Cpu)?;
        let passes: [&dyn Fn() -> Result<(Tensor, Tensor)>; 4] = [
            &|| cnf.map(Direction::Inverse, &x, None, &mut Mode::training(&mut Rng::seed(3))),
            &|| cnf.inverse(&x, None),
            &|| cnf.forward(&x, None),
            &|| cnf.to_base(&x, 0.2, None),
        ];
        for (i, pass) in passes.into_iter().enumerate() {
            let loss = || {
                let (z, log_det) = pass()?;
                Ok(((z.sqr()?.sum_all()? * 0.5)? - log_det.sum_all()?)?)
            };
            let none = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let d = gradient_difference(loss, &none, &[("the end time", &root)], &mut Rng::seed(4))?;
            assert!(d < tolerance, "{gradient:?}, {method}, pass {i}: {d}");
            let size = loss()?.backward()?.get(&root).expect("a gradient").abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(size > 1e-2, "{gradient:?}, {method}, pass {i}: {size}");
        }
    }
    Ok(())
}

#[test]
fn an_invalid_end_time_is_an_error() -> Result<()> {
    let settings = CnfSettings { train_end_time: true, steer: 0.2, ..CnfSettings::default() };
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
    let cnf = Cnf::new(2, &settings, None, &parameters.scope())?;
    let root = parameters.trainable().pop().expect("weights").1;
    let x = Tensor::ones((2, 2), DType::F64, &Device::Cpu)?;
    for (value, word) in [(0.4, "steer"), (0.0, "learning rate"), (f64::NAN, "learning rate")] {
        root.set(&Tensor::new(&[value], &Device::Cpu)?)?;
        let error =
            cnf.map(Direction::Inverse, &x, None, &mut Mode::training(&mut Rng::seed(0))).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("train_end_time"), "{error}");
    }
    root.set(&Tensor::new(&[-0.3], &Device::Cpu)?)?;
    assert!((cnf.end_time()? - 0.09).abs() < 1e-15);
    let field = Mlp::new(2, None, &MlpConfig::default(), &parameters.scope().enter("field"))?;
    assert!(Cnf::with_field(field, &settings).unwrap_err().to_string().contains("Cnf::train_end_time"));
    Ok(())
}

#[test]
fn estimates_at_a_bottleneck_have_the_same_gradients() -> Result<()> {
    let config = MlpConfig { hidden: vec![5, 1, 4], activation: Activation::Swish, ..MlpConfig::default() };
    let settings = CnfSettings {
        field: config.clone().into(),
        solver: Solver::new(Method::Bosh3, 1e-3),
        train_end_time: true,
        divergence: Divergence::BottleneckGaussian,
        penalty: Penalty { kinetic: 0.1, jacobian: 0.0 },
        ..CnfSettings::default()
    };
    let want = pass(&CnfSettings { gradient: Gradient::Plain, ..settings.clone() }, None)?;
    for bare in [None, Some(&config)] {
        for (i, (want, got)) in want.iter().zip(&pass(&settings, bare)?).enumerate() {
            let d = difference(want, got)?;
            assert!(d < 1e-10, "result {i}: {d}");
        }
    }
    let precise = CnfSettings { solver: Solver::new(Method::Tsit5, 1e-11), ..settings.clone() };
    let adjoint = pass(&CnfSettings { gradient: Gradient::Adjoint, ..precise.clone() }, None)?;
    for (i, (want, got)) in pass(&precise, None)?.iter().zip(&adjoint).enumerate() {
        let d = difference(want, got)?;
        assert!(d < 1e-8, "result {i}: {d}");
    }

    let refused = |settings: &CnfSettings| {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        Cnf::new(2, settings, None, &parameters.scope()).unwrap_err().to_string()
    };
    let wide = MlpConfig { hidden: vec![2, 4], ..MlpConfig::default() };
    let graph = GraphConfig { dimension: 1, ..GraphConfig::default() };
    for field in [wide.into(), MlpConfig { hidden: Vec::new(), ..config }.into(), graph.into()] {
        let error = refused(&CnfSettings { field, ..settings.clone() });
        assert!(error.contains("narrower than the data"), "{error}");
    }
    let error = refused(&CnfSettings { penalty: Penalty { kinetic: 0.0, jacobian: 0.1 }, ..settings });
    assert!(error.contains("jacobian"), "{error}");
    Ok(())
}
