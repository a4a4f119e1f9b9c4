//! A symmetric family truncated to an interval.

use super::checks::{batch_shape, box_of, check_alike, check_batch, check_rows, check_values, restrict};
use super::{Distribution, LocationScale, SymmetricCdf};
use crate::bijectors::Support;
use crate::ops::{log_sum_exp, sum_event};
use crate::{Result, Rng, Structure};
use candle_core::{D, DType, Device, Tensor};

/// Independent elements of a [`Normal`](super::Normal), [`Logistic`](super::Logistic),
/// [`Laplace`](super::Laplace) or [`StudentT`](super::StudentT), each given that it lies in
/// `[low_i, high_i]`:
/// `log p(x) = sum_i log f(x_i) - ln(F(high_i) - F(low_i))` inside and minus infinity outside.
///
/// This is accurate however far in a tail the interval lies: probabilities are computed as logarithms, in the
/// tail where they do not cancel. Samples use the inverse of F and are differentiable with respect
/// to every parameter of the base. Bounds may be infinite; a context is ignored. (For a
/// uniform distribution use [`BoxUniform::truncate`](super::BoxUniform::truncate).)
#[derive(Debug)]
pub struct Truncated<F: SymmetricCdf> {
    base: LocationScale<F>,
    low: Tensor,
    high: Tensor,
    support: Support,
}

/// Replaces an infinite bound, so that no gradient multiplies 0 by infinity.
const FAR: f64 = 1e30;
/// Replaces an infinite bound in units of the scale.
const FAR_SCALED: f64 = 1e10;

/// The interval relative to location and scale, in f64 on the CPU.
struct Standardized {
    loc: Tensor,
    scale: Tensor,
    /// -1 for the elements that are reflected, so that an interval in the upper tail becomes one
    /// in the lower tail, where ln F keeps every digit.
    sign: Tensor,
    /// ln F at the ends, after the reflection.
    log_low: Tensor,
    log_high: Tensor,
}

impl<F: SymmetricCdf> Truncated<F> {
    /// `base` truncated to the interval between `low` and `high`, both (event...).
    ///
    /// # Errors
    /// When shapes or dtypes differ, or a lower bound is not below its upper bound.
    pub fn new(base: LocationScale<F>, low: &Tensor, high: &Tensor) -> Result<Self> {
        check_alike("the lower bound", base.loc(), low)?;
        check_alike("the upper bound", base.loc(), high)?;
        let (low, high) = (low.clamp(-FAR, FAR)?, high.clamp(-FAR, FAR)?);
        check_values("a width of the interval", &(&high - &low)?, "positive", |w| w > 0.0)?;
        let support = box_of(base.event_shape(), &low, &high, FAR)?;
        Ok(Self { base, low, high, support })
    }

    fn standardized(&self) -> Result<Standardized> {
        let exact = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let (loc, scale) = (exact(self.base.loc())?, exact(self.base.log_scale())?.exp()?);
        let (low, high) = (exact(&self.low)?, exact(&self.high)?);
        let sign = low.gt(&loc)?.to_dtype(DType::F64)?.affine(-2.0, 1.0)?;
        let scaled = |bound: Tensor| (bound - &loc)?.div(&scale)?.clamp(-FAR_SCALED, FAR_SCALED)?.mul(&sign);
        let (a, b) = (scaled(low)?, scaled(high)?);
        let family = self.base.family();
        let (log_low, log_high) = (family.log_cdf(&a.minimum(&b)?)?, family.log_cdf(&a.maximum(&b)?)?);
        Ok(Standardized { loc, scale, sign, log_low, log_high })
    }
}

impl<F: SymmetricCdf> Distribution for Truncated<F> {
    fn event_shape(&self) -> &[usize] {
        self.base.event_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        check_batch(x, self.event_shape(), context)?;
        let Standardized { log_low, log_high, .. } = self.standardized()?;
        // ln(F(high) - F(low)) = ln F(high) + ln(1 - F(low) / F(high)).
        let log_mass = ((log_low - &log_high)?.exp()?.affine(-1.0, 1.0)?.log()? + log_high)?;
        let log_mass = log_mass.to_dtype(x.dtype())?.to_device(x.device())?;
        let inside = x.broadcast_maximum(&self.low)?.broadcast_minimum(&self.high)?;
        let value = self.base.log_density(&inside)?.broadcast_sub(&log_mass)?;
        sum_event(&restrict(&value, x, &self.low, &self.high)?)
    }

    fn support(&self) -> Support {
        self.support.clone()
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        let shape = batch_shape(count, self.event_shape());
        let Standardized { loc, scale, sign, log_low, log_high } = self.standardized()?;
        let u = rng.tensor(shape, DType::F64, &Device::Cpu, |rng| rng.draw(&rand_distr::Open01))?;
        // ln((1 - u) F(low) + u F(high)), kept below 0, where the quantile is finite.
        let from_low = u.affine(-1.0, 1.0)?.log()?.broadcast_add(&log_low)?;
        let from_high = u.log()?.broadcast_add(&log_high)?;
        let y = log_sum_exp(&Tensor::stack(&[from_low, from_high], D::Minus1)?)?.minimum(-1e-16)?;
        let z = self.base.family().quantile(&y)?.broadcast_mul(&sign)?;
        let x = z.broadcast_mul(&scale)?.broadcast_add(&loc)?;
        let x = x.to_dtype(self.low.dtype())?.to_device(self.low.device())?;
        // Rounding must not push a draw over the edge, where its density would be 0.
        Ok(x.broadcast_maximum(&self.low)?.broadcast_minimum(&self.high)?)
    }

    fn dtype(&self) -> Option<DType> {
        self.base.dtype()
    }

    fn device(&self) -> Device {
        self.base.device()
    }

