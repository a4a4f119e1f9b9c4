//! Where the x of bijectors lie: what they say, and that no draw is refused.

use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::univariate::{Affine, Fixed, Inverted, RqSpline};
use flows_core::bijectors::{
    Autoregressive, Bijector, Bounds, Chain, Concatenate, Coupling, Elementwise, FixedAffine, Indexed, Inverse, Logit,
    LuLinear, Mask, Order, Permutation, Reshape, Squeeze, Stack, Standardize, Start, Support,
};
use flows_core::distributions::{BoxUniform, Distribution, Normal, Transformed, score};
use flows_core::nn::{NetworkConfig, Parameters, Scope};
use flows_core::testing::perturb;
use flows_core::{Error, Result, Rng};
use std::sync::Arc;

const CPU: &Device = &Device::Cpu;

type Map = Box<dyn Bijector>;

struct Case {
    name: &'static str,
    map: Map,
    support: Option<Support>,
}

fn elementwise(shape: &[usize], fixed: Fixed, scope: &Scope) -> Result<Map> {
    Ok(Box::new(Elementwise::new(shape, Arc::new(fixed), scope)?))
}

fn cases(scope: &Scope) -> Result<Vec<Case>> {
    let (dtype, device) = (scope.dtype(), scope.device());
    let fixed = |shape: &[usize], fixed| elementwise(shape, fixed, scope);
    let family = |name: &str, family| Elementwise::new(&[2], family, &scope.enter(name));
    let chain = |steps: Vec<Map>| Ok::<Map, Error>(Box::new(Chain::new(steps)?));
    let beside = |parts: Vec<Map>| Ok::<Map, Error>(Box::new(Concatenate::new(parts)?));
    let affine = FixedAffine::scale(&[2.0, -4.0])?.then(&FixedAffine::shift(&[1.0, 1.0])?)?;
    let exchange = FixedAffine::new(&[vec![0.0, 2.0], vec![1.0, 0.0]], &[0.0, 3.0])?;
    let onto = |support: Support| support.bijector(dtype, device);
    let (between, above) = (Bounds::between, Bounds::above);
    let case = |name, map: Map, support| Case { name, map, support };
    let reach = 0.05 / 0.9 * 4.0;
    Ok(vec![
        case(
            "logit",
            Box::new(Logit::new(&[2], 0.05, [-1.0, 3.0])?),
            Some(Support::interval([2], -1.0 - reach, 3.0 + reach)),
        ),
        case("exp", fixed(&[2], Fixed::Exp)?, Some(Support::positive([2]))),
        case("sigmoid of images", fixed(&[1, 2, 1], Fixed::Sigmoid)?, Some(Support::interval([1, 2, 1], 0.0, 1.0))),
        case("tanh", fixed(&[2], Fixed::Tanh)?, Some(Support::interval([2], -1.0, 1.0))),
        case("leaky ReLU", fixed(&[2], Fixed::leaky_relu(0.1)?)?, None),
        case("affine", Box::new(family("affine", Arc::new(Affine::exp()))?), None),
        case("circle", Box::new(family("circle", Arc::new(RqSpline::circular(4, -1.0, 2.0)?))?), {
            Some(Support::interval([2], -1.0, 2.0))
        }),
        case(
            "logit of the sigmoid",
            chain(vec![fixed(&[2], Fixed::Sigmoid)?, Box::new(family("logit", Arc::new(Inverted(Fixed::Sigmoid)))?)])?,
            None,
        ),
        case(
            "closed spline of the sigmoid",
            chain(vec![
                fixed(&[2], Fixed::Sigmoid)?,
                Box::new(family("closed", Arc::new(RqSpline::closed(4, 0.0, 1.0)?))?),
            ])?,
            Some(Support::interval([2], 0.0, 1.0)),
        ),
        case(
            "root of an interval",
            chain(vec![onto(Support::interval([2], 0.25, 4.0))?, fixed(&[2], Fixed::power(0.5)?)?])?,
            Some(Support::interval([2], 0.5, 2.0)),
        ),
        case(
            "tanh of the exponential",
            chain(vec![fixed(&[2], Fixed::Exp)?, fixed(&[2], Fixed::Tanh)?])?,
            Some(Support::interval([2], 0.0, 1.0)),
        ),
        case(
            "scaled",
            chain(vec![fixed(&[2], Fixed::Sigmoid)?, Box::new(affine)])?,
            Some(Support::bounded([2], [between(1.0, 3.0), between(-3.0, 1.0)])),
        ),
        case(
            "exchanged",
            chain(vec![onto(Support::bounded([2], [above(1.0), between(0.0, 1.0)]))?, Box::new(exchange)])?,
            Some(Support::bounded([2], [between(0.0, 2.0), above(4.0)])),
        ),
        case("turned", chain(vec![fixed(&[2], Fixed::Sigmoid)?, Box::new(FixedAffine::rotation2d(0.5)?)])?, None),
        case(
            "side by side",
            beside(vec![
                fixed(&[1], Fixed::Exp)?,
                Box::new(FixedAffine::scale(&[2.0])?),
                Box::new(Logit::new(&[2], 0.05, [-1.0, 3.0])?),
            ])?,
            Some(Support::bounded(
                [4],
                [above(0.0), Bounds::NONE, between(-1.0 - reach, 3.0 + reach), between(-1.0 - reach, 3.0 + reach)],
            )),
        ),
        case(
            "rows of images",
            beside(vec![fixed(&[1, 2], Fixed::Sigmoid)?, fixed(&[2, 2], Fixed::Sigmoid)?])?,
            Some(Support::interval([3, 2], 0.0, 1.0)),
        ),
        case(
            "beside a simplex",
            beside(vec![onto(Support::Simplex { size: 3 })?, fixed(&[2], Fixed::Exp)?])?,
            Some(Support::named([("0", Support::Simplex { size: 3 }), ("1", Support::positive([2]))])),
        ),
        case(
            "some elements",
            Box::new(Indexed::new(elementwise(&[2], Fixed::Exp, scope)?, &[3], [2, 0])?),
            Some(Support::bounded([3], [above(0.0), Bounds::NONE, above(0.0)])),
        ),
        case(
            "side by side after bounds",
            chain(vec![
                onto(Support::bounded([2], [between(0.0, 1.0), above(1.0)]))?,
                beside(vec![Box::new(FixedAffine::scale(&[3.0])?), Box::new(FixedAffine::scale(&[-1.0])?)])?,
            ])?,
            Some(Support::bounded([2], [between(0.0, 3.0), Bounds::below(-1.0)])),
        ),
    ])
}

