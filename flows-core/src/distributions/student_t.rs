//! Student's t-distribution: a base with heavy tails.

use super::checks::values_of;
use super::{Family, LocationScale, SymmetricCdf};
use crate::nn::{Init, Scope};
use crate::ops::{ln_1p, special::lgamma, student_log_cdf, student_quantile};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};
use std::f64::consts::PI;

/// Independent elements of Student's t-distribution with nu degrees of freedom:
/// `log p(x) = sum_i c(nu) - (nu + 1)/2 ln(1 + z_i^2 / nu) - log scale_i`, `z = (x - loc) / scale`,
/// `c(nu) = ln Gamma((nu + 1)/2) - ln Gamma(nu/2) - 1/2 ln(pi nu)`.
///
/// The log-density is differentiable with respect to nu; samples are differentiable with respect to location
/// and scale only.
pub type StudentT = LocationScale<StudentTFamily>;

/// The standard t-density, with a nu for each element.
#[derive(Clone, Debug)]
pub struct StudentTFamily {
    log_df: Tensor,
}

/// Samples with fewer degrees of freedom overflow f32.
const MIN_DF: f64 = 0.5;
/// More degrees of freedom are indistinguishable from a normal distribution.
const MAX_DF: f64 = 1e6;

impl LocationScale<StudentTFamily> {
    /// The distribution with `df` degrees of freedom and this location and scale, both (event...).
    ///
    /// # Errors
    /// When `df` is not in [0.5, 1e6], shapes or dtypes differ, or a scale is not positive.
    pub fn new(df: f64, loc: &Tensor, scale: &Tensor) -> Result<Self> {
        check_df(df)?;
        let log_df = Tensor::full(df.ln(), loc.shape().clone(), loc.device())?.to_dtype(loc.dtype())?;
        Self::from_scale(StudentTFamily { log_df }, loc, scale)
    }

    /// The distribution with trainable weights `loc`, `log_scale` (initialised to 0) and `log_df`
    /// (initialised to `df`, kept in [0.5, 1e6]), all (event...).
    ///
    /// # Errors
    /// When `df` is not in [0.5, 1e6], the event shape has a dimension of 0 or a name is taken.
    pub fn trainable(event: impl Into<Vec<usize>>, df: f64, scope: &Scope) -> Result<Self> {
        check_df(df)?;
        let event = super::checks::event_shape(event)?;
        let log_df = scope.weight("log_df", event.clone(), Init::Constant(df.ln()))?;
        Self::in_scope(StudentTFamily { log_df }, scope, event)
    }
}

impl StudentTFamily {
    /// The degrees of freedom, (event...).
    ///
    /// # Errors
    /// When the device fails.
    pub fn df(&self) -> Result<Tensor> {
        Ok(self.log_df.clamp(MIN_DF.ln(), MAX_DF.ln())?.exp()?)
    }
}

fn check_df(df: f64) -> Result<()> {
    match (MIN_DF..=MAX_DF).contains(&df) {
        true => Ok(()),
        false => Err(Error::Config(format!("the degrees of freedom must be in [{MIN_DF}, {MAX_DF}], not {df}"))),
    }
}

impl Family for StudentTFamily {
    const NAME: &'static str = "StudentT";

    fn log_density(&self, z: &Tensor) -> Result<Tensor> {
        let df = self.df()?;
        // The difference of log-gammas cancels for large nu: compute it in f64.
        let exact = df.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let gammas = (lgamma(&exact.affine(0.5, 0.5)?)? - lgamma(&(&exact * 0.5)?)?)?;
        let constant = (gammas - ((exact * PI)?.log()? * 0.5)?)?.to_dtype(df.dtype())?.to_device(df.device())?;
        // ln(1 + a^2) = 2 ln max(a, 1) + ln(1 + q^2), q = min(a, 1/a), avoids squares that overflow.
        let a = z.abs()?.broadcast_div(&df.sqrt()?)?;
        let large = a.maximum(1.0)?;
        let q = a.minimum(1.0)?.div(&large)?;
        let log = ((large.log()? * 2.0)? + ln_1p(&q.sqr()?)?)?;
        Ok(log.broadcast_mul(&df.affine(-0.5, -0.5)?)?.broadcast_add(&constant)?)
    }

    fn noise(&self, shape: &[usize], dtype: DType, device: &Device, rng: &mut Rng) -> Result<Tensor> {
        let bad = |e: rand_distr::ChiSquaredError| Error::Config(format!("the degrees of freedom cannot be used: {e}"));
        let families = values_of(&self.df()?)?
            .into_iter()
            .map(|df| rand_distr::StudentT::new(df).map_err(bad))
            .collect::<Result<Vec<_>>>()?;
        let mut element = families.iter().cycle();
        rng.tensor(shape, dtype, device, |rng| element.next().map_or(0.0, |family| rng.draw(family)))
    }

    fn tensors(&self) -> Vec<&Tensor> {
        vec![&self.log_df]
    }
}

impl SymmetricCdf for StudentTFamily {
    fn log_cdf(&self, z: &Tensor) -> Result<Tensor> {
        student_log_cdf(z, &self.df()?)
    }

    fn quantile(&self, y: &Tensor) -> Result<Tensor> {
        student_quantile(y, &self.df()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::{Distribution, Normal};
    use crate::testing::difference;

    #[test]
    fn cauchy_and_normal_are_special_cases() -> Result<()> {
        let cpu = Device::Cpu;
        for dtype in [DType::F32, DType::F64] {
            let x = Tensor::new(&[-1e30, -3.0, -1e-3, 0.0, 1.0, 50.0], &cpu)?.to_dtype(dtype)?.unsqueeze(1)?;
            let (loc, scale) = (Tensor::zeros(1, dtype, &cpu)?, Tensor::ones(1, dtype, &cpu)?);
            let cauchy: Vec<f64> = values_of(&x)?
                .iter()
                .map(|x| -PI.ln() - 2.0 * x.abs().max(1.0).ln() - (x.abs().min(1.0) / x.abs().max(1.0)).powi(2).ln_1p())
                .collect();
            let got = StudentT::new(1.0, &loc, &scale)?.log_prob(&x, None)?;
            assert!(difference(&Tensor::new(cauchy, &cpu)?, &got.to_dtype(DType::F64)?)? < 1e-5);
            let x = x.narrow(0, 1, 4)?;
            let wide = StudentT::new(MAX_DF, &loc, &scale)?.log_prob(&x, None)?;
            assert!(difference(&Normal::new(&loc, &scale)?.log_prob(&x, None)?, &wide)? < 3e-5);
        }
        Ok(())
    }
}
