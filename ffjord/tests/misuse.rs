//! What cannot be solved fails quickly, with an error that names a remedy.

use candle_core::{DType, Device, Tensor, Var};
use ffjord::field::{Activation, Dual, MlpConfig, TimeLayer, VectorField};
use ffjord::solver::{Method, Solver};
use ffjord::{Cnf, CnfSettings, ContinuousFlow, ContinuousFlowConfig, Gradient};
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::distributions::Distribution;
use flows_core::nn::Parameters;
use flows_core::{Error, Result, Rng, Structure};

/// `f(t, z) = w z^3`, whose solutions become infinite in finite time.
#[derive(Debug)]
struct Explosion(Tensor);

impl VectorField for Explosion {
    fn dim(&self) -> usize {
        1
    }

    fn tensors(&self) -> Vec<Tensor> {
        vec![self.0.clone()]
    }

    fn evaluate(&self, weights: &[Tensor], _: &Tensor, z: &Dual, _: Option<&Tensor>) -> Result<Dual> {
        z.times(z)?.times(z)?.scale(&weights[0])
    }

    fn structure(&self) -> Structure {
        Structure::new("Explosion", "").weights([&self.0])
    }
}

const GRADIENTS: [Gradient; 3] = [Gradient::Discrete, Gradient::Adjoint, Gradient::Plain];

