//! The fixed map of one column's values to the logistic distribution.

use crate::bijectors::Bounds;
use crate::ops::{Direction, bin::Bin};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A fixed increasing map g of a column's values, after which they are about logistic: `g(x) = logit F(x)` for an
/// estimate F of the column's distribution function.
///
/// Bounds are removed first: `t = ln(x - a)`, `-ln(b - x)` or `ln((x - a) / (b - x))`. Between knots, which lie on
/// quantiles of the data, g is a monotone rational-quadratic function of t with a continuous derivative. Beyond the last
/// knot (u, z), with slope s, it is `z + ln(1 + xi s (t - u)) / xi`: the tail of F is then a power, `t^(-1/xi)`, as that
/// of a generalised Pareto distribution of shape xi, so that a row far out has a density that is small but not absurd.
/// The lower tail is the mirror image. Value, inverse and derivative are exact up to rounding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margin {
    /// What the values lie between.
    #[serde(default)]
    pub bounds: Bounds,
    /// The knots along t, increasing.
    pub knots: Vec<f64>,
    /// g at the knots, increasing.
    pub values: Vec<f64>,
    /// The slopes of g at the knots, positive.
    pub slopes: Vec<f64>,
    /// The shapes xi of the lower and the upper tail, positive.
    pub tails: [f64; 2],
}

/// Along z, knots have at least this distance.
const STEP: f64 = 0.25;

/// The shape of a tail about which the data say nothing, and the standard deviation of its logarithm before they do.
const SHAPE: f64 = 0.1;
const SHAPE_SPREAD: f64 = 1.0;

/// The standard deviation of the logistic distribution.
pub(super) const LOGISTIC_STD: f64 = 1.813_799_364_234_217_8;

impl Margin {
    /// The map `(x - location) / scale` with light tails.
    pub fn affine(location: f64, scale: f64) -> Self {
        Self {
            bounds: Bounds::NONE,
            knots: vec![location],
            values: vec![0.0],
            slopes: vec![1.0 / scale],
            tails: [0.01; 2],
        }
    }

    /// The map fitted to values within the bounds.
    ///
    /// # Errors
    /// When a value is not finite or not within the bounds.
    pub fn fit(values: &[f64], bounds: Bounds) -> Result<Self> {
        if let Some(value) = values.iter().find(|&&x| !bounds.contain(x)) {
            return Err(Error::Data(format!(
                "a value of {value} where there is {bounds}: values lie strictly inside; widen the bounds, or remove it"
            )));
        }
        let mut sorted: Vec<f64> = values.iter().map(|&x| unbounded(bounds, x).0).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let mut points = Vec::new();
        let mut below = 0.0;
        for run in sorted.chunk_by(|a, b| a == b) {
            // The middle of the step that F makes here.
            points.push((run[0], (below + 0.5 * run.len() as f64) / n));
            below += run.len() as f64;
        }
        Ok(Self { bounds, ..Self::through(&points, &sorted) })
    }

