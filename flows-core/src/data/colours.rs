//! Colours as whole numbers.

use crate::{Error, Result};
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
/// When a colour is none of these numbers, as in images of another convention.
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
            "a colour of {v:.4} where whole numbers of 0 to 255 are wanted: round 255 times the colours in [0, 1]; \
             those with noise are for `log_prob`"
        )))
    };
    flat.to_dtype(DType::F64)?.to_vec1()?.into_iter().map(whole).collect()
}
