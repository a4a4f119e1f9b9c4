//! Properties of every named flow.

use candle_core::{DType, Device, Tensor, backprop::GradStore};
use flows_core::bijectors::{Bounds, ResidualSettings, Support};
use flows_core::distributions::{Distribution, draw, score};
use flows_core::flows::*;
use flows_core::nn::{Activation, NetworkConfig, Scope};
use flows_core::testing::{Case, difference, each, perturb};
use flows_core::train::{Loss, Memory, forward_kl};
use flows_core::{Error, Result, Rng};
use serde_json::{Value, json};
use std::f64::consts::PI;

const CPU: &Device = &Device::Cpu;

#[test]
fn dropout_is_only_active_in_training() -> Result<()> {
    let network = NetworkConfig::Residual { hidden: 16, blocks: 1, activation: Activation::Silu, dropout: 0.5 };
    let model: NamedFlow = Nsf { layers: 2, network, ..Nsf::default() }.into();
    for features in [1, 3] {
        let rng = &mut Rng::seed(0);
        let flow = Flow::new(FlowConfig { context: Some(2), ..FlowConfig::new(features, model.clone()) }, rng)?;
        perturb(flow.parameters(), 0.3, rng)?;
        let x = rng.normal_tensor((4, features), DType::F32, CPU)?;
        let context = rng.normal_tensor((4, 2), DType::F32, CPU)?;
        let [once, again] = [0, 0].map(|_| flow.log_prob(&x, Some(&context)));
        assert_eq!(difference(&once?, &again?)?, 0.0);
        let [once, again] = [0, 0].map(|_| flow.log_prob_training(&x, Some(&context), rng));
        assert!(difference(&once?, &again?)? > 1e-4, "{features}");
    }
    Ok(())
}

/// The flow of this name, reduced to a size for tests, and smooth: kinks would
/// spoil the finite differences that gradients are compared with.
fn model(name: &str) -> Result<NamedFlow> {
    let network = NetworkConfig::Mlp { hidden: vec![16], activation: Activation::Tanh };
    let residual = NetworkConfig::Residual { hidden: 16, blocks: 1, activation: Activation::Silu, dropout: 0.0 };
    let block = ResidualSettings { hidden: vec![16], tolerance: 1e-15, coefficient: 0.8, ..Default::default() };
    Ok(match NamedFlow::named(name)? {
        NamedFlow::Nice(m) => Nice { network, ..m }.into(),
        NamedFlow::RealNvp(m) => RealNvp { layers: 4, network, ..m }.into(),
        NamedFlow::Nsf(m) => Nsf { layers: 2, network: residual, ..m }.into(),
        NamedFlow::Iaf(m) => Iaf { layers: 2, network, ..m }.into(),
        NamedFlow::Maf(m) => Maf { layers: 3, network, ..m }.into(),
        NamedFlow::NsfAutoregressive(m) => NsfAutoregressive { layers: 2, network: residual, ..m }.into(),
        NamedFlow::Naf(_) => Naf { layers: 2, network, units: 4 }.into(),
        NamedFlow::Bnaf(m) => Bnaf { layers: 2, factor: 4, ..m }.into(),
        NamedFlow::Umnn(m) => Umnn { layers: 2, network, embedding: 4, integrand: vec![8], ..m }.into(),
        NamedFlow::Planar(_) => PlanarFlow { layers: 6 }.into(),
        NamedFlow::Radial(_) => RadialFlow { layers: 6 }.into(),
        NamedFlow::Sylvester(m) => SylvesterFlow { layers: 4, ..m }.into(),
        NamedFlow::Residual(_) => ResidualFlow { layers: 3, block }.into(),
        NamedFlow::Gaussianization(m) => Gaussianization { layers: 3, ..m }.into(),
        small => small,
    })
}

/// Flows of all names over `features` columns, with slightly perturbed weights.
fn flows(features: usize, context: Option<usize>, dtype: DType) -> Result<Vec<(&'static str, Flow)>> {
    let build = |name: &&'static str| {
        let config = FlowConfig { context, ..FlowConfig::new(features, model(name)?) };
        let flow = Flow::on(config, dtype, CPU, &mut Rng::seed(1))?;
        perturb(flow.parameters(), 0.05, &mut Rng::seed(2))?;
        Ok((*name, flow))
    };
    NamedFlow::NAMES.iter().map(build).collect()
}

