//! Eight two-dimensional densities on which flows are commonly demonstrated.

use super::density;
use crate::{Error, Result, Rng, ops::elements};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, TAU};
use std::{fmt, str::FromStr};

/// A two-dimensional density that can be sampled and whose exact density is known.
///
/// The generators are those of FFJORD (Grathwohl et al. 2019, code `toy_data.py`), with the
/// parameter of a curve drawn uniformly instead of from an even grid, so that samples are
/// independent. The names are `two-moons`, `circles`, `rings`, `eight-gaussians`, `pinwheel`,
/// `two-spirals`, `checkerboard` and `swiss-roll`.
///
/// ```
/// use flows_core::{Rng, data::Toy};
/// let toy: Toy = "two-moons".parse()?;
/// let x = toy.sample(100, &mut Rng::seed(0))?;
/// assert_eq!(toy.log_density(&x)?.dims(), [100]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Toy {
    /// Two interleaved half circles of radius 2, noise 0.2.
    TwoMoons,
    /// Two circles of radius 3 and 1.5, noise 0.24.
    Circles,
    /// Four circles of radius 3, 2.25, 1.5 and 0.75, noise 0.08.
    Rings,
    /// Eight normals of standard deviation 0.5 with means on a circle of radius 4, all divided by 1.414.
    EightGaussians,
    /// Five arms: normals of standard deviations (0.3, 0.1) about (1, 0), each point rotated by an angle that
    /// grows with its first coordinate, all times 2.
    Pinwheel,
    /// Two spirals of one and a half turns, with noise from a uniform square and normal noise 0.1.
    TwoSpirals,
    /// Eight squares of side 2 of a 4 x 4 board.
    Checkerboard,
    /// A spiral of one and a half turns, noise 0.2.
    SwissRoll,
}

