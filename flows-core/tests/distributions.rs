//! What holds of every distribution, and a closed form or two for each.

use candle_core::{DType, Device, Tensor, Var};
use flows_core::bijectors::Bijector;
use flows_core::distributions::*;
use flows_core::nn::{Init, Parameters, Scope};
use flows_core::testing::{difference, gradient_difference, perturb};
use flows_core::{Result, Rng, Structure};

const CPU: &Device = &Device::Cpu;

/// `x = exp(weight z)`: from the real line onto the positive numbers.
#[derive(Debug)]
struct Exponential {
    event: Vec<usize>,
    weight: Tensor,
}

impl Bijector for Exponential {
    fn latent_shape(&self) -> &[usize] {
        &self.event
    }

    fn forward(&self, z: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let log_x = z.broadcast_mul(&self.weight)?;
        Ok((log_x.exp()?, log_x.broadcast_add(&self.weight.log()?)?.sum(1)?))
    }

    fn inverse(&self, x: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let log_x = x.log()?;
        Ok((log_x.broadcast_div(&self.weight)?, log_x.broadcast_add(&self.weight.log()?)?.sum(1)?.neg()?))
    }

    fn structure(&self) -> Structure {
        Structure::new("Exponential", "").weights([&self.weight])
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    Context(usize),
    Class(usize),
}

#[derive(Clone)]
struct Case {
    name: &'static str,
    make: fn(&Scope) -> Result<Box<dyn Distribution>>,
    needs: Needs,
    /// The values of an element, where they can be counted.
    values: Option<usize>,
    /// A value that no element takes.
    outside: Option<f64>,
    /// Whether draws follow every parameter.
    reparameterised: bool,
    /// Whether the density is the same at every x.
    flat: bool,
}

impl Case {
    const fn new(name: &'static str, make: fn(&Scope) -> Result<Box<dyn Distribution>>) -> Self {
        Self { name, make, needs: Needs::Nothing, values: None, outside: None, reparameterised: true, flat: false }
    }

    fn build(&self, dtype: DType) -> Result<(Box<dyn Distribution>, Parameters)> {
        let parameters = Parameters::new(dtype, CPU, Rng::seed(11));
        let distribution = (self.make)(&parameters.scope())?;
        perturb(&parameters, 0.2, &mut Rng::seed(12))?;
        Ok((distribution, parameters))
    }

    /// A context of different rows, or none.
    fn context(&self, rows: usize, dtype: DType) -> Result<Option<Tensor>> {
        match self.needs {
            Needs::Nothing => Ok(None),
            Needs::Context(width) => Ok(Some(Rng::seed(13).normal_tensor((rows, width), dtype, CPU)?)),
            Needs::Class(k) => {
                let classes = (0..rows).map(|i| (i % k) as f64).collect::<Vec<_>>();
                Ok(Some(Tensor::from_vec(classes, (rows, 1), CPU)?.to_dtype(dtype)?))
            }
        }
    }
}

fn constant(scope: &Scope, shape: &[usize], values: &[f64]) -> Result<Tensor> {
    let n = shape.iter().product();
    let values: Vec<f64> = values.iter().copied().cycle().take(n).collect();
    Ok(Tensor::from_vec(values, shape, CPU)?.to_dtype(scope.dtype())?)
}

fn truncated<F: SymmetricCdf + Default + 'static>(
    scope: &Scope,
    event: &[usize],
    low: f64,
    high: f64,
) -> Result<Box<dyn Distribution>> {
    let base = LocationScale::<F>::trainable(event, scope)?;
    Ok(Box::new(Truncated::new(base, &constant(scope, event, &[low])?, &constant(scope, event, &[high])?)?))
}

