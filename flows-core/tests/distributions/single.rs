//! Closed forms of each distribution, and tests of single ones.

use crate::registry::Exponential;
use crate::{CPU, rows};
use candle_core::{DType, Tensor};
use flows_core::bijectors::univariate::{Affine, Fixed};
use flows_core::bijectors::{Bijector, Chain, Direction, Elementwise, FixedAffine, Logit, Mode};
use flows_core::distributions::*;
use flows_core::nn::Parameters;
use flows_core::testing::{difference, perturb};
use flows_core::{Result, Rng, Structure};
use std::sync::Arc;

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
    assert!(flow.structure().to_string().starts_with("Transformed"));
    let x = flow.sample(3, None, &mut Rng::seed(0))?;
    assert!(difference(&flow.latent(&x, None)?, &x.log()?)? < 1e-14);
    assert!(difference(&flow.latent(&x, None)?, &x.log()?)? < 1e-14);
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

/// Maps onto open ranges, followed by a scale or a shift, far in the tails of a wide base.
#[test]
fn draws_are_where_their_density_is() -> Result<()> {
    const DRAWS: usize = 200_000;
    let base = || Normal::new(&Tensor::new(&[0f32, 0.0], CPU)?, &Tensor::new(&[6f32, 40.0], CPU)?);
    let scale = FixedAffine::scale(&[4.0, -3.0])?.then(&FixedAffine::shift(&[-2.0, 1.0])?)?;
    for fixed in [Fixed::Sigmoid, Fixed::Tanh, Fixed::Exp, Fixed::Softplus] {
        let parameters = Parameters::new(DType::F32, CPU, Rng::seed(0));
        let map = Elementwise::new(&[2], Arc::new(fixed), &parameters.scope())?;
        let flow = Transformed::new(base()?, Chain::new(vec![Box::new(map), Box::new(scale.clone())])?)?;
        let (x, own) = flow.sample_with_log_prob(DRAWS, None, &mut Rng::seed(1))?;
        let scores = score(&flow, &x, None)?;
        for (what, t) in [("x", &x), ("own log-density", &own), ("log-density", &scores)] {
            let off = rows(t)?.into_iter().filter(|v| !v.is_finite()).count();
            assert_eq!(off, 0, "{fixed:?}: of {what}");
        }
    }
    let colours = Transformed::new(base()?, Logit::new(&[2], 1e-6, [0.0, 1.0])?)?;
    let (x, own) = colours.sample_with_log_prob(DRAWS, None, &mut Rng::seed(1))?;
    assert!([own, score(&colours, &x, None)?].iter().all(|t| rows(t).is_ok_and(|v| v.iter().all(|v| v.is_finite()))));
    Ok(())
}

/// The identity, with a log-determinant that is NaN for one input, and minus infinity beyond 10.
#[derive(Debug)]
struct Faulty;

impl Bijector for Faulty {
    fn latent_shape(&self) -> &[usize] {
        &[1]
    }

    fn map(&self, _: Direction, input: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let log = input.affine(0.0, 0.0)?;
        let never = (log.zeros_like()? + f64::NEG_INFINITY)?;
        let log = input.gt(10.0)?.where_cond(&never, &log)?;
        let nan = (log.zeros_like()? + f64::NAN)?;
        Ok((input.clone(), input.eq(2.0)?.where_cond(&nan, &log)?.squeeze(1)?))
    }

    fn structure(&self) -> Structure {
        Structure::new("Faulty", "")
    }
}

#[test]
fn nan_is_not_outside_the_support() -> Result<()> {
    let flow = Transformed::new(StandardNormal::new([1], DType::F32, CPU)?, Faulty)?;
    let x = Tensor::new(&[[1f32], [2.0], [11.0], [f32::INFINITY], [f32::NAN]], CPU)?;
    let log_prob = rows(&flow.log_prob(&x, None)?)?;
    assert!(log_prob[0].is_finite() && log_prob[1].is_nan() && log_prob[4].is_nan(), "{log_prob:?}");
    assert_eq!(log_prob[2..4], [f64::NEG_INFINITY; 2]);
    // NaN in a weight.
    let parameters = Parameters::new(DType::F32, CPU, Rng::seed(0));
    let affine = Elementwise::new(&[1], Arc::new(Affine::exp()), &parameters.scope())?;
    let (_, weight) = parameters.trainable().remove(0);
    weight.set(&(weight.as_tensor() * f64::NAN)?)?;
    let flow = Transformed::new(StandardNormal::new([1], DType::F32, CPU)?, affine)?;
    assert!(rows(&flow.log_prob(&x, None)?)?[..3].iter().all(|l| l.is_nan()));
    Ok(())
}

/// A draw outside a bijector's domain has density zero, not infinity.
#[test]
fn a_draw_that_overflows_has_density_zero() -> Result<()> {
    let parameters = Parameters::new(DType::F32, CPU, Rng::seed(0));
    let affine = Elementwise::new(&[1], Arc::new(Affine::exp()), &parameters.scope())?;
    let (_, weight) = parameters.trainable().remove(0);
    weight.set(&Tensor::new(&[[[0f32, 100.0]]], CPU)?)?;
    let flow = Transformed::new(StandardNormal::new([1], DType::F32, CPU)?, affine)?;
    let (x, log_prob) = flow.sample_with_log_prob(10, None, &mut Rng::seed(0))?;
    assert!(rows(&x)?.iter().all(|x| x.is_finite()));
    assert!(rows(&log_prob)?.iter().all(|l| *l == f64::NEG_INFINITY), "{log_prob}");
    Ok(())
}

/// A density that is only too small for the type is not that of an impossible point.
#[test]
fn a_density_below_the_range_of_the_type_is_its_lowest() -> Result<()> {
    let normal = StandardNormal::new([1], DType::F32, CPU)?;
    let (low, high) = (Tensor::new(&[0f32], CPU)?, Tensor::new(&[1f32], CPU)?);
    let x = Tensor::new(&[[1e-5f32], [1.0], [-1.0], [f32::INFINITY], [f32::NAN]], CPU)?;
    let of = |base: Box<dyn Distribution>| -> Result<Vec<f32>> {
        let flow = Transformed::new(base, FixedAffine::scale(&[1e-25])?)?;
        Ok(flow.log_prob(&x, None)?.to_vec1()?)
    };
    // z is 1e20 and 1e25, whose squares overflow.
    let log_prob = of(Box::new(normal))?;
    assert_eq!(log_prob[..4], [f32::MIN, f32::MIN, f32::MIN, f32::NEG_INFINITY]);
    assert!(log_prob[4].is_nan());
    let log_prob = of(Box::new(BoxUniform::new(&low, &high)?))?;
    assert_eq!(log_prob[..4], [f32::NEG_INFINITY; 4], "outside is outside");
    Ok(())
}
