//! Shrinking and enlarging of images.

use crate::data::whole_colours;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};

/// How an image is enlarged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enlarging {
    /// Each pixel becomes a square.
    Nearest,
    /// By cubic polynomials (Catmull and Rom, 1974).
    Bicubic,
}

/// Shrinks images with integer values 0 to 255, (B, C, H, W), to the rounded mean of each square of side `scale`, as
/// u8 (B, C, H / scale, W / scale).
///
/// # Errors
/// When the scale does not divide both sides, or colours are none of these.
pub fn shrink(images: &Tensor, scale: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = images.dims4()?;
    if scale == 0 || height % scale != 0 || width % scale != 0 {
        let message = format!("images of {height} x {width} cannot be shrunk {scale} times");
        return Err(Error::Config(format!("{message}: give a divisor of both sides")));
    }
    let values = whole_colours(images)?;
    let (to, squares) = ((batch, channels, height / scale, width / scale), (scale * scale) as u32);
    let mut means = Vec::with_capacity(values.len() / (scale * scale));
    for rows in values.chunks(scale * width) {
        for left in (0..width).step_by(scale) {
            let sum: u32 = rows.chunks(width).flat_map(|row| &row[left..left + scale]).map(|v| u32::from(*v)).sum();
            means.push(((sum + squares / 2) / squares) as u8);
        }
    }
    Ok(Tensor::from_vec(means, to, &Device::Cpu)?)
}

/// Enlarges images with integer values 0 to 255, (B, C, H, W), `scale` times, as u8 (B, C, H scale, W scale).
///
/// # Errors
/// When the result would be too large, or colours are not integers of 0 to 255.
pub fn enlarge(images: &Tensor, scale: usize, how: Enlarging) -> Result<Tensor> {
    let (batch, channels, height, width) = images.dims4()?;
    let sides = [height, width].map(|side| side.checked_mul(scale).and_then(|side| u32::try_from(side).ok()));
    let [Some(down), Some(right)] = sides else {
        return Err(Error::Config(format!("images of {height} x {width} enlarged {scale} times are too large")));
    };
    let values = whole_colours(images)?;
    let filter = match how {
        Enlarging::Nearest => FilterType::Nearest,
        Enlarging::Bicubic => FilterType::CatmullRom,
    };
    let mut large = Vec::with_capacity(values.len() * scale * scale);
    for plane in values.chunks((height * width).max(1)) {
        let plane = ImageBuffer::<Luma<u8>, _>::from_raw(width as u32, height as u32, plane.to_vec());
        let plane = plane.ok_or_else(|| Error::Data(format!("no images: {:?}", images.dims())))?;
        large.extend(resize(&plane, right, down, filter).into_raw());
    }
    Ok(Tensor::from_vec(large, (batch, channels, down as usize, right as usize), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    #[test]
    fn squares_become_their_means_and_back() -> Result<()> {
        let image = Tensor::new(&[[0u8, 1, 10, 20], [1, 1, 30, 40], [255, 255, 7, 8], [255, 255, 8, 8]], &Device::Cpu)?;
        let images = Tensor::stack(&[&image, &image.t()?.contiguous()?], 0)?.unsqueeze(1)?;
        let small = shrink(&images, 2)?;
        assert_eq!(small.dims(), [2, 1, 2, 2]);
        assert_eq!(small.flatten_all()?.to_vec1::<u8>()?, [1, 25, 255, 8, 1, 255, 25, 8]);
        let large = enlarge(&small, 2, Enlarging::Nearest)?;
        assert_eq!(large.get(0)?.get(0)?.to_vec2::<u8>()?[1], [1, 1, 25, 25]);
        let again = shrink(&large, 2)?.flatten_all()?.to_vec1::<u8>()?;
        assert_eq!(again, small.flatten_all()?.to_vec1::<u8>()?);
        // A linear ramp stays linear.
        let slope = Tensor::from_vec((0..8).map(|v| 20 * v).collect::<Vec<u8>>(), (1, 1, 1, 8), &Device::Cpu)?;
        let fine = enlarge(&slope, 2, Enlarging::Bicubic)?.get(0)?.get(0)?.get(1)?.to_vec1::<u8>()?;
        assert_eq!(fine[4..12], [35, 45, 55, 65, 75, 85, 95, 105]);
        assert!(shrink(&images, 3).is_err() && shrink(&images, 0).is_err());
        let unit = (images.to_dtype(DType::F32)? / 255.0)?;
        assert!(shrink(&unit, 2).is_err() && enlarge(&unit, 2, Enlarging::Nearest).is_err());
        Ok(())
    }
}
