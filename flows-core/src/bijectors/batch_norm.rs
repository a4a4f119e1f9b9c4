//! Batch normalisation as a bijector.

use super::linear::channels;
use super::{Bijector, Direction, Mode};
use crate::nn::{Buffer, Init, Scope};
use crate::shape::shared_log_det;
use crate::{Error, Result, Structure, ops};
use candle_core::{DType, Tensor};

/// Added to the variance.
const EPSILON: f64 = 1e-5;

/// Batch normalisation of each channel (each number, if events have one dimension):
/// `z = (x - mean) / sqrt(variance + 1e-5) exp(log_gamma) + beta`,
/// `log|det dz/dx| = H W sum(log_gamma - ln(variance + 1e-5) / 2)` (Dinh et al. 2017,
/// arXiv:1605.08803, section 3.7; between the layers of MAF, Papamakarios et al. 2017,
/// arXiv:1705.07057).
///
/// In training, the inverse uses the mean and (biased) variance of its batch, through which gradients
/// flow, and moves the running ones towards them: `running = (1 - momentum) running + momentum batch`.
/// Evaluation uses the running ones, which start at 0 and 1, and so does the forward direction, where the
/// batch of x is not known yet.
/// Weights: `log_gamma` (C), `beta` (C); buffers: `running_mean` (C), `running_variance` (C).
#[derive(Debug)]
pub struct BatchNorm {
    shape: Vec<usize>,
    momentum: f64,
    log_gamma: Tensor,
    beta: Tensor,
    running_mean: Buffer,
    running_variance: Buffer,
}

impl BatchNorm {
    /// The layer for events of `shape`, whose first dimension is that of the channels; a momentum of
    /// 0.1 is usual.
    ///
    /// # Errors
    /// When the shape has no dimension or the momentum is not in (0, 1].
    pub fn new(shape: &[usize], momentum: f64, scope: &Scope) -> Result<Self> {
        let n = channels(shape)?;
        if !(momentum > 0.0 && momentum <= 1.0) {
            return Err(Error::Config(format!("the momentum of a batch norm is {momentum}: give one in (0, 1]")));
        }
        Ok(Self {
            shape: shape.to_vec(),
            momentum,
            log_gamma: scope.weight("log_gamma", n, Init::Zeros)?,
            beta: scope.weight("beta", n, Init::Zeros)?,
            running_mean: scope.buffer("running_mean", &Tensor::zeros(n, scope.dtype(), scope.device())?)?,
            running_variance: scope.buffer("running_variance", &Tensor::ones(n, scope.dtype(), scope.device())?)?,
        })
    }

    /// `(log_scale, log|det dz/dx| of one event)` at `variance` (C).
    fn scale(&self, variance: &Tensor) -> Result<(Tensor, Tensor)> {
        let log_scale = (&self.log_gamma - ((variance + EPSILON)?.log()? * 0.5)?)?;
        let log_det = (log_scale.sum_all()? * self.shape[1..].iter().product::<usize>() as f64)?;
        Ok((log_scale, log_det))
    }

    fn normalise(&self, x: &Tensor, mean: &Tensor, variance: &Tensor) -> Result<(Tensor, Tensor)> {
        let (log_scale, log_det) = self.scale(variance)?;
        let scale = log_scale.exp()?;
        let z = ops::channel_affine(x, &scale, &(&self.beta - (mean * &scale)?)?)?;
        Ok((z, shared_log_det(&log_det, x.dim(0)?)?))
    }

    fn to_data(&self, z: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let (log_scale, log_det) = self.scale(&self.running_variance.get())?;
        let scale = log_scale.neg()?.exp()?;
        let x = ops::channel_affine(z, &scale, &(self.running_mean.get() - (&self.beta * &scale)?)?)?;
        Ok((x, shared_log_det(&log_det.neg()?, batch)?))
    }

    /// The inverse with the statistics of the batch, which also update the running ones.
    fn to_latent_of_batch(&self, x: &Tensor, batch: usize, mode: &Mode<'_>) -> Result<(Tensor, Tensor)> {
        if batch * self.shape[1..].iter().product::<usize>() < 2 {
            return Err(Error::Data(
                "batch normalisation cannot train on a batch of one value a channel: \
                 give larger batches, and drop a last batch of one row"
                    .into(),
            ));
        }
        let (mean, variance) = ops::channel_moments(x)?;
        self.track(&mean, &variance, mode)?;
        self.normalise(x, &mean, &variance)
    }

