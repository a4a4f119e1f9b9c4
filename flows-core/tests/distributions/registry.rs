//! Distributions of all kinds and shapes, with perturbed weights.

use crate::CPU;
use candle_core::{DType, Tensor};
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::distributions::*;
use flows_core::nn::{Init, Parameters, Scope};
use flows_core::testing::perturb;
use flows_core::{Result, Rng, Structure};

/// `x = exp(weight z)`: from the real line onto the positive numbers.
#[derive(Debug)]
pub struct Exponential {
    pub event: Vec<usize>,
    pub weight: Tensor,
}

impl Bijector for Exponential {
    fn latent_shape(&self) -> &[usize] {
        &self.event
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        _: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match direction {
            Direction::Forward => {
                let log_x = input.broadcast_mul(&self.weight)?;
                Ok((log_x.exp()?, log_x.broadcast_add(&self.weight.log()?)?.sum(1)?))
            }
            Direction::Inverse => {
                let outside = input.le(0.0)?;
                let log_x = outside.where_cond(&input.ones_like()?, input)?.log()?;
                let log = log_x.broadcast_add(&self.weight.log()?)?.neg()?;
                let never = (log.zeros_like()? + f64::NEG_INFINITY)?;
                Ok((log_x.broadcast_div(&self.weight)?, outside.where_cond(&never, &log)?.sum(1)?))
            }
        }
    }

    fn structure(&self) -> Structure {
        Structure::new("Exponential", "").weights([&self.weight])
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Needs {
    Nothing,
    Context(usize),
    Class(usize),
}

#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    make: fn(&Scope) -> Result<Box<dyn Distribution>>,
    pub needs: Needs,
    /// The number of values of an element, if finite.
    pub values: Option<usize>,
    /// A value that no element takes.
    pub outside: Option<f64>,
    /// Whether draws are differentiable with respect to every parameter.
    pub reparameterised: bool,
    /// Whether the density is constant.
    pub flat: bool,
}

impl Case {
    const fn new(name: &'static str, make: fn(&Scope) -> Result<Box<dyn Distribution>>) -> Self {
        Self { name, make, needs: Needs::Nothing, values: None, outside: None, reparameterised: true, flat: false }
    }

    pub fn build(&self, dtype: DType) -> Result<(Box<dyn Distribution>, Parameters)> {
        let parameters = Parameters::new(dtype, CPU, Rng::seed(11));
        let distribution = (self.make)(&parameters.scope())?;
        perturb(&parameters, 0.2, &mut Rng::seed(12))?;
        Ok((distribution, parameters))
    }

    /// A context of different rows, or none.
    pub fn context(&self, rows: usize, dtype: DType) -> Result<Option<Tensor>> {
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

pub fn cases() -> Vec<Case> {
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
        truncated_case(Case::new("Truncated Student-t", |s| {
            let bounds = [[-1.0, 0.5], [4.0, f64::INFINITY]].map(|bounds| constant(s, &[2], &bounds));
            let [low, high] = bounds;
            Ok(Box::new(Truncated::new(StudentT::trainable([2], 3.0, s)?, &low?, &high?)?))
        })),
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