fn diverges(result: Result<(Tensor, Tensor)>, words: &[&str]) {
    let error = result.expect_err("no solution");
    assert!(matches!(error, Error::Diverged(_)) && !error.is_bad_use(), "{error:?}");
    let said = error.to_string();
    assert!(words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
}

#[test]
fn exploding_fields_are_errors() -> Result<()> {
    let x = Tensor::new(&[[0.1], [3.0]], &Device::Cpu)?;
    for (gradient, row_steps) in
        GRADIENTS.map(|gradient| (gradient, false)).into_iter().chain([(Gradient::Discrete, true)])
    {
        let settings = CnfSettings { end_time: 5.0, gradient, row_steps, ..CnfSettings::default() };
        let cnf = Cnf::with_field(Explosion(Tensor::ones(1, DType::F64, &Device::Cpu)?), &settings)?;
        diverges(cnf.inverse(&x, None), &["rtol"]);
        diverges(
            cnf.map(Direction::Inverse, &x, None, &mut Mode::training(&mut Rng::seed(0))),
            &["learning rate", "clip_norm", "penalty"],
        );
        assert!(cnf.trajectory(&x, None, &[0.0, 5.0]).is_err());
    }
    // Weights that have grown without bound, or are not finite.
    for size in [1e38, f64::NAN] {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let (layer, activation) = (TimeLayer::Ignore, Activation::Softplus);
        let field = MlpConfig { hidden: vec![8], layer, activation, ..MlpConfig::default() };
        let settings = CnfSettings { field: field.into(), ..CnfSettings::default() };
        let cnf = Cnf::new(2, &settings, None, &parameters.scope())?;
        for (_, var) in parameters.trainable() {
            var.set(&(var.as_tensor() * size)?)?;
        }
        let x = Tensor::ones((4, 2), DType::F32, &Device::Cpu)?;
        diverges(
            cnf.map(Direction::Inverse, &x, None, &mut Mode::training(&mut Rng::seed(0))),
            &["not finite", "learning rate"],
        );
        assert!(cnf.forward(&x, None).is_err());
    }
    Ok(())
}

/// `f(t, z) = (z, z)`, of twice as many numbers as it should have.
#[derive(Debug)]
struct Doubled(Tensor);

impl VectorField for Doubled {
    fn dim(&self) -> usize {
        2
    }

    fn tensors(&self) -> Vec<Tensor> {
        vec![self.0.clone()]
    }

    fn evaluate(&self, _: &[Tensor], _: &Tensor, z: &Dual, _: Option<&Tensor>) -> Result<Dual> {
        let twice = |t: &Tensor| Tensor::cat(&[t, t], t.rank() - 1);
        Dual::new(twice(z.value())?, z.tangents().map(twice).transpose()?)
    }

    fn structure(&self) -> Structure {
        Structure::new("Doubled", "").weights([&self.0])
    }
}

#[test]
fn fields_of_another_width() -> Result<()> {
    let cnf = Cnf::with_field(Doubled(Tensor::ones(1, DType::F64, &Device::Cpu)?), &CnfSettings::default())?;
    let x = Tensor::ones((3, 2), DType::F64, &Device::Cpu)?;
    for pass in [cnf.forward(&x, None), cnf.inverse(&x, None)] {
        let said = pass.expect_err("the field is too wide").to_string();
        assert!(said.contains("the value of a vector field has shape [3, 4]") && said.contains("[3, 2]"), "{said}");
    }
    Ok(())
}

#[test]
fn too_few_steps_are_errors() -> Result<()> {
    for (gradient, method) in
        GRADIENTS.into_iter().flat_map(|gradient| [(gradient, Method::Dopri5), (gradient, Method::Rk4)])
    {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let solver = Solver { method, max_steps: 1, ..Solver::default() };
        let settings = CnfSettings { solver, gradient, ..CnfSettings::default() };
        let cnf = Cnf::new(2, &settings, None, &parameters.scope())?;
        let x = Tensor::ones((4, 2), DType::F32, &Device::Cpu)?;
        diverges(cnf.inverse(&x, None), &["1 steps", "max_steps"]);
        diverges(cnf.forward(&x, None), &["1 steps", "max_steps"]);
    }
    Ok(())
}

#[test]
fn invalid_settings_and_times_are_errors() -> Result<()> {
    let build = |settings: CnfSettings| {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        Cnf::new(2, &settings, None, &parameters.scope())
    };
    let solver = |rtol, atol| CnfSettings { solver: Solver { rtol, atol, ..Solver::default() }, ..Default::default() };
    for (settings, word) in [
        (solver(0.0, 0.0), "1e-5"),
        (solver(1e-5, 0.0), "above 0"),
        (solver(-1e-5, 1e-5), "1e-5"),
        (solver(f64::NAN, 1e-5), "1e-5"),
        (CnfSettings { end_time: 0.0, ..CnfSettings::default() }, "end_time"),
        (CnfSettings { end_time: 0.0, train_end_time: true, ..CnfSettings::default() }, "end_time"),
    ] {
        let error = build(settings).expect_err("bad use");
        assert!(error.is_bad_use() && error.to_string().contains(word), "{error}");
    }
    // The absolute tolerance alone is enough.
    let x = Tensor::ones((4, 2), DType::F32, &Device::Cpu)?;
    assert!(build(solver(0.0, 1e-5))?.inverse(&x, None).is_ok());
    for times in [&[0.0, 0.0][..], &[0.2], &[], &[0.0, f64::NAN]] {
        let error = build(CnfSettings::default())?.trajectory(&x, None, times).unwrap_err();
        assert!(error.is_bad_use() && error.to_string().contains("times"), "{error}");
    }
    Ok(())
}

/// Rows that are not finite result in NaN, whatever the kind of gradient, and do not affect gradients.
#[test]
fn rows_that_are_not_finite_result_in_nan() -> Result<()> {
    for (gradient, row_steps) in [(Gradient::Discrete, false), (Gradient::Adjoint, false), (Gradient::Discrete, true)] {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let settings = CnfSettings { gradient, row_steps, ..CnfSettings::default() };
        let cnf = Cnf::new(2, &settings, None, &parameters.scope())?;
        for rows in [[[0.5f32, 1.0], [f32::NAN, 0.0]], [[f32::NAN; 2], [f32::INFINITY; 2]]] {
            let x = Var::new(&rows, &Device::Cpu)?;
            let (z, log_det) = cnf.map(Direction::Inverse, &x, None, &mut Mode::training(&mut Rng::seed(0)))?;
            for ((row, z), log_det) in rows.iter().zip(z.to_vec2::<f32>()?).zip(log_det.to_vec1::<f32>()?) {
                let numbers = row.iter().all(|v| v.is_finite());
                assert!(z.iter().chain([&log_det]).all(|v| v.is_finite() == numbers), "{row:?}: {z:?} {log_det}");
            }
            let gradients = (z.sum_all()? + log_det.sum_all()?)?.backward()?;
            for (name, var) in parameters.trainable() {
                let gradient = gradients.get(&var).expect("a gradient").flatten_all()?.to_vec1::<f32>()?;
                assert!(gradient.iter().all(|v| v.is_finite()), "{name}");
            }
        }
    }
    let config = ContinuousFlowConfig { features: 2, columns: None, flows: 2, flow: CnfSettings::default() };
    let model = ContinuousFlow::new(config, &mut Rng::seed(0))?;
    let x = Tensor::new(&[[f32::NAN, 0.0], [0.0, 0.0]], &Device::Cpu)?;
    let log_prob = model.log_prob(&x, None)?.to_vec1::<f32>()?;
    assert!(log_prob[0].is_nan() && log_prob[1].is_finite());
    assert!(model.standardize(&x).unwrap_err().is_bad_use());
    Ok(())
}
