//! The two directions of the Kullback-Leibler divergence as losses.

use crate::distributions::Distribution;
use crate::{Error, Result, Rng};
use candle_core::Tensor;

/// `-mean log q(x | context)` in nats per event, a scalar: maximum likelihood, which is KL(data || q) up to
/// the entropy of the data.
///
/// # Errors
/// Any error from the distribution.
pub fn forward_kl(
    distribution: &dyn Distribution,
    x: &Tensor,
    context: Option<&Tensor>,
    rng: &mut Rng,
) -> Result<Tensor> {
    Ok(distribution.log_prob_training(x, context, rng)?.mean_all()?.neg()?)
}

/// `mean(log q(x) - log p~(x))` over `samples` draws x from q, a scalar: KL(q || p) up to the logarithm of the
/// normalising constant of p~. Its gradient is the pathwise gradient.
///
/// `log_density` maps x (B, event...) to log p~(x) (B).
///
/// # Errors
/// When there are no samples, the density has another shape, or a pass fails.
pub fn reverse_kl(
    distribution: &dyn Distribution,
    log_density: impl Fn(&Tensor) -> Result<Tensor>,
    samples: usize,
    rng: &mut Rng,
) -> Result<Tensor> {
    let draws = distribution.sample_with_log_prob_training(at_least_one(samples)?, None, rng)?;
    excess(draws, log_density)
}

/// [`reverse_kl`] given a context: `mean(log q(x_i | c_i) - log p~(x_i | c_i))` with one draw x_i from
/// q for each row c_i of the context (B, ...). Repeat rows for more draws of each.
///
/// `log_density` maps x (B, event...) and the context to log p~(x | c) (B).
///
/// # Errors
/// Same as [`reverse_kl`]; a context without rows gives no samples.
pub fn conditional_reverse_kl(
    distribution: &dyn Distribution,
    log_density: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    context: &Tensor,
    rng: &mut Rng,
) -> Result<Tensor> {
    let draws = distribution.sample_with_log_prob_training(rows(context)?, Some(context), rng)?;
    excess(draws, |x| log_density(x, context))
}

/// The number of draws for a context, one per row.
pub(super) fn rows(context: &Tensor) -> Result<usize> {
    at_least_one(context.dims().first().copied().unwrap_or(0))
}

pub(super) fn at_least_one(samples: usize) -> Result<usize> {
    match samples {
        0 => Err(Error::Config("the reverse KL needs at least one sample".into())),
        samples => Ok(samples),
    }
}

/// `mean(log q(x) - log p~(x))` for draws x with their log q(x).
pub(super) fn excess((x, log_q): (Tensor, Tensor), log_density: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let log_p = log_density(&x)?;
    if log_p.dims() != log_q.dims() {
        return Err(Error::shape("the log-density of the target", log_p.dims(), format!("{:?}", log_q.dims())));
    }
    Ok((log_q - log_p)?.mean_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::{Elementwise, univariate::Affine};
    use crate::distributions::{StandardNormal, Transformed};
    use crate::nn::{NetworkConfig, Parameters};
    use crate::testing::difference;
    use crate::train::{Memory, OptimizerConfig, TrainConfig, Trainer};
    use candle_core::{DType, Device};
    use std::sync::Arc;

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
    #[test]
    fn a_conditional_flow_follows_the_context() -> Result<()> {
        const ROWS: usize = 64;
        let mut rng = Rng::seed(0);
        let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
        let (affine, linear) = (Arc::new(Affine::exp()), NetworkConfig::mlp([]));
        let map = Elementwise::conditional(&[2], affine, 2, &linear, &parameters.scope())?;
        let base = StandardNormal::new([2], DType::F64, &Device::Cpu)?;
        let q = Transformed::new(Box::new(base), Box::new(map))?;
        // N(mean(c), 1/4).
        let matrix = Tensor::new(&[[1.0, -2.0], [0.5, 1.0]], &Device::Cpu)?;
        let mean = |c: &Tensor| -> Result<Tensor> { Ok((c.matmul(&matrix)? + 1.0)?) };
        let log_density = |x: &Tensor, c: &Tensor| Ok(((x - mean(c)?)?.sqr()?.sum(1)? * -2.0)?);
        let contexts = |rng: &mut Rng| rng.normal_tensor((ROWS, 2), DType::F64, &Device::Cpu);
        for memory in [Memory::Store, Memory::Recompute] {
            let config = TrainConfig { steps: 400, optimizer: OptimizerConfig::adam(2e-2), ..Default::default() };
            let mut trainer = Trainer::new(&parameters, config, rng.fork())?;
            let start = parameters.snapshot()?.into_iter().collect();
            let step = |_, rng: &mut Rng| memory.conditional_reverse_kl(&q, log_density, &contexts(rng)?, rng);
            trainer.run(step, None, &mut ())?;
            let c = contexts(&mut rng)?;
            let (found, log_scale) = q.bijector().forward(&c.zeros_like()?, Some(&c))?;
            let off = difference(&mean(&c)?, &found)?;
            assert!(off < 0.1, "{memory:?}: the means are off by {off}");
            let log_scale = log_scale.mean_all()?.to_scalar::<f64>()? / 2.0;
            assert!((log_scale - 0.5f64.ln()).abs() < 0.1, "{memory:?}: {log_scale}");
            parameters.load(&start)?;
        }
        let none = Tensor::zeros((0, 2), DType::F64, &Device::Cpu)?;
        assert!(conditional_reverse_kl(&q, log_density, &none, &mut rng).is_err());
        Ok(())
    }
}
