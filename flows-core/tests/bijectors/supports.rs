//! Bijectors onto supports, checked over a registry of all kinds.

use crate::all;
use candle_core::{DType, Device, Tensor, Var};
use flows_core::bijectors::support::Link;
use flows_core::bijectors::{Bijector, Bounds, Limit, Support};
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::nn::Parameters;
use flows_core::ops::log_abs_det;
use flows_core::testing::{Case, difference, gradient_difference};
use flows_core::{Error, Result, Rng};
use std::collections::HashMap;
use std::path::PathBuf;

const CPU: &Device = &Device::Cpu;

struct Entry {
    name: &'static str,
    support: Support,
    /// Events outside the support, on its boundary or beyond.
    outside: Vec<Vec<f64>>,
}

fn registry() -> Vec<Entry> {
    let entry = |name, support, outside: &[&[f64]]| {
        let outside = outside.iter().map(|x| x.to_vec()).collect();
        Entry { name, support, outside }
    };
    let mixed =
        [Bounds::NONE, Bounds::above(-2.0), Bounds::below(5.0), Bounds::between(-1.0, 4.0), Bounds::between(0.1, 0.3)];
    let softplus = Support::Bounded {
        shape: vec![2],
        bounds: vec![Bounds::above(0.0), Bounds::below(-1.0)],
        link: Link::Softplus,
    };
    let named = Support::named([
        ("free", Support::real([2])),
        ("scale", Support::positive([])),
        ("weights", Support::Simplex { size: 3 }),
        ("factor", Support::CorrelationFactor { size: 2 }),
    ]);
    let scales = Support::named([
        ("tau", Support::positive([])),
        ("sigma", Support::above([], "tau")),
        ("theta", Support::within([2], 0.0, "sigma")),
        ("phi", Support::below([2], Limit::part("theta").times(-0.5).plus(1.0))),
    ]);
    let two = || Limit::part("phi2");
    let triangle = Support::named([
        ("phi2", Support::interval([], -1.0, 1.0)),
        ("phi1", Support::within([], two().plus(-1.0), two().times(-1.0).plus(1.0))),
    ]);
    let (lower, shape) = (Some(Limit::part("low")), vec![2]);
    let between = Support::named([
        ("low", Support::real([2])),
        ("high", Support::Dependent { shape: shape.clone(), lower: lower.clone(), upper: None, link: Link::Softplus }),
        ("weights", Support::Simplex { size: 2 }),
        ("middle", Support::Dependent { shape, lower, upper: Some("high".into()), link: Link::Exp }),
        ("free", Support::Dependent { shape: vec![], lower: None, upper: None, link: Link::Exp }),
    ]);
    vec![
        entry(
            "bounds by parts",
            scales,
            &[
                &[2.0, 2.0, 1.0, 1.0, 0.0, 0.0],
                &[2.0, 1.0, 0.5, 0.5, 0.0, 0.0],
                &[-1.0, 1.0, 0.5, 0.5, 0.0, 0.0],
                &[1.0, 2.0, 0.5, 2.0, 0.0, 0.0],
                &[1.0, 2.0, 0.0, 1.0, 0.0, 0.0],
                &[1.0, 2.0, 0.5, 1.0, 0.7, 0.6],
            ],
        ),
        entry("triangle", triangle, &[&[0.5, 0.5], &[0.5, -0.75], &[-0.5, 1.75], &[1.0, 0.0], &[1.5, 0.0]]),
        entry(
            "between two parts",
            between,
            &[
                &[0.0, 0.0, 1.0, 1.0, 0.5, 0.5, 0.5, 1.0, 0.0],
                &[0.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0],
                &[0.0, 0.0, 1.0, 1.0, 0.5, 0.6, 0.5, 0.5, 0.0],
            ],
        ),
        entry("reals", Support::real([2, 2]), &[]),
        entry("positive", Support::positive([3]), &[&[1.0, 0.0, 1.0], &[1.0, -1e-9, 1.0], &[-1e30, 1.0, 1.0]]),
        entry("positive scalar", Support::positive([]), &[&[0.0], &[-1.0]]),
        entry("softplus", softplus, &[&[0.0, -2.0], &[1.0, -1.0], &[1.0, 3.0]]),
        entry("interval", Support::interval([1], -1.0, 1.0), &[&[-1.0], &[1.0], &[1.5], &[-1e30]]),
        entry("matrix of intervals", Support::interval([2, 2], 10.0, 11.0), &[&[10.5, 10.5, 10.0, 10.5]]),
        entry(
            "mixed bounds",
            Support::bounded([5], mixed),
            &[
                &[0.0, -2.0, 0.0, 0.0, 0.2],
                &[0.0, 0.0, 5.0, 0.0, 0.2],
                &[0.0, 0.0, 0.0, 4.5, 0.2],
                &[0.0, 0.0, 0.0, 0.0, 0.05],
            ],
        ),
        entry("ordered", Support::Ordered { size: 4 }, &[&[0.0, 1.0, 1.0, 2.0], &[3.0, 2.0, 4.0, 5.0]]),
        entry("ordered alone", Support::Ordered { size: 1 }, &[]),
        entry("positive ordered", Support::PositiveOrdered { size: 3 }, &[&[0.0, 1.0, 2.0], &[1.0, 3.0, 2.0]]),
        entry("positive ordered alone", Support::PositiveOrdered { size: 1 }, &[&[0.0], &[-1.0]]),
        entry(
            "simplex",
            Support::Simplex { size: 5 },
            &[&[0.0, 0.25, 0.25, 0.25, 0.25], &[-0.1, 0.35, 0.25, 0.25, 0.25], &[0.3, 0.25, 0.25, 0.25, 0.25]],
        ),
        entry("simplex of 2", Support::Simplex { size: 2 }, &[&[1.0, 0.0], &[0.5, 0.4]]),
        entry(
            "stick breaking",
            Support::StickBreaking { size: 4 },
            &[&[0.5, 0.5, 0.0, 0.0], &[0.5, 0.6, 0.0, -0.1], &[0.1, 0.1, 0.1, 0.1]],
        ),
        entry("stick breaking of 2", Support::StickBreaking { size: 2 }, &[&[0.0, 1.0], &[1.5, -0.5]]),
        entry("sum to zero", Support::SumToZero { size: 6 }, &[&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]),
        entry("sum to zero of 2", Support::SumToZero { size: 2 }, &[&[1.0, 1.0]]),
        entry(
            "unit vector",
            Support::UnitVector { size: 4 },
            &[&[0.0, 0.0, 0.0, 1.0], &[0.5, 0.5, 0.5, 0.6], &[0.0; 4]],
        ),
        entry("unit vector of 2", Support::UnitVector { size: 2 }, &[&[0.0, 1.0], &[1e30, 1.0]]),
        entry(
            "covariance factor",
            Support::CovarianceFactor { size: 3 },
            &[
                &[1.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.5, 0.5, 1.0],
                &[1.0, 0.1, 0.0, 0.5, 1.0, 0.0, 0.5, 0.5, 1.0],
                &[-1.0, 0.0, 0.0, 0.5, 1.0, 0.0, 0.5, 0.5, 1.0],
            ],
        ),
        entry("covariance factor alone", Support::CovarianceFactor { size: 1 }, &[&[0.0], &[-1.0]]),
        entry(
            "correlation factor",
            Support::CorrelationFactor { size: 3 },
            &[
                &[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.6, 0.0, 0.8],
                &[1.0, 0.0, 0.0, 0.6, 0.8, 0.0, 0.6, 0.0, 0.7],
                &[1.0, 0.0, 0.1, 0.6, 0.8, 0.0, 0.6, 0.0, 0.8],
            ],
        ),
        entry("correlation factor of 2", Support::CorrelationFactor { size: 2 }, &[&[1.0, 0.0, 0.6, -0.8]]),
        entry(
            "correlation",
            Support::Correlation { size: 3 },
            &[
                &[1.0, 0.9, -0.9, 0.9, 1.0, 0.9, -0.9, 0.9, 1.0],
                &[1.0, 0.5, 0.5, 0.5, 1.1, 0.5, 0.5, 0.5, 1.0],
                &[1.0, 0.5, 0.5, 0.4, 1.0, 0.5, 0.5, 0.5, 1.0],
            ],
        ),
        entry("correlation of 2", Support::Correlation { size: 2 }, &[&[1.0, 1.0, 1.0, 1.0], &[1.0, -1.5, -1.5, 1.0]]),
        entry(
            "covariance",
            Support::Covariance { size: 3 },
            &[
                &[1.0, 0.9, -0.9, 0.9, 1.0, 0.9, -0.9, 0.9, 1.0],
                &[4.0, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 1.0],
                &[4.0, 0.5, 0.5, 0.3, 2.0, 0.5, 0.5, 0.5, 1.0],
                &[-4.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0],
            ],
        ),
        entry("covariance alone", Support::Covariance { size: 1 }, &[&[0.0], &[-1.0]]),
        entry(
            "named parts",
            named,
            &[
                &[0.0, 0.0, 0.0, 0.2, 0.3, 0.5, 1.0, 0.0, 0.6, 0.8],
                &[0.0, 0.0, 1.0, 0.2, 0.3, 0.6, 1.0, 0.0, 0.6, 0.8],
                &[0.0, 0.0, 1.0, 0.2, 0.3, 0.5, 1.0, 0.0, 0.6, 0.6],
            ],
        ),
    ]
}

