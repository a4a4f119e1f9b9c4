//! Whitening of images.

use super::{Bijector, Direction, Mode};
use crate::nn::{Buffer, Scope};
use crate::ops::{self, FusedActivation};
use crate::shape::{check_event, shared_log_det};
use crate::{Error, Result, Structure};
use candle_core::{DType, Device, Tensor};
use std::f64::consts::PI;

/// Whitening of images (C, H, W): `z = T'(T(L^-1 (x - m)) / s)`, where m and L, the mean and the Cholesky factor of the
/// covariance of the channels, are the same at all positions, T is the orthonormal cosine transform of rows and columns
/// (DCT-II), and s has the deviation of each of its coefficients.
///
/// `log|det dz/dx| = -H W sum ln L_cc - sum ln s`. Cosines are nearly the principal components of images whose
/// statistics are the same everywhere (Ahmed et al. 1974), so z is nearly white and still an image, from which a model
/// has to learn what photographs have beyond their spectrum.
///
/// Buffers: `mean` (C), `channels` (C, C), which is L, and `deviations` (C, H, W), which is s; those of the identity
/// until [`Self::fit`] sets them. Clones share them.
#[derive(Clone, Debug)]
pub struct Whiten {
    shape: [usize; 3],
    mean: Buffer,
    channels: Buffer,
    deviations: Buffer,
    /// The matrices of T for columns and rows, (H, H) and (W, W).
    cosines: [Tensor; 2],
}

/// Added to the variance of each channel, as a share of their mean: channels may be copies of each other.
const RIDGE: f64 = 1e-6;
/// The least deviation of a coefficient, as a share of the root mean square of all: some may never vary.
const LEAST: f64 = 1e-3;

impl Whiten {
    /// The identity on images of `shape` (C, H, W).
    ///
    /// # Errors
    /// When a size is 0, or a buffer's name is taken.
    pub fn new(shape: [usize; 3], scope: &Scope) -> Result<Self> {
        if shape.contains(&0) {
            return Err(Error::Config("an image to whiten needs a size of at least 1 on every side".into()));
        }
        let (dtype, device) = (scope.dtype(), scope.device());
        for (name, size) in [("channels", shape[0]), ("rows", shape[1]), ("columns", shape[2])] {
            scope.reserve(name, (size, size), DType::F64)?;
        }
        Ok(Self {
            shape,
            mean: scope.buffer("mean", &Tensor::zeros(shape[0], dtype, device)?)?,
            channels: scope.buffer("channels", &Tensor::eye(shape[0], dtype, device)?)?,
            deviations: scope.buffer("deviations", &Tensor::ones(&shape, dtype, device)?)?,
            cosines: [cosines(shape[1], dtype, device)?, cosines(shape[2], dtype, device)?],
        })
    }

    /// Sets mean, covariance and deviations to those of the batch x (B, C, H, W), computed in f64.
    ///
    /// # Errors
    /// When the shape is wrong, or a value is not finite.
    pub fn fit(&self, x: &Tensor) -> Result<()> {
        let batch = check_event("the images to whiten by", x, &self.shape)?;
        let x = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        if !x.abs()?.sum_all()?.to_scalar::<f64>()?.is_finite() {
            return Err(Error::Data("the images to whiten by need finite values: remove the others".into()));
        }
        let [channels, height, width] = self.shape;
        let by_channel = x.transpose(0, 1)?.flatten_from(1)?;
        let mean = by_channel.mean_keepdim(1)?;
        let by_channel = by_channel.broadcast_sub(&mean)?;
        let covariance = (by_channel.matmul(&by_channel.t()?)? / by_channel.dim(1)? as f64)?;
        let identity = Tensor::eye(channels, DType::F64, &Device::Cpu)?;
        let variance = (&covariance * &identity)?.sum_all()?.to_scalar::<f64>()? / channels as f64;
        // Images all of one colour have no variance.
        let ridge = if variance > 0.0 { variance * RIDGE } else { 1.0 };
        let factor = ops::cholesky(&(covariance + (identity * ridge)?)?)?;
        let white = ops::solve_triangular(&factor, &by_channel, false, false, false)?;
        let white = white.reshape((channels, batch, height, width))?.transpose(0, 1)?.contiguous()?;
        let cosines = [cosines(height, DType::F64, &Device::Cpu)?, cosines(width, DType::F64, &Device::Cpu)?];
        let square = along_both(&white, &cosines)?.sqr()?.mean(0)?;
        let least = LEAST * square.mean_all()?.to_scalar::<f64>()?.sqrt();
        let deviations = square.sqrt()?.maximum(if least > 0.0 { least } else { 1.0 })?;
        let place = |buffer: &Buffer, value: &Tensor| {
            let like = buffer.get();
            buffer.set(&value.to_dtype(like.dtype())?.to_device(like.device())?)
        };
        place(&self.mean, &mean.squeeze(1)?)?;
        place(&self.channels, &factor)?;
        place(&self.deviations, &deviations)
    }

    /// A matrix (C, C) times the channels at each position.
    fn mix(&self, x: &Tensor, matrix: &Tensor) -> Result<Tensor> {
        let mixed = ops::conv1d(&x.flatten_from(2)?, &matrix.unsqueeze(2)?, None, 1, 0, 1, FusedActivation::Identity)?;
        Ok(mixed.reshape(x.shape())?)
    }

    fn mean(&self) -> Result<Tensor> {
        Ok(self.mean.get().reshape((self.shape[0], 1, 1))?)
    }

