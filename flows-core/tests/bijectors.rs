//! What holds of every bijector, over a registry of all of them.

use candle_core::{Device, Tensor};
use flows_core::bijectors::univariate::{
    Additive, Affine, DeepDenseSigmoid, DeepSigmoid, Fixed, Inverted, Monotone, MonotonicIntegral, RqSpline,
    SinhArcsinh, Univariate,
};
use flows_core::bijectors::*;
use flows_core::nn::{
    Activation, LipschitzActivation, Mlp, Network, NetworkConfig, Output, ResidualNet, ResidualNetSettings, Scope,
};
use flows_core::testing::Case;
use flows_core::{Result, Rng, Structure};
use std::f64::consts::PI;
use std::sync::Arc;

/// Conditioners are smooth here: a kink would spoil the differences that gradients are compared with.
fn mlp() -> NetworkConfig {
    NetworkConfig::Mlp { hidden: vec![12, 8], activation: Activation::Tanh }
}

fn residual_net() -> NetworkConfig {
    NetworkConfig::Residual { hidden: 9, blocks: 2, activation: Activation::Silu, dropout: 0.1 }
}

/// A network for a context of any shape.
#[derive(Debug)]
struct Flatten(Box<dyn Network>);

impl Network for Flatten {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.0.forward(&x.flatten_from(1)?, context)
    }

    fn structure(&self) -> Structure {
        self.0.structure()
    }
}

/// A univariate family.
struct Family {
    name: &'static str,
    univariate: Arc<dyn Univariate>,
    /// The interval of its z, if it is not the whole line.
    domain: Option<(f64, f64)>,
    /// Whether its slope has no bound.
    unbounded: bool,
    /// Whether one direction is a search, which takes its time.
    searched: bool,
}

fn families() -> Result<Vec<Family>> {
    let family = |name, univariate: Arc<dyn Univariate>| Family {
        name,
        univariate,
        domain: None,
        unbounded: false,
        searched: false,
    };
    let unbounded = |name, univariate| Family { unbounded: true, ..family(name, univariate) };
    let searched = |family| Family { searched: true, ..family };
    let bounded = |name, univariate, low, high| Family { domain: Some((low, high)), ..family(name, univariate) };
    // A point at an end of the circle may come back at the other: kept a little inside.
    let inside = PI - 1e-3;
    Ok(vec![
        family("additive", Arc::new(Additive)),
        family("affine", Arc::new(Affine::default())),
        family("affine bounded by 0.5", Arc::new(Affine::bounded(0.5)?)),
        unbounded("affine exp", Arc::new(Affine::exp())),
        unbounded("affine sigmoid", Arc::new(Affine::sigmoid(2.0))),
        family("spline of 1 bin", Arc::new(RqSpline::linear_tails(1, 3.0)?)),
        family("spline", Arc::new(RqSpline::linear_tails(8, 3.0)?)),
        family("spline of 40 bins", Arc::new(RqSpline::linear_tails(40, 10.0)?)),
        bounded("closed spline", Arc::new(RqSpline::closed(5, -4.0, 5.0)?), -4.0, 5.0),
        bounded("closed spline of 1 bin", Arc::new(RqSpline::closed(1, 0.0, 1.0)?), 0.0, 1.0),
        bounded("circular spline", Arc::new(RqSpline::circular(4, -PI, PI)?), -inside, inside),
        searched(family("deep sigmoid", Arc::new(DeepSigmoid::new(4)?))),
        searched(family("inverted deep sigmoid", Arc::new(Inverted(DeepSigmoid::new(1)?)))),
        searched(unbounded("deep dense sigmoid", Arc::new(DeepDenseSigmoid::new(3, 2)?))),
        searched(family("closure", Arc::new(Monotone::new("z + tanh(z + p)", vec![0.0], bend)))),
        family("sinh-arcsinh", Arc::new(SinhArcsinh)),
        family("logistic mixture", Arc::new(univariate::LogisticMixture::new(4)?)),
    ])
}