impl Entry {
    fn case(&self) -> Case {
        let support = self.support.clone();
        // Close enough to 0 that f32 has digits left where a matrix is nearly singular.
        Case::new(self.name, move |scope| support.bijector(scope.dtype(), scope.device())).within(-1.0, 1.0)
    }
}

/// The flat indices of the entries of x with respect to which the log-determinant is defined; none if it refers to
/// lengths or areas.
fn coordinates(support: &Support) -> Option<Vec<usize>> {
    let triangle = |size: usize, diagonal: usize| {
        (0..size).flat_map(|i| (0..i + diagonal).map(move |j| i * size + j)).collect::<Vec<_>>()
    };
    match support {
        Support::SumToZero { .. } | Support::UnitVector { .. } => None,
        Support::Simplex { size } | Support::StickBreaking { size } => Some((0..size - 1).collect()),
        Support::CovarianceFactor { size } | Support::Covariance { size } => Some(triangle(*size, 1)),
        Support::CorrelationFactor { size } | Support::Correlation { size } => Some(triangle(*size, 0)),
        Support::Named { parts } => {
            let (mut all, mut start) = (Vec::new(), 0);
            for part in parts {
                all.extend(coordinates(&part.support)?.iter().map(|i| start + i));
                start += part.support.shape().iter().product::<usize>();
            }
            Some(all)
        }
        other => Some((0..other.shape().iter().product()).collect()),
    }
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Data(message())) }
}

