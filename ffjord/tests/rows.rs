//! Rows with their own steps: results do not depend on other rows.

use candle_core::{DType, Device, Tensor, Var};
use ffjord::field::{Divergence, Dual, MlpConfig, VectorField};
use ffjord::solver::{Method, Solver};
use ffjord::{Cnf, CnfSettings, Cost, Gradient};
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::nn::{Init, Parameters};
use flows_core::testing::difference;
use flows_core::{Result, Rng, Structure};

/// `f(t, z) = -w z^3`: the farther out, the stiffer.
#[derive(Debug)]
struct Cubic(Tensor);

impl VectorField for Cubic {
    fn dim(&self) -> usize {
        2
    }

    fn tensors(&self) -> Vec<Tensor> {
        vec![self.0.clone()]
    }

    fn evaluate(&self, weights: &[Tensor], _: &Tensor, z: &Dual, _: Option<&Tensor>) -> Result<Dual> {
        z.times(z)?.times(z)?.scale(&weights[0].neg()?)
    }

    fn structure(&self) -> Structure {
        Structure::new("Cubic", "").weights([&self.0])
    }
}

/// The results of a pass over a batch.
struct Pass {
    /// For each row its point, its log-determinant and the gradient with respect to its input.
    rows: Vec<Vec<f64>>,
    grad_weight: f64,
    cost: Cost,
}

fn pass(row_steps: bool, forward: bool, x: &[[f64; 2]]) -> Result<Pass> {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let weight = parameters.scope().weight("weight", 1, Init::Constant(0.3))?;
    let settings = CnfSettings { solver: Solver::new(Method::Dopri5, 1e-4), row_steps, ..CnfSettings::default() };
    let cnf = Cnf::with_field(Cubic(weight.clone()), &settings)?;
    let x = Var::from_tensor(&Tensor::from_slice(x.as_flattened(), (x.len(), 2), &Device::Cpu)?)?;
    let (z, log_det) = if forward { cnf.forward(&x, None)? } else { cnf.inverse(&x, None)? };
    let gradients = ((z.sqr()?.sum_all()? * 0.5)? - log_det.sum_all()?)?.backward()?;
    let grad_x = gradients.get(&x).expect("a gradient");
    let rows = Tensor::cat(&[&z, &log_det.unsqueeze(1)?, grad_x], 1)?.to_vec2()?;
    let grad_weight = gradients.get(&weight).expect("a gradient").to_vec1::<f64>()?[0];
    Ok(Pass { rows, grad_weight, cost: cnf.take_cost() })
}

#[test]
fn a_stiff_row_does_not_affect_the_others() -> Result<()> {
    for (forward, stiff) in [(false, [100.0, 8.0]), (true, [1.8, 1.1])] {
        let x = [[0.2, -0.4], stiff, [1.0, 0.3]];
        let alone = x.iter().map(|row| pass(false, forward, &[*row])).collect::<Result<Vec<_>>>()?;
        let each = pass(true, forward, &x)?;
        for (row, alone) in each.rows.iter().zip(&alone) {
            assert_eq!(row, &alone.rows[0]);
        }
        let sum = alone.iter().fold(Cost::default(), |sum, one| sum.plus(one.cost));
        let counts = |cost: Cost| Cost { seconds_forward: 0.0, seconds_backward: 0.0, ..cost };
        assert_eq!(counts(each.cost), counts(sum));
        assert!(alone[1].cost.forward > 2 * alone[0].cost.forward, "{:?} {:?}", alone[1].cost, alone[0].cost);
        let grad_weight: f64 = alone.iter().map(|one| one.grad_weight).sum();
        assert!((each.grad_weight - grad_weight).abs() <= 1e-12 * grad_weight.abs());

        let common = pass(false, forward, &x)?;
        assert!([0, 2].into_iter().all(|r| common.rows[r] != each.rows[r]));
        assert!(common.cost.forward > 2 * alone[0].cost.forward);
    }
    Ok(())
}

