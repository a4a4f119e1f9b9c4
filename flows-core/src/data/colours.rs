//! Colours: whole numbers, and the continuous values that densities are over.

use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};

/// The colours of images, whole numbers 0 to 255 in a tensor of any type, in row-major order.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use flows_core::data::whole_colours;
/// assert_eq!(whole_colours(&Tensor::new(&[[0f32, 7.0], [254.0, 255.0]], &Device::Cpu)?)?, [0, 7, 254, 255]);
/// let error = whole_colours(&Tensor::new(&[0.0, 0.5, 1.0], &Device::Cpu)?).unwrap_err().to_string();
/// assert!(error.contains("0.5000") && error.contains("0 to 255"));
/// # Ok::<(), flows_core::Error>(())
/// ```
///
/// # Errors
/// When a colour is not such a number, as in images of another convention.
pub fn whole_colours(images: &Tensor) -> Result<Vec<u8>> {
    let flat = images.to_device(&Device::Cpu)?.flatten_all()?;
    if flat.dtype() == DType::U8 {
        return Ok(flat.to_vec1()?);
    }
    let whole = |v: f64| {
        if (0.0..=255.0).contains(&v) && v.fract() == 0.0 {
            return Ok(v as u8);
        }
        Err(Error::Data(format!(
            "a colour is {v:.4}, but must be a whole number from 0 to 255: multiply colours in [0, 1] by 255 and round \
             them; dequantized colours are for `log_prob`"
        )))
    };
    flat.to_dtype(DType::F64)?.to_vec1()?.into_iter().map(whole).collect()
}

/// Dequantizes images: maps each colour v, a whole number 0 to 255, to `low + (floor(bins v / 256) + u) / bins` with u
/// uniform in [0, 1), in f64 on the CPU.
///
/// # Errors
/// Same as [`whole_colours`].
pub fn dequantize(images: &Tensor, bins: f64, low: f64, rng: &mut Rng) -> Result<Tensor> {
    let step = 256.0 / bins;
    let levels = whole_colours(images)?.into_iter();
    let values: Vec<f64> = levels.map(|v| ((f64::from(v) / step).floor() + rng.uniform()) / bins + low).collect();
    Ok(Tensor::from_vec(values, images.shape(), &Device::Cpu)?)
}

/// Quantizes images: maps each value x to `floor(bins (x - low)) / (bins - 1)`, the lower end of its bin scaled to
/// reach 1, in f32 on the CPU. Values out of range are clamped, and NaN is black.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use flows_core::Rng;
/// use flows_core::data::{dequantize, quantize};
/// let colours = Tensor::new(&[0u8, 100, 255], &Device::Cpu)?;
/// let x = dequantize(&colours, 256.0, -0.5, &mut Rng::seed(0))?;
/// let back = (quantize(&x, 256.0, -0.5)? * 255.0)?;
/// assert_eq!(back.to_vec1::<f32>()?, [0.0, 100.0, 255.0]);
/// # Ok::<(), flows_core::Error>(())
/// ```
///
/// # Errors
/// When `x` is not of a floating type.
pub fn quantize(x: &Tensor, bins: f64, low: f64) -> Result<Tensor> {
    let values = x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    // The comparisons fail for NaN.
    let level = |v: f32| match (f64::from(v) - low) * bins {
        at if at >= bins => 1.0,
        at if at > 0.0 => (at.floor() / (bins - 1.0)) as f32,
        _ => 0.0,
    };
    Ok(Tensor::from_vec(values.into_iter().map(level).collect::<Vec<f32>>(), x.shape(), &Device::Cpu)?)
}