    /// The map fitted to whole numbers: F is exact half-way between them.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(super) fn fit_whole(values: &[f64]) -> Result<Self> {
        if let Some(value) = values.iter().find(|x| !x.is_finite()) {
            return Err(Error::Data(format!("a value of {value} is no whole number: remove it")));
        }
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let mut points = Vec::new();
        let mut below = 0.0;
        for run in sorted.chunk_by(|a, b| a == b) {
            // Half a row less at both ends, where F would be 0 and 1.
            if points.last().is_none_or(|&(t, _)| t < run[0] - 0.5) {
                points.push((run[0] - 0.5, f64::max(below, 0.5) / n));
            }
            below += run.len() as f64;
            points.push((run[0] + 0.5, f64::min(below, n - 0.5) / n));
        }
        points.dedup_by(|b, a| b.1 <= a.1);
        Ok(Self::through(&points, &sorted))
    }

    /// The map through some of these points (t, F) of the distribution function of sorted values.
    fn through(points: &[(f64, f64)], sorted: &[f64]) -> Self {
        let n = sorted.len() as f64;
        // Rows between two knots, and beyond the last ones.
        let least = f64::max(10.0, n.sqrt()) / n;
        let logit = |p: f64| (p / (1.0 - p)).ln();
        let mut knots: Vec<(f64, f64)> = Vec::new();
        let mut last = 0.0;
        for &(t, p) in points.iter().take_while(|(_, p)| *p <= 1.0 - least) {
            let far = knots.last().is_none_or(|&(_, z)| logit(p) - z >= STEP);
            if p - last >= least && far {
                knots.push((t, logit(p)));
                last = p;
            }
        }
        // Where a few values hold most rows, each is a knot.
        if knots.len() < 2 {
            let inner = |&&(_, p): &&(f64, f64)| p > 0.0 && p < 1.0;
            knots = points.iter().filter(inner).map(|&(t, p)| (t, logit(p))).collect();
            let every = knots.len().div_ceil(8).max(1);
            knots = knots.into_iter().step_by(every).collect();
        }
        if knots.len() < 2 {
            return Self::around(sorted);
        }
        let (knots, values): (Vec<f64>, Vec<f64>) = knots.into_iter().unzip();
        let slopes = slopes(&knots, &values);
        if !slopes.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Self::around(sorted);
        }
        let mut margin = Self { bounds: Bounds::NONE, knots, values, slopes, tails: [SHAPE; 2] };
        margin.tails = [margin.shape(sorted, false), margin.shape(sorted, true)];
        margin.rounded()
    }

    /// The same with numbers that JSON gives back to the bit.
    fn rounded(self) -> Self {
        let all = |numbers: &[f64]| numbers.iter().copied().map(decimal).collect();
        let rounded = Self {
            bounds: self.bounds,
            knots: all(&self.knots),
            values: all(&self.values),
            slopes: all(&self.slopes),
            tails: self.tails.map(decimal),
        };
        if rounded.check().is_ok() { rounded } else { self }
    }

    /// The map for values of which there are hardly two.
    fn around(sorted: &[f64]) -> Self {
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let spread = sorted.last().zip(sorted.first()).map_or(0.0, |(b, a)| b - a);
        let scale = [spread / 2.0, middle.abs() / 100.0, 1.0].into_iter().find(|s| *s > 0.0 && s.is_finite());
        Self::affine(middle, scale.unwrap_or(1.0)).rounded()
    }

    /// The shape of a tail with the largest posterior density given the values in it.
    fn shape(&self, sorted: &[f64], upper: bool) -> f64 {
        let end = if upper { self.knots.len() - 1 } else { 0 };
        let (u, z, slope) = (self.knots[end], self.values[end].abs(), self.slopes[end]);
        let excess: Vec<f64> = match upper {
            true => sorted[sorted.partition_point(|&t| t <= u)..].iter().map(|t| slope * (t - u)).collect(),
            false => sorted[..sorted.partition_point(|&t| t < u)].iter().map(|t| slope * (u - t)).collect(),
        };
        let objective = |log_shape: f64| -> f64 {
            let shape = log_shape.exp();
            let prior = -0.5 * ((log_shape - SHAPE.ln()) / SHAPE_SPREAD).powi(2);
            let density = |v: &f64| {
                let log = (shape * v).ln_1p();
                let far = z + log / shape;
                -far - 2.0 * (-far).exp().ln_1p() - log
            };
            prior + excess.iter().map(density).sum::<f64>()
        };
        let grid = (0..=48).map(|i| 0.01f64.ln() + f64::from(i) / 48.0 * 400f64.ln());
        grid.map(|at| (at, objective(at)))
            .fold((SHAPE.ln(), f64::NEG_INFINITY), |a, b| if b.1 > a.1 { b } else { a })
            .0
            .exp()
    }

    /// Fails unless this is an increasing map.
    pub(super) fn check(&self) -> Result<()> {
        let Self { knots, values, slopes, tails, .. } = self;
        let rising = |v: &[f64]| v.iter().all(|x| x.is_finite()) && v.windows(2).all(|pair| pair[0] < pair[1]);
        let positive = |v: &[f64]| v.iter().all(|x| x.is_finite() && *x > 0.0);
        let count = knots.len();
        if count > 0
            && [values.len(), slopes.len()] == [count; 2]
            && rising(knots)
            && rising(values)
            && positive(slopes)
            && positive(tails)
        {
            return Ok(());
        }
        Err(Error::Config(
            "its margin has no increasing knots with increasing values and positive slopes: fit it by `Margin::fit`"
                .into(),
        ))
    }

    /// `(g(x), ln g'(x))` for x within the bounds.
    pub(super) fn forward(&self, x: f64) -> (f64, f64) {
        let (t, log_t) = unbounded(self.bounds, x);
        let (z, log) = self.rise(t);
        (z, log + log_t)
    }

    /// The x with `g(x) = z`.
    pub(super) fn inverse(&self, z: f64) -> f64 {
        bounded(self.bounds, self.fall(z)).clamp(f64::MIN, f64::MAX)
    }

    /// `(z, ln dz/dt)` at t.
    fn rise(&self, t: f64) -> (f64, f64) {
        let count = self.knots.len();
        match self.knots.partition_point(|&knot| knot <= t) {
            0 => {
                let (v, log) = tail(self.slopes[0] * (self.knots[0] - t), self.tails[0]);
                (self.values[0] - v, self.slopes[0].ln() - log)
            }
            i if i == count => {
                let (v, log) = tail(self.slopes[i - 1] * (t - self.knots[i - 1]), self.tails[1]);
                (self.values[i - 1] + v, self.slopes[i - 1].ln() - log)
            }
            i => {
                let bin = self.bin(i, t - self.knots[i - 1]);
                let point = bin.point(Direction::Forward);
                (self.values[i - 1] + bin.height * (point.quotient / point.denominator), point.derivative.ln())
            }
        }
    }

    /// The t at which the map is z.
    fn fall(&self, z: f64) -> f64 {
        let count = self.values.len();
        let distance = |v: f64, shape: f64, slope: f64| (shape * v).exp_m1() / (shape * slope);
        match self.values.partition_point(|&value| value <= z) {
            0 => self.knots[0] - distance(self.values[0] - z, self.tails[0], self.slopes[0]),
            i if i == count => self.knots[i - 1] + distance(z - self.values[i - 1], self.tails[1], self.slopes[i - 1]),
            i => {
                let bin = self.bin(i, z - self.values[i - 1]);
                self.knots[i - 1] + bin.width * bin.point(Direction::Inverse).xi
            }
        }
    }

    /// The bin that ends at knot i.
    fn bin(&self, i: usize, offset: f64) -> Bin {
        Bin {
            width: self.knots[i] - self.knots[i - 1],
            height: self.values[i] - self.values[i - 1],
            slopes: [self.slopes[i - 1], self.slopes[i]],
            offset,
        }
    }
}

