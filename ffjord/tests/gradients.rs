//! The gradient of a discrete solve is that of plain backpropagation through it, whatever the method.

use candle_core::{DType, Device, Tensor, Var};
use ffjord::field::{Activation, Divergence, FieldConfig, Penalty};
use ffjord::solver::{Method, Solver};
use ffjord::{Cnf, CnfSettings, Gradient};
use flows_core::bijectors::Bijector;
use flows_core::nn::Parameters;
use flows_core::testing::difference;
use flows_core::{Result, Rng};

/// Value, log-determinant, and the gradients for weights, data and context of a pass of training.
fn pass(settings: &CnfSettings) -> Result<Vec<Tensor>> {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
    let cnf = Cnf::new(2, settings, Some(1), &parameters.scope())?;
    let mut rng = Rng::seed(2);
    let x = Var::from_tensor(&rng.normal_tensor((6, 2), DType::F64, &Device::Cpu)?)?;
    let context = Var::from_tensor(&rng.normal_tensor((6, 1), DType::F64, &Device::Cpu)?)?;
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
            field: FieldConfig { hidden: vec![7, 5], activation: Activation::Swish, ..FieldConfig::default() },
            end_time: 1.0,
            solver: Solver { method, rtol: 1e-3, atol: 1e-3, step: 0.3, ..Solver::default() },
            divergence: [Divergence::Exact, Divergence::Rademacher, Divergence::Gaussian][i % 3],
            penalty: Penalty { kinetic: 0.1, jacobian: 0.2 },
            steer: 0.3,
            ..CnfSettings::default()
        };
        let discrete = pass(&settings)?;
        let plain = pass(&CnfSettings { gradient: Gradient::Plain, ..settings })?;
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
        field: FieldConfig { hidden: vec![7, 5], ..FieldConfig::default() },
        solver: Solver::new(Method::Tsit5, 1e-11),
        penalty: Penalty { kinetic: 0.1, jacobian: 0.2 },
        ..CnfSettings::default()
    };
    let discrete = pass(&settings)?;
    let adjoint = pass(&CnfSettings { gradient: Gradient::Adjoint, ..settings })?;
    for (i, (want, got)) in discrete.iter().zip(&adjoint).enumerate() {
        let d = difference(want, got)?;
        assert!(d < 1e-8, "result {i}: {d}");
    }
    Ok(())
}
