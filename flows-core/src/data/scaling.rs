//! The mean and deviation of a table's columns.

use super::dataset::dims;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

/// The mean and the standard deviation of each column: `(x - shift) / scale` has mean 0 and deviation 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// The mean of each column.
    pub shift: Vec<f64>,
    /// The standard deviation of each column (divisor n); 1 for a column that is constant.
    pub scale: Vec<f64>,
}

impl Scaling {
    /// The scaling of the rows of `x`, shape (n, columns), computed in f64.
    ///
    /// # Errors
    /// When `x` has another rank, no row, or numbers that are not finite or whose squares are not.
    pub fn of(x: &Tensor) -> Result<Self> {
        let (rows, columns) = dims(x)?;
        if rows == 0 {
            return Err(Error::Data("the mean of no rows is wanted; give at least one".into()));
        }
        let values = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let mut scaling = Self { shift: Vec::with_capacity(columns), scale: Vec::with_capacity(columns) };
        // Deviations from the first row: a constant column has none at all, to the bit.
        for (j, &first) in values.iter().take(columns).enumerate() {
            let column = || values.iter().skip(j).step_by(columns).map(|v| v - first);
            let mean = column().sum::<f64>() / rows as f64;
            let deviation = (column().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64).sqrt();
            if !(first + mean).is_finite() || !deviation.is_finite() {
                return Err(Error::Data(format!(
                    "column {} has no finite mean and deviation; remove what is not finite, or rescale it",
                    j + 1
                )));
            }
            scaling.shift.push(first + mean);
            scaling.scale.push(if deviation > 0.0 { deviation } else { 1.0 });
        }
        Ok(scaling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_of_odd_columns() -> Result<()> {
        let x = Tensor::new(&[[1f64, 0.1, 1e9 + 1.0], [3.0, 0.1, 1e9 + 3.0], [5.0, 0.1, 1e9 + 5.0]], &Device::Cpu)?;
        let scaling = Scaling::of(&x)?;
        let deviation = (8f64 / 3.0).sqrt();
        assert_eq!(scaling.shift, [3.0, 0.1, 1e9 + 3.0]);
        assert_eq!(scaling.scale, [deviation, 1.0, deviation]);
        assert!(Scaling::of(&Tensor::new(&[[1e300], [-1e300]], &Device::Cpu)?).is_err());
        assert!(Scaling::of(&Tensor::zeros((0, 2), DType::F32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