impl Toy {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::TwoMoons,
        Self::Circles,
        Self::Rings,
        Self::EightGaussians,
        Self::Pinwheel,
        Self::TwoSpirals,
        Self::Checkerboard,
        Self::SwissRoll,
    ];

    /// The name that `FromStr` and the command line accept.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoMoons => "two-moons",
            Self::Circles => "circles",
            Self::Rings => "rings",
            Self::EightGaussians => "eight-gaussians",
            Self::Pinwheel => "pinwheel",
            Self::TwoSpirals => "two-spirals",
            Self::Checkerboard => "checkerboard",
            Self::SwissRoll => "swiss-roll",
        }
    }

    /// `n` independent samples, shape (n, 2), in f32.
    ///
    /// # Errors
    /// When there are more than 2^29.
    pub fn sample(self, n: usize, rng: &mut Rng) -> Result<Tensor> {
        elements(&[n, 2])?;
        let values: Vec<f32> = (0..n).flat_map(|_| self.draw(rng)).map(|v| v as f32).collect();
        Ok(Tensor::from_vec(values, (n, 2), &Device::Cpu)?)
    }

    fn draw(self, rng: &mut Rng) -> [f64; 2] {
        let ring = |radius: f64, noise: f64, rng: &mut Rng| {
            let t = TAU * rng.uniform();
            [radius * t.cos() + noise * rng.normal(), radius * t.sin() + noise * rng.normal()]
        };
        match self {
            Self::TwoMoons => {
                let [x, y] = moon(rng.below(2), PI * rng.uniform());
                [x + 0.2 * rng.normal(), y + 0.2 * rng.normal()]
            }
            Self::Circles => ring(density::CIRCLES[rng.below(2)], density::CIRCLES_NOISE, rng),
            Self::Rings => ring(density::RINGS[rng.below(4)], density::RINGS_NOISE, rng),
            Self::EightGaussians => {
                let [x, y] = gaussian_mean(rng.below(8));
                [x + 0.5 / 1.414 * rng.normal(), y + 0.5 / 1.414 * rng.normal()]
            }
            Self::Pinwheel => {
                let arm = rng.below(5) as f64;
                let (a, b) = (1.0 + 0.3 * rng.normal(), 0.1 * rng.normal());
                let (sin, cos) = (TAU * arm / 5.0 + 0.25 * a.exp()).sin_cos();
                [2.0 * (a * cos + b * sin), 2.0 * (b * cos - a * sin)]
            }
            Self::TwoSpirals => {
                let sign = if rng.below(2) == 0 { 1.0 } else { -1.0 };
                let [x, y] = spiral(3.0 * PI * rng.uniform().sqrt());
                let mut axis = |c: f64| sign * (c + rng.uniform() / 6.0) + 0.1 * rng.normal();
                [axis(x), axis(y)]
            }
            Self::Checkerboard => {
                // Numbers that f32 represents exactly, so that none is rounded into the next square.
                let fraction = |rng: &mut Rng| (rng.below(1 << 21) as f64 + 0.5) / (1 << 21) as f64;
                let column = rng.below(4) as f64;
                let row = 2.0 * rng.below(2) as f64 + column % 2.0;
                [2.0 * (column - 2.0 + fraction(rng)), 2.0 * (row - 2.0 + fraction(rng))]
            }
            Self::SwissRoll => {
                let [x, y] = swiss_roll(1.5 * PI * (1.0 + 2.0 * rng.uniform()));
                [x + 0.2 * rng.normal(), y + 0.2 * rng.normal()]
            }
        }
    }

    /// The exact log-density in nats, (n), of `x` (n, 2), in the dtype and on the device of `x`.
    ///
    /// It is minus infinity outside the squares of the checkerboard, and NaN where a coordinate is NaN. The
    /// result carries no gradient.
    ///
    /// # Errors
    /// When `x` does not have the shape (n, 2) or is not floating-point.
    pub fn log_density(self, x: &Tensor) -> Result<Tensor> {
        let (n, 2) = x.dims2().map_err(|_| Error::shape("x", x.dims(), "(n, 2)"))? else {
            return Err(Error::shape("x", x.dims(), "(n, 2)"));
        };
        if !x.dtype().is_float() {
            return Err(Error::Data(format!("x has dtype {:?}; convert it to f32 or f64", x.dtype())));
        }
        let flat = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let density = density::of(self);
        let values: Vec<f64> = flat.par_chunks_exact(2).map(|p| density.log_at([p[0], p[1]])).collect();
        Ok(Tensor::from_vec(values, n, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?)
    }

    /// The differential entropy in nats, the lowest expected negative log-likelihood that a model can reach.
    ///
    /// `ln 32` for the checkerboard; for the others `-integral p ln p` by the midpoint rule on a
    /// grid that covers the density, refined until seven digits are stable.
    pub fn entropy(self) -> f64 {
        match self {
            Self::TwoMoons => 2.393_879_2,
            Self::Circles => 3.268_135_7,
            Self::Rings => 2.623_182_8,
            Self::EightGaussians => 2.831_880_4,
            Self::Pinwheel => 2.317_788_1,
            Self::TwoSpirals => 2.645_450_3,
            Self::Checkerboard => 5.0 * std::f64::consts::LN_2,
            Self::SwissRoll => 2.669_646_2,
        }
    }
}

/// The point of the outer (0) or inner (1) moon at the angle `t` in [0, pi].
pub(super) fn moon(which: usize, t: f64) -> [f64; 2] {
    let (sin, cos) = t.sin_cos();
    if which == 0 { [2.0 * cos - 1.0, 2.0 * sin - 0.2] } else { [1.0 - 2.0 * cos, 0.8 - 2.0 * sin] }
}

/// The mean of normal `k` of eight.
pub(super) fn gaussian_mean(k: usize) -> [f64; 2] {
    let (sin, cos) = (TAU * k as f64 / 8.0).sin_cos();
    [4.0 / 1.414 * cos, 4.0 / 1.414 * sin]
}

/// The point of the first spiral at the angle `t` in [0, 3 pi].
pub(super) fn spiral(t: f64) -> [f64; 2] {
    [-t * t.cos() / 3.0, t * t.sin() / 3.0]
}

/// The point of the roll at the angle `t` in [1.5 pi, 4.5 pi].
pub(super) fn swiss_roll(t: f64) -> [f64; 2] {
    [t * t.cos() / 5.0, t * t.sin() / 5.0]
}