/// `x = z + tanh(z + p)`.
fn bend(z: &Tensor, p: &Tensor) -> Result<(Tensor, Tensor)> {
    let t = z.broadcast_add(&p.squeeze(2)?)?.tanh()?;
    Ok(((z + &t)?, t.sqr()?.affine(-1.0, 2.0)?.log()?))
}

/// The families without parameters, which neither a coupling nor an autoregressive layer can use.
fn fixed_families() -> Result<Vec<Family>> {
    // Where f32 still tells 1 - x from 0.
    let family = |name, univariate, low, high| Family {
        name,
        univariate,
        domain: Some((low, high)),
        unbounded: false,
        searched: false,
    };
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

/// A case for this family, which keeps z where the family is defined.
fn over(
    family: &Family,
    name: String,
    build: impl Fn(&Scope, Arc<dyn Univariate>) -> Result<Box<dyn Bijector>> + Send + Sync + 'static,
) -> Case {
    let univariate = family.univariate.clone();
    let case = Case::new(name, move |scope| build(scope, univariate.clone()));
    let case = if family.unbounded { case.overflows() } else { case };
    let case = if family.searched { case.points(500) } else { case };
    match family.domain {
        Some((low, high)) => case.within(low, high),
        None => case,
    }
}

fn elementwise(cases: &mut Vec<Case>) -> Result<()> {
    for family in fixed_families()? {
        for shape in [&[1][..], &[2, 3]] {
            let name = format!("elementwise {} {shape:?}", family.name);
            cases.push(over(&family, name, move |scope, univariate| {
                Ok(Box::new(Elementwise::new(shape, univariate, scope)?))
            }));
        }
    }
    for family in families()? {
        let name = family.name;
        for shape in [&[][..], &[1], &[2], &[5], &[2, 3], &[2, 2, 2]] {
            // One family is enough for the shapes that are alike for all.
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

fn couplings(cases: &mut Vec<Case>) -> Result<()> {
    let masks: [(&[usize], Mask); 12] = [
        (&[1], Mask::Halves { swap: false }),
        (&[2], Mask::Halves { swap: false }),
        (&[2], Mask::Halves { swap: true }),
        (&[5], Mask::Halves { swap: true }),
        (&[2], Mask::Alternating { odd: false }),
        (&[5], Mask::Alternating { odd: true }),
        (&[5], Mask::Custom(vec![true, true, false, true, true])),
        (&[4], Mask::Custom(vec![false, false, false, true])),
        (&[3, 2], Mask::Halves { swap: false }),
        (&[2, 2, 2], Mask::Alternating { odd: false }),
        (&[1, 2, 3], Mask::Checkerboard { odd: true }),
        (&[3, 3], Mask::Checkerboard { odd: false }),
    ];
    let affine = || Arc::new(Affine::default());
    for (shape, mask) in masks {
        let name = format!("coupling {shape:?} {mask:?}");
        let other = mask.clone();
        cases.push(Case::new(&name, move |scope| {
            Ok(Box::new(Coupling::new(shape, &mask, affine(), None, &mlp(), scope)?))
        }));
        let conditional = Case::new(format!("{name}, context"), move |scope| {
            let coupling = Coupling::new(shape, &other, affine(), Some(2), &residual_net(), scope)?;
            Ok(Box::new(coupling.with_kept_map(affine(), scope)?))
        });
        cases.push(conditional.given([2]));
    }
    for family in families()? {
        cases.push(over(&family, format!("coupling {}", family.name), |scope, univariate| {
            let mask = Mask::Alternating { odd: false };
            let coupling = Coupling::new(&[5], &mask, univariate.clone(), None, &mlp(), scope)?;
            Ok(Box::new(coupling.with_kept_map(univariate, scope)?))
        }));
        let conditional = over(&family, format!("coupling {}, context", family.name), |scope, univariate| {
            let mask = Mask::Halves { swap: false };
            Ok(Box::new(Coupling::new(&[3], &mask, univariate, Some(2), &mlp(), scope)?))
        });
        cases.push(conditional.given([2]));
    }
    cases.push(Case::new("coupling with a network of one's own", |scope| {
        let settings = ResidualNetSettings {
            inputs: 4,
            output: Output::new(8),
            context: None,
            hidden: 6,
            blocks: 1,
            activation: Activation::Softplus,
            dropout: 0.0,
        };
        let network = Box::new(ResidualNet::new(settings, scope)?);
        let mask = Mask::Checkerboard { odd: false };
        Ok(Box::new(Coupling::with_network(&[2, 2, 2], &mask, Arc::new(Affine::default()), network, scope)?))
    }));
    Ok(())
}

fn autoregressives(cases: &mut Vec<Case>) -> Result<()> {
    for family in families()? {
        let name = format!("autoregressive {}", family.name);
        cases.push(over(&family, name.clone(), |scope, univariate| {
            Ok(Box::new(Autoregressive::new(2, univariate, None, None, &mlp(), scope)?))
        }));
        let conditional = over(&family, format!("{name}, context, own order"), |scope, univariate| {
            let order = Some(vec![3, 1, 0, 2, 4]);
            Ok(Box::new(Autoregressive::new(5, univariate, Some(2), order, &residual_net(), scope)?))
        });
        // A residual network turns more noise into splines whose slope is 1e-4 here and there.
        cases.push(conditional.given([2]).noise(0.1));
    }
    for context in [None, Some(3)] {
        let single = Case::new(format!("autoregressive of 1, context {context:?}"), move |scope| {
            let network = NetworkConfig::Mlp { hidden: vec![7], activation: Activation::Tanh };
            Ok(Box::new(Autoregressive::new(1, Arc::new(Affine::default()), context, None, &network, scope)?))
        });
        cases.push(if context.is_some() { single.given([3]) } else { single });
        let reverse = Case::new(format!("inverse autoregressive, reversed, context {context:?}"), move |scope| {
            let order = Some(vec![4, 3, 2, 1, 0]);
            let affine = Arc::new(Affine::default());
            Ok(Box::new(Inverse(Box::new(Autoregressive::new(5, affine, context, order, &mlp(), scope)?))))
        });
        cases.push(if context.is_some() { reverse.given([3]) } else { reverse });
    }
    Ok(())
}

fn block_neurals(cases: &mut Vec<Case>) -> Result<()> {
    for (dim, hidden, context) in [(1, 1, None), (2, 2, None), (5, 1, None), (3, 1, Some(2))] {
        let case = Case::new(format!("block neural {dim}, {hidden} layers, context {context:?}"), move |s| {
            Ok(Box::new(BlockNeural::new(dim, hidden, 4, context, s)?))
        });
        let case = case.points(1000);
        cases.push(if context.is_some() { case.given([2]) } else { case });
    }
    Ok(())
}

fn integrals(cases: &mut Vec<Case>) -> Result<()> {
    let integral = |s: &Scope| MonotonicIntegral::new(3, &[6], 12, s);
    let elementwise = Case::new("elementwise monotonic integral", move |s| {
        Ok(Box::new(Elementwise::new(&[2], Arc::new(integral(s)?), s)?))
    });
    cases.push(elementwise.points(500));
    let conditional = Case::new("autoregressive monotonic integral, context", move |s| {
        let univariate = Arc::new(Inverted(integral(s)?));
        Ok(Box::new(Autoregressive::new(3, univariate, Some(2), None, &mlp(), s)?))
    });
    cases.push(conditional.given([2]).points(500));
    Ok(())
}

fn linears(cases: &mut Vec<Case>) -> Result<()> {
    for dim in [1, 2, 5] {
        for start in [Start::Identity, Start::Random] {
            let at = format!("{dim} from {start:?}");
            cases
                .push(Case::new(format!("matrix {at}"), move |s| Ok(Box::new(Matrix::new(dim, start, s)?))).noise(0.1));
            cases.push(Case::new(format!("orthogonal {at}"), move |s| Ok(Box::new(Orthogonal::new(dim, start, s)?))));
            for order in [None, Some(Order::Random), Some(Order::Reverse)] {
                cases.push(Case::new(format!("LU {at}, permuted {order:?}"), move |s| {
                    Ok(Box::new(LuLinear::new(dim, start, order.clone(), s)?))
                }));
            }
            cases.push(
                Case::new(format!("1x1 convolution {at}"), move |s| {
                    Ok(Box::new(Conv1x1::new(&[dim, 2, 3], start, s)?))
                })
                .noise(0.1),
            );
            cases.push(Case::new(format!("1x1 convolution, LU, {at}"), move |s| {
                Ok(Box::new(Conv1x1::lu(&[dim, 3], start, s)?))
            }));
        }
        cases.push(Case::new(format!("triangular {dim}"), move |s| Ok(Box::new(Triangular::new(dim, s)?))));
        for reflections in [1, dim, dim + 2] {
            cases.push(Case::new(format!("{reflections} reflections of {dim}"), move |s| {
                Ok(Box::new(Householder::new(dim, reflections, s)?))
            }));
        }
        for order in [Order::Random, Order::Reverse] {
            cases.push(Case::new(format!("permutation of {dim}, {order:?}"), move |s| {
                Ok(Box::new(Permutation::new(&[dim, 2], order.clone(), s)?))
            }));
        }
    }
    for (name, angle) in [("rotation", 1.0), ("no rotation", 0.0)] {
        cases.push(Case::new(name, move |_| {
            let scaled = FixedAffine::scale(&[2.0, -0.5])?.then(&FixedAffine::rotation2d(angle)?)?;
            Ok(Box::new(scaled.then(&FixedAffine::shift(&[1.0, -3.0])?)?))
        }));
    }
    Ok(())
}

fn normalisations(cases: &mut Vec<Case>) -> Result<()> {
    let batch = |shape: &[usize], scope: &Scope| -> Result<Tensor> {
        let x = Rng::seed(1).normal_tensor([&[9], shape].concat(), scope.dtype(), &Device::Cpu)?;
        Ok(((x * 3.0)? + 2.0)?)
    };
    for shape in [&[1][..], &[5], &[2, 3], &[3, 2, 2]] {
        cases.push(Case::new(format!("actnorm {shape:?}"), move |s| {
            let layer = ActNorm::new(shape, s)?;
            layer.initialize(&batch(shape, s)?, None)?;
            Ok(Box::new(layer))
        }));
        cases.push(Case::new(format!("fresh actnorm {shape:?}"), move |s| Ok(Box::new(ActNorm::new(shape, s)?))));
        cases.push(Case::new(format!("batch norm {shape:?}"), move |s| {
            let layer = BatchNorm::new(shape, 0.3, s)?;
            layer.inverse_training(&batch(shape, s)?, None, &mut Rng::seed(0))?;
            Ok(Box::new(layer))
        }));
        cases.push(Case::new(format!("standardize {shape:?}"), move |s| {
            let layer = Standardize::new(shape, s)?;
            layer.fit(&batch(shape, s)?)?;
            Ok(Box::new(layer))
        }));
    }
    Ok(())
}

fn variational(cases: &mut Vec<Case>) -> Result<()> {
    for (dim, context) in [(1, None), (2, None), (5, None), (1, Some(2)), (5, Some(2))] {
        let mut push = |case: Case| cases.push(if context.is_some() { case.given([2]) } else { case });
        let at = format!("{dim}, context {context:?}");
        push(Case::new(format!("planar {at}"), move |s| Ok(Box::new(Planar::new(dim, context, s)?))));
        push(Case::new(format!("radial {at}"), move |s| Ok(Box::new(Radial::new(dim, context, s)?))));
        for basis in [
            SylvesterBasis::Orthogonal { columns: 1 },
            SylvesterBasis::Orthogonal { columns: dim },
            SylvesterBasis::Householder { reflections: 2 },
            SylvesterBasis::Triangular { flip: false },
            SylvesterBasis::Triangular { flip: true },
        ] {
            push(Case::new(format!("Sylvester {at}, {basis:?}"), move |s| {
                Ok(Box::new(Sylvester::new(dim, basis, context, s)?))
            }));
        }
    }
    for (dim, context) in [(1, None), (2, None), (5, None), (1, Some(2)), (5, Some(2))] {
        for (activation, hidden, roulette) in [
            (LipschitzActivation::LipSwish, vec![16, 16], Some(Roulette::Poisson { rate: 2.0 })),
            (LipschitzActivation::LipSwish, vec![], None),
            (LipschitzActivation::Elu, vec![8], Some(Roulette::Geometric { stop: 0.5 })),
        ] {
            let name = format!("residual {dim}, context {context:?}, {activation:?} {hidden:?} {roulette:?}");
            // Gradients see the singular vectors, whose error is the root of this tolerance.
            let settings = ResidualSettings { hidden, activation, roulette, tolerance: 1e-15, coefficient: 0.8 };
            let case = Case::new(name, move |s| Ok(Box::new(Residual::new(dim, &settings, context, s)?)));
            let case = case.gradient_tolerance(1e-6);
            cases.push(if context.is_some() { case.given([2]) } else { case });
        }
    }
    Ok(())
}

/// A coupling over three numbers, in a scope of its own.
fn part(name: &str, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
    let (mask, affine) = (Mask::Alternating { odd: false }, Arc::new(Affine::default()));
    Ok(Box::new(Coupling::new(&[3], &mask, affine, context, &mlp(), &scope.enter(name))?))
}

/// One level: a scale for each channel behind a squeeze, and maybe a prior of the half that leaves.
fn level(data: &[usize], prior: bool, scope: &Scope) -> Result<Level> {
    let squeeze = Squeeze::new(data, 2)?;
    let mut half = squeeze.latent_shape().to_vec();
    let norm = ActNorm::new(&half, &scope.enter("norm"))?;
    let flow = Box::new(Chain::new(vec![Box::new(norm), Box::new(squeeze)])?);
    half[0] /= 2;
    let prior = prior.then(|| -> Result<Box<dyn Bijector>> {
        let (scope, n) = (scope.enter("prior"), half.iter().product());
        let network = Mlp::new(n, &[6], Output::new(3), None, Activation::Tanh, &scope.enter("network"))?;
        let affine = Elementwise::conditional(&half, Arc::new(Affine::default()), 3, &mlp(), &scope)?;
        Ok(Box::new(Embed::new(Box::new(Flatten(Box::new(network))), Box::new(affine))))
    });
    Ok(Level { flow, prior: prior.transpose()? })
}

fn combinators(cases: &mut Vec<Case>) -> Result<()> {
    cases.push(Case::new("chain of one", |s| Ok(Box::new(Chain::new(vec![part("a", None, s)?])?))));
    cases.push(
        Case::new("chain of chains, context", |s| {
            let inner = Chain::new(vec![part("a", Some(2), s)?, part("b", None, s)?])?;
            let matrix = LuLinear::new(3, Start::Random, Some(Order::Reverse), &s.enter("lu"))?;
            Ok(Box::new(Chain::new(vec![Box::new(inner), Box::new(matrix), part("c", Some(2), s)?])?))
        })
        .given([2]),
    );
    cases.push(Case::new("inverse of an inverse", |s| Ok(Box::new(Inverse(Box::new(Inverse(part("a", None, s)?)))))));
    cases.push(Case::new("inverse, context", |s| Ok(Box::new(Inverse(part("a", Some(2), s)?)))).given([2]));
    cases.push(
        Case::new("concatenation, context", |s| {
            Ok(Box::new(Concatenate::new(vec![
                part("a", Some(2), s)?,
                Box::new(Triangular::new(1, &s.enter("b"))?),
                Box::new(Inverse(part("c", None, s)?)),
            ])?))
        })
        .given([2]),
    );
    cases.push(Case::new("stack of one", |s| Ok(Box::new(Stack::new(vec![part("a", None, s)?])?))));
    cases.push(
        Case::new("stack, context", |s| Ok(Box::new(Stack::new(vec![part("a", Some(2), s)?, part("b", None, s)?])?)))
            .given([2]),
    );
    cases.push(Case::new("some elements", |s| Ok(Box::new(Indexed::new(part("a", None, s)?, &[2, 3], [5, 0, 2])?))));
    cases.push(Case::new("all elements", |s| Ok(Box::new(Indexed::new(part("a", None, s)?, &[3], 0..3)?))));
    cases.push(Case::new("reshape", |_| Ok(Box::new(Reshape::new(&[2, 3], &[3, 1, 2])?))));
    cases.push(Case::new("flatten", |_| Ok(Box::new(Reshape::flatten(&[2, 2, 2])))));
    for (data, factor) in [(&[1, 4, 2][..], 2), (&[2, 3, 6], 3), (&[2, 6], 3), (&[1, 8], 4), (&[2, 2, 2], 1)] {
        cases.push(Case::new(format!("squeeze {data:?} by {factor}"), move |_| {
            Ok(Box::new(Squeeze::new(data, factor)?))
        }));
    }
    cases.push(
        Case::new("embedded context", |s| {
            let network = Mlp::new(6, &[5], Output::new(2), None, Activation::Tanh, &s.enter("network"))?;
            Ok(Box::new(Embed::new(Box::new(Flatten(Box::new(network))), part("a", Some(2), s)?)))
        })
        .given([2, 3]),
    );
    cases.push(
        Case::new("standardized context", |s| {
            let standardize = Standardize::new(&[2], &s.enter("context"))?;
            standardize.fit(&Tensor::new(&[[1f32, 2.0], [3.0, 6.0], [4.0, 9.0]], &Device::Cpu)?)?;
            Ok(Box::new(Embed::new(Box::new(standardize), part("a", Some(2), s)?)))
        })
        .given([2]),
    );
    cases.push(Case::new("multi-scale of one level", |s| {
        Ok(Box::new(MultiScale::new(vec![level(&[1, 2, 2], false, s)?])?))
    }));
    for prior in [false, true] {
        cases.push(Case::new(format!("multi-scale, split prior {prior}"), move |s| {
            let levels = vec![level(&[1, 4, 4], prior, &s.enter(0))?, level(&[2, 2, 2], false, &s.enter(1))?];
            Ok(Box::new(MultiScale::new(levels)?))
        }));
    }
    cases.push(Case::new("multi-scale of sounds", |s| {
        Ok(Box::new(MultiScale::new(vec![level(&[1, 8], true, &s.enter(0))?, level(&[1, 4], false, &s.enter(1))?])?))
    }));
    Ok(())
}

fn registry() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for add in [
        elementwise,
        couplings,
        autoregressives,
        block_neurals,
        integrals,
        linears,
        normalisations,
        variational,
        combinators,
    ] {
        add(&mut cases)?;
    }
    Ok(cases)
}

/// 32 layers each, which must not lose the round trip.
fn deep() -> Result<Vec<Case>> {
    type Layer = fn(usize, &Scope) -> Result<Box<dyn Bijector>>;
    let layers: [(&str, Layer); 4] = [
        ("affine couplings", |i, s| {
            let (mask, affine) = (Mask::Alternating { odd: i % 2 == 1 }, Arc::new(Affine::default()));
            Ok(Box::new(Coupling::new(&[5], &mask, affine, None, &mlp(), s)?))
        }),
        ("spline couplings", |i, s| {
            let (mask, spline) = (Mask::Alternating { odd: i % 2 == 1 }, Arc::new(RqSpline::linear_tails(8, 3.0)?));
            Ok(Box::new(Coupling::new(&[5], &mask, spline, None, &mlp(), s)?))
        }),
        ("autoregressive", |i, s| {
            let order = (i % 2 == 1).then(|| vec![4, 3, 2, 1, 0]);
            Ok(Box::new(Autoregressive::new(5, Arc::new(Affine::default()), None, order, &mlp(), s)?))
        }),
        ("LU", |_, s| Ok(Box::new(LuLinear::new(5, Start::Identity, Some(Order::Random), s)?))),
    ];
    let chain = |(name, layer): (&str, Layer)| {
        Case::new(format!("32 {name}"), move |scope| {
            let steps = (0..32).map(|i| layer(i, &scope.enter(i))).collect::<Result<_>>()?;
            Ok(Box::new(Chain::new(steps)?))
        })
        .noise(0.05)
    };
    Ok(layers.into_iter().map(chain).collect())
}

/// Combinators around chains of more than a segment, with dropout and statistics of the batch inside.
fn nested() -> Vec<Case> {
    fn chain(normalised: bool, context: Option<usize>, s: &Scope) -> Result<Box<dyn Bijector>> {
        let mut steps: Vec<Box<dyn Bijector>> = Vec::new();
        for i in 0..10 {
            let (mask, scope) = (Mask::Alternating { odd: i % 2 == 1 }, s.enter(i));
            steps.push(Box::new(Coupling::new(
                &[3],
                &mask,
                Arc::new(Affine::default()),
                context,
                &residual_net(),
                &scope,
            )?));
            if normalised && i % 4 == 0 {
                steps.push(Box::new(BatchNorm::new(&[3], 0.2, &scope)?));
            }
        }
        Ok(Box::new(Chain::new(steps)?))
    }
    let (mut cases, context) = (Vec::new(), Some(2));
    cases.push(Case::new("long chain, context", move |s| chain(false, context, s)).given([2]));
    cases.push(Case::new("long chain with batch norm", |s| chain(true, None, s)));
    cases.push(Case::new("long chain, inverse", |s| Ok(Box::new(Inverse(chain(true, None, s)?)))));
    cases.push(Case::new("long chains side by side", |s| {
        Ok(Box::new(Concatenate::new(vec![chain(false, None, &s.enter("a"))?, chain(true, None, &s.enter("b"))?])?))
    }));
    cases.push(Case::new("long chains stacked", |s| {
        Ok(Box::new(Stack::new(vec![chain(true, None, &s.enter("a"))?, chain(false, None, &s.enter("b"))?])?))
    }));
    cases.push(Case::new("long chain on some elements", |s| {
        Ok(Box::new(Indexed::new(chain(true, None, s)?, &[2, 2], [3, 0, 1])?))
    }));
    cases.push(
        Case::new("long chain, embedded context", move |s| {
            let network = Mlp::new(6, &[5], Output::new(2), None, Activation::Tanh, &s.enter("network"))?;
            Ok(Box::new(Embed::new(Box::new(Flatten(Box::new(network))), chain(true, context, s)?)))
        })
        .given([2, 3]),
    );
    cases
}

/// Runs a check over cases and reports all that fail.
fn all(cases: Vec<Case>, check: impl Fn(&Case) -> Result<()>) {
    let failed = |case: &Case| check(case).err().map(|error| format!("{}: {error}", case.name()));
    let failures: Vec<String> = cases.iter().filter_map(failed).collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn round_trips() -> Result<()> {
    all(registry()?, Case::round_trip);
    Ok(())
}

#[test]
fn deep_chains_round_trip() -> Result<()> {
    all(deep()?, Case::round_trip);
    Ok(())
}

#[test]
fn derivatives() -> Result<()> {
    all(registry()?, Case::derivatives);
    Ok(())
}

#[test]
fn every_weight_learns() -> Result<()> {
    all(registry()?, Case::every_weight_learns);
    Ok(())
}

#[test]
fn saved_models_load() -> Result<()> {
    let folder = tempfile::tempdir().map_err(candle_core::Error::from)?;
    all(registry()?, |case| case.saves_and_loads(folder.path()));
    Ok(())
}

#[test]
fn rows_are_independent() -> Result<()> {
    all(registry()?, Case::rows_are_independent);
    Ok(())
}

#[test]
fn wrong_shapes_are_errors() -> Result<()> {
    all(registry()?, Case::wrong_shapes_are_errors);
    Ok(())
}

#[test]
fn extremes_stay_in_their_row() -> Result<()> {
    all(registry()?, Case::extremes_stay_in_their_row);
    Ok(())
}

#[test]
fn precisions_agree() -> Result<()> {
    all(registry()?, Case::precisions_agree);
    Ok(())
}

#[test]
fn training_passes() -> Result<()> {
    all(registry()?, Case::trains);
    Ok(())
}

#[test]
fn activations_are_recomputed() -> Result<()> {
    all(registry()?, Case::recomputes);
    all(deep()?, Case::recomputes);
    all(nested(), Case::recomputes);
    Ok(())
}

#[test]
fn structures_count() -> Result<()> {
    all(registry()?, Case::structure_counts);
    Ok(())
}