fn context(rows: usize, width: Option<usize>, dtype: DType) -> Result<Option<Tensor>> {
    width.map(|width| Rng::seed(3).normal_tensor((rows, width), dtype, CPU)).transpose()
}

/// The bijector of every flow, with and without a context, for the checks of all bijectors.
fn cases() -> Vec<Case> {
    let case = |name: &'static str, width: Option<usize>| {
        let build = move |scope: &Scope| model(name)?.architecture().bijector(3, width, scope);
        let case = Case::new(format!("{name} given {width:?}"), build).noise(0.05);
        let case = if name == "circular-spline" { case.within(1e-3 - PI, PI - 1e-3) } else { case };
        // The singular vectors are accurate to the square root of their tolerance.
        let case = if name == "residual" { case.gradient_tolerance(1e-6) } else { case };
        let case = if name == "umnn" { case.overflows() } else { case };
        if width.is_some() { case.given([2]) } else { case }
    };
    NamedFlow::NAMES.iter().flat_map(|name| [case(name, None), case(name, Some(2))]).collect()
}

/// Runs a check on every flow and reports all failures.
fn all(check: fn(&Case) -> Result<()>) {
    each(&cases(), check).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn round_trips() {
    all(Case::round_trip);
}

#[test]
fn derivatives() {
    all(Case::derivatives);
}

/// The detached copy gives the same numbers, also after the weights have changed.
#[test]
fn detached_flows_are_the_same() -> Result<()> {
    for (name, flow) in flows(3, Some(2), DType::F64)? {
        let context = context(5, Some(2), DType::F64)?;
        let x = flow.sample(5, context.as_ref(), &mut Rng::seed(4))?.detach();
        for _ in 0..2 {
            let detached = flow.detached();
            let (want, got) = (flow.log_prob(&x, context.as_ref())?, detached.log_prob(&x, context.as_ref())?);
            assert!(want.track_op() && !got.track_op(), "{name}");
            assert_eq!(want.to_vec1::<f64>()?, got.to_vec1::<f64>()?, "{name}");
            let draw = |flow: &dyn Distribution| flow.sample(5, context.as_ref(), &mut Rng::seed(6));
            assert!(!draw(detached)?.track_op() && difference(&draw(&flow)?, &draw(detached)?)? == 0.0, "{name}");
            perturb(flow.parameters(), 0.05, &mut Rng::seed(5))?;
        }
    }
    Ok(())
}

#[test]
fn extremes_stay_in_their_row() {
    all(Case::extremes_stay_in_their_row);
}

#[test]
fn flows_are_finite_or_refuse() {
    all(Case::is_finite_or_refuses);
}

#[test]
fn rows_are_independent() {
    all(Case::rows_are_independent);
}

#[test]
fn all_sizes_build_and_sample_log_probs_agree() -> Result<()> {
    const ROWS: usize = 50;
    for (features, width) in [(1, None), (2, None), (5, None), (1, Some(3)), (2, Some(1)), (5, Some(3))] {
        for (name, flow) in flows(features, width, DType::F32)? {
            let given = context(ROWS, width, DType::F32)?;
            let (x, log_prob) = flow.sample_with_log_prob(ROWS, given.as_ref(), &mut Rng::seed(4))?;
            assert_eq!((x.dims(), log_prob.dims()), (&[ROWS, features][..], &[ROWS][..]), "{name}");
            let again = difference(&flow.log_prob(&x, given.as_ref())?, &log_prob)?;
            assert!(again < 1e-3, "{name} of {features} given {width:?}: the log-density differs by {again}");
            let seeded = flow.sample(ROWS, given.as_ref(), &mut Rng::seed(4))?;
            assert_eq!(difference(&x, &seeded)?, 0.0, "{name}: a seed gives other samples");
            if width.is_some() {
                assert!(
                    flow.log_prob(&x, None).is_err() && flow.sample(ROWS, None, &mut Rng::seed(0)).is_err(),
                    "{name}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn impossible_configs_are_errors() -> Result<()> {
    for name in NamedFlow::NAMES {
        let build = |features, context| {
            Flow::new(FlowConfig { context, ..FlowConfig::new(features, model(name)?) }, &mut Rng::seed(0))
        };
        assert!(build(0, None).is_err() && build(2, Some(0)).is_err(), "{name}");
        let mut layers = serde_json::to_value(model(name)?).map_err(json_error)?;
        layers["layers"] = json!(0);
        let model: NamedFlow = serde_json::from_value(layers).map_err(json_error)?;
        assert!(Flow::new(FlowConfig::new(2, model), &mut Rng::seed(0)).is_err(), "{name} without layers");
    }
    let error = NamedFlow::named("none").map(drop).unwrap_err().to_string();
    assert!(NamedFlow::NAMES.iter().all(|name| error.contains(name)), "{error}");
    Ok(())
}

#[test]
fn densities_integrate_to_one() -> Result<()> {
    // The midpoint rule, nearly exact except for the kinks of spline densities.
    const SIDE: usize = 300;
    for (name, flow) in flows(2, None, DType::F64)? {
        let bound = if name == "circular-spline" { PI } else { 8.0 };
        let at = |i: usize| bound * ((2 * i + 1) as f64 / SIDE as f64 - 1.0);
        let points: Vec<f64> = (0..SIDE * SIDE).flat_map(|i| [at(i / SIDE), at(i % SIDE)]).collect();
        let points = Tensor::from_vec(points, (SIDE * SIDE, 2), CPU)?;
        let mass = flow.log_prob(&points, None)?.exp()?.sum_all()?.to_scalar::<f64>()?;
        let total = mass * (2.0 * bound / SIDE as f64).powi(2);
        assert!((total - 1.0).abs() < 2e-3, "{name}: the density integrates to {total}");
    }
    Ok(())
}

#[test]
fn files_give_the_same_flow_bit_for_bit() -> Result<()> {
    const ROWS: usize = 20;
    let folder = tempfile::tempdir().map_err(candle_core::Error::from)?;
    let path = folder.path().join("flow.safetensors");
    for (dtype, width) in [(DType::F32, None), (DType::F64, None), (DType::F32, Some(2))] {
        for (name, flow) in flows(3, width, dtype)? {
            let given = context(ROWS, width, dtype)?;
            let x = ((Rng::seed(5).uniform_tensor((ROWS, 3), dtype, CPU)? * 2.0)? - 0.5)?;
            flow.standardize(&x, given.as_ref())?;
            flow.initialize(&x, given.as_ref())?;
            flow.save(&path)?;
            let loaded = Flow::load(&path, CPU)?;
            assert_eq!(loaded.config(), flow.config(), "{name}");
            let log_prob = flow.log_prob(&x, given.as_ref())?;
            assert_eq!(difference(&log_prob, &loaded.log_prob(&x, given.as_ref())?)?, 0.0, "{name}");
            let draw = |flow: &Flow| flow.sample(ROWS, given.as_ref(), &mut Rng::seed(6));
            assert_eq!(difference(&draw(&flow)?, &draw(&loaded)?)?, 0.0, "{name}");
            assert_eq!(loaded.log_prob(&x, given.as_ref())?.dtype(), dtype, "{name}");
        }
    }
    Ok(())
}

#[test]
fn draws_keep_to_bounds() -> Result<()> {
    const ROWS: usize = 2000;
    let bounds = [Bounds::above(0.1), Bounds::NONE, Bounds::between(-3.0, 0.7), Bounds::below(1e4)];
    let rng = &mut Rng::seed(1);
    let folder = tempfile::tempdir().map_err(candle_core::Error::from)?;
    let path = folder.path().join("bounded.safetensors");
    for dtype in [DType::F32, DType::F64] {
        for (name, width) in [("maf", None), ("nsf", Some(2)), ("real-nvp", None)] {
            let config = FlowConfig { context: width, ..FlowConfig::new(4, model(name)?).with_bounds(bounds) };
            let flow = Flow::on(config, dtype, CPU, rng)?;
            // Far from the standard normal, so that draws reach the bounds.
            perturb(flow.parameters(), 0.8, rng)?;
            let noise = (rng.normal_tensor((ROWS, 4), dtype, CPU)? * 2.0)?;
            let support = Support::bounded([4], bounds);
            let x = support.bijector(dtype, CPU)?.forward(&noise, None)?.0;
            let given = context(ROWS, width, dtype)?;
            flow.standardize(&x, given.as_ref())?;
            flow.initialize(&x, given.as_ref())?;
            assert_eq!(flow.support(), support, "{name}");
            let draws = draw(&flow, ROWS, given.as_ref(), rng)?;
            for row in draws.to_dtype(DType::F64)?.to_vec2::<f64>()? {
                assert!(row.iter().zip(bounds).all(|(&v, bounds)| bounds.contain(v)), "{name} {dtype:?}: {row:?}");
            }
            let scores = score(&flow, &draws, given.as_ref())?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            assert!(scores.iter().all(|s| s.is_finite()), "{name} {dtype:?}");
            let outside = Tensor::new(&[[0.1, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1e4]], CPU)?.to_dtype(dtype)?;
            let scores = flow.log_prob(&outside, context(2, width, dtype)?.as_ref())?.to_dtype(DType::F64)?;
            // 0.1 in f32 is above 0.1.
            assert_eq!(scores.to_vec1::<f64>()?[1], f64::NEG_INFINITY, "{name} {dtype:?}");
            flow.save(&path)?;
            let loaded = Flow::load(&path, CPU)?;
            assert_eq!(loaded.config(), flow.config(), "{name}");
            let log_prob = |flow: &Flow| flow.log_prob(&x, given.as_ref());
            assert_eq!(difference(&log_prob(&flow)?, &log_prob(&loaded)?)?, 0.0, "{name}");
        }
    }
    Ok(())
}

/// However ill-conditioned a flow is, it takes no draw of its own for impossible: what its inverse, which amplifies
/// rounding, leads out of the range of f32 has a density that is small but not 0.
#[test]
fn no_flow_refuses_its_own_draws() -> Result<()> {
    const ROWS: usize = 2000;
    let finite = |t: &Tensor| -> Result<usize> {
        Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().filter(|v| v.is_finite()).count())
    };
    for name in NamedFlow::NAMES {
        // Those that overflow most in the sizes of their papers; all layers of the others are the same.
        let model = match *name {
            "real-nvp" | "maf" | "iaf" => NamedFlow::named(name)?,
            _ => model(name)?,
        };
        let bounds = [Bounds::above(0.1), Bounds::between(-3.0, 0.7), Bounds::NONE, Bounds::below(1e4)];
        let configs = [
            FlowConfig::new(4, model.clone()),
            FlowConfig::new(4, model.clone()).with_bounds(bounds),
            FlowConfig::new(2, model.clone()).with_bounds([Bounds::between(0.0, 1.0); 2]),
            FlowConfig::over(Support::Simplex { size: 3 }, model.clone()),
            FlowConfig::over(Support::PositiveOrdered { size: 3 }, model),
        ];
        for (i, config) in configs.into_iter().enumerate().filter(|(i, _)| *i == 0 || *name != "circular-spline") {
            let flow = Flow::new(config, &mut Rng::seed(1))?;
            perturb(flow.parameters(), 0.3, &mut Rng::seed(2))?;
            let x = draw(&flow, ROWS, None, &mut Rng::seed(3))?;
            let of_draws = finite(&score(&flow, &x, None)?)?;
            assert_eq!((finite(&x)?, of_draws), (x.elem_count(), ROWS), "{name}, config {i}");
            let (x, log_prob) = flow.sample_with_log_prob(ROWS, None, &mut Rng::seed(3))?;
            let own = finite(&score(&flow, &x.detach(), None)?)?;
            assert_eq!((finite(&log_prob)?, own), (ROWS, ROWS), "{name}, config {i}, with log-densities");
            // Infinity is impossible all the same, and a NaN a fault.
            let two = (x.narrow(0, 0, 1)?.zeros_like()? + f64::INFINITY)?;
            let two = Tensor::cat(&[&two, &(&two * 0.0)?], 0)?;
            let log_prob = flow.log_prob(&two, None)?.to_vec1::<f32>()?;
            assert!(log_prob[0] == f32::NEG_INFINITY && log_prob[1].is_nan(), "{name}, config {i}: {log_prob:?}");
        }
    }
    Ok(())
}

/// Also with one dimension; a file older than `context_units` is read as it was written.
#[test]
fn the_first_dimension_depends_on_the_context() -> Result<()> {
    for (name, features) in [("maf", 1), ("maf", 3), ("nsf-ar", 3), ("iaf", 2), ("naf", 2), ("umnn", 2)] {
        let mut settings = serde_json::to_value(model(name)?).map_err(json_error)?;
        settings["layers"] = 1.into();
        let model = serde_json::from_value::<NamedFlow>(settings).map_err(json_error)?;
        let new = FlowConfig::new(features, model).with_context(2);
        let mut old = serde_json::to_value(&new).map_err(json_error)?;
        assert_eq!(old.as_object_mut().and_then(|old| old.remove("context_units")), Some(true.into()));
        let old: FlowConfig = serde_json::from_value(old).map_err(json_error)?;
        for (config, depends) in [(new, true), (old, false)] {
            let rng = &mut Rng::seed(4);
            let flow = Flow::on(config, DType::F64, CPU, rng)?;
            perturb(flow.parameters(), 0.3, rng)?;
            let x = rng.normal_tensor((1, features), DType::F64, CPU)?;
            let first = |c: [f64; 2]| -> Result<f64> {
                Ok(flow.latent(&x, Some(&Tensor::new(&[c], CPU)?))?.to_vec2::<f64>()?[0][0])
            };
            let moved = (first([0.0, 0.0])? - first([1.5, -2.0])?).abs();
            assert_eq!(moved > 1e-6, depends, "{name} over {features}: {moved}");
            let folder = tempfile::tempdir().map_err(candle_core::Error::from)?;
            let path = folder.path().join("flow.safetensors");
            flow.save(&path)?;
            let (again, context) = (Flow::load(&path, CPU)?, Tensor::new(&[[0.5, 1.0]], CPU)?);
            assert_eq!(again.config(), flow.config());
            let both = [&flow, &again].map(|flow| flow.log_prob(&x, Some(&context)));
            let [want, got] = both.map(|found| found.and_then(|found| Ok(found.to_vec1::<f64>()?)));
            assert_eq!(want?, got?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn bounded_columns_are_standardized_after_their_map() -> Result<()> {
    let rng = &mut Rng::seed(2);
    let bounds = [Bounds::above(2.0), Bounds::between(0.0, 1.0)];
    let config = FlowConfig {
        columns: Some(vec!["price".into(), "share".into()]),
        ..FlowConfig::new(2, model("maf")?).with_bounds(bounds)
    };
    let flow = Flow::on(config, DType::F64, CPU, rng)?;
    let noise = rng.normal_tensor((5000, 2), DType::F64, CPU)?.affine(3.0, -1.0)?;
    let x = Support::bounded([2], bounds).bijector(DType::F64, CPU)?.forward(&noise, None)?.0;
    flow.standardize(&x, None)?;
    let buffers: std::collections::HashMap<_, _> = flow.parameters().tensors().into_iter().collect();
    assert!(difference(&noise.mean(0)?, &buffers["data.shift"])? < 1e-9);
    for (row, column) in
        [([2.0, 0.5], "price"), ([1.0, 0.5], "price"), ([3.0, 1.0], "share"), ([f64::INFINITY, 0.5], "price")]
    {
        let error = flow.standardize(&Tensor::new(&[[3.0, 0.5], row], CPU)?, None).expect_err("outside").to_string();
        assert!(error.contains(column) && error.contains("row 1") && error.contains("widen"), "{error}");
    }
    let unknown = Tensor::new(&[[3.0, 0.5], [f64::NAN, 0.5]], CPU)?;
    assert!(flow.standardize(&unknown, None).is_err());
    for bad in [vec![Bounds::NONE], vec![Bounds::between(1.0, 1.0); 2], vec![Bounds::above(f64::INFINITY); 2]] {
        assert!(Flow::new(FlowConfig::new(2, model("maf")?).with_bounds(bad), rng).is_err());
    }
    let angles = FlowConfig::new(2, model("circular-spline")?).with_bounds(bounds);
    assert!(Flow::new(angles, rng).is_err());
    // Files without bounds are unchanged.
    let plain = serde_json::to_value(FlowConfig::new(2, model("maf")?)).map_err(json_error)?;
    assert!(plain.get("bounds").is_none());
    Ok(())
}

#[test]
fn draws_keep_to_a_support() -> Result<()> {
    let rng = &mut Rng::seed(3);
    let support = Support::named([
        ("shares", Support::Simplex { size: 3 }),
        ("noise", Support::positive([])),
        ("signal", Support::above([2], "noise")),
    ]);
    let folder = tempfile::tempdir().map_err(candle_core::Error::from)?;
    let path = folder.path().join("support.safetensors");
    for dtype in [DType::F32, DType::F64] {
        let flow = Flow::on(FlowConfig::over(support.clone(), model("nsf")?), dtype, CPU, rng)?;
        perturb(flow.parameters(), 0.5, rng)?;
        let onto = support.bijector(dtype, CPU)?;
        let x = onto.forward(&(rng.normal_tensor((2000, 5), dtype, CPU)? * 3.0)?, None)?.0;
        flow.initialize(&x, None)?;
        assert_eq!((flow.event_shape(), flow.support()), (&[6][..], support.clone()));
        let draws = draw(&flow, 2000, None, rng)?;
        let inside = [onto.inverse(&draws, None)?.1, score(&flow, &draws, None)?];
        for t in inside {
            assert!(t.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().all(|v| v.is_finite()), "{dtype:?}: {t}");
        }
        flow.save(&path)?;
        let loaded = Flow::load(&path, CPU)?;
        assert_eq!(loaded.config(), flow.config());
        assert_eq!(difference(&flow.log_prob(&x, None)?, &loaded.log_prob(&x, None)?)?, 0.0);
        for (row, word) in
            [([0.5, 0.25, 0.25, 2.0, 1.0, 3.0], "not in the support"), ([0.5, 0.5, 0.0, 1.0, 2.0, 3.0], "column 2")]
        {
            let bad = Tensor::new(&[[0.5, 0.25, 0.25, 1.0, 2.0, 3.0], row], CPU)?.to_dtype(dtype)?;
            let error = flow.standardize(&bad, None).expect_err("outside").to_string();
            assert!(error.contains(word) && error.contains("row 1"), "{error}");
        }
    }
    let matrix = FlowConfig::over(Support::Covariance { size: 2 }, model("maf")?);
    let both = FlowConfig::over(Support::positive([2]), model("maf")?).with_bounds([Bounds::NONE; 2]);
    for bad in [matrix, both, FlowConfig::over(Support::positive([]), model("maf")?)] {
        assert!(Flow::new(bad, rng).is_err());
    }
    Ok(())
}

fn json_error(error: serde_json::Error) -> Error {
    Error::Config(error.to_string())
}

#[test]
fn configs_round_trip() -> Result<()> {
    for name in NamedFlow::NAMES {
        let config = FlowConfig::new(2, NamedFlow::named(name)?).with_context(3);
        let value = serde_json::to_value(&config).map_err(json_error)?;
        assert_eq!(value["model"]["kind"], *name);
        let read: FlowConfig = serde_json::from_value(value.clone()).map_err(json_error)?;
        assert_eq!(read, config, "{name} through JSON");
        let text = toml::to_string(&config).map_err(|e| Error::Config(e.to_string()))?;
        let read: FlowConfig = toml::from_str(&text).map_err(|e| Error::Config(e.to_string()))?;
        assert_eq!(read, config, "{name} through TOML:\n{text}");
        // Omitted settings take their defaults; unknown keys are refused at every depth.
        let short: FlowConfig =
            serde_json::from_value(json!({ "features": 2, "model": { "kind": name } })).map_err(json_error)?;
        // A file that says nothing of units that see the context alone is older than they are.
        let older = FlowConfig { context_units: false, ..FlowConfig::new(2, NamedFlow::named(name)?) };
        assert_eq!(short, older, "{name}");
        for path in objects(&value, "") {
            let mut wrong = value.clone();
            let object = wrong.pointer_mut(&path).and_then(Value::as_object_mut);
            object.ok_or_else(|| Error::Config(path.clone()))?.insert("misspelt".into(), json!(1));
            let text = toml::to_string(&wrong).unwrap_or_default();
            let refused = serde_json::from_value::<FlowConfig>(wrong).is_err();
            assert!(refused, "{name} takes an unknown key in `{path}`");
            assert!(text.is_empty() || toml::from_str::<FlowConfig>(&text).is_err(), "{name} in TOML, `{path}`");
        }
    }
    Ok(())
}

/// The JSON pointers of the objects in `value`.
fn objects(value: &Value, path: &str) -> Vec<String> {
    let Some(object) = value.as_object() else { return Vec::new() };
    let inner = object.iter().flat_map(|(key, value)| objects(value, &format!("{path}/{key}")));
    [path.to_string()].into_iter().chain(inner).collect()
}

#[test]
fn flows_display_their_structure() -> Result<()> {
    for width in [None, Some(3)] {
        for (name, flow) in flows(5, width, DType::F32)? {
            let (text, count) = (flow.to_string(), flow.parameters().count());
            let first = text.lines().next().unwrap_or_default().replace(',', "");
            assert!(first.contains(name) && first.contains("5 features"), "{name}: {first}");
            assert!(first.contains(&format!("{count} parameters")), "{name} of {count} parameters: {first}");
            assert_eq!(width.is_some(), first.contains("given 3"), "{name}: {first}");
        }
    }
    Ok(())
}

#[test]
fn every_weight_learns_from_the_forward_divergence() -> Result<()> {
    const ROWS: usize = 16;
    for (features, width) in [(1, None), (5, None), (5, Some(3))] {
        for (name, flow) in flows(features, width, DType::F32)? {
            let given = context(ROWS, width, DType::F32)?;
            let x = Rng::seed(7).normal_tensor((ROWS, features), DType::F32, CPU)?;
            let gradients = forward_kl(&flow, &x, given.as_ref(), &mut Rng::seed(8))?.backward()?;
            for (weight, var) in flow.parameters().trainable() {
                let gradient = gradients.get(&var).map(|g| g.sqr()?.sum_all()?.to_scalar::<f32>()).transpose()?;
                assert!(gradient.is_some_and(f32::is_finite), "{name} of {features}: `{weight}` has {gradient:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn recomputed_activations_give_the_same_gradients() -> Result<()> {
    const ROWS: usize = 16;
    for (features, width) in [(1, None), (5, None), (5, Some(3))] {
        for (name, flow) in flows(features, width, DType::F64)? {
            let given = context(ROWS, width, DType::F64)?;
            let x = Rng::seed(7).normal_tensor((ROWS, features), DType::F64, CPU)?;
            let weights = flow.parameters().trainable();
            let before = flow.parameters().snapshot()?.into_iter().collect();
            let forward = |memory: Memory| {
                flow.parameters().load(&before)?;
                memory.forward_kl(&flow, &x, given.as_ref(), &mut Rng::seed(8)).and_then(Loss::gradients)
            };
            let reverse = |memory: Memory| {
                flow.parameters().load(&before)?;
                let target = |x: &Tensor| Ok((x.sqr()?.sum(1)? * -0.3)?);
                memory.reverse_kl(&flow, target, ROWS, &mut Rng::seed(8)).and_then(Loss::gradients)
            };
            let mut pairs = vec![(forward(Memory::Store)?, forward(Memory::Recompute)?)];
            if width.is_none() {
                pairs.push((reverse(Memory::Store)?, reverse(Memory::Recompute)?));
            }
            for (stored, recomputed) in pairs {
                assert_eq!(stored.value, recomputed.value, "{name}");
                let (Some(stored), Some(recomputed)) = (stored.gradients, recomputed.gradients) else {
                    panic!("{name}: the loss is not finite");
                };
                for (weight, var) in &weights {
                    let get = |g: &GradStore| g.get(var).cloned().map_or_else(|| var.zeros_like(), Ok);
                    let d = difference(&get(&stored)?, &get(&recomputed)?)?;
                    assert!(d < 1e-9, "{name} of {features}: `{weight}` differs by {d}");
                }
            }
        }
    }
    Ok(())
}

/// A flow saved by an earlier version loads unchanged.
#[test]
fn an_old_model_is_read() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/flow.safetensors");
    let flow = Flow::load(path, &Device::Cpu)?;
    let x = Tensor::new(&[[0.1f32, 0.2], [-1.0, 0.5], [1.5, -0.3], [0.9, 0.4], [3.0, 2.0]], &Device::Cpu)?;
    let want = Tensor::new(&[-2.788_948f32, -2.787_012, -2.459_642, -2.768_726_6, -8.856_076], &Device::Cpu)?;
    let error = difference(&flow.log_prob(&x, None)?, &want)?;
    assert!(error < 1e-4, "{error}");
    // It is saved again as it was.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.safetensors");
    flow.save(&copy)?;
    assert_eq!(Flow::load(&copy, &Device::Cpu)?.config(), flow.config());
    Ok(())
}
