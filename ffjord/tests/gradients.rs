//! The gradient of a discrete solve is that of plain backpropagation through it, whatever the method.

use candle_core::{DType, Device, Tensor, Var};
use ffjord::field::{Activation, Divergence, Dual, Mlp, MlpConfig, Penalty, VectorField};
use ffjord::solver::{Method, Solver};
use ffjord::{Cnf, CnfSettings, Gradient};
use flows_core::bijectors::Bijector;
use flows_core::nn::Parameters;
use flows_core::testing::difference;
use flows_core::{Result, Rng, Structure};

/// A network without its kernels, as a field of a user's own is.
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

    fn structure(&self) -> Structure {
        self.0.structure()
    }
}

/// Value, log-determinant, and the gradients for weights, data and context of a pass of training, over
/// more rows than one piece has.
fn pass(settings: &CnfSettings, bare: Option<&MlpConfig>) -> Result<Vec<Tensor>> {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
    let cnf = match bare {
        Some(config) => Cnf::with_field(Bare(Mlp::new(2, Some(1), config, &parameters.scope())?), settings)?,
        None => Cnf::new(2, settings, Some(1), &parameters.scope())?,
    };
    let mut rng = Rng::seed(2);
    let x = Var::from_tensor(&rng.normal_tensor((20, 2), DType::F64, &Device::Cpu)?)?;
    let context = Var::from_tensor(&rng.normal_tensor((20, 1), DType::F64, &Device::Cpu)?)?;
    let (z, log_det) = cnf.inverse_training(&x, Some(&context), &mut rng)?;
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
fn discrete_gradients_are_those_of_backpropagation() -> Result<()> {
    for (i, method) in Method::ALL.into_iter().enumerate() {
        let settings = CnfSettings {
            field: MlpConfig { hidden: vec![7, 5], activation: Activation::Swish, ..MlpConfig::default() }.into(),
            end_time: 1.0,
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
fn the_adjoint_comes_as_close_as_its_tolerance() -> Result<()> {
    let settings = CnfSettings {
        field: MlpConfig { hidden: vec![7, 5], ..MlpConfig::default() }.into(),
        solver: Solver::new(Method::Tsit5, 1e-11),
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