    fn structure(&self) -> Structure {
        Structure::new("Truncated", "").part(self.base.structure())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::{Laplace, Logistic, Normal, StudentT};
    use crate::nn::Parameters;
    use crate::testing::{gradient_difference, perturb};
    use candle_core::Var;

    fn log_prob<F: SymmetricCdf + Default>(low: f64, high: f64, x: f64) -> Result<f64> {
        let at = |v: f64| Tensor::new(&[v], &Device::Cpu);
        let truncated = Truncated::new(LocationScale::<F>::new(&at(0.0)?, &at(1.0)?)?, &at(low)?, &at(high)?)?;
        let (draws, _) = truncated.sample_with_log_prob(100, None, &mut Rng::seed(3))?;
        assert!(draws.flatten_all()?.to_vec1::<f64>()?.iter().all(|d| (low..=high).contains(d)));
        Ok(truncated.log_prob(&at(x)?.unsqueeze(0)?, None)?.to_vec1::<f64>()?[0])
    }

    #[test]
    fn far_in_a_tail_nothing_cancels() -> Result<()> {
        // The hazard rates phi / (1 - Phi) at 20 (by its continued fraction), 1 and 1.
        let normal = log_prob::<crate::distributions::NormalFamily>(20.0, f64::INFINITY, 20.0)?;
        assert!((normal - 20.049_753_07f64.ln()).abs() < 1e-8, "{normal}");
        for mirrored in [
            log_prob::<crate::distributions::NormalFamily>(f64::NEG_INFINITY, -20.0, -20.0)? - normal,
            log_prob::<crate::distributions::LaplaceFamily>(50.0, f64::INFINITY, 50.0)?,
            log_prob::<crate::distributions::LogisticFamily>(50.0, f64::INFINITY, 50.0)?,
        ] {
            assert!(mirrored.abs() < 1e-12, "{mirrored}");
        }
        Ok(())
    }

    #[test]
    fn an_infinite_interval_truncates_nothing() -> Result<()> {
        let at = |v: f64| Tensor::new(&[v], &Device::Cpu);
        let (loc, scale, x) = (at(0.3)?, at(2.0)?, at(1.7)?.unsqueeze(0)?);
        let (low, high) = (at(f64::NEG_INFINITY)?, at(f64::INFINITY)?);
        let pairs: [(Box<dyn Distribution>, Box<dyn Distribution>); 4] = [
            (Box::new(Truncated::new(Normal::new(&loc, &scale)?, &low, &high)?), Box::new(Normal::new(&loc, &scale)?)),
            (
                Box::new(Truncated::new(Laplace::new(&loc, &scale)?, &low, &high)?),
                Box::new(Laplace::new(&loc, &scale)?),
            ),
            (
                Box::new(Truncated::new(Logistic::new(&loc, &scale)?, &low, &high)?),
                Box::new(Logistic::new(&loc, &scale)?),
            ),
            (
                Box::new(Truncated::new(StudentT::new(2.5, &loc, &scale)?, &low, &high)?),
                Box::new(StudentT::new(2.5, &loc, &scale)?),
            ),
        ];
        for (truncated, whole) in pairs {
            let d = crate::testing::difference(&truncated.log_prob(&x, None)?, &whole.log_prob(&x, None)?)?;
            assert!(d < 1e-12, "{whole:?}: {d}");
        }
        Ok(())
    }

    #[test]
    fn a_truncated_t_has_mass_one_and_every_gradient() -> Result<()> {
        const N: usize = 2000;
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let base = StudentT::trainable([2], 3.0, &parameters.scope())?;
        perturb(&parameters, 0.3, &mut Rng::seed(1))?;
        let bounds = [[-0.5, 4.0], [2.0, 9.0]].map(|bounds| Tensor::new(&bounds, &Device::Cpu));
        let [low, high] = bounds;
        let (low, high) = (low?, high?);
        let truncated = Truncated::new(base, &low, &high)?;
        // Simpson's rule, for one element at a time while the other is fixed.
        let share =
            Tensor::arange(0u32, N as u32 + 1, &Device::Cpu)?.to_dtype(DType::F64)?.affine(1.0 / N as f64, 0.0)?;
        let x = share.unsqueeze(1)?.broadcast_mul(&(&high - &low)?)?.broadcast_add(&low)?;
        let density = truncated.base.log_density(&x)?;
        let log_mass = (truncated.log_prob(&x, None)? - density.sum(1)?)?.get(0)?.to_scalar::<f64>()?;
        let weights = (0..=N).map(|i| if i == 0 || i == N { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 });
        let weights = Tensor::from_vec(weights.collect::<Vec<f64>>(), (N + 1, 1), &Device::Cpu)?;
        let masses =
            (density.exp()?.broadcast_mul(&weights)?.sum(0)? * (high - low)?)?.affine(1.0 / 3.0 / N as f64, 0.0)?;
        let mass = masses.log()?.sum_all()?.to_scalar::<f64>()?;
        assert!((mass + log_mass).abs() < 1e-9, "{mass} and {log_mass}");

        let x = Var::from_tensor(&truncated.sample(6, None, &mut Rng::seed(2))?.detach())?;
        let density = || Ok(truncated.log_prob(&x, None)?.sum_all()?);
        let d = gradient_difference(density, &parameters, &[("x", &x)], &mut Rng::seed(3))?;
        assert!(d < 1e-7, "{d} by the density");
        let draws = || Ok(truncated.sample(6, None, &mut Rng::seed(4))?.sqr()?.sum_all()?);
        let d = gradient_difference(draws, &parameters, &[], &mut Rng::seed(3))?;
        assert!(d < 1e-6, "{d} by the draws");
        Ok(())
    }
}
