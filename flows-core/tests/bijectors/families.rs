//! Univariate families, alone and in the layers that use them.

use crate::networks::mlp;
use candle_core::Tensor;
use flows_core::Result;
use flows_core::bijectors::univariate::{
    Additive, Affine, DeepDenseSigmoid, DeepSigmoid, Fixed, Inverted, LogisticMixture, Monotone, RqSpline, SinhArcsinh,
    Univariate,
};
use flows_core::bijectors::{Bijector, Elementwise, Equalize, Logit};
use flows_core::nn::Scope;
use flows_core::testing::Case;
use std::f64::consts::PI;
use std::sync::Arc;

/// A univariate family.
pub struct Family {
    pub name: &'static str,
    univariate: Arc<dyn Univariate>,
    /// The interval of its z, if it is not the whole line.
    domain: Option<(f64, f64)>,
}

pub fn families() -> Result<Vec<Family>> {
    let family = |name, univariate: Arc<dyn Univariate>| Family { name, univariate, domain: None };
    let bounded = |name, univariate, low, high| Family { domain: Some((low, high)), ..family(name, univariate) };
    // A point at one end of the circle may come back at the other: stay slightly inside.
    let inside = PI - 1e-3;
    Ok(vec![
        family("additive", Arc::new(Additive)),
        family("affine", Arc::new(Affine::default())),
        family("affine bounded by 0.5", Arc::new(Affine::bounded(0.5)?)),
        family("affine exp", Arc::new(Affine::exp())),
        family("affine sigmoid", Arc::new(Affine::sigmoid(2.0))),
        family("spline of 1 bin", Arc::new(RqSpline::linear_tails(1, 3.0)?)),
        family("spline", Arc::new(RqSpline::linear_tails(8, 3.0)?)),
        family("spline of 40 bins", Arc::new(RqSpline::linear_tails(40, 10.0)?)),
        bounded("closed spline", Arc::new(RqSpline::closed(5, -4.0, 5.0)?), -4.0, 5.0),
        bounded("closed spline of 1 bin", Arc::new(RqSpline::closed(1, 0.0, 1.0)?), 0.0, 1.0),
        bounded("circular spline", Arc::new(RqSpline::circular(4, -PI, PI)?), -inside, inside),
        family("deep sigmoid", Arc::new(DeepSigmoid::new(4)?)),
        family("inverted deep sigmoid", Arc::new(Inverted(DeepSigmoid::new(1)?))),
        family("deep dense sigmoid", Arc::new(DeepDenseSigmoid::new(3, 2)?)),
        family("closure", Arc::new(Monotone::new("z + tanh(z + p)", vec![0.0], bend))),
        family("sinh-arcsinh", Arc::new(SinhArcsinh)),
        family("logistic mixture", Arc::new(LogisticMixture::new(4)?)),
        family("affine gated", Arc::new(Affine::gated(1.5))),
    ])
}

/// `x = z + tanh(z + p)`.
fn bend(z: &Tensor, p: &Tensor) -> Result<(Tensor, Tensor)> {
    let t = z.broadcast_add(&p.squeeze(2)?)?.tanh()?;
    Ok(((z + &t)?, t.sqr()?.affine(-1.0, 2.0)?.log()?))
}

/// The families without parameters, which neither a coupling nor an autoregressive layer can use.
fn fixed_families() -> Result<Vec<Family>> {
    // Where f32 still distinguishes 1 - x from 0.
    let family = |name, univariate, low, high| Family { name, univariate, domain: Some((low, high)) };
    Ok(vec![
        family("exp", Arc::new(Fixed::Exp), -6.0, 6.0),
        family("softplus", Arc::new(Fixed::Softplus), -6.0, 6.0),
        family("sigmoid", Arc::new(Fixed::Sigmoid), -6.0, 4.0),
        family("tanh", Arc::new(Fixed::Tanh), -2.0, 2.0),
        family("logit", Arc::new(Inverted(Fixed::Sigmoid)), 1e-3, 0.99),
        family("leaky ReLU", Arc::new(Fixed::leaky_relu(0.1)?), -6.0, 6.0),
        family("power", Arc::new(Fixed::power(1.7)?), 0.1, 5.0),
    ])
}

/// A case for this family, with z in its domain.
pub fn over(
    family: &Family,
    name: String,
    build: impl Fn(&Scope, Arc<dyn Univariate>) -> Result<Box<dyn Bijector>> + Send + Sync + 'static,
) -> Case {
    let univariate = family.univariate.clone();
    let case = Case::new(name, move |scope| build(scope, univariate.clone()));
    match family.domain {
        Some((low, high)) => case.within(low, high),
        None => case,
    }
}

pub fn elementwise(cases: &mut Vec<Case>) -> Result<()> {
    for family in fixed_families()? {
        for shape in [&[1][..], &[2, 3]] {
            let name = format!("elementwise {} {shape:?}", family.name);
            cases.push(over(&family, name, move |scope, univariate| {
                Ok(Box::new(Elementwise::new(shape, univariate, scope)?))
            }));
        }
    }
    for (a, range) in [(0.05, [0.0, 1.0]), (1e-6, [0.0, 1.0]), (0.2, [-1.0, 3.0])] {
        let case = Case::new(format!("logit of colours of {range:?}, a = {a}"), move |_| {
            Ok(Box::new(Logit::new(&[2, 3], a, range)?))
        });
        cases.push(case.within(-6.0, 4.0));
    }
    for range in [[0.0, 1.0], [-1.0, 2.0]] {
        let case = Case::new(format!("equalisation of colours of {range:?}"), move |scope| {
            Ok(Box::new(Equalize::new([2, 3, 2], 4, range, scope)?))
        });
        cases.push(case.overflows());
    }
    for family in families()? {
        let name = family.name;
        for shape in [&[][..], &[1], &[2], &[5], &[2, 3], &[2, 2, 2]] {
            // One family is enough for shapes that all families treat alike.
            if shape.len() == 1 || name == "affine" {
                cases.push(over(&family, format!("elementwise {name} {shape:?}"), move |scope, univariate| {
                    Ok(Box::new(Elementwise::new(shape, univariate, scope)?))
                }));
            }
        }
        let case = over(&family, format!("elementwise {name}, conditional"), |scope, univariate| {
            Ok(Box::new(Elementwise::conditional(&[2], univariate, 3, &mlp(), scope)?))
        });
        cases.push(case.given([3]));
    }
    Ok(())
}