/// x rounded to 15 decimal digits, as many as parsers of JSON read without an error.
pub(super) fn decimal(x: f64) -> f64 {
    format!("{x:.14e}").parse().unwrap_or(x)
}

/// `ln(1 + shape v) / shape` for v >= 0, and minus the logarithm of its derivative.
fn tail(v: f64, shape: f64) -> (f64, f64) {
    let log = (shape * v).ln_1p();
    (log / shape, log)
}

/// Slopes for which the interpolation has no wiggles: weighted harmonic means of those of the neighbouring chords
/// (Fritsch and Butland, 1984), and at the ends those of the chords.
fn slopes(knots: &[f64], values: &[f64]) -> Vec<f64> {
    let widths: Vec<f64> = knots.windows(2).map(|w| w[1] - w[0]).collect();
    let chords: Vec<f64> = values.windows(2).zip(&widths).map(|(v, w)| (v[1] - v[0]) / w).collect();
    let inner = |i: usize| {
        let (a, b) = (2.0 * widths[i] + widths[i - 1], widths[i] + 2.0 * widths[i - 1]);
        (a + b) / (a / chords[i - 1] + b / chords[i])
    };
    (0..knots.len())
        .map(|i| match i {
            0 => chords[0],
            i if i == chords.len() => chords[i - 1],
            i => inner(i),
        })
        .collect()
}

/// x without its bounds, and the logarithm of the derivative.
fn unbounded(bounds: Bounds, x: f64) -> (f64, f64) {
    match (bounds.lower, bounds.upper) {
        (None, None) => (x, 0.0),
        (Some(a), None) => {
            let t = (x - a).ln();
            (t, -t)
        }
        (None, Some(b)) => {
            let t = -(b - x).ln();
            (t, t)
        }
        (Some(a), Some(b)) => {
            let (low, high) = ((x - a).ln(), (b - x).ln());
            (low - high, (b - a).ln() - low - high)
        }
    }
}