/// With the kernels of an MLP, a context and random vectors.
#[test]
fn adjoint_gradients_of_each_row_are_exact_within_the_tolerance() -> Result<()> {
    for divergence in [Divergence::Rademacher, Divergence::BottleneckGaussian] {
        let found = [Gradient::Discrete, Gradient::Adjoint].map(|gradient| {
            let settings = CnfSettings {
                field: MlpConfig { hidden: vec![6, 1, 5], ..MlpConfig::default() }.into(),
                solver: Solver::new(Method::Tsit5, 1e-11),
                row_steps: true,
                train_end_time: true,
                divergence,
                gradient,
                ..CnfSettings::default()
            };
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
            let cnf = Cnf::new(2, &settings, Some(1), &parameters.scope())?;
            let mut rng = Rng::seed(2);
            let x = Var::from_tensor(&rng.normal_tensor((70, 2), DType::F64, &Device::Cpu)?)?;
            let context = Var::from_tensor(&rng.normal_tensor((70, 1), DType::F64, &Device::Cpu)?)?;
            let (z, log_det) = cnf.map(Direction::Inverse, &x, Some(&context), &mut Mode::training(&mut rng))?;
            let gradients = ((z.sqr()?.sum_all()? * 0.5)? - log_det.sum_all()?)?.backward()?;
            let leaves = parameters.trainable().into_iter().map(|(_, var)| var).chain([x, context]);
            leaves.map(|var| Ok(gradients.get(&var).expect("a gradient").clone())).collect::<Result<Vec<_>>>()
        });
        let [discrete, adjoint] = found;
        for (i, (want, got)) in discrete?.iter().zip(&adjoint?).enumerate() {
            let d = difference(want, got)?;
            assert!(d < 1e-8, "{divergence:?}, result {i}: {d}");
        }
    }
    Ok(())
}

#[test]
fn trajectories_take_each_rows_own_steps() -> Result<()> {
    let weight = Tensor::new(&[0.3], &Device::Cpu)?;
    let settings = CnfSettings { solver: Solver::new(Method::Dopri5, 1e-4), ..CnfSettings::default() };
    let cnf = |row_steps| Cnf::with_field(Cubic(weight.clone()), &CnfSettings { row_steps, ..settings.clone() });
    let (x, times) = (Tensor::new(&[[0.2, -0.4], [30.0, 8.0]], &Device::Cpu)?, [0.0, 0.1, 0.5]);
    let each = cnf(true)?.trajectory(&x, None, &times)?;
    for r in 0..2 {
        let alone = cnf(false)?.trajectory(&x.narrow(0, r, 1)?.contiguous()?, None, &times)?;
        for (each, alone) in each.iter().zip(&alone) {
            assert_eq!(difference(alone, &each.narrow(0, r, 1)?)?, 0.0);
        }
    }
    Ok(())
}

#[test]
fn errors_name_the_row_that_fails() -> Result<()> {
    let weight = Tensor::new(&[0.3], &Device::Cpu)?;
    let solver = Solver { max_steps: 6, ..Solver::new(Method::Dopri5, 1e-4) };
    let settings = CnfSettings { solver, row_steps: true, ..CnfSettings::default() };
    let cnf = Cnf::with_field(Cubic(weight.clone()), &settings)?;
    let x = Tensor::new(&[[0.2, -0.4], [300.0, 8.0]], &Device::Cpu)?;
    let error = cnf.inverse(&x, None).unwrap_err().to_string();
    assert!(error.contains("row 2") && error.contains("max_steps"), "{error}");
    let plain = CnfSettings { gradient: Gradient::Plain, ..settings };
    let error = Cnf::with_field(Cubic(weight), &plain).unwrap_err().to_string();
    assert!(error.contains("row_steps"), "{error}");
    Ok(())
}
