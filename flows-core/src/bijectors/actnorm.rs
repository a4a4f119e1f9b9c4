//! Normalisation initialised from a first batch.

use super::linear::channels;
use super::{Bijector, Direction, Mode};
use crate::nn::{Buffer, Init, Scope};
use crate::shape::shared_log_det;
use crate::{Error, Result, Structure, ops};
use candle_core::{DType, Device, Tensor, Var};

/// Added to the standard deviation, so that a constant channel gets a finite scale.
const EPSILON: f64 = 1e-6;

/// A scale and shift of each channel (each number, if events have one dimension), set by a first batch
/// and trained from there on: `z = (x + shift) exp(log_scale)`,
/// `log|det dz/dx| = H W sum log_scale` (Kingma and Dhariwal 2018, arXiv:1807.03039, section 3.1).
///
/// [`Bijector::initialize`] sets shift to minus the mean and log_scale to -ln(deviation + 1e-6) of
/// its batch, so that z has mean 0 and variance 1 there; a second call, or one after a load of an
/// initialised model, changes nothing. Before it the map is the identity. Weights: `log_scale`
/// (C), `shift` (C); buffer: `initialized` (1, u8).
#[derive(Debug)]
pub struct ActNorm {
    shape: Vec<usize>,
    log_scale: Tensor,
    shift: Tensor,
    initialized: Buffer,
}

impl ActNorm {
    /// The layer for events of `shape`, whose first dimension is that of the channels.
    ///
    /// # Errors
    /// When the shape has no dimension.
    pub fn new(shape: &[usize], scope: &Scope) -> Result<Self> {
        let n = channels(shape)?;
        Ok(Self {
            shape: shape.to_vec(),
            log_scale: scope.weight("log_scale", n, Init::Zeros)?,
            shift: scope.weight("shift", n, Init::Zeros)?,
            initialized: scope.buffer("initialized", &Tensor::zeros(1, DType::U8, scope.device())?)?,
        })
    }

    /// Whether a batch has set scale and shift.
    ///
    /// # Errors
    /// When the device fails.
    pub fn is_initialized(&self) -> Result<bool> {
        Ok(self.initialized.get().to_vec1::<u8>()? != [0])
    }

    fn set(&self, x: &Tensor) -> Result<()> {
        if x.elem_count() < 2 * self.shape[0] {
            return Err(Error::Data(
                "an actnorm cannot be initialised from one value a channel: give a batch of more rows".into(),
            ));
        }
        // Once, so in f64 on the CPU.
        let x = x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let (mean, variance) = ops::channel_moments(&x)?;
        let deviation = variance.sqrt()?;
        let values = deviation.to_vec1::<f64>()?;
        if let Some(channel) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::Data(format!(
                "channel {channel} of the batch that initialises an actnorm has values that are not finite: \
                 clean the data"
            )));
        }
        let log_scale: Vec<f64> = values.iter().map(|v| -(v + EPSILON).ln()).collect();
        let log_scale = Tensor::from_vec(log_scale, self.shape[0], &Device::Cpu)?;
        for (weight, value) in [(&self.log_scale, log_scale), (&self.shift, mean.neg()?)] {
            Var::from_tensor(weight)?.set(&value.to_dtype(weight.dtype())?.to_device(weight.device())?)?;
        }
        self.initialized.set(&Tensor::ones(1, DType::U8, self.shift.device())?)
    }

    /// `log|det dz/dx|` of one event.
    fn log_det(&self) -> Result<Tensor> {
        Ok((self.log_scale.sum_all()? * self.shape[1..].iter().product::<usize>() as f64)?)
    }

    fn to_data(&self, z: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let x = ops::channel_affine(z, &self.log_scale.neg()?.exp()?, &self.shift.neg()?)?;
        Ok((x, shared_log_det(&self.log_det()?.neg()?, batch)?))
    }

    fn to_latent(&self, x: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let scale = self.log_scale.exp()?;
        let z = ops::channel_affine(x, &scale, &(&scale * &self.shift)?)?;
        Ok((z, shared_log_det(&self.log_det()?, batch)?))
    }
}

impl Bijector for ActNorm {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(&self, direction: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let batch = self.check_input(direction, v)?;
        match direction {
            Direction::Forward => self.to_data(v, batch),
            Direction::Inverse => self.to_latent(v, batch),
        }
    }

    fn initialize(&self, x: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
        let batch = self.check_input(Direction::Inverse, x)?;
        if !self.is_initialized()? {
            self.set(x)?;
        }
        Ok(self.to_latent(x, batch)?.0)
    }

    fn structure(&self) -> Structure {
        Structure::new("ActNorm", format!("of {}", self.shape[0])).weights([&self.log_scale, &self.shift])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::linear::check;
    use crate::{Rng, nn::Parameters, testing::difference};

    #[test]
    fn is_exact() -> Result<()> {
        for shape in [&[1][..], &[4], &[3, 2, 2], &[2, 3]] {
            check(shape, |scope| ActNorm::new(shape, scope))?;
        }
        Ok(())
    }

    #[test]
    fn initialises_once_and_for_good() -> Result<()> {
        let rng = &mut Rng::seed(0);
        let build = || {
            let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
            let layer = ActNorm::new(&[3, 4], &parameters.scope())?;
            Result::Ok((parameters, layer))
        };
        let (parameters, layer) = build()?;
        let x = ((rng.normal_tensor((50, 3, 4), DType::F32, &Device::Cpu)? * 7.0)? + 100.0)?;
        assert!(!layer.is_initialized()?);
        let z = layer.initialize(&x, None)?.transpose(0, 1)?.flatten_from(1)?;
        let zeros = Tensor::zeros(3, DType::F32, &Device::Cpu)?;
        assert!(difference(&zeros, &z.mean(1)?)? < 1e-4);
        assert!(difference(&zeros, &(z.sqr()?.mean(1)? - 1.0)?)? < 1e-4);
        // Neither another batch nor a load starts over.
        let before = layer.shift.to_vec1::<f32>()?;
        layer.initialize(&(&x + 1.0)?, None)?;
        let (loaded, other) = build()?;
        loaded.load(&parameters.snapshot()?.into_iter().collect())?;
        other.initialize(&(&x * 2.0)?, None)?;
        assert_eq!(layer.shift.to_vec1::<f32>()?, before);
        assert_eq!(other.shift.to_vec1::<f32>()?, before);
        Ok(())
    }

    #[test]
    fn hostile_batches() -> Result<()> {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let layer = ActNorm::new(&[2], &parameters.scope())?;
        let nan = Tensor::new(&[[1f32, f32::NAN], [2.0, 1.0]], &Device::Cpu)?;
        assert!(layer.initialize(&nan, None).unwrap_err().to_string().contains("channel 1"));
        assert!(layer.initialize(&nan.narrow(0, 0, 1)?, None).is_err());
        assert!(!layer.is_initialized()?);
        let z = layer.initialize(&Tensor::new(&[[1f32, 5.0], [2.0, 5.0]], &Device::Cpu)?, None)?;
        assert!(z.abs()?.max_all()?.to_scalar::<f32>()? < 1.001);
        Ok(())
    }
}