    /// T of x, multiplied or divided by s, and transformed back.
    fn rescale(&self, x: &Tensor, scale: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>) -> Result<Tensor> {
        let scaled = scale(&along_both(x, &self.cosines)?, &self.deviations.get())?;
        let [rows, columns] = &self.cosines;
        along_both(&scaled, &[rows.t()?.contiguous()?, columns.t()?.contiguous()?])
    }

    /// `log|det dx/dz|` of one image.
    fn log_det(&self) -> Result<Tensor> {
        let [channels, height, width] = self.shape;
        let factor = self.channels.get();
        let diagonal = (&factor * Tensor::eye(channels, factor.dtype(), factor.device())?)?.sum(1)?;
        let of_channels = (diagonal.log()?.sum_all()? * (height * width) as f64)?;
        Ok((of_channels + self.deviations.get().log()?.sum_all()?)?)
    }
}

/// The orthonormal DCT-II of n numbers, (n, n): `sqrt(2 / n) cos(pi k (i + 1/2) / n)`, its first row `sqrt(1 / n)`.
fn cosines(n: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let entry = |e: usize| {
        let (k, i) = ((e / n) as f64, (e % n) as f64);
        let scale: f64 = if k == 0.0 { 1.0 } else { 2.0 };
        (scale / n as f64).sqrt() * (PI * k * (i + 0.5) / n as f64).cos()
    };
    let entries: Vec<f64> = (0..n * n).map(entry).collect();
    Ok(Tensor::from_vec(entries, (n, n), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
}

/// `A x B'` of the matrix x of each channel of a batch (B, C, H, W).
fn along_both(x: &Tensor, [a, b]: &[Tensor; 2]) -> Result<Tensor> {
    let across = |x: &Tensor, matrix: &Tensor| {
        let product = ops::linear(&x.flatten_to(2)?, matrix, None, FusedActivation::Identity)?;
        Ok::<_, Error>(product.reshape(x.shape())?.transpose(2, 3)?.contiguous()?)
    };
    across(&across(x, b)?, a)
}

impl Whiten {
    fn to_data(&self, z: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let coloured = self.mix(&self.rescale(z, Tensor::broadcast_mul)?, &self.channels.get())?;
        Ok((coloured.broadcast_add(&self.mean()?)?, shared_log_det(&self.log_det()?, batch)?))
    }

    fn to_latent(&self, x: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let plain = self.mix(&x.broadcast_sub(&self.mean()?)?, &ops::inverse(&self.channels.get())?)?;
        Ok((self.rescale(&plain, Tensor::broadcast_div)?, shared_log_det(&self.log_det()?.neg()?, batch)?))
    }
}

impl Bijector for Whiten {
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

    fn structure(&self) -> Structure {
        Structure::new("Whiten", format!("{:?}", self.shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Parameters;

    /// Images of correlated channels and similar neighbouring pixels.
    fn images(count: usize, rng: &mut Rng) -> Result<Tensor> {
        let noise = rng.normal_tensor((count, 2, 6, 9), DType::F64, &Device::Cpu)?;
        let noise = (noise.narrow(2, 0, 5)? + noise.narrow(2, 1, 5)?)?;
        let noise = (noise.narrow(3, 0, 8)? + noise.narrow(3, 1, 8)?)?;
        let sum = noise.narrow(1, 0, 1)?.broadcast_add(&(noise * 0.3)?)?;
        Ok((sum + 0.7)?)
    }

    #[test]
    fn images_it_was_fitted_to_become_white() -> Result<()> {
        let rng = &mut Rng::seed(0);
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let whiten = Whiten::new([2, 5, 8], &parameters.scope())?;
        let x = images(20_000, rng)?;
        whiten.fit(&x)?;
        let z = whiten.inverse(&x, None)?.0.flatten_from(1)?;
        let covariance = (z.t()?.matmul(&z)? / 20_000.0)?;
        let error = (covariance - Tensor::eye(80, DType::F64, &Device::Cpu)?)?.abs()?.mean_all()?.to_scalar::<f64>()?;
        // Of 80 numbers the noise of a covariance is .006, and cosines are not quite the principal components.
        assert!(error < 0.02, "{error}");
        let x = x.flatten_from(1)?;
        let x = x.broadcast_sub(&x.mean_keepdim(0)?)?;
        let before = (x.t()?.matmul(&x)? / 20_000.0)?.abs()?.mean_all()?.to_scalar::<f64>()?;
        assert!(before > 0.2, "{before}");
        Ok(())
    }

    #[test]
    fn images_without_variance_do_no_harm() -> Result<()> {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let whiten = Whiten::new([3, 4, 4], &parameters.scope())?;
        let grey = Rng::seed(1).normal_tensor((50, 1, 4, 4), DType::F32, &Device::Cpu)?;
        for x in [Tensor::full(0.5f32, (4, 3, 4, 4), &Device::Cpu)?, grey.broadcast_as((50, 3, 4, 4))?.contiguous()?] {
            whiten.fit(&x)?;
            let (z, log_det) = whiten.inverse(&x, None)?;
            let all = Tensor::cat(&[z.flatten_all()?, log_det], 0)?.to_vec1::<f32>()?;
            assert!(all.iter().all(|v| v.is_finite()), "{all:?}");
            assert!(crate::testing::difference(&whiten.forward(&z, None)?.0, &x)? < 1e-4);
        }
        let grey = grey.broadcast_as((50, 3, 4, 4))?;
        let one = Tensor::arange(0f32, 50.0 * 48.0, &Device::Cpu)?.reshape((50, 3, 4, 4))?.eq(777f32)?;
        let bad = one.where_cond(&Tensor::full(f32::NAN, (50, 3, 4, 4), &Device::Cpu)?, &grey)?;
        assert!(whiten.fit(&bad).unwrap_err().to_string().contains("finite"));
        Ok(())
    }
}
