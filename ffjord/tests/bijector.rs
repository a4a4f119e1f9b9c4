//! Continuous flows satisfy the contract of bijectors.

use candle_core::{DType, Device};
use ffjord::field::{Activation, Divergence, MlpConfig, TimeLayer};
use ffjord::solver::{Method, Solver};
use ffjord::{Cnf, CnfSettings, ContinuousFlow, ContinuousFlowConfig, Gradient};
use flows_core::bijectors::Chain;
use flows_core::distributions::Distribution;
use flows_core::testing::{Case, Tolerances, difference, each, perturb};
use flows_core::{Result, Rng};

fn case(name: &'static str, dim: usize, context: Option<usize>, settings: CnfSettings) -> Case {
    let settings = CnfSettings { solver: Solver::new(settings.solver.method, 1e-12), ..settings };
    let case = Case::new(name, move |scope| Ok(Box::new(Cnf::new(dim, &settings, context, scope)?)));
    match context {
        Some(width) => case.given([width]),
        None => case,
    }
}

fn cases() -> Vec<Case> {
    let field = |layer, activation| MlpConfig { hidden: vec![6, 5], layer, activation, gain: 2.0 }.into();
    let squash = CnfSettings {
        field: field(TimeLayer::ConcatSquash, Activation::Tanh),
        train_end_time: true,
        ..CnfSettings::default()
    };
    let concat = CnfSettings {
        field: field(TimeLayer::Concat, Activation::Softplus),
        gradient: Gradient::Adjoint,
        divergence: Divergence::Rademacher,
        train_end_time: true,
        ..CnfSettings::default()
    };
    let ignore = CnfSettings {
        field: field(TimeLayer::Ignore, Activation::Silu),
        solver: Solver { method: Method::Tsit5, ..Solver::default() },
        divergence: Divergence::Gaussian,
        ..CnfSettings::default()
    };
    let hyper = CnfSettings { field: field(TimeLayer::Hyper, Activation::Tanh), ..CnfSettings::default() };
    let rows = CnfSettings { row_steps: true, divergence: Divergence::Gaussian, ..squash.clone() };
    vec![
        case("steps of each row's own", 2, Some(1), rows),
        case("hyper", 2, None, hyper),
        case("concat-squash", 2, None, squash.clone()),
        case("one dimension", 1, None, squash.clone()),
        case("conditional", 2, Some(3), squash.clone()),
        // Unbounded fields cannot be solved from 1e30.
        case("adjoint", 3, None, concat).overflows(),
        case("time-free", 2, Some(1), ignore).overflows(),
        Case::new("chain", move |scope| {
            let part = |i: usize| {
                let settings = CnfSettings { solver: Solver::new(Method::Dopri5, 1e-12), ..squash.clone() };
                Ok(Box::new(Cnf::new(2, &settings, None, &scope.enter(i))?) as Box<_>)
            };
            Ok(Box::new(Chain::new((0..2).map(part).collect::<Result<_>>()?)?))
        }),
    ]
}

/// Runs a check over cases and reports all that fail.
fn all(cases: &[Case], check: impl Fn(&Case) -> Result<()> + Sync) {
    each(cases, check).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_continuous_flow_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    all(&cases(), |case| case.all(folder.path()));
}

/// With the default tolerances of the solver, 1e-5, the round trip is off by 5.7e-6 at most, and gradients by less than
/// 1e-5; about three times as much is allowed. Results in f32 are as exact as usual.
#[test]
fn default_solvers_keep_them_within_their_tolerance() {
    let case = Case::new("defaults", |scope| Ok(Box::new(Cnf::new(2, &CnfSettings::default(), None, scope)?)));
    let folder = tempfile::tempdir().unwrap();
    let error = case.all(folder.path()).unwrap_err().to_string();
    assert!(error.contains("round_trip: z there and back in F64, row ") && error.contains("more than 1e-9"), "{error}");
    all(&[case.tolerances(Tolerances { double: 2e-5, gradient: 3e-5, ..Tolerances::default() })], |case| {
        case.all(folder.path())
    });
}

/// Needs a GPU: `cargo test --features cuda`.
#[cfg(feature = "cuda")]
#[test]
fn devices_agree() -> Result<()> {
    let device = candle_core::Device::new_cuda(0)?;
    // `row_steps` is supported on the CPU only.
    let on_the_cpu = |case: &Case| case.name().starts_with("steps of each row");
    all(&cases(), |case| if on_the_cpu(case) { Ok(()) } else { case.agrees_on(&device) });
    Ok(())
}

#[test]
fn invalid_settings_are_errors() {
    let build = |settings: &CnfSettings, dim| {
        let parameters = flows_core::nn::Parameters::new(
            candle_core::DType::F32,
            &candle_core::Device::Cpu,
            flows_core::Rng::seed(0),
        );
        Cnf::new(dim, settings, None, &parameters.scope()).map(drop)
    };
    let settings = CnfSettings::default();
    assert!(build(&settings, 2).is_ok());
    assert!(build(&settings, 0).is_err());
    for end_time in [0.0, -1.0, f64::NAN] {
        let error = build(&CnfSettings { end_time, ..settings.clone() }, 2).unwrap_err();
        assert!(error.to_string().contains("end_time"), "{error}");
    }
    let solver = Solver { rtol: 0.0, atol: 0.0, ..Solver::default() };
    assert!(build(&CnfSettings { solver, ..settings.clone() }, 2).unwrap_err().to_string().contains("1e-5"));
    let field = MlpConfig { hidden: vec![4, 0], ..MlpConfig::default() };
    assert!(build(&CnfSettings { field: field.into(), ..settings }, 2).is_err());
}

/// A detached model has the same densities, and the same samples within the tolerance.
#[test]
fn detached_models_are_the_same() -> Result<()> {
    let flow = CnfSettings { solver: Solver::new(Method::Dopri5, 1e-9), ..CnfSettings::default() };
    let config = ContinuousFlowConfig { features: 2, columns: None, flows: 2, flow };
    let model = ContinuousFlow::on(config, DType::F64, &Device::Cpu, &mut Rng::seed(0))?;
    perturb(model.parameters(), 0.3, &mut Rng::seed(1))?;
    let x = Rng::seed(2).normal_tensor((6, 2), DType::F64, &Device::Cpu)?;
    let detached = model.detached();
    let (want, got) = (model.log_prob(&x, None)?, detached.log_prob(&x, None)?);
    assert!(want.track_op() && !got.track_op());
    assert_eq!(want.to_vec1::<f64>()?, got.to_vec1::<f64>()?);
    let draw = |model: &dyn Distribution| model.sample(6, None, &mut Rng::seed(3));
    let (want, got) = (draw(&model)?, draw(detached)?);
    assert!(!got.track_op());
    let off = difference(&want, &got)?;
    assert!(off < 1e-6, "{off}");
    assert!(model.take_cost().forward > 0 && model.take_cost().forward == 0);
    Ok(())
}
