//! Space to channels, as multi-scale models do between their levels.

use super::{Bijector, Direction, Mode, Support, check_input_of, moved_box};
use crate::shape::{batch_shape, zero_log_det};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// Space to channels: `inverse` turns blocks of neighbouring elements of x into channels of z, `forward`
/// turns them back; `log|det| = 0`.
///
/// An image (C, H, W) becomes (C f^2, H/f, W/f) with the element at row `fh` and column `fw` of its
/// f x f block in channel `c f^2 + fh f + fw`; a signal (C, T) becomes (C f, T/f) with the element at
/// position `ft` of its group in channel `c f + ft`. This is the order of Glow's published code
/// (Kingma & Dhariwal, 2018) and, for C = 1, of WaveGlow's (Prenger et al., 2018).
///
/// ```
/// use flows_core::bijectors::{Bijector, Squeeze};
/// assert_eq!(Squeeze::new(&[3, 32, 32], 2)?.latent_shape(), [12, 16, 16]);
/// assert_eq!(Squeeze::new(&[1, 16000], 8)?.latent_shape(), [8, 2000]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Squeeze {
    data: Vec<usize>,
    latent: Vec<usize>,
    /// (C, H/f, f, W/f, f) or (C, T/f, f).
    blocks: Vec<usize>,
    factor: usize,
}

impl Squeeze {
    /// Squeezes x of shape `data`, (C, H, W) or (C, T), by `factor` along each axis of space or time.
    ///
    /// # Errors
    /// When the shape has no such axes or `factor` does not divide them.
    pub fn new(data: &[usize], factor: usize) -> Result<Self> {
        let [channels, space @ ..] = data else {
            return Err(Error::shape("the event to squeeze", data, "(C, H, W) or (C, T)"));
        };
        if !(1..=2).contains(&space.len()) {
            return Err(Error::shape("the event to squeeze", data, "(C, H, W) or (C, T)"));
        }
        if factor == 0 || space.iter().any(|size| size % factor != 0) {
            return Err(Error::Config(format!(
                "{space:?} cannot be squeezed by {factor}: use fewer levels, or crop or pad the data to multiples"
            )));
        }
        let mut latent = vec![channels * factor.pow(space.len() as u32)];
        latent.extend(space.iter().map(|size| size / factor));
        let mut blocks = vec![*channels];
        blocks.extend(space.iter().flat_map(|size| [size / factor, factor]));
        Ok(Self { data: data.to_vec(), latent, blocks, factor })
    }

    fn to_data(&self, z: &Tensor, batch: usize) -> Result<Tensor> {
        let x = match self.blocks[..] {
            [c, h, f, w, _] => z.reshape(batch_shape(batch, &[c, f, f, h, w]))?.permute([0, 1, 4, 2, 5, 3])?,
            _ => z.reshape(batch_shape(batch, &[self.data[0], self.factor, self.latent[1]]))?.transpose(2, 3)?,
        };
        Ok(x.contiguous()?.reshape(batch_shape(batch, &self.data))?)
    }

    fn to_latent(&self, x: &Tensor, batch: usize) -> Result<Tensor> {
        let z = x.reshape(batch_shape(batch, &self.blocks))?;
        let z = if self.blocks.len() == 5 { z.permute([0, 1, 3, 5, 2, 4])? } else { z.transpose(2, 3)? };
        Ok(z.contiguous()?.reshape(batch_shape(batch, &self.latent))?)
    }
}

impl Bijector for Squeeze {
    fn latent_shape(&self) -> &[usize] {
        &self.latent
    }

    fn data_shape(&self) -> &[usize] {
        &self.data
    }

    fn map(&self, direction: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let batch = check_input_of("a squeeze", self, direction, v)?;
        let value = match direction {
            Direction::Forward => self.to_data(v, batch)?,
            Direction::Inverse => self.to_latent(v, batch)?,
        };
        Ok((value, zero_log_det(v)?))
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        moved_box(self, Direction::Forward, latent)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        moved_box(self, Direction::Inverse, data)
    }

    fn structure(&self) -> Structure {
        Structure::new("Squeeze", format!("by {}: {:?} -> {:?}", self.factor, self.latent, self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn order_is_that_of_glow() -> Result<()> {
        let (c, h, w) = (2, 4, 6);
        let x = Tensor::arange(0.0, 96.0, &Device::Cpu)?.reshape((2, c, h, w))?;
        let squeeze = Squeeze::new(&[c, h, w], 2)?;
        let (z, log_det) = squeeze.inverse(&x, None)?;
        for (channel, fh, fw, i, j) in [(0, 0, 0, 0, 0), (1, 1, 0, 1, 2), (0, 0, 1, 1, 1)] {
            let got = z.get(1)?.get(channel * 4 + fh * 2 + fw)?.get(i)?.get(j)?.to_scalar::<f64>()?;
            let want = x.get(1)?.get(channel)?.get(2 * i + fh)?.get(2 * j + fw)?.to_scalar::<f64>()?;
            assert_eq!(got, want);
        }
        assert_eq!(log_det.to_vec1::<f64>()?, [0.0; 2]);
        let back = squeeze.forward(&z, None)?.0;
        assert_eq!(back.flatten_all()?.to_vec1::<f64>()?, x.flatten_all()?.to_vec1::<f64>()?);
        Ok(())
    }

    #[test]
    fn sound_is_grouped_in_time() -> Result<()> {
        let x = Tensor::arange(0.0, 6.0, &Device::Cpu)?.reshape((1, 1, 6))?.to_dtype(DType::F32)?;
        let squeeze = Squeeze::new(&[1, 6], 3)?;
        let z = squeeze.inverse(&x, None)?.0;
        assert_eq!(z.squeeze(0)?.to_vec2::<f32>()?, [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
        assert_eq!(squeeze.forward(&z, None)?.0.flatten_all()?.to_vec1::<f32>()?, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(Squeeze::new(&[1, 7], 3).is_err() && Squeeze::new(&[4], 2).is_err());
        Ok(())
    }
}