impl fmt::Display for Toy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Toy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|toy| toy.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|toy| toy.name()).collect();
            Error::Config(format!("no 2-D density is called `{name}`; there are {}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(integral p, -integral p ln p)` by the midpoint rule with cells of side `step` on [-7, 7]^2.
    fn quadrature(toy: Toy, step: f64) -> Result<(f64, f64)> {
        let side = (14.0 / step).round() as usize;
        let at = |i: usize| -7.0 + (i as f64 + 0.5) * step;
        let points: Vec<f64> = (0..side * side).flat_map(|i| [at(i / side), at(i % side)]).collect();
        let x = Tensor::from_vec(points, (side * side, 2), &Device::Cpu)?;
        let logs = toy.log_density(&x)?.to_vec1::<f64>()?;
        let (mut mass, mut entropy) = (0.0, 0.0);
        for l in logs.into_iter().filter(|l| *l > f64::NEG_INFINITY) {
            mass += l.exp() * step * step;
            entropy -= l * l.exp() * step * step;
        }
        Ok((mass, entropy))
    }

    #[test]
    fn densities_integrate_to_one_and_entropies_are_theirs() -> Result<()> {
        for toy in Toy::ALL {
            let (mass, entropy) = quadrature(toy, 0.05)?;
            assert!((mass - 1.0).abs() < 1e-5, "{toy}: mass {mass}");
            assert!((entropy - toy.entropy()).abs() < 1e-3, "{toy}: {entropy}, not {}", toy.entropy());
        }
        Ok(())
    }

    #[test]
    fn samples_follow_the_density() -> Result<()> {
        let mut rng = Rng::seed(1);
        for toy in Toy::ALL {
            let n = 20_000;
            let losses: Vec<f64> =
                toy.log_density(&toy.sample(n, &mut rng)?.to_dtype(DType::F64)?)?.neg()?.to_vec1()?;
            let mean = losses.iter().sum::<f64>() / n as f64;
            let variance = losses.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / n as f64;
            let error = (mean - toy.entropy()).abs();
            assert!(error < 4.0 * (variance / n as f64).sqrt() + 1e-6, "{toy}: {mean}, not {}", toy.entropy());
        }
        Ok(())
    }

    #[test]
    fn any_point_is_answered() -> Result<()> {
        let values = [0.0, -0.0, 1e-310, 0.5, 16.1, 1e30, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let points: Vec<f64> = values.iter().flat_map(|&a| values.iter().flat_map(move |&b| [a, b])).collect();
        let x = Tensor::from_vec(points.clone(), (points.len() / 2, 2), &Device::Cpu)?;
        for toy in Toy::ALL {
            let logs = toy.log_density(&x)?.to_vec1::<f64>()?;
            for (point, l) in points.chunks(2).zip(logs) {
                assert_eq!(l.is_nan(), point.iter().any(|v| v.is_nan()), "{toy} at {point:?}: {l}");
                assert!(l.is_nan() || l < 3.0, "{toy} at {point:?}: {l}");
            }
            assert!(toy.log_density(&x.flatten_all()?).is_err());
            assert!(toy.log_density(&x.reshape(((), 4))?).is_err());
            assert!(toy.log_density(&x.to_dtype(DType::U8)?).is_err());
            assert_eq!(toy.sample(0, &mut Rng::seed(0))?.dims(), [0, 2]);
            assert_eq!(toy.log_density(&toy.sample(0, &mut Rng::seed(0))?)?.dims(), [0]);
        }
        Ok(())
    }

    #[test]
    fn names_go_both_ways() {
        for toy in Toy::ALL {
            assert_eq!(toy.to_string().parse::<Toy>().unwrap(), toy);
            assert_eq!(serde_json::to_string(&toy).unwrap(), format!("\"{toy}\""));
        }
        let error = "moons".parse::<Toy>().unwrap_err().to_string();
        assert!(Toy::ALL.iter().all(|toy| error.contains(toy.name())), "{error}");
    }
}
