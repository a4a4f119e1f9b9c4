//! The exact densities of the [`Toy`]s, computed point by point in f64.

use super::toy::{Toy, gaussian_mean, moon, spiral, swiss_roll};
use crate::ops::increasing_root;
use std::f64::consts::{PI, TAU};
use std::sync::LazyLock;

pub(super) const CIRCLES: [f64; 2] = [3.0, 1.5];
pub(super) const CIRCLES_NOISE: f64 = 0.24;
pub(super) const RINGS: [f64; 4] = [3.0, 2.25, 1.5, 0.75];
pub(super) const RINGS_NOISE: f64 = 0.08;

/// The form of a density.
pub(super) enum Density {
    Nodes(&'static Nodes),
    Circles { radii: &'static [f64], sigma: f64 },
    Pinwheel,
    Checkerboard,
}

/// The density of `toy`.
pub(super) fn of(toy: Toy) -> Density {
    static MOONS: LazyLock<Nodes> = LazyLock::new(|| {
        let arc = |which| curve(0.0, PI, 0.2, move |t| (moon(which, t), 0.5 / PI));
        Nodes { nodes: [arc(0), arc(1)].concat(), sigma: 0.2, square: None, mirrored: false }
    });
    static GAUSSIANS: LazyLock<Nodes> = LazyLock::new(|| {
        let node = |k| (gaussian_mean(k), 0.125);
        Nodes { nodes: (0..8).map(node).collect(), sigma: 0.5 / 1.414, square: None, mirrored: false }
    });
    // The square root of a uniform number: the density of the angle t is 2t / (3 pi)^2.
    static SPIRALS: LazyLock<Nodes> = LazyLock::new(|| Nodes {
        nodes: curve(0.0, 3.0 * PI, 0.09, |t| (spiral(t), t / (9.0 * PI * PI))),
        sigma: 0.1,
        square: Some(Square::new(1.0 / 6.0)),
        mirrored: true,
    });
    static ROLL: LazyLock<Nodes> = LazyLock::new(|| Nodes {
        nodes: curve(1.5 * PI, 4.5 * PI, 0.2, |t| (swiss_roll(t), 1.0 / (3.0 * PI))),
        sigma: 0.2,
        square: None,
        mirrored: false,
    });
    match toy {
        Toy::TwoMoons => Density::Nodes(&MOONS),
        Toy::Circles => Density::Circles { radii: &CIRCLES, sigma: CIRCLES_NOISE },
        Toy::Rings => Density::Circles { radii: &RINGS, sigma: RINGS_NOISE },
        Toy::EightGaussians => Density::Nodes(&GAUSSIANS),
        Toy::Pinwheel => Density::Pinwheel,
        Toy::TwoSpirals => Density::Nodes(&SPIRALS),
        Toy::Checkerboard => Density::Checkerboard,
        Toy::SwissRoll => Density::Nodes(&ROLL),
    }
}

impl Density {
    pub(super) fn log_at(&self, x: [f64; 2]) -> f64 {
        if x[0].is_nan() || x[1].is_nan() {
            return f64::NAN;
        }
        // Farther out squares overflow, and no density has any mass.
        if x[0].abs().max(x[1].abs()) > 1e150 {
            return f64::NEG_INFINITY;
        }
        match self {
            Self::Nodes(nodes) => nodes.log_at(x),
            Self::Circles { radii, sigma } => circles(radii, *sigma, x),
            Self::Pinwheel => pinwheel(x),
            Self::Checkerboard => checkerboard(x),
        }
    }
}

/// A weighted sum of normals of standard deviation `sigma`: a mixture, or a curve with noise, whose integral
/// is a sum over the nodes of a quadrature rule. The nodes may be convolved with a uniform square.
pub(super) struct Nodes {
    nodes: Vec<([f64; 2], f64)>,
    sigma: f64,
    square: Option<Square>,
    /// Whether the nodes also stand for their reflections through the origin.
    mirrored: bool,
}

impl Nodes {
    fn log_at(&self, x: [f64; 2]) -> f64 {
        let images: &[[f64; 2]] = if self.mirrored { &[x, [-x[0], -x[1]]] } else { &[x] };
        let width = self.square.as_ref().map_or(0.0, |s| s.width);
        // The squared distance of x to a node, or to the square at the node.
        let distance = |x: [f64; 2], node: [f64; 2]| {
            let gap = |i: usize| {
                let d = x[i] - node[i];
                d - d.clamp(0.0, width)
            };
            gap(0).powi(2) + gap(1).powi(2)
        };
        let every = || images.iter().flat_map(|&x| self.nodes.iter().map(move |&(node, weight)| (x, node, weight)));
        let nearest = every().map(|(x, node, _)| distance(x, node)).fold(f64::INFINITY, f64::min);
        let variance = self.sigma * self.sigma;
        let mut sum = 0.0;
        for (x, node, weight) in every() {
            let exponent = (distance(x, node) - nearest) / (2.0 * variance);
            // Terms left out are below the rounding error of the sum.
            if exponent < 50.0 {
                let smear = self.square.as_ref().map_or(1.0, |square| {
                    square.mean(x[0] - node[0], variance) * square.mean(x[1] - node[1], variance)
                });
                sum += weight * smear * (-exponent).exp();
            }
        }
        sum.ln() - nearest / (2.0 * variance) - (TAU * variance).ln()
    }
}

/// A quadrature rule for a uniform number in [0, width].
struct Square {
    width: f64,
    rule: Vec<(f64, f64)>,
}

impl Square {
    fn new(width: f64) -> Self {
        let rule = gauss_legendre().iter().map(|(x, w)| (width * (x + 1.0) / 2.0, w / 2.0)).collect();
        Self { width, rule }
    }

    /// `E[exp(-(d - u)^2 / 2 variance)]` divided by the greatest value of the exponential.
    fn mean(&self, d: f64, variance: f64) -> f64 {
        let least = (d - d.clamp(0.0, self.width)).powi(2);
        self.rule.iter().map(|(u, w)| w * ((least - (d - u).powi(2)) / (2.0 * variance)).exp()).sum()
    }
}

/// The nodes and weights of eight-point Gauss-Legendre quadrature on [-1, 1].
fn gauss_legendre() -> [(f64, f64); 8] {
    const HALF: [(f64, f64); 4] = [
        (0.183_434_642_495_649_8, 0.362_683_783_378_362),
        (0.525_532_409_916_329, 0.313_706_645_877_887_3),
        (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
        (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
    ];
    std::array::from_fn(|i| if i < 4 { HALF[i] } else { (-HALF[i - 4].0, HALF[i - 4].1) })
}

/// Nodes of the curve `at(t) = (point, density of t)` over [a, b], in panels no longer than `longest`
/// that shrink towards the ends, since the integrand is steepest for points beyond an end.
fn curve(a: f64, b: f64, longest: f64, at: impl Fn(f64) -> ([f64; 2], f64)) -> Vec<([f64; 2], f64)> {
    const FINEST: i32 = 8;
    let mut cuts: Vec<f64> = (1..=FINEST).rev().map(|k| a + longest / f64::from(1 << k)).collect();
    cuts.insert(0, a);
    let whole = ((b - a - longest) / longest).ceil();
    cuts.extend((1..whole as usize).map(|k| a + longest / 2.0 + (b - a - longest) * k as f64 / whole));
    cuts.extend((1..=FINEST).map(|k| b - longest / f64::from(1 << k)));
    cuts.push(b);
    let mut nodes = Vec::with_capacity(8 * cuts.len());
    for panel in cuts.windows(2) {
        let (middle, half) = ((panel[0] + panel[1]) / 2.0, (panel[1] - panel[0]) / 2.0);
        for (x, w) in gauss_legendre() {
            let (point, density) = at(middle + half * x);
            nodes.push((point, density * w * half));
        }
    }
    nodes
}

/// Circles of equal weight with noise: `p = mean_R exp(-(r^2 + R^2) / 2 s^2) I_0(r R / s^2) / 2 pi s^2`.
fn circles(radii: &[f64], sigma: f64, x: [f64; 2]) -> f64 {
    let r = x[0].hypot(x[1]);
    let variance = sigma * sigma;
    let gap = |radius: f64| (r - radius).powi(2) / (2.0 * variance);
    let nearest = radii.iter().map(|&radius| gap(radius)).fold(f64::INFINITY, f64::min);
    let sum: f64 =
        radii.iter().map(|&radius| (nearest - gap(radius)).exp() * scaled_bessel(r * radius / variance)).sum();
    (sum / radii.len() as f64).ln() - nearest - (TAU * variance).ln()
}

/// `exp(-k) I_0(k)` for k >= 0: the power series, all of whose terms are positive, or the asymptotic
/// series, whose least term is far below rounding error from k = 40 (Abramowitz and Stegun 9.6.12, 9.7.1).
fn scaled_bessel(k: f64) -> f64 {
    let (mut term, mut sum, mut n) = (1.0, 1.0, 0.0);
    while term > 1e-17 * sum {
        n += 1.0;
        term *= if k < 40.0 { (k / (2.0 * n)).powi(2) } else { (2.0 * n - 1.0).powi(2) / (8.0 * n * k) };
        sum += term;
    }
    sum * if k < 40.0 { (-k).exp() } else { (TAU * k).sqrt().recip() }
}

/// The pinwheel by change of variables.
///
/// A normal point f = r (cos a, sin a) about (1, 0) is rotated by minus `2 pi k / 5 + exp(f_0) / 4`,
/// so its radius is kept and its angle becomes `h(a) - 2 pi k / 5` with `h(a) = a - exp(r cos a) / 4`.
/// The density at radius r and angle b is the sum of `q(f) / |h'(a)|` over all a with
/// `h(a) = b mod 2 pi / 5`, where q is the normal's density. Between its critical points h is
/// monotone, and the roots are found one by one.
fn pinwheel(x: [f64; 2]) -> f64 {
    let r = x[0].hypot(x[1]) / 2.0;
    let log_normal = |a: f64, b: f64| -((a - 1.0) / 0.3).powi(2) / 2.0 - (b / 0.1).powi(2) / 2.0 - (TAU * 0.03).ln();
    // Accounts for the factor 2 of the data and the weight of an arm.
    let log_scale = -(4.0f64 * 5.0).ln();
    if r > 8.0 {
        // The density is below exp(-270) and winds a thousand times: its mean over the angle, by
        // Laplace's method about a = 0.
        let curvature = 100.0 - (1.0 - r.recip()) / 0.09;
        return log_normal(r, 0.0) - 4.0f64.ln() - r.ln() - (TAU * curvature).ln() / 2.0;
    }
    let h = |a: f64| a - 0.25 * (r * a.cos()).exp();
    let slope = |a: f64| 1.0 + 0.25 * r * a.sin() * (r * a.cos()).exp();
    // h' has its minimum where cos a - r sin^2 a = 0, a < 0, and may be negative near it.
    let lowest = -(2.0 * r / (1.0 + (1.0 + 4.0 * r * r).sqrt())).acos();
    let cuts = if slope(lowest) < 0.0 {
        // Falling from -pi to the lowest point, rising from there.
        let fold = |low, high, sign: f64| increasing_root((low, high), |a| (sign * slope(a), 0.0));
        vec![-PI, fold(-PI, lowest, -1.0), fold(lowest, 0.0, 1.0), PI]
    } else {
        vec![-PI, PI]
    };
    let angle = x[1].atan2(x[0]);
    let spacing = TAU / 5.0;
    let mut density = 0.0;
    for piece in cuts.windows(2) {
        let (low, high) = (h(piece[0]).min(h(piece[1])), h(piece[0]).max(h(piece[1])));
        let sign = if h(piece[0]) < h(piece[1]) { 1.0 } else { -1.0 };
        let first = ((low - angle) / spacing).ceil() as i64;
        let end = ((high - angle) / spacing).ceil() as i64;
        for k in first..end {
            let target = angle + spacing * k as f64;
            let a = increasing_root((piece[0], piece[1]), |a| (sign * (h(a) - target), sign * slope(a)));
            density += log_normal(r * a.cos(), r * a.sin()).exp() / slope(a).abs().max(f64::MIN_POSITIVE);
        }
    }
    density.ln() + log_scale
}

/// Uniform on the squares of side 2 in [-4, 4]^2 that have the colour of the bottom left one.
fn checkerboard(x: [f64; 2]) -> f64 {
    let inside = x.iter().all(|v| (-4.0..4.0).contains(v));
    let square = |v: f64| (v / 2.0).floor() as i64;
    let dark = (square(x[0]) + square(x[1])).rem_euclid(2) == 0;
    if inside && dark { -32.0f64.ln() } else { f64::NEG_INFINITY }
}
