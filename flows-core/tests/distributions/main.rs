//! Properties of every distribution, and closed forms for each.

mod registry;
mod single;

use candle_core::{DType, Device, Tensor, Var};
use flows_core::bijectors::{Bijector, Support};
use flows_core::distributions::{Distribution, Given};
use flows_core::testing::{close, difference, gradient_difference};
use flows_core::{Result, Rng};
use registry::{Needs, cases};

const CPU: &Device = &Device::Cpu;

fn rows(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// x with the first element of row 1 replaced.
fn poisoned(x: &Tensor, value: f64) -> Result<Tensor> {
    let mut values = rows(x)?;
    let width = values.len() / x.dim(0)?;
    values[width] = value;
    Ok(Tensor::from_vec(values, x.shape().clone(), CPU)?.to_dtype(x.dtype())?)
}

#[test]
fn samples_and_log_probs_agree() -> Result<()> {
    for case in cases() {
        let (d, _) = case.build(DType::F64)?;
        for count in [1, 6] {
            let context = case.context(count, DType::F64)?;
            let (x, log_prob) = d.sample_with_log_prob(count, context.as_ref(), &mut Rng::seed(1))?;
            assert_eq!(x.dims(), [&[count], d.event_shape()].concat(), "{}", case.name);
            assert_eq!(log_prob.dims(), [count], "{}", case.name);
            let close = |what, want: &_, got: &_, bound| close(&format!("{}: {what}", case.name), want, got, bound);
            close("log_prob of samples", &log_prob, &d.log_prob(&x, context.as_ref())?, 1e-9)?;
            close("samples of a seed", &x, &d.sample(count, context.as_ref(), &mut Rng::seed(1))?, 0.0)?;
            let training = d.log_prob_training(&x, context.as_ref(), &mut Rng::seed(2))?;
            close("log_prob in training", &log_prob, &training, 1e-9)?;
        }
    }
    Ok(())
}

#[test]
fn single_precision_agrees_with_double() -> Result<()> {
    for case in cases() {
        let ((d, _), (single, _)) = (case.build(DType::F64)?, case.build(DType::F32)?);
        let (context, short) = (case.context(50, DType::F64)?, case.context(50, DType::F32)?);
        let (x, log_prob) = d.sample_with_log_prob(50, context.as_ref(), &mut Rng::seed(1))?;
        let (x32, log_prob32) = single.sample_with_log_prob(50, short.as_ref(), &mut Rng::seed(1))?;
        assert_eq!((x32.dtype(), log_prob32.dtype()), (DType::F32, DType::F32), "{}", case.name);
        close(&format!("{}: samples", case.name), &x, &x32, 3e-5)?;
        close(&format!("{}: log_prob", case.name), &log_prob, &log_prob32, 3e-5)?;
    }
    Ok(())
}

#[test]
fn structures_count_trainable_parameters() -> Result<()> {
    for case in cases() {
        let (d, parameters) = case.build(DType::F32)?;
        assert_eq!(d.structure().total(), parameters.count(), "{}:\n{}", case.name, d.structure());
        assert!(d.dtype().is_none_or(|dtype| dtype == DType::F32) && d.device().is_cpu(), "{}", case.name);
    }
    Ok(())
}

#[test]
fn a_given_context_equals_a_repeated_one() -> Result<()> {
    for case in cases() {
        let (d, _) = case.build(DType::F64)?;
        let Some(one) = case.context(1, DType::F64)? else { continue };
        let repeated = one.broadcast_as((6, one.dim(1)?))?.contiguous()?;
        let given = Given::new(d.as_ref(), &one)?;
        let (x, log_prob) = d.sample_with_log_prob(6, Some(&repeated), &mut Rng::seed(1))?;
        let (same, same_log_prob) = given.sample_with_log_prob(6, None, &mut Rng::seed(1))?;
        let error = difference(&x, &same)?.max(difference(&log_prob, &same_log_prob)?);
        assert!(error < 1e-12, "{}: {error}", case.name);
        assert!(difference(&given.log_prob(&x, None)?, &log_prob)? < 1e-9, "{}", case.name);
        assert!(given.log_prob(&x, Some(&repeated)).is_err(), "{}: two contexts", case.name);
        let flat = Given::new(d.as_ref(), &one.squeeze(0)?)?;
        assert!(difference(&flat.log_prob(&x, None)?, &log_prob)? < 1e-9, "{}", case.name);
    }
    Ok(())
}

#[test]
fn supports_contain_all_draws() -> Result<()> {
    for case in cases() {
        let (d, _) = case.build(DType::F64)?;
        let support = d.support();
        assert_eq!(support.shape(), d.event_shape(), "{}", case.name);
        let context = case.context(200, DType::F64)?;
        let x = d.sample(200, context.as_ref(), &mut Rng::seed(1))?.detach();
        if let Support::Integers { low, high, .. } = support {
            assert_eq!((low, high + 1), (0, case.values.expect("values to count") as i64), "{}", case.name);
            assert!(rows(&x)?.iter().all(|&v| v.fract() == 0.0 && (low..=high).contains(&(v as i64))), "{}", case.name);
            assert!(support.bijector(DType::F64, CPU).is_err(), "{}", case.name);
            continue;
        }
        let onto = support.bijector(DType::F64, CPU)?;
        assert!(rows(&onto.inverse(&x, None)?.1)?.iter().all(|l| l.is_finite()), "{}: a draw is outside", case.name);
        // A user-defined bijector does not specify its range.
        let says = !case.name.starts_with("Transformed");
        if let Some(outside) = case.outside.filter(|_| says) {
            let log_det = rows(&onto.inverse(&poisoned(&x, outside)?, None)?.1)?;
            assert_eq!(log_det[1], f64::NEG_INFINITY, "{}: {outside} is inside", case.name);
        }
        let boxed: Box<dyn Distribution> = d;
        assert_eq!(std::sync::Arc::new(boxed).support(), support, "{}", case.name);
    }
    Ok(())
}

#[test]
fn wrong_shapes_are_errors() -> Result<()> {
    for case in cases() {
        let (d, _) = case.build(DType::F32)?;
        let rng = &mut Rng::seed(1);
        let context = case.context(4, DType::F32)?;
        let context = context.as_ref();
        let x = d.sample(4, context, rng)?;
        let more = Tensor::zeros((5, 3), DType::F32, CPU)?;
        assert!(d.log_prob(&x.unsqueeze(1)?, context).is_err(), "{}: a dimension too many", case.name);
        assert!(d.log_prob(&Tensor::zeros((), DType::F32, CPU)?, context).is_err(), "{}: no batch", case.name);
        let wide = Tensor::cat(&[&x, &x], x.rank() - 1)?;
        if x.rank() > 1 {
            assert!(d.log_prob(&wide, context).is_err(), "{}: a wrong event", case.name);
        }
        assert!(d.log_prob(&x, Some(&more)).is_err(), "{}: a context of 5 rows for 4", case.name);
        assert!(d.sample(4, Some(&more), rng).is_err(), "{}: a context of 5 rows for 4", case.name);
        assert!(d.sample_with_log_prob(4, Some(&more), rng).is_err(), "{}: a context of 5 rows for 4", case.name);
        if case.needs != Needs::Nothing {
            assert!(d.log_prob(&x, None).is_err() && d.sample(4, None, rng).is_err(), "{}: no context", case.name);
        }
    }
    Ok(())
}

#[test]
fn a_bad_row_does_not_affect_others() -> Result<()> {
    for (case, dtype) in cases().into_iter().flat_map(|c| [(c.clone(), DType::F64), (c, DType::F32)]) {
        let (d, _) = case.build(dtype)?;
        let context = case.context(4, dtype)?;
        let x = d.sample(4, context.as_ref(), &mut Rng::seed(3))?.detach();
        let clean = Var::from_tensor(&x)?;
        let want = d.log_prob(&clean, context.as_ref())?;
        let want_gradient = want.sum_all()?.backward()?.get(&clean).map(rows).transpose()?;
        let want = rows(&want)?;
        let check = |bad: f64, right: fn(f64) -> bool| -> Result<()> {
            let x = Var::from_tensor(&poisoned(&x, bad)?)?;
            let log_prob = d.log_prob(&x, context.as_ref())?;
            let gradient = log_prob.sum_all()?.backward()?.get(&x).map(rows).transpose()?;
            for (i, (got, want)) in rows(&log_prob)?.into_iter().zip(&want).enumerate() {
                let fine = if i == 1 { right(got) } else { got == *want };
                assert!(fine, "{}: with {bad} in row 1, row {i} has {got}", case.name);
            }
            let (Some(gradient), Some(want)) = (gradient, &want_gradient) else { return Ok(()) };
            let width = want.len() / 4;
            for i in (0..want.len()).filter(|i| i / width != 1) {
                assert_eq!(gradient[i], want[i], "{}: gradient with {bad} in row 1", case.name);
            }
            Ok(())
        };
        check(f64::NAN, f64::is_nan)?;
        for extreme in [f64::INFINITY, f64::NEG_INFINITY] {
            check(extreme, |l| l == f64::NEG_INFINITY)?;
        }
        check(1e30, |l| l < 0.0)?;
        check(5e-324, |l| !l.is_nan())?;
        if let Some(outside) = case.outside {
            check(outside, |l| l == f64::NEG_INFINITY)?;
        }
    }
    Ok(())
}

/// The log-density of numbers up to 1e30 is finite with finite gradients, or minus infinity without a NaN.
#[test]
fn log_densities_are_finite_or_minus_infinity() -> Result<()> {
    const ROWS: usize = 64;
    for (case, dtype) in cases().into_iter().flat_map(|c| [(c.clone(), DType::F64), (c, DType::F32)]) {
        let (d, _) = case.build(dtype)?;
        let context = case.context(ROWS, dtype)?;
        let rng = &mut Rng::seed(3);
        let size = |rng: &mut Rng| 10f64.powf(60.0 * rng.uniform() - 30.0) * [1.0, -1.0][rng.below(2)];
        let x = Var::from_tensor(&rng.tensor([&[ROWS], d.event_shape()].concat(), dtype, CPU, size)?)?;
        let log_prob = d.log_prob(&x, context.as_ref())?;
        let gradient = log_prob.sum_all()?.backward()?.get(&x).map_or_else(|| x.zeros_like(), |g| Ok(g.clone()))?;
        let width = x.elem_count() / ROWS;
        for (row, gradient) in rows(&log_prob)?.into_iter().zip(rows(&gradient)?.chunks(width)) {
            let impossible = row == f64::NEG_INFINITY && !gradient.iter().any(|g| g.is_nan());
            let fine = impossible || row.is_finite() && gradient.iter().all(|g| g.is_finite());
            assert!(fine, "{} in {dtype:?}: {row} with gradient {gradient:?}", case.name);
        }
    }
    Ok(())
}

#[test]
fn densities_integrate_to_one_and_samples_have_their_moments() -> Result<()> {
    const DRAWS: usize = 100_000;
    for case in cases() {
        let (d, _) = case.build(DType::F64)?;
        if d.event_shape().iter().product::<usize>() != 1 {
            continue;
        }
        // Points and weights: the discrete values, or x = sinh(t), which reaches far.
        let grid: Vec<(f64, f64)> = match case.values {
            Some(n) => (0..n).map(|v| (v as f64, 1.0)).collect(),
            None => (-200_000..=200_000).map(|i| f64::from(i) * 6e-5).map(|t| (t.sinh(), 6e-5 * t.cosh())).collect(),
        };
        let repeated = |n: usize| -> Result<Option<Tensor>> {
            let row = case.context(1, DType::F64)?;
            Ok(row.map(|row| row.broadcast_as((n, row.dim(1)?))?.contiguous()).transpose()?)
        };
        let shape = [&[grid.len()], d.event_shape()].concat();
        let points = Tensor::from_vec(grid.iter().map(|(x, _)| *x).collect::<Vec<_>>(), shape, CPU)?;
        let density = rows(&d.log_prob(&points, repeated(grid.len())?.as_ref())?.exp()?)?;
        let expect = |f: &dyn Fn(f64) -> f64| grid.iter().zip(&density).map(|((x, w), p)| f(*x) * p * w).sum::<f64>();
        let total = expect(&|_| 1.0);
        assert!((total - 1.0).abs() < 5e-4, "{}: total probability {total}", case.name);
        let mean = expect(&|x| x);
        let variance = expect(&|x| (x - mean).powi(2));
        let fourth = expect(&|x| (x - mean).powi(4));
        let draws = rows(&d.sample(DRAWS, repeated(DRAWS)?.as_ref(), &mut Rng::seed(4))?)?;
        let n = DRAWS as f64;
        let got_mean = draws.iter().sum::<f64>() / n;
        let got_variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let bound = 5.0 * (variance / n).sqrt() + 1e-4;
        assert!((got_mean - mean).abs() < bound, "{}: mean {got_mean}, not {mean}", case.name);
        let bound = 5.0 * ((fourth - variance * variance) / n).sqrt() + 1e-4;
        assert!((got_variance - variance).abs() < bound, "{}: variance {got_variance}, not {variance}", case.name);
    }
    Ok(())
}

#[test]
fn gradients_match_finite_differences() -> Result<()> {
    for case in cases() {
        let (d, parameters) = case.build(DType::F64)?;
        let rng = &mut Rng::seed(6);
        let context = case.context(5, DType::F64)?;
        let context = context.as_ref();
        let x = Var::from_tensor(&d.sample(5, context, rng)?.detach())?;
        let weights = rng.normal_tensor(5, DType::F64, CPU)?;
        let shares = rng.normal_tensor(x.shape().clone(), DType::F64, CPU)?;
        let loss = || {
            let mut loss = (d.log_prob(&x, context)? * &weights)?.sum_all()?;
            if case.reparameterised {
                let (draws, log_prob) = d.sample_with_log_prob(5, context, &mut Rng::seed(7))?;
                loss = ((loss + (draws * &shares)?.sum_all()?)? + (log_prob * &weights)?.sum_all()?)?;
            }
            Ok(loss)
        };
        let inputs = [("x", &x)];
        let inputs = if case.flat || case.values.is_some() { &inputs[..0] } else { &inputs };
        let error = gradient_difference(loss, &parameters, inputs, rng)?;
        assert!(error < 1e-6, "{}: {error}", case.name);
    }
    Ok(())
}