/// Images of a box and what they are; none is wider than it need be.
#[test]
fn images_are_those_of_the_maps() -> Result<()> {
    let dtype = DType::F64;
    let parameters = Parameters::new(dtype, CPU, Rng::seed(0));
    let scope = &parameters.scope();
    let (between, above, below, none) = (Bounds::between, Bounds::above, Bounds::below, Bounds::NONE);
    let (free, edges) = (Support::real([4]), [above(1.0), none, between(0.0, 2.0), below(-1.0)]);
    let edged = Support::bounded([4], edges);
    let circle = |scope: &Scope, moved: [bool; 4]| {
        let (circular, mask) = (Arc::new(RqSpline::circular(4, -1.0, 2.0)?), Mask::Custom(moved.to_vec()));
        Coupling::new(&[4], &mask, circular, None, &NetworkConfig::mlp([8]), scope)
    };
    let standardize = Standardize::new(&[4], &scope.enter("standardize"))?;
    standardize.fit(&Tensor::new(&[[0.0, 1.0, 2.0, 3.0], [2.0, 5.0, 8.0, 3.0]], CPU)?)?;
    let standardized = [above(2.0), none, between(5.0, 11.0), below(2.0)];
    let closed: Arc<RqSpline> = Arc::new(RqSpline::closed(4, 0.0, 1.0)?);
    let order = Order::Given(vec![2, 0, 3, 1]);
    let line = |edges: [Bounds; 4]| Some(Support::bounded([4], edges));
    let exp = || elementwise(&[4], Fixed::Exp, scope);
    let positive = Some(Support::positive([4]));
    let half: Map = Box::new(FixedAffine::new(&[vec![0.0, -2.0], vec![1.0, 0.0]], &[0.0, 3.0])?);
    let square = Support::bounded([2], [between(0.0, 1.0), above(4.0)]);
    let cases: Vec<(&str, Map, Support, Option<Support>)> = vec![
        ("permutation", Box::new(Permutation::new(&[4], order, &scope.enter("order"))?), edged.clone(), {
            // x_2 = z_0, x_0 = z_1, x_3 = z_2, x_1 = z_3.
            line([edges[1], edges[3], edges[0], edges[2]])
        }),
        ("reshape", Box::new(Reshape::new(&[4], &[2, 2])?), edged.clone(), Some(Support::bounded([2, 2], edges))),
        ("squeeze", Box::new(Squeeze::new(&[2, 2], 2)?), Support::positive([4, 1]), Some(Support::positive([2, 2]))),
        ("standardize", Box::new(standardize.clone()), edged.clone(), line(standardized)),
        ("its inverse", Box::new(Inverse(Box::new(standardize))), Support::bounded([4], standardized), line(edges)),
        ("coupling", Box::new(circle(&scope.enter("a"), [false, true, true, false])?), edged.clone(), {
            line([edges[0], between(-1.0, 2.0), between(-1.0, 2.0), edges[3]])
        }),
        ("scattered coupling", Box::new(circle(&scope.enter("b"), [true, false, true, false])?), free.clone(), {
            line([between(-1.0, 2.0), none, between(-1.0, 2.0), none])
        }),
        (
            "kept map",
            {
                let coupling = circle(&scope.enter("c"), [true, true, false, false])?;
                Box::new(coupling.with_kept_map(Arc::new(Fixed::Exp), &scope.enter("kept"))?)
            },
            free.clone(),
            line([between(-1.0, 2.0), between(-1.0, 2.0), above(0.0), above(0.0)]),
        ),
        (
            "autoregressive",
            {
                let network = NetworkConfig::mlp([8]);
                Box::new(Autoregressive::new(4, closed, None, None, &network, &scope.enter("closed"))?)
            },
            free.clone(),
            Some(Support::interval([4], 0.0, 1.0)),
        ),
        ("exponential", exp()?, free.clone(), positive.clone()),
        ("logarithm of a half-line", Box::new(Inverse(exp()?)), Support::bounded([4], [above(1.0)]), {
            Some(Support::positive([4]))
        }),
        ("logarithm", Box::new(Inverse(exp()?)), positive.clone().unwrap_or_else(|| free.clone()), None),
        ("there and back", Box::new(Chain::new(vec![exp()?, Box::new(Inverse(exp()?))])?), edged.clone(), line(edges)),
        ("inverse of an exchange", Box::new(Inverse(half)), square, {
            Some(Support::bounded([2], [above(1.0), between(-0.5, 0.0)]))
        }),
        (
            "some elements",
            Box::new(Indexed::new(elementwise(&[2], Fixed::Exp, scope)?, &[4], [2, 0])?),
            edged.clone(),
            // e^1 and above, and 1 to e^2.
            line([above(std::f64::consts::E), none, between(1.0, std::f64::consts::E.powi(2)), edges[3]]),
        ),
        (
            "inverse of some elements",
            Box::new(Inverse(Box::new(Indexed::new(elementwise(&[2], Fixed::Exp, scope)?, &[4], [3, 0])?))),
            Support::bounded([4], [above(1.0), between(0.0, 2.0), below(5.0), between(0.5, 1.0)]),
            line([above(0.0), between(0.0, 2.0), below(5.0), between(-std::f64::consts::LN_2, 0.0)]),
        ),
        (
            "stack",
            Box::new(Stack::new(vec![exp()?, Box::new(FixedAffine::scale(&[1.0; 4])?)])?),
            { Support::real([2, 4]) },
            Some(Support::bounded([2, 4], [[above(0.0); 4], [none; 4]].concat())),
        ),
    ];
    for (name, map, latent, image) in cases {
        let got = map.image(&latent);
        let (Some(Support::Bounded { bounds: want, .. }), Some(Support::Bounded { bounds: got, .. })) = (&image, &got)
        else {
            assert_eq!(got, image, "{name}");
            continue;
        };
        let ends = |bounds: &Bounds| [bounds.lower.unwrap_or(1e99), bounds.upper.unwrap_or(1e99)];
        let (want, got): (Vec<f64>, Vec<f64>) =
            (want.iter().flat_map(ends).collect(), got.iter().flat_map(ends).collect());
        let close = want.len() == got.len() && want.iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close, "{name}: {got:?}, not {want:?}");
    }
    Ok(())
}

fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

/// Independent normal numbers, the first with this deviation.
fn wide(shape: &[usize], dtype: DType, deviation: f64) -> Result<Normal> {
    let n: usize = shape.iter().product();
    let scales: Vec<f64> = (0..n).map(|i| [deviation, 1.0, 0.1, 6.0][i % 4]).collect();
    let scale = Tensor::from_vec(scales, shape, CPU)?.to_dtype(dtype)?;
    Normal::new(&scale.zeros_like()?, &scale)
}

#[test]
fn supports_are_those_of_the_maps() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let parameters = Parameters::new(dtype, CPU, Rng::seed(0));
        let cases = cases(&parameters.scope())?;
        perturb(&parameters, 0.5, &mut Rng::seed(1))?;
        for Case { name, map, support } in cases {
            assert_eq!(map.support(), support, "{name}");
            let Some(support) = support else { continue };
            assert_eq!(support.shape(), map.data_shape(), "{name}");
            let flow = Transformed::new(wide(map.latent_shape(), dtype, 30.0)?, map)?;
            let x = flow.sample(2000, None, &mut Rng::seed(2))?;
            let scores = numbers(&score(&flow, &x, None)?)?;
            assert!(scores.iter().all(|v| v.is_finite()), "{name} in {dtype:?}: a draw has no density");
            let onto = support.bijector(dtype, CPU)?;
            let log_det = numbers(&onto.inverse(&x, None)?.1)?;
            assert!(log_det.iter().all(|v| v.is_finite()), "{name} in {dtype:?}: a draw is outside");
            outside(name, &flow, &support, &x.narrow(0, 0, 1)?)?;
        }
    }
    Ok(())
}

