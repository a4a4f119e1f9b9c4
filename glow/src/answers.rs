//! Super-resolution: larger images that a small image may come from.

use crate::Glow;
use candle_core::{DType, Device, Tensor};
use flows_core::data::images::{Enlarging, enlarge, shrink};
use flows_core::evaluate::psnr;
use flows_core::{Error, Result, Rng};
use serde::Serialize;

/// A small image, enlarged by a Glow with a [`Condition`](crate::Condition) and by bicubic interpolation, all with
/// integer values 0 to 255.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The small image, (1, C, h, w).
    pub small: Tensor,
    /// The small image enlarged by bicubic interpolation, (1, C, H, W).
    pub bicubic: Tensor,
    /// Draws from the model, (N, C, H, W).
    pub answers: Tensor,
    /// The image from which the small one was computed, if known, (1, C, H, W).
    pub original: Option<Tensor>,
    scale: usize,
}

/// Peak signal-to-noise ratios of [`Answers`] in decibels ([`psnr`]).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AnswersPsnr {
    /// The mean over the answers of their PSNR against the original.
    pub samples: Option<f64>,
    /// The PSNR of the mean of the answers against the original.
    pub mean: Option<f64>,
    /// The PSNR of the bicubic enlargement against the original.
    pub bicubic: Option<f64>,
    /// The mean over the answers of the PSNR of the shrunk answer against the small image.
    pub consistency: f64,
    /// The PSNR of the shrunk bicubic enlargement against the small image.
    pub consistency_of_bicubic: f64,
}

impl Answers {
    /// `count` draws at a temperature for a small image, (1, C, h, w) with integer values.
    ///
    /// # Errors
    /// When the model is not conditional on images, or the image has the wrong shape.
    pub fn draw(
        glow: &Glow,
        small: Tensor,
        original: Option<Tensor>,
        (count, temperature): (usize, f64),
        rng: &mut Rng,
    ) -> Result<Self> {
        let scale = glow.config().condition.map(|condition| condition.scale);
        let scale = scale.ok_or_else(|| Error::Config("the model is not conditional on images".into()))?;
        let given = glow.context_of(&small)?.repeat((count, 1, 1, 1))?;
        let x = glow.detached().sample_at(temperature, count, Some(&given), rng)?;
        let bicubic = enlarge(&small, scale, Enlarging::Bicubic)?;
        Ok(Self { small, bicubic, answers: colours(&x)?, original, scale })
    }

    /// How close the answers are to the original and to the small image.
    ///
    /// # Errors
    /// When the original has another shape.
    pub fn psnr(&self) -> Result<AnswersPsnr> {
        let count = self.answers.dim(0)?;
        let answers = (0..count).map(|i| Ok(self.answers.narrow(0, i, 1)?)).collect::<Result<Vec<_>>>()?;
        let mean_of = |psnr: &dyn Fn(&Tensor) -> Result<f64>| -> Result<f64> {
            Ok(answers.iter().map(psnr).sum::<Result<f64>>()? / count as f64)
        };
        let against = |original: &Tensor| -> Result<[f64; 3]> {
            let mean = self.answers.to_dtype(DType::F64)?.mean_keepdim(0)?;
            let samples = mean_of(&|answer| psnr(answer, original))?;
            Ok([samples, psnr(&mean, original)?, psnr(&self.bicubic, original)?])
        };
        let found = self.original.as_ref().map(against).transpose()?;
        let [samples, mean, bicubic] = [0, 1, 2].map(|i| found.map(|found| found[i]));
        let again = |image: &Tensor| psnr(&shrink(image, self.scale)?, &self.small);
        let (consistency, consistency_of_bicubic) = (mean_of(&again)?, again(&self.bicubic)?);
        Ok(AnswersPsnr { samples, mean, bicubic, consistency, consistency_of_bicubic })
    }

    /// A row of pictures, (N, C, H, W): the small image enlarged with square pixels, its bicubic enlargement, the
    /// answers, the original.
    ///
    /// # Errors
    /// When the original has another shape.
    pub fn row(&self) -> Result<Tensor> {
        let enlarged = enlarge(&self.small, self.scale, Enlarging::Nearest)?;
        let parts: Vec<&Tensor> = [&enlarged, &self.bicubic, &self.answers].into_iter().chain(&self.original).collect();
        Ok(Tensor::cat(&parts, 0)?)
    }
}

/// The nearest integer values 0 to 255 of the model's images, at full depth rather than the model's bits.
fn colours(x: &Tensor) -> Result<Tensor> {
    let values = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    // The conversion maps NaN to black and clamps values out of range.
    let colour = |v: f64| ((v + 0.5) * 256.0 - 0.5).round() as u8;
    Ok(Tensor::from_vec(values.into_iter().map(colour).collect::<Vec<u8>>(), x.shape(), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_the_nearest() -> Result<()> {
        let wild = Tensor::new(&[-0.5f32, 0.0, 0.499, 9.0, f32::NAN], &Device::Cpu)?;
        assert_eq!(colours(&wild)?.to_vec1::<u8>()?, [0, 128, 255, 255, 0]);
        Ok(())
    }
}
