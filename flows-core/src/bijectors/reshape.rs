//! The same elements in another shape.

use super::{Bijector, Direction, Mode, Support, check_input_of, moved_box};
use crate::shape::{batch_shape, zero_log_det};
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
    /// When they have different numbers of elements.
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

    fn map(&self, direction: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let batch = check_input_of("a reshape", self, direction, v)?;
        let event = if direction == Direction::Forward { &self.data } else { &self.latent };
        Ok((v.reshape(batch_shape(batch, event))?, zero_log_det(v)?))
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        moved_box(self, Direction::Forward, latent)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        moved_box(self, Direction::Inverse, data)
    }

    fn structure(&self) -> Structure {
        Structure::new("Reshape", format!("{:?} -> {:?}", self.latent, self.data))
    }
}