/// Passes if the density at x (1, event...) is 0 once an element of it lies beyond one of its bounds.
fn outside(name: &str, flow: &Transformed, support: &Support, x: &Tensor) -> Result<()> {
    let Support::Bounded { bounds, .. } = support else { return Ok(()) };
    let values = numbers(x)?;
    for (i, bounds) in bounds.iter().cycle().take(values.len()).enumerate() {
        // A circle has no outside.
        let bounds = if name == "circle" { &Bounds::NONE } else { bounds };
        let beyond = |v: f64, sign: f64| [1e-5, 0.1, 1e6].map(|by| v + sign * by * (v.abs() + 1.0));
        let lower = bounds.lower.into_iter().flat_map(|v| beyond(v, -1.0));
        for bad in lower.chain(bounds.upper.into_iter().flat_map(|v| beyond(v, 1.0))) {
            let mut values = values.clone();
            values[i] = bad;
            let x = Tensor::from_vec(values, x.shape(), CPU)?.to_dtype(x.dtype())?;
            let log_prob = numbers(&flow.log_prob(&x, None)?)?;
            assert_eq!(log_prob, [f64::NEG_INFINITY], "{name}: {bad} as element {i}");
        }
    }
    Ok(())
}

/// The ends of a logit's range are outside, the numbers next to them inside.
#[test]
fn logits_end_where_they_say() -> Result<()> {
    for (a, [low, high]) in [(0.05, [0.0, 1.0]), (1e-6, [-0.5, 0.5]), (1e-6, [100.0, 104.0]), (0.3, [-7.0, 1e-3])] {
        let logit = Logit::new(&[1], a, [low, high])?;
        let Some(Support::Bounded { bounds, .. }) = logit.support() else { panic!("a logit has bounds") };
        let Bounds { lower: Some(first), upper: Some(last) } = bounds[0] else { panic!("two bounds") };
        let x = [first.next_down(), first, last, last.next_up(), first.next_up(), last.next_down()];
        let x = Tensor::new(&x, CPU)?.unsqueeze(1)?;
        let log_det = numbers(&logit.inverse(&x, None)?.1)?;
        assert!(log_det[..4].iter().all(|v| *v == f64::NEG_INFINITY), "{a} of [{low}, {high}]: {log_det:?}");
        assert!(log_det[4..].iter().all(|v| v.is_finite()), "{a} of [{low}, {high}]: {log_det:?}");
        let z = Tensor::new(&[[-1e3f32], [1e3], [0.0]], CPU)?;
        let x = numbers(&logit.forward(&z, None)?.0)?;
        assert!(x.iter().all(|x| bounds[0].contain(*x)), "{a} of [{low}, {high}]: {x:?}");
    }
    Ok(())
}