/// Runs a check on every entry and reports all failures.
fn each(check: impl Fn(&Entry) -> Result<()>) {
    let failed = |entry: &Entry| check(entry).err().map(|error| format!("{}: {error}", entry.name));
    let failures: Vec<String> = registry().iter().filter_map(failed).collect();
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

fn rows(t: &Tensor) -> Result<Vec<Vec<f64>>> {
    Ok(t.reshape((t.dim(0)?, ()))?.to_dtype(DType::F64)?.to_vec2()?)
}

#[test]
fn supports_pass_the_checks_of_bijectors() -> Result<()> {
    let cases: Vec<_> = registry().iter().map(Entry::case).collect();
    all(&cases, Case::round_trip);
    all(&cases, Case::rows_are_independent);
    all(&cases, Case::wrong_shapes_are_errors);
    all(&cases, Case::recomputes);
    all(&cases, Case::structure_counts);
    all(&cases, Case::is_finite_or_refuses);
    Ok(())
}

/// From z on: an x that is rounded to f32 does not satisfy in f64 the equation that defines its support.
#[test]
fn precisions_agree() {
    each(|entry| {
        let [single, double] = [DType::F32, DType::F64].map(|dtype| entry.support.bijector(dtype, CPU));
        let (single, double) = (single?, double?);
        let shape = [&[50], double.latent_shape()].concat();
        let z = Rng::seed(9).normal_tensor(shape, DType::F32, CPU)?;
        let ((x, log_det), (want, want_log_det)) =
            (single.forward(&z, None)?, double.forward(&z.to_dtype(DType::F64)?, None)?);
        let off = difference(&want, &x)?.max(difference(&want_log_det, &log_det)?);
        require(off < 1e-4, || format!("forward in f32 is off by {off:e}"))?;
        let (back, inverse) = single.inverse(&x, None)?;
        let off = difference(&z, &back)?.max(difference(&log_det, &inverse.neg()?)?);
        require(off < 1e-2, || format!("there and back in f32 is off by {off:e}"))
    });
}

#[test]
fn log_determinants_match_the_jacobians_of_the_coordinates() {
    each(|entry| {
        const ROWS: usize = 4;
        let onto = entry.support.bijector(DType::F64, CPU)?;
        let mut rng = Rng::seed(3);
        let shape = [&[ROWS], onto.latent_shape()].concat();
        let z = Var::from_tensor(&rng.normal_tensor(shape, DType::F64, CPU)?)?;
        let (x, log_det) = onto.forward(&z, None)?;
        let flat = x.reshape((ROWS, ()))?;
        let slopes = |i: usize| -> Result<Tensor> {
            let gradients = flat.narrow(1, i, 1)?.sum_all()?.backward()?;
            Ok(gradients.get(&z).map_or_else(|| z.zeros_like(), |g| Ok(g.clone()))?.reshape((ROWS, 1, ()))?)
        };
        let jacobian = |of: &[usize]| -> Result<Tensor> {
            let rows = of.iter().map(|&i| slopes(i)).collect::<Result<Vec<_>>>()?;
            Ok(Tensor::cat(&rows, 1)?)
        };
        let want = match coordinates(&entry.support) {
            Some(coordinates) => log_abs_det(&jacobian(&coordinates)?)?,
            None => {
                let jacobian = jacobian(&(0..flat.dim(1)?).collect::<Vec<_>>())?;
                (log_abs_det(&jacobian.transpose(1, 2)?.contiguous()?.matmul(&jacobian)?)? * 0.5)?
            }
        };
        let off = difference(&want, &log_det)?;
        require(off < 1e-9, || format!("the log-determinant is off by {off:e}"))?;

        // The round trip is the identity with log-determinant 0, and so are its gradients.
        let (back, inverse) = onto.inverse(&x, None)?;
        let off = difference(&z, &back)?.max(difference(&log_det, &inverse.neg()?)?);
        require(off < 1e-9, || format!("there and back is off by {off:e}"))?;
        let weights = rng.normal_tensor(z.shape().clone(), DType::F64, CPU)?;
        let loss = ((back * &weights)?.sum_all()? + ((&log_det + inverse)?.sum_all()? * 3.0)?)?;
        let gradients = loss.backward()?;
        let gradient = gradients.get(&z).ok_or_else(|| Error::Data("z gets no gradient".into()))?;
        let off = difference(&weights, gradient)?;
        require(off < 1e-9, || format!("the gradient there and back is off by {off:e}"))?;

        let weights = rng.normal_tensor(x.shape().clone(), DType::F64, CPU)?;
        let loss = || {
            let (x, log_det) = onto.forward(&z, None)?;
            Ok(((x * &weights)?.sum_all()? + (log_det * 1.5)?.sum_all()?)?)
        };
        let none = Parameters::new(DType::F64, CPU, Rng::seed(0));
        let off = gradient_difference(loss, &none, &[("z", &z)], &mut rng)?;
        require(off < 1e-8, || format!("the gradient is off by {off:e}"))
    });
}

/// Points at which functions overflow, underflow or round to a boundary.
fn extremes(n: usize) -> Vec<Vec<f64>> {
    let mut points = Vec::new();
    for far in [1e3, 300.0, 90.0, 30.0, 17.0, 1e15, 1e30] {
        points.push(vec![far; n]);
        points.push(vec![-far; n]);
        points.push((0..n).map(|i| if i % 2 == 0 { far } else { -far }).collect());
        points.push((0..n).map(|i| if i == n / 2 { far } else { 0.0 }).collect());
        points.push((0..n).map(|i| if i + 1 == n { -far } else { 0.5 }).collect());
        let mut rng = Rng::seed(far as u64);
        points.push((0..n).map(|_| far * (2.0 * rng.uniform() - 1.0)).collect());
    }
    points.push(vec![0.0; n]);
    points
}

/// Whether x satisfies the inequalities that define a support.
fn inside(support: &Support, x: &[f64]) -> bool {
    let increasing = |x: &[f64]| x.windows(2).all(|pair| pair[0] < pair[1]);
    match support {
        Support::Bounded { bounds, .. } => x.iter().zip(bounds.iter().cycle()).all(|(&x, bounds)| bounds.contain(x)),
        Support::Named { parts } => {
            let (mut earlier, mut start) = (HashMap::new(), 0);
            parts.iter().all(|part| {
                let x = &x[start..start + part.support.shape().iter().product::<usize>()];
                start += x.len();
                earlier.insert(part.name.as_str(), x);
                match &part.support {
                    Support::Dependent { lower, upper, .. } => {
                        let at = |limit: &Limit, i: usize| {
                            let part = limit.part.as_ref().map_or(&[0.0][..], |name| earlier[name.as_str()]);
                            limit.scale * part[i.min(part.len() - 1)] + limit.shift
                        };
                        // Rounding may leave nothing between.
                        let above = |i| lower.as_ref().is_none_or(|limit| at(limit, i) <= x[i]);
                        let below = |i| upper.as_ref().is_none_or(|limit| x[i] <= at(limit, i));
                        (0..x.len()).all(|i| above(i) && below(i))
                    }
                    support => inside(support, x),
                }
            })
        }
        Support::Ordered { .. } => increasing(x),
        Support::PositiveOrdered { .. } => x[0] > 0.0 && increasing(x),
        Support::Simplex { .. } | Support::StickBreaking { .. } => x.iter().all(|&x| x > 0.0 && x < 1.0),
        Support::CorrelationFactor { size } | Support::CovarianceFactor { size } => {
            (0..*size).all(|i| x[i * (size + 1)] > 0.0)
        }
        Support::Correlation { size } => {
            (0..size * size).all(|e| if e % (size + 1) == 0 { x[e] == 1.0 } else { x[e].abs() < 1.0 })
        }
        _ => true,
    }
}

#[test]
fn extremes_are_finite_and_strictly_inside() {
    each(|entry| {
        for dtype in [DType::F32, DType::F64] {
            let onto = entry.support.bijector(dtype, CPU)?;
            let n: usize = onto.latent_shape().iter().product();
            for point in extremes(n) {
                let shape = [&[1], onto.latent_shape()].concat();
                let z = Var::from_tensor(&Tensor::from_vec(point.clone(), shape, CPU)?.to_dtype(dtype)?)?;
                let (x, log_det) = onto.forward(&z, None)?;
                let values = rows(&x)?.remove(0);
                let at = |what: &str, got: &dyn std::fmt::Debug| format!("{what} at {point:?} in {dtype:?}: {got:?}");
                require(values.iter().all(|v| v.is_finite()), || at("x", &values))?;
                require(inside(&entry.support, &values), || at("not inside", &values))?;
                let number = log_det.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                require(number[0].is_finite(), || at("log-determinant", &number))?;
                let gradients = (x.sum_all()? + log_det.sum_all()?)?.backward()?;
                let gradient = gradients.get(&z).map(rows).transpose()?.unwrap_or_default();
                require(gradient.iter().flatten().all(|v| !v.is_nan()), || at("gradient", &gradient))?;

                let x = Var::from_tensor(&x.detach())?;
                let (back, inverse) = onto.inverse(&x, None)?;
                let number = inverse.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                require(number[0].is_finite(), || at("log-determinant of the inverse", &(number, rows(&x))))?;
                require(rows(&back)?[0].iter().all(|v| v.is_finite()), || at("z", &rows(&back)))?;
                // The derivatives between numbers so far apart exceed the range of f32.
                if point.iter().any(|v| v.abs() > 1e15) {
                    continue;
                }
                let gradients = (back.sum_all()? + inverse.sum_all()?)?.backward()?;
                let gradient = gradients.get(&x).map(rows).transpose()?.unwrap_or_default();
                require(gradient.iter().flatten().all(|v| !v.is_nan()), || at("gradient of the inverse", &gradient))?;
            }
        }
        Ok(())
    });
}

#[test]
fn densities_outside_are_zero() {
    each(|entry| {
        for dtype in [DType::F32, DType::F64] {
            let onto = entry.support.bijector(dtype, CPU)?;
            let base = StandardNormal::new(onto.latent_shape(), dtype, CPU)?;
            let prior = Transformed::new(base, onto)?;
            let draws = prior.sample(3, None, &mut Rng::seed(1))?;
            let n: usize = prior.event_shape().iter().product();
            let mut outside = entry.outside.clone();
            for bad in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
                for element in [0, n - 1] {
                    let mut event = rows(&draws)?.remove(1);
                    event[element] = bad;
                    outside.push(event);
                }
            }
            let usual = prior.log_prob(&draws, None)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            for event in outside {
                let shape = [&[1], prior.event_shape()].concat();
                let bad = Tensor::from_vec(event.clone(), shape, CPU)?.to_dtype(dtype)?;
                let x = Tensor::cat(&[&draws.narrow(0, 0, 1)?, &bad, &draws.narrow(0, 2, 1)?], 0)?;
                let x = Var::from_tensor(&x)?;
                let (_, log_det) = prior.bijector().inverse(&x, None)?;
                let log_prob = prior.log_prob(&x, None)?;
                for (what, got) in [("log-determinant", &log_det), ("log-density", &log_prob)] {
                    let got = got.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                    let right =
                        if event.iter().any(|v| v.is_nan()) { got[1].is_nan() } else { got[1] == f64::NEG_INFINITY };
                    require(right, || format!("{what} at {event:?} in {dtype:?}: {}", got[1]))?;
                    if what == "log-density" {
                        let alone = (got[0] - usual[0]).abs().max((got[2] - usual[2]).abs());
                        require(alone < 1e-4, || format!("{event:?} changes rows beside it by {alone}"))?;
                    }
                }
                if event.iter().all(|v| v.is_finite()) {
                    let gradients = log_prob.sum_all()?.backward()?;
                    let gradient = gradients.get(&x).map(rows).transpose()?.unwrap_or_default();
                    let fine = gradient.iter().flatten().all(|v| !v.is_nan());
                    require(fine, || format!("gradient at {event:?} in {dtype:?}: {gradient:?}"))?;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn supports_serialise() -> Result<()> {
    for Entry { name, support, .. } in registry() {
        let text = serde_json::to_string(&support).map_err(|e| Error::Data(e.to_string()))?;
        let read: Support = serde_json::from_str(&text).map_err(|e| Error::Data(e.to_string()))?;
        assert_eq!(read, support, "{name}: {text}");
        let onto = support.bijector(DType::F32, CPU)?;
        assert_eq!(onto.support(), Some(support.clone()), "{name}");
        assert!(!support.to_string().is_empty(), "{name}");
    }
    for text in [
        r#"{"kind":"bounded","shape":[2],"bounds":[{"lower":0.5}],"link":"softplus"}"#,
        r#"{"kind":"dependent","shape":[2],"lower":{"part":"tau"},"upper":{"part":"tau","scale":2,"shift":1}}"#,
    ] {
        assert!(serde_json::from_str::<Support>(text).is_ok(), "{text}");
    }
    for bad in [r#"{"kind":"simplex","size":3,"sum":1}"#, r#"{"kind":"simplex"}"#, r#"{"kind":"cube","size":3}"#] {
        assert!(serde_json::from_str::<Support>(bad).is_err(), "{bad}");
    }
    Ok(())
}

#[test]
fn invalid_supports_are_errors() {
    let twice = Support::named([("a", Support::real([1])), ("a", Support::real([1]))]);
    let tau = |other| Support::named([("tau", Support::positive([2])), ("other", other)]);
    let late = Support::named([("a", Support::above([], "b")), ("b", Support::real([]))]);
    let own = Support::named([("a", Support::above([], "a"))]);
    let zero = Limit { scale: 0.0, ..Limit::part("tau") };
    let nested = Support::named([("outer", Support::named([("inner", Support::Simplex { size: 1 })]))]);
    for bad in [
        Support::real([2, 0]),
        Support::real([usize::MAX, 2]),
        Support::bounded([3], [Bounds::NONE, Bounds::NONE]),
        Support::bounded([3], []),
        Support::interval([1], 1.0, 1.0),
        Support::interval([1], 2.0, 1.0),
        Support::interval([1], f64::NAN, 1.0),
        Support::interval([1], 0.0, f64::INFINITY),
        Support::interval([1], -1e308, 1e308),
        Support::bounded([1], [Bounds::above(f64::NEG_INFINITY)]),
        Support::bounded([1], [Bounds::below(f64::NAN)]),
        Support::Ordered { size: 0 },
        Support::Simplex { size: 1 },
        Support::Simplex { size: usize::MAX },
        Support::SumToZero { size: 0 },
        Support::UnitVector { size: 1 },
        Support::CovarianceFactor { size: 0 },
        Support::Covariance { size: usize::MAX },
        Support::CorrelationFactor { size: 1 },
        Support::Correlation { size: 0 },
        Support::Integers { shape: vec![2], low: 0, high: 3 },
        Support::Integers { shape: vec![2], low: 4, high: 3 },
        Support::named(Vec::<(String, Support)>::new()),
        twice,
        nested,
        Support::above([2], "tau"),
        late,
        own,
        tau(Support::above([3], "tau")),
        tau(Support::above([2, 0], "tau")),
        tau(Support::above([2], zero)),
        tau(Support::above([2], Limit::part("tau").plus(f64::NAN))),
        // Empty for some tau.
        tau(Support::within([2], "tau", 5.0)),
        tau(Support::within([2], 1.0, "tau")),
        tau(Support::within([2], Limit::part("tau").times(2.0), "tau")),
        tau(Support::within([2], "tau", "tau")),
    ] {
        let error = bad.bijector(DType::F64, CPU).map(drop).expect_err("an error").to_string();
        assert!(error.len() > 20, "{bad:?}: {error}");
    }
    // Too close to each other, or too large, for f32 only.
    for narrow in [Support::interval([1], 1e6, 1e6 + 0.01), Support::bounded([1], [Bounds::above(1e39)])] {
        assert!(narrow.bijector(DType::F32, CPU).is_err() && narrow.bijector(DType::F64, CPU).is_ok(), "{narrow}");
    }
    assert!(Support::real([1]).bijector(DType::F16, CPU).is_err());
}

#[test]
fn bounds_in_order_are_accepted() {
    let tau = |upper, other| Support::named([("tau", Support::interval([2], 0.0, upper)), ("other", other)]);
    let chain = Support::named([
        ("a", Support::real([])),
        ("b", Support::above([], Limit::part("a").plus(1.0))),
        ("c", Support::within([], "a", Limit::part("b").plus(-1.0))),
        ("d", Support::within([], Limit::part("c").plus(-0.5), "b")),
    ]);
    for good in [
        tau(5.0, Support::within([2], "tau", 5.0)),
        tau(0.3, Support::within([2], Limit::part("tau").times(0.1), 0.03)),
        tau(1.0, Support::within([2], Limit::part("tau").times(-1.0), "tau")),
        tau(1.0, Support::within([2], "tau", Limit::part("tau").plus(0.1))),
        chain,
    ] {
        assert!(good.check().is_ok(), "{good}: {:?}", good.check());
    }
}

/// Next to its own bound a part leaves no number between the bounds that it gives.
#[test]
fn bounds_that_rounding_joins_have_a_number() -> Result<()> {
    let support =
        Support::named([("tau", Support::interval([], 0.0, 5.0)), ("sigma", Support::within([], "tau", 5.0))]);
    for dtype in [DType::F32, DType::F64] {
        let onto = support.bijector(dtype, CPU)?;
        let z = Tensor::new(&[[100.0, -100.0], [100.0, 0.0], [100.0, 100.0], [15.0, 1e30]], CPU)?.to_dtype(dtype)?;
        let (x, _) = onto.forward(&z, None)?;
        let (back, log_det) = onto.inverse(&x, None)?;
        assert!(rows(&back)?.iter().flatten().all(|v| v.is_finite()), "{back}");
        assert!(rows(&log_det)?.iter().flatten().all(|v| v.is_finite()), "{x} {log_det}");
        assert!(rows(&x)?.iter().all(|row| row[0] <= row[1] && row[1] <= 5.0), "{x}");
    }
    Ok(())
}

#[test]
fn parts_are_found_by_name() -> Result<()> {
    let support = Support::named([("a", Support::real([2])), ("b", Support::Covariance { size: 2 })]);
    let x = Tensor::new(&[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], CPU)?;
    assert_eq!(support.part(&x, "a")?.to_vec2::<f64>()?, [[1.0, 2.0]]);
    assert_eq!(support.part(&x, "b")?.to_vec3::<f64>()?, [[[3.0, 4.0], [5.0, 6.0]]]);
    let error = support.part(&x, "c").expect_err("no such part").to_string();
    assert!(error.contains("a, b"), "{error}");
    assert!(support.part(&x.narrow(1, 0, 5)?, "a").is_err() && Support::real([6]).part(&x, "a").is_err());
    Ok(())
}

/// The support of a golden case; none where Stan's map is not a bijection.
fn golden_support(kind: &str, config: &serde_json::Value, shape: &[usize]) -> Result<Option<Support>> {
    let number = |name: &str| config.get(name).and_then(serde_json::Value::as_f64);
    let size = shape.last().copied().unwrap_or(0);
    Ok(Some(match kind {
        "positive" => Support::positive(shape),
        "lower" | "upper" | "interval" => {
            Support::bounded(shape, [Bounds { lower: number("lower"), upper: number("upper") }])
        }
        "ordered" => Support::Ordered { size },
        "positive_ordered" => Support::PositiveOrdered { size },
        "simplex" => Support::Simplex { size },
        "simplex_stick_breaking" => Support::StickBreaking { size },
        "sum_to_zero" => Support::SumToZero { size },
        "cholesky_factor_corr" => Support::CorrelationFactor { size },
        "cholesky_factor_cov" => Support::CovarianceFactor { size },
        "correlation" => Support::Correlation { size },
        "covariance" => Support::Covariance { size },
        "unit_vector" => return Ok(None),
        other => return Err(Error::Data(format!("the constraint `{other}` is unknown"))),
    }))
}

fn check_golden(bytes: &[u8]) -> Result<bool> {
    let bad = |e: &dyn std::fmt::Display| Error::Data(e.to_string());
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(|e| bad(&e))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    if metadata.get("case").map(String::as_str) != Some("constraint") {
        return Ok(false);
    }
    let entry = |name: &str| metadata.get(name).ok_or_else(|| Error::Data(format!("the metadata has no `{name}`")));
    let config = serde_json::from_str(entry("config")?).map_err(|e| bad(&e))?;
    let tensors: HashMap<String, Tensor> = candle_core::safetensors::load_buffer(bytes, CPU)?;
    let Some(support) = golden_support(entry("constraint")?, &config, &tensors["x"].dims()[1..])? else {
        return Ok(true);
    };
    let onto = support.bijector(DType::F64, CPU)?;
    let y = Var::from_tensor(&tensors["y"])?;
    let (x, log_det) = onto.forward(&y, None)?;
    let loss = ((&x * &tensors["gx"])?.sum_all()? + (&log_det * &tensors["gl"])?.sum_all()?)?;
    let gradients = loss.backward()?;
    let gradient = gradients.get(&y).ok_or_else(|| Error::Data("y gets no gradient".into()))?;
    // Far out x has lost the digits of y, but not its own; where theirs lies on a bound ours lies next to it.
    let back = onto.forward(&onto.inverse(&x.detach(), None)?.0, None)?.0;
    for (what, want, got) in [
        ("x", &tensors["x"], &x),
        ("log_det", &tensors["log_det"], &log_det),
        ("grad.y", &tensors["grad.y"], gradient),
        ("x there and back", &tensors["x"], &back),
    ] {
        let off = difference(want, got)?;
        require(off < 1e-9, || format!("`{what}` differs by {off:e}"))?;
    }
    Ok(true)
}

#[test]
fn golden_constraints() {
    let named = std::env::var_os("FLOWS_GOLDEN").map(PathBuf::from);
    let root = named.clone().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden").into());
    if named.is_none() && !root.exists() {
        return eprintln!("there are no golden cases at {}: passed over; FLOWS_GOLDEN names another", root.display());
    }
    let folder = std::fs::read_dir(root.join("vi")).unwrap_or_else(|e| panic!("{}: {e}", root.join("vi").display()));
    let paths =
        folder.map(|file| file.expect("a file").path()).filter(|p| p.extension().is_some_and(|e| e == "safetensors"));
    let (mut checked, mut failures) = (0, Vec::new());
    for path in paths {
        match check_golden(&std::fs::read(&path).expect("a file")) {
            Ok(of_a_constraint) => checked += usize::from(of_a_constraint),
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    assert!(failures.is_empty() && checked > 0, "{checked} checked; {}", failures.join("\n"));
}
