//! The same elements in another shape.

use super::{Bijector, check_event};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// Elements keep their row-major order and get another shape; `log|det| = 0`.
///
/// ```
/// use flows_core::bijectors::{Bijector, Reshape};
/// let image = Reshape::new(&[12], &[3, 2, 2])?;
/// assert_eq!((image.latent_shape(), image.data_shape()), (&[12][..], &[3, 2, 2][..]));
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reshape {
    latent: Vec<usize>,
    data: Vec<usize>,
}

impl Reshape {
    /// From z of shape `latent` to x of shape `data`.
    ///
    /// # Errors
    /// When the numbers of elements differ.
    pub fn new(latent: &[usize], data: &[usize]) -> Result<Self> {
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        if count(latent) != count(data) {
            let want = format!("{} elements, as {data:?} has", count(data));
            return Err(Error::shape("the latent of a reshape", latent, want));
        }
        Ok(Self { latent: latent.to_vec(), data: data.to_vec() })
    }

    /// From a vector z to x of shape `data`.
    pub fn flatten(data: &[usize]) -> Self {
        Self { latent: vec![data.iter().product()], data: data.to_vec() }
    }
}

impl Bijector for Reshape {
    fn latent_shape(&self) -> &[usize] {
        &self.latent
    }

    fn data_shape(&self) -> &[usize] {
        &self.data
    }

    fn forward(&self, z: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let batch = check_event("the latent of a reshape", z, &self.latent)?;
        Ok((z.reshape(batched(batch, &self.data))?, no_log_det(z)?))
    }

    fn inverse(&self, x: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let batch = check_event("the data of a reshape", x, &self.data)?;
        Ok((x.reshape(batched(batch, &self.latent))?, no_log_det(x)?))
    }

    fn structure(&self) -> Structure {
        Structure::new("Reshape", format!("{:?} -> {:?}", self.latent, self.data))
    }
}

/// (B, event...).
pub(super) fn batched(batch: usize, event: &[usize]) -> Vec<usize> {
    [&[batch], event].concat()
}

/// The log-determinant of a map that keeps volumes: zeros, (B).
pub(super) fn no_log_det(v: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros(v.dim(0)?, v.dtype(), v.device())?)
}