    fn track(&self, mean: &Tensor, variance: &Tensor, mode: &Mode<'_>) -> Result<()> {
        // A batch that is not finite must not spoil every later one.
        if !(mean + variance)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite() {
            return Ok(());
        }
        for (running, batch) in [(&self.running_mean, mean), (&self.running_variance, variance)] {
            running.update(&((running.get() * (1.0 - self.momentum))? + (batch.detach() * self.momentum)?)?, mode)?;
        }
        Ok(())
    }
}

impl Bijector for BatchNorm {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        _: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let batch = self.check_input(direction, input)?;
        match direction {
            Direction::Forward => self.to_data(input, batch),
            Direction::Inverse if mode.is_training() => self.to_latent_of_batch(input, batch, mode),
            Direction::Inverse => self.normalise(input, &self.running_mean.get(), &self.running_variance.get()),
        }
    }

    fn structure(&self) -> Structure {
        Structure::new("BatchNorm", format!("of {}", self.shape[0])).weights([&self.log_gamma, &self.beta])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::bijectors::linear::check;
    use crate::nn::Parameters;
    use crate::testing::{difference, gradient_difference, perturb};
    use candle_core::{Device, Var};

    #[test]
    fn is_exact() -> Result<()> {
        for shape in [&[1][..], &[4], &[3, 2, 2], &[2, 3]] {
            check(shape, |scope| {
                let layer = BatchNorm::new(shape, 0.3, scope)?;
                let x = Rng::seed(1).normal_tensor([&[6], shape].concat(), scope.dtype(), &Device::Cpu)?;
                layer.map(Direction::Inverse, &((x * 3.0)? + 1.0)?, None, &mut Mode::training(&mut Rng::seed(0)))?;
                Ok(layer)
            })?;
        }
        Ok(())
    }

    #[test]
    fn trains_on_the_statistics_of_the_batch() -> Result<()> {
        let rng = &mut Rng::seed(0);
        for shape in [&[3][..], &[3, 2, 2]] {
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let layer = BatchNorm::new(shape, 1.0, &parameters.scope())?;
            let x = ((rng.normal_tensor([&[5], shape].concat(), DType::F64, &Device::Cpu)? * 3.0)? + 2.0)?;
            let (z, log_det) = layer.map(Direction::Inverse, &x, None, &mut Mode::training(rng))?;
            let flat = z.transpose(0, 1)?.flatten_from(1)?;
            let zeros = Tensor::zeros(3, DType::F64, &Device::Cpu)?;
            assert!(difference(&zeros, &flat.mean(1)?)? < 1e-12);
            assert!(difference(&zeros, &(flat.sqr()?.mean(1)? - 1.0)?)? < 1e-4);
            // With a momentum of 1 the running statistics are those of the last batch.
            let (running, running_log_det) = layer.inverse(&x, None)?;
            assert!(difference(&z, &running)? < 1e-12 && difference(&log_det, &running_log_det)? < 1e-12);
            perturb(&parameters, 0.3, rng)?;
            let (x, weights) = (Var::from_tensor(&x)?, rng.normal_tensor(x.shape().clone(), DType::F64, &Device::Cpu)?);
            let loss = || {
                let (z, log_det) = layer.map(Direction::Inverse, &x, None, &mut Mode::training(&mut Rng::seed(0)))?;
                Ok(((z * &weights)?.sum_all()? + log_det.sum_all()?)?)
            };
            assert!(gradient_difference(loss, &parameters, &[("x", &x)], rng)? < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn hostile_batches() -> Result<()> {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let layer = BatchNorm::new(&[2], 0.1, &parameters.scope())?;
        let x = Tensor::new(&[[1f32, f32::NAN]], &Device::Cpu)?;
        let error = layer.map(Direction::Inverse, &x, None, &mut Mode::training(&mut Rng::seed(0))).unwrap_err();
        assert!(error.to_string().contains("larger batches"));
        layer.map(Direction::Inverse, &Tensor::cat(&[&x, &x], 0)?, None, &mut Mode::training(&mut Rng::seed(0)))?;
        assert_eq!(layer.running_mean.get().to_vec1::<f32>()?, [0.0, 0.0]);
        assert!(BatchNorm::new(&[2], 0.0, &parameters.scope().enter("b")).is_err());
        assert!(BatchNorm::new(&[], 0.1, &parameters.scope().enter("c")).is_err());
        Ok(())
    }
}
