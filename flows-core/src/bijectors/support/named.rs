//! Independent parts side by side.

use super::onto::{Map, Onto};
use crate::Result;
use crate::bijectors::Bijector;
use crate::shape::batch_shape;
use candle_core::Tensor;

/// See [`super::Support::Named`].
#[derive(Debug)]
pub(super) struct Named(pub(super) Vec<Onto>);

impl Named {
    fn run(&self, v: &Tensor, forward: bool) -> Result<(Tensor, Tensor)> {
        let (batch, mut start) = (v.dim(0)?, 0);
        let (mut values, mut total) = (Vec::with_capacity(self.0.len()), None);
        for part in &self.0 {
            let shape = if forward { part.latent_shape() } else { part.data_shape() };
            let size = shape.iter().product();
            let input = v.narrow(1, start, size)?.reshape(batch_shape(batch, shape))?;
            start += size;
            let (value, log_det) = if forward { part.map.forward(&input)? } else { part.inverse(&input)? };
            values.push(value.reshape((batch, ()))?);
            total = Some(match total {
                None => log_det,
                Some(total) => (total + log_det)?,
            });
        }
        let total = total.ok_or_else(|| crate::Error::Internal("a support without parts".into()))?;
        Ok((Tensor::cat(&values, 1)?, total))
    }
}

impl Map for Named {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        self.run(z, true)
    }

    /// Each part sees to its own.
    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.ne(x)?)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        self.run(x, false)
    }
}
