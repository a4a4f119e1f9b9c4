//! The peak signal-to-noise ratio.

use crate::Result;
use candle_core::{DType, Tensor};

/// `10 log10(255^2 / mean squared error)` in decibels, for values 0 to 255 in any dtype. It is capped at the PSNR for
/// an error of 1 in a single value, which identical images are given.
///
/// # Errors
/// When the shapes differ.
pub fn psnr(image: &Tensor, original: &Tensor) -> Result<f64> {
    let (image, original) = (image.to_dtype(DType::F64)?, original.to_dtype(DType::F64)?);
    let error = (image - &original)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
    Ok(10.0 * (255f64.powi(2) / error.max(1.0 / original.elem_count() as f64)).log10())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn decibels_by_hand() -> Result<()> {
        let a = Tensor::new(&[10u8, 200, 30, 40], &Device::Cpu)?;
        let b = Tensor::new(&[10u8, 205, 30, 40], &Device::Cpu)?;
        assert!((psnr(&b, &a)? - 10.0 * (65025.0 / 6.25f64).log10()).abs() < 1e-12);
        assert!((psnr(&a, &a)? - 10.0 * (65025.0 * 4.0f64).log10()).abs() < 1e-12);
        Ok(())
    }
}