/// The inverse of [`unbounded`], strictly within the bounds.
fn bounded(bounds: Bounds, t: f64) -> f64 {
    let x = match (bounds.lower, bounds.upper) {
        (None, None) => t,
        (Some(a), None) => a + t.exp(),
        (None, Some(b)) => b - (-t).exp(),
        (Some(a), Some(b)) if t < 0.0 => a + (b - a) * (t.exp() / (1.0 + t.exp())),
        (Some(a), Some(b)) => b - (b - a) * ((-t).exp() / (1.0 + (-t).exp())),
    };
    let x = bounds.lower.map_or(x, |a| x.max(a.next_up()));
    bounds.upper.map_or(x, |b| x.min(b.next_down()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use rand_distr::{Cauchy, LogNormal, StandardNormal, StudentT, Uniform};

    fn draws(n: usize, mut next: impl FnMut(&mut Rng) -> f64) -> Vec<f64> {
        let mut rng = Rng::seed(0);
        (0..n).map(|_| next(&mut rng)).collect()
    }

    /// Mean log-density under the logistic distribution of g(x).
    fn nats(margin: &Margin, values: &[f64]) -> f64 {
        let density = |&x: &f64| {
            let (z, log) = margin.forward(x);
            log - z.abs() - 2.0 * (-z.abs()).exp().ln_1p()
        };
        values.iter().map(density).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn a_margin_is_inverted_and_has_its_derivative() -> Result<()> {
        let normal = draws(500, |rng| rng.draw(&StandardNormal));
        let uniform = draws(500, |rng| rng.uniform());
        let positive: Vec<f64> = normal.iter().map(|x| x.exp() + 3.0).collect();
        let below: Vec<f64> = positive.iter().map(|x| -x).collect();
        for (margin, values) in [
            (Margin::fit(&normal, Bounds::NONE)?, &normal),
            (Margin::fit(&uniform, Bounds::between(0.0, 1.0))?, &uniform),
            (Margin::fit(&positive, Bounds::above(3.0))?, &positive),
            (Margin::fit(&below, Bounds::below(-3.0))?, &below),
            (Margin::affine(2.0, 0.5), &normal),
        ] {
            margin.check()?;
            for &x in values.iter().step_by(7) {
                let (z, log) = margin.forward(x);
                let step = 1e-6 * x.abs().max(1e-3);
                let numeric = ((margin.forward(x + step).0 - margin.forward(x - step).0) / (2.0 * step)).ln();
                assert!((log - numeric).abs() < 1e-4, "{margin:?} at {x}: {log}, {numeric}");
                assert!((margin.inverse(z) - x).abs() < 1e-10 * x.abs().max(1.0), "{margin:?} at {x}");
            }
        }
        for z in [-900.0, -40.0, -6.0, 0.3, 6.0, 40.0, 900.0] {
            let margin = Margin::fit(&normal, Bounds::NONE)?;
            assert!((margin.forward(margin.inverse(z)).0 - z).abs() < 1e-9 * z.abs(), "{z}");
        }
        Ok(())
    }

    #[test]
    fn it_is_close_to_the_density_of_the_data_on_other_data() -> Result<()> {
        // Entropies of the distributions.
        let tau = 2.0 * std::f64::consts::PI;
        type Case = (&'static str, fn(&mut Rng) -> f64, Bounds, f64);
        let cases: [Case; 6] = [
            ("normal", |r| r.draw(&StandardNormal), Bounds::NONE, 0.5 * (tau.ln() + 1.0)),
            ("Cauchy", |r| r.draw(&Cauchy::new(0.0, 1.0).unwrap()), Bounds::NONE, (2.0 * tau).ln()),
            ("t", |r| r.draw(&StudentT::new(1.5).unwrap()), Bounds::NONE, 2.1497),
            ("log-normal", |r| r.draw(&LogNormal::new(0.0, 1.0).unwrap()), Bounds::NONE, 0.5 * (tau.ln() + 1.0)),
            ("positive", |r| r.draw(&LogNormal::new(0.0, 1.0).unwrap()), Bounds::above(0.0), 0.5 * (tau.ln() + 1.0)),
            ("uniform", |r| r.draw(&Uniform::new(2.0, 3.0).unwrap()), Bounds::between(2.0, 3.0), 0.0),
        ];
        for (name, next, bounds, entropy) in cases {
            let values = draws(20_000, next);
            let (train, test) = values.split_at(4000);
            let excess = -nats(&Margin::fit(train, bounds)?, test) - entropy;
            assert!(excess.abs() < 0.06, "{name}: {excess} nats above the entropy");
        }
        Ok(())
    }

    #[test]
    fn few_or_equal_values_have_a_margin() -> Result<()> {
        for values in [&[][..], &[3.0], &[3.0; 40], &[1.0, 2.0], &[0.0, 0.0, 1e300], &[1.0, 2.0, 3.0, 3.0, 3.0, 9.0]] {
            for margin in [Margin::fit(values, Bounds::NONE)?, Margin::fit_whole(values)?] {
                margin.check()?;
                assert!(nats(&margin, &[2.0, 5.0]).is_finite(), "{margin:?}");
            }
        }
        assert!(Margin::fit(&[0.0], Bounds::above(0.0)).unwrap_err().to_string().contains("widen"));
        Ok(())
    }
}
