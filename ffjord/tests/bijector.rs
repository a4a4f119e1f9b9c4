//! A continuous flow keeps what every bijector promises.

use ffjord::field::{Activation, Divergence, FieldConfig, TimeLayer};
use ffjord::solver::{Method, Solver};
use ffjord::{Cnf, CnfSettings, Gradient};
use flows_core::Result;
use flows_core::bijectors::Chain;
use flows_core::testing::Case;

fn case(name: &'static str, dim: usize, context: Option<usize>, settings: CnfSettings) -> Case {
    let settings = CnfSettings { solver: Solver::new(settings.solver.method, 1e-12), ..settings };
    let case = Case::new(name, move |scope| Ok(Box::new(Cnf::new(dim, &settings, context, scope)?)));
    match context {
        Some(width) => case.given([width]),
        None => case,
    }
}

fn cases() -> Vec<Case> {
    let field = |layer, activation| FieldConfig { hidden: vec![6, 5], layer, activation, gain: 2.0 };
    let squash = CnfSettings { field: field(TimeLayer::ConcatSquash, Activation::Tanh), ..CnfSettings::default() };
    let concat = CnfSettings {
        field: field(TimeLayer::Concat, Activation::Softplus),
        gradient: Gradient::Adjoint,
        divergence: Divergence::Rademacher,
        ..CnfSettings::default()
    };
    let ignore = CnfSettings {
        field: field(TimeLayer::Ignore, Activation::Silu),
        solver: Solver { method: Method::Tsit5, ..Solver::default() },
        divergence: Divergence::Gaussian,
        ..CnfSettings::default()
    };
    vec![
        case("concat-squash", 2, None, squash.clone()),
        case("one dimension", 1, None, squash.clone()),
        case("conditional", 2, Some(3), squash.clone()),
        // Fields without a bound cannot be solved from 1e30.
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

fn all(check: impl Fn(&Case) -> Result<()>) {
    let failures: Vec<String> =
        cases().iter().filter_map(|case| check(case).err().map(|e| format!("{}: {e}", case.name()))).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn round_trips() {
    all(Case::round_trip);
}

#[test]
fn derivatives() {
    all(Case::derivatives);
}

#[test]
fn every_weight_learns() {
    all(Case::every_weight_learns);
}

#[test]
fn saved_models_load() {
    let folder = tempfile::tempdir().unwrap();
    all(|case| case.saves_and_loads(folder.path()));
}

#[test]
fn rows_are_independent() {
    all(Case::rows_are_independent);
}

#[test]
fn wrong_shapes_are_errors() {
    all(Case::wrong_shapes_are_errors);
}

#[test]
fn extremes_stay_in_their_row() {
    all(Case::extremes_stay_in_their_row);
}

#[test]
fn precisions_agree() {
    all(Case::precisions_agree);
}

#[test]
fn training_passes() {
    all(Case::trains);
}

#[test]
fn activations_are_recomputed() {
    all(Case::recomputes);
}

#[test]
fn structures_count() {
    all(Case::structure_counts);
}

#[test]
fn settings_that_cannot_be_are_errors() {
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
    let field = FieldConfig { hidden: vec![4, 0], ..FieldConfig::default() };
    assert!(build(&CnfSettings { field, ..settings }, 2).is_err());
}