/// A chain over D numbers in which one or two maps with bounds stand before others.
fn random_chain(seed: u64, scope: &Scope) -> Result<Chain> {
    let (rng, mut steps): (&mut Rng, Vec<Map>) = (&mut Rng::seed(seed), Vec::new());
    let (d, bounded) = (2 + rng.below(3), 1 + rng.below(2));
    // What comes before a second map with bounds must not take it to where it is flat, where all digits are lost.
    let (kinds, size) = if bounded == 1 { (7, 1.0) } else { (4, 0.3) };
    for k in 0..bounded {
        let scope = scope.enter(k);
        let half: Vec<Bounds> = (0..d).map(|i| if i == 0 { Bounds::above(-2.0) } else { Bounds::NONE }).collect();
        let onto = |support: Support| support.bijector(scope.dtype(), scope.device());
        steps.push(match rng.below(kinds) {
            0 => elementwise(&[d], Fixed::Sigmoid, &scope)?,
            1 => elementwise(&[d], Fixed::Tanh, &scope)?,
            2 => Box::new(Logit::new(&[d], 1e-6, [0.0, 1.0])?),
            3 => onto(Support::interval([d], 0.1, 0.3))?,
            4 => elementwise(&[d], Fixed::Exp, &scope)?,
            5 => elementwise(&[d], Fixed::Softplus, &scope)?,
            _ => onto(Support::bounded([d], half))?,
        });
        for j in 0..1 + rng.below(2) {
            let scope = scope.enter(format!("after{j}"));
            let mut row = |i: usize| (0..d).map(|j| size * rng.normal() + f64::from(u8::from(i == j))).collect();
            let rows: Vec<Vec<f64>> = (0..d).map(&mut row).collect();
            let shift: Vec<f64> = (0..d).map(|_| 3.0 * size * rng.normal()).collect();
            steps.push(match rng.below(4) {
                0 => Box::new(FixedAffine::new(&rows, &shift)?),
                1 => Box::new(FixedAffine::scale(&shift)?),
                2 => Box::new(LuLinear::new(d, Start::Random, None, &scope)?),
                _ => {
                    let (mask, network) = (Mask::Halves { swap: false }, NetworkConfig::mlp([8]));
                    Box::new(Coupling::new(&[d], &mask, Arc::new(Affine::default()), None, &network, &scope)?)
                }
            });
        }
    }
    Chain::new(steps)
}

/// How many draws a flow gives no density.
fn refused(flow: &Transformed, x: &Tensor) -> Result<usize> {
    Ok(numbers(&score(flow, x, None)?)?.into_iter().filter(|v| !v.is_finite()).count())
}

#[test]
fn no_draw_is_refused() -> Result<()> {
    const CHAINS: u64 = 60;
    const DRAWS: usize = 2_000;
    let (mut failures, mut otherwise) = (Vec::new(), 0);
    for seed in 0..CHAINS {
        let parameters = Parameters::new(DType::F32, CPU, Rng::seed(seed));
        let chain = Arc::new(random_chain(seed, &parameters.scope())?);
        perturb(&parameters, 0.2, &mut Rng::seed(seed))?;
        let flow = Transformed::new(wide(chain.latent_shape(), DType::F32, 6.0)?, chain.clone())?;
        let x = flow.sample(DRAWS, None, &mut Rng::seed(seed))?;
        let z = flow.base().sample(DRAWS, None, &mut Rng::seed(seed))?;
        let without = chain.steps().iter().try_fold(z, |v, step| Ok::<_, Error>(step.forward(&v, None)?.0))?;
        let (kept, lost) = (refused(&flow, &x)?, refused(&flow, &without)?);
        otherwise += lost;
        if kept > 0 {
            let structure = flow.bijector().structure();
            failures.push(format!("{kept} of {DRAWS} by chain {seed}, {lost} step by step:\n{structure}"));
        }
    }
    println!("{otherwise} of {} step by step", CHAINS * DRAWS as u64);
    assert!(otherwise > 100, "{otherwise} draws of the steps are refused: too few to see that chains keep them");
    assert!(failures.is_empty(), "{} chains refuse draws of their own\n{}", failures.len(), failures.join("\n"));
    // Bounds of the base itself.
    let matrix = FixedAffine::new(&[vec![0.3, 1.7], vec![-2.0, 0.9]], &[100.0, -0.5])?;
    let [low, high] = [[0.1f32, 0.0], [0.3, 3.0]].map(|ends| Tensor::new(&ends, CPU));
    let flow = Transformed::new(BoxUniform::new(&low?, &high?)?, matrix)?;
    let x = flow.sample(20_000, None, &mut Rng::seed(0))?;
    assert_eq!(refused(&flow, &x)?, 0, "a uniform base refuses draws");
    Ok(())
}
