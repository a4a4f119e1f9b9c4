//! The two directions of the Kullback-Leibler divergence as losses.

use crate::distributions::Distribution;
use crate::{Error, Result, Rng};
use candle_core::Tensor;

/// `-mean log q(x | context)` in nats an event: maximum likelihood, which is KL(data || q) up to
/// the entropy of the data. A scalar.
///
/// # Errors
/// Those of the distribution.
pub fn forward_kl(
    distribution: &dyn Distribution,
    x: &Tensor,
    context: Option<&Tensor>,
    rng: &mut Rng,
) -> Result<Tensor> {
    Ok(distribution.log_prob_training(x, context, rng)?.mean_all()?.neg()?)
}

/// `mean(log q(x) - log p~(x))` over `samples` draws x of q: KL(q || p) up to the logarithm of the
/// norming constant of p~. A scalar; its gradient is the pathwise one.
///
/// `log_density` gives log p~ of x (B, event...) as (B).
///
/// # Errors
/// When there are no samples, the density has another shape, or a pass fails.
pub fn reverse_kl(
    distribution: &dyn Distribution,
    log_density: impl Fn(&Tensor) -> Result<Tensor>,
    samples: usize,
    rng: &mut Rng,
) -> Result<Tensor> {
    if samples == 0 {
        return Err(Error::Config("the reverse KL needs at least one sample".into()));
    }
    let (x, log_q) = distribution.sample_with_log_prob(samples, None, rng)?;
    let log_p = log_density(&x)?;
    if log_p.dims() != [samples] {
        return Err(Error::shape("the log-density of the target", log_p.dims(), format!("({samples})")));
    }
    Ok((log_q - log_p)?.mean_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// The normal with a mean and standard deviation 1.
    #[derive(Debug)]
    struct Normal(Tensor);

    const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_7;

    impl Distribution for Normal {
        fn event_shape(&self) -> &[usize] {
            &[1]
        }

        fn log_prob(&self, x: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
            Ok(x.broadcast_sub(&self.0)?.sqr()?.sum(1)?.affine(-0.5, -HALF_LOG_TAU)?)
        }

        fn sample(&self, count: usize, _: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
            Ok(rng.normal_tensor((count, 1), DType::F64, &Device::Cpu)?.broadcast_add(&self.0)?)
        }
    }

    #[test]
    fn divergences_of_normals() {
        let q = Normal(Tensor::new(&[2.0f64], &Device::Cpu).unwrap());
        let mut rng = Rng::seed(0);
        let x = Tensor::new(&[[1.0f64], [4.0]], &Device::Cpu).unwrap();
        let forward = forward_kl(&q, &x, None, &mut rng).unwrap().to_scalar::<f64>().unwrap();
        assert!((forward - (HALF_LOG_TAU + (1.0 + 4.0) / 4.0)).abs() < 1e-12);
        // KL(N(2, 1) || N(0, 1)) = 2 where log q - log p = 2 x - 2 has standard deviation 2.
        let p = Normal(Tensor::new(&[0.0f64], &Device::Cpu).unwrap());
        let reverse = reverse_kl(&q, |x| p.log_prob(x, None), 40_000, &mut rng).unwrap();
        assert!((reverse.to_scalar::<f64>().unwrap() - 2.0).abs() < 0.05);
        assert!(reverse_kl(&q, |x| Ok(x.clone()), 3, &mut rng).is_err());
    }
}