fn cases() -> Vec<Case> {
    let uniform = |c: Case| Case { outside: Some(2.5), flat: true, ..c };
    let truncated_case = |c: Case| Case { outside: Some(-1e30), ..c };
    vec![
        Case::new("StandardNormal", |s| Ok(Box::new(StandardNormal::new([1], s.dtype(), CPU)?))),
        Case::new("StandardNormal image", |s| Ok(Box::new(StandardNormal::new([3, 2, 2], s.dtype(), CPU)?))),
        Case::new("Normal", |s| Ok(Box::new(Normal::trainable([1], s)?))),
        Case::new("Normal matrix", |s| Ok(Box::new(Normal::trainable([2, 3], s)?))),
        Case::new("Normal scalar", |s| Ok(Box::new(Normal::trainable([], s)?))),
        Case::new("Normal fixed", |s| {
            Ok(Box::new(Normal::new(&constant(s, &[3], &[1.0, -2.0])?, &constant(s, &[3], &[0.5, 3.0])?)?))
        }),
        Case::new("MultivariateNormal", |s| Ok(Box::new(MultivariateNormal::trainable(1, s)?))),
        Case::new("MultivariateNormal 4", |s| Ok(Box::new(MultivariateNormal::trainable(4, s)?))),
        Case::new("Laplace", |s| Ok(Box::new(Laplace::trainable([1], s)?))),
        Case::new("Laplace matrix", |s| Ok(Box::new(Laplace::trainable([2, 3], s)?))),
        Case::new("Logistic", |s| Ok(Box::new(Logistic::trainable([1], s)?))),
        Case::new("Logistic matrix", |s| Ok(Box::new(Logistic::trainable([2, 3], s)?))),
        Case { reparameterised: false, ..Case::new("StudentT", |s| Ok(Box::new(StudentT::trainable([1], 20.0, s)?))) },
        Case {
            reparameterised: false,
            ..Case::new("StudentT matrix", |s| Ok(Box::new(StudentT::trainable([2, 2], 1.5, s)?)))
        },
        Case::new("StudentT fixed", |s| {
            Ok(Box::new(StudentT::new(8.0, &constant(s, &[3], &[1.0])?, &constant(s, &[3], &[2.0])?)?))
        }),
        uniform(Case::new("BoxUniform", |s| {
            Ok(Box::new(BoxUniform::new(&constant(s, &[1], &[-1.0])?, &constant(s, &[1], &[2.0])?)?))
        })),
        uniform(Case::new("BoxUniform matrix", |s| {
            Ok(Box::new(BoxUniform::new(&constant(s, &[2, 2], &[-1.0, 0.0])?, &constant(s, &[2, 2], &[2.0])?)?))
        })),
        truncated_case(Case::new("Truncated normal", |s| truncated::<NormalFamily>(s, &[1], -0.5, 1.5))),
        truncated_case(Case::new("Truncated normal, tail", |s| truncated::<NormalFamily>(s, &[1], 4.0, f64::INFINITY))),
        truncated_case(Case::new("Truncated normal matrix", |s| truncated::<NormalFamily>(s, &[2, 2], -2.0, -1.0))),
        truncated_case(Case::new("Truncated Laplace", |s| truncated::<LaplaceFamily>(s, &[1], -0.5, 2.0))),
        truncated_case(Case::new("Truncated logistic", |s| truncated::<LogisticFamily>(s, &[1], 1.0, 3.0))),
        Case::new("GaussianMixture", |s| Ok(Box::new(GaussianMixture::trainable([1], 3, s)?))),
        Case::new("GaussianMixture matrix", |s| Ok(Box::new(GaussianMixture::trainable([2, 2], 4, s)?))),
        Case::new("GaussianMixture scalar", |s| Ok(Box::new(GaussianMixture::trainable([], 2, s)?))),
        Case {
            needs: Needs::Class(3),
            ..Case::new("ClassConditional", |s| Ok(Box::new(ClassConditional::trainable([1], 3, s)?)))
        },
        Case {
            needs: Needs::Class(2),
            ..Case::new("ClassConditional image", |s| Ok(Box::new(ClassConditional::trainable([2, 1, 2], 2, s)?)))
        },
        Case {
            needs: Needs::Context(3),
            ..Case::new("ConditionalNormal", |s| Ok(Box::new(ConditionalNormal::new([1], 3, s)?)))
        },
        Case {
            needs: Needs::Context(2),
            ..Case::new("ConditionalNormal image", |s| Ok(Box::new(ConditionalNormal::new([2, 1, 2], 2, s)?)))
        },
        Case {
            values: Some(4),
            outside: Some(4.0),
            ..Case::new("Categorical", |s| Ok(Box::new(Categorical::trainable([1], 4, s)?)))
        },
        Case {
            values: Some(3),
            outside: Some(0.5),
            ..Case::new("Categorical matrix", |s| Ok(Box::new(Categorical::trainable([2, 2], 3, s)?)))
        },
        Case {
            values: Some(2),
            outside: Some(-1.0),
            ..Case::new("Bernoulli", |s| Ok(Box::new(Bernoulli::trainable([1], s)?)))
        },
        Case {
            values: Some(2),
            outside: Some(0.25),
            ..Case::new("Bernoulli matrix", |s| Ok(Box::new(Bernoulli::trainable([2, 2], s)?)))
        },
        Case {
            outside: Some(2.5),
            needs: Needs::Context(2),
            ..Case::new("Product", |s| {
                Ok(Box::new(Product::new(vec![
                    Box::new(BoxUniform::new(&constant(s, &[2], &[-1.0])?, &constant(s, &[2], &[2.0])?)?),
                    Box::new(Normal::trainable([1], &s.enter("a"))?),
                    Box::new(ConditionalNormal::new([3], 2, &s.enter("b"))?),
                ])?))
            })
        },
        Case {
            outside: Some(-1.0),
            ..Case::new("Transformed", |s| {
                let weight = s.weight("weight", 1, Init::Constant(0.4))?;
                let base = Box::new(Normal::trainable([1], s)?);
                Ok(Box::new(Transformed::new(base, Box::new(Exponential { event: vec![1], weight }))?))
            })
        },
        Case {
            outside: Some(0.0),
            needs: Needs::Context(2),
            ..Case::new("Transformed conditional", |s| {
                let weight = s.weight("scale", 2, Init::Constant(0.7))?;
                let base = Box::new(ConditionalNormal::new([2], 2, s)?);
                Ok(Box::new(Transformed::new(base, Box::new(Exponential { event: vec![2], weight }))?))
            })
        },
    ]
}

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
            let error = difference(&d.log_prob(&x, context.as_ref())?, &log_prob)?;
            assert!(error < 1e-9, "{}: log_prob differs by {error}", case.name);
            let again = d.sample(count, context.as_ref(), &mut Rng::seed(1))?;
            assert_eq!(difference(&x, &again)?, 0.0, "{}: a seed gives other samples", case.name);
            let training = d.log_prob_training(&x, context.as_ref(), &mut Rng::seed(2))?;
            assert!(difference(&log_prob, &training)? < 1e-9, "{}", case.name);
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
        let error = difference(&x, &x32)?.max(difference(&log_prob, &log_prob32)?);
        assert!(error < 3e-5, "{}: {error}", case.name);
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
fn a_bad_row_stays_alone() -> Result<()> {
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

#[test]
fn densities_integrate_to_one_and_samples_have_their_moments() -> Result<()> {
    const DRAWS: usize = 100_000;
    for case in cases() {
        let (d, _) = case.build(DType::F64)?;
        if d.event_shape().iter().product::<usize>() != 1 {
            continue;
        }
        // Points and weights: the values that can be counted, or x = sinh(t), which reaches far.
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
fn gradients_are_those_of_differences() -> Result<()> {
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

#[test]
fn closed_forms() -> Result<()> {
    let row = |values: &[f64]| -> Result<Tensor> { Ok(Tensor::new(values, CPU)?) };
    let at = |d: &dyn Distribution, x: &[f64]| -> Result<f64> {
        Ok(d.log_prob(&Tensor::new(x, CPU)?.unsqueeze(0)?, None)?.to_vec1::<f64>()?[0])
    };
    let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-12 * want.abs().max(1.0), "{got} is not {want}");
    let (loc, scale) = (row(&[1.0])?, row(&[2.0])?);
    let half_ln_2pi = 0.918_938_533_204_672_7;
    close(at(&Normal::new(&loc, &scale)?, &[4.0])?, -1.125 - 2f64.ln() - half_ln_2pi);
    close(at(&Laplace::new(&loc, &scale)?, &[-4.0])?, -2.5 - 4f64.ln());
    close(at(&Logistic::new(&loc, &scale)?, &[1.0])?, -8f64.ln());
    // Three degrees of freedom: p(z) = 2 / (pi sqrt(3) (1 + z^2 / 3)^2).
    let z_at_1 = (2.0 / (std::f64::consts::PI * 3f64.sqrt() * (4f64 / 3.0).powi(2))).ln();
    close(at(&StudentT::new(3.0, &loc, &scale)?, &[3.0])?, z_at_1 - 2f64.ln());
    let covariance = Tensor::new(&[[4.0, 0.0], [0.0, 9.0]], CPU)?;
    let (normal, two) = (MultivariateNormal::new(&row(&[1.0, 2.0])?, &covariance)?, row(&[1.0, 2.0])?);
    close(at(&normal, &[3.0, 0.5])?, at(&Normal::new(&two, &row(&[2.0, 3.0])?)?, &[3.0, 0.5])?);
    let mixture = GaussianMixture::new(
        &row(&[0.25f64.ln(), 0.75f64.ln()])?,
        &Tensor::new(&[[0.0], [3.0]], CPU)?,
        &Tensor::new(&[[1.0], [2.0]], CPU)?,
    )?;
    close(at(&mixture, &[3.0])?, (0.25 * (-4.5f64).exp() + 0.375).ln() - half_ln_2pi);
    let categorical = Categorical::new(&row(&[1.0, f64::NEG_INFINITY, 1.0, 1.0])?.unsqueeze(0)?)?;
    close(at(&categorical, &[2.0])?, -3f64.ln());
    assert_eq!(at(&categorical, &[1.0])?, f64::NEG_INFINITY);
    let indices = Tensor::new(&[[0u32], [3], [4]], CPU)?;
    assert_eq!(rows(&categorical.log_prob(&indices, None)?)?[2], f64::NEG_INFINITY);
    assert!(!rows(&categorical.sample(1000, None, &mut Rng::seed(0))?)?.contains(&1.0));
    let bernoulli = Bernoulli::new(&row(&[800.0, -800.0])?)?;
    assert_eq!(at(&bernoulli, &[1.0, 0.0])?, 0.0);
    close(at(&bernoulli, &[0.0, 0.0])?, -800.0);
    let uniform = BoxUniform::new(&row(&[0.0])?, &row(&[4.0])?)?;
    close(at(&uniform.truncate(&row(&[3.0])?, &row(&[9.0])?)?, &[4.0])?, 0.0);
    assert!(uniform.truncate(&row(&[5.0])?, &row(&[9.0])?).is_err());
    Ok(())
}

#[test]
fn temperature_scales_the_base() -> Result<()> {
    let base = StandardNormal::new([1], DType::F64, CPU)?;
    let (warm, cool) = (base.sample(9, None, &mut Rng::seed(1))?, base.sample_tempered(9, 0.7, &mut Rng::seed(1))?);
    assert!(difference(&(warm * 0.7)?, &cool)? < 1e-15);
    assert_eq!(rows(&base.sample_tempered(1, 0.0, &mut Rng::seed(1))?)?, [0.0]);
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(base.sample_tempered(1, bad, &mut Rng::seed(1)).is_err());
    }
    Ok(())
}

#[test]
fn contexts_out_of_range() -> Result<()> {
    let parameters = Parameters::new(DType::F64, CPU, Rng::seed(0));
    let scope = parameters.scope();
    let classes = ClassConditional::trainable([2], 3, &scope.enter("class"))?;
    let x = Tensor::zeros((1, 2), DType::F64, CPU)?;
    for bad in [3.0, -1.0, 0.5, f64::NAN] {
        assert!(classes.log_prob(&x, Some(&Tensor::new(&[[bad]], CPU)?)).is_err());
    }
    classes.log_prob(&x, Some(&Tensor::new(&[[2u32]], CPU)?))?;
    let conditional = ConditionalNormal::new([2], 1, &scope)?;
    perturb(&parameters, 1.0, &mut Rng::seed(1))?;
    let far = conditional.log_prob(&x, Some(&Tensor::new(&[[1e12]], CPU)?))?;
    assert!(rows(&far)?[0].is_finite());
    Ok(())
}

#[test]
fn a_flow_shows_its_parts() -> Result<()> {
    let bijector = || -> Result<Box<Exponential>> {
        Ok(Box::new(Exponential { event: vec![1], weight: Tensor::new(&[1.0], CPU)? }))
    };
    let base =
        |event: usize| -> Result<Box<StandardNormal>> { Ok(Box::new(StandardNormal::new([event], DType::F64, CPU)?)) };
    assert!(Transformed::new(base(2)?, bijector()?).is_err());
    let flow = Transformed::new(base(1)?, bijector()?)?;
    assert!(flow.structure().to_string().starts_with("Transformed base StandardNormal"));
    let x = flow.sample(3, None, &mut Rng::seed(0))?;
    assert!(difference(&flow.latent(&x, None)?, &x.log()?)? < 1e-14);
    assert!(difference(&flow.initialize(&x, None)?, &x.log()?)? < 1e-14);
    assert_eq!((flow.base().event_shape(), flow.bijector().data_shape()), (&[1][..], &[1][..]));
    Ok(())
}

#[test]
fn unusable_settings_are_refused() -> Result<()> {
    let (one, zero) = (Tensor::new(&[1.0], CPU)?, Tensor::new(&[0.0], CPU)?);
    let single = one.to_dtype(DType::F32)?;
    let scope = Parameters::new(DType::F64, CPU, Rng::seed(0)).scope();
    assert!(Normal::new(&one, &zero).is_err());
    assert!(Normal::new(&one, &single).is_err());
    assert!(Laplace::new(&one, &Tensor::new(&[f64::NAN], CPU)?).is_err());
    assert!(Logistic::trainable([2, 0], &scope).is_err());
    assert!(StandardNormal::new([1], DType::U32, CPU).is_err());
    assert!(StudentT::new(0.0, &one, &one).is_err());
    assert!(BoxUniform::new(&one, &one).is_err());
    assert!(Truncated::new(Normal::new(&zero, &one)?, &one, &zero).is_err());
    assert!(GaussianMixture::trainable([1], 0, &scope).is_err());
    assert!(GaussianMixture::new(&Tensor::zeros(2, DType::F64, CPU)?, &one, &one).is_err());
    assert!(Categorical::new(&Tensor::full(f64::NEG_INFINITY, 3, CPU)?).is_err());
    assert!(Categorical::trainable([1], 0, &scope).is_err());
    assert!(Product::new(vec![]).is_err());
    assert!(Product::new(vec![Box::new(StandardNormal::new([1, 2], DType::F64, CPU)?)]).is_err());
    Ok(())
}
