//! Columns of a table to mean 0 and standard deviation 1.

use super::reshape::no_log_det;
use super::{Bijector, check_event};
use crate::nn::{Buffer, Network, Scope};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// The z-score of a table's columns: `x = scale z + shift`, `log|det dx/dz| = sum ln scale`.
///
/// As the last step of a flow it lets the others work on standardized data, while densities and
/// samples are those of the table in its own units. Shift and scale are saved and not trained. For
/// a context see [`Embed::standardize`](super::Embed::standardize).
#[derive(Debug)]
pub struct Standardize {
    shape: [usize; 1],
    columns: ZScore,
}

impl Standardize {
    /// Columns with these means (`shift`) and standard deviations (`scale`).
    ///
    /// # Errors
    /// When the vectors differ in length, a value is not finite, or a scale is not positive.
    pub fn new(shift: &[f64], scale: &[f64], scope: &Scope) -> Result<Self> {
        Ok(Self { shape: [shift.len()], columns: ZScore::new(shift, scale, scope)? })
    }

    fn log_det(&self, v: &Tensor) -> Result<Tensor> {
        Ok(no_log_det(v)?.broadcast_add(&self.columns.scale.get().log()?.sum_all()?)?)
    }
}

impl Bijector for Standardize {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn forward(&self, z: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        check_event("the standardized columns", z, &self.shape)?;
        let x = z.broadcast_mul(&self.columns.scale.get())?.broadcast_add(&self.columns.shift.get())?;
        Ok((x, self.log_det(z)?))
    }

    fn inverse(&self, x: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        check_event("the columns to standardize", x, &self.shape)?;
        Ok((self.columns.forward(x, None)?, self.log_det(x)?.neg()?))
    }

    fn structure(&self) -> Structure {
        Structure::new("Standardize", format!("{} columns", self.shape[0]))
    }
}

/// `(x - shift) / scale`.
#[derive(Debug)]
pub(super) struct ZScore {
    shift: Buffer,
    scale: Buffer,
}

impl ZScore {
    pub(super) fn new(shift: &[f64], scale: &[f64], scope: &Scope) -> Result<Self> {
        if shift.len() != scale.len() || shift.is_empty() {
            let message =
                format!("{} means and {} standard deviations: one of each a column", shift.len(), scale.len());
            return Err(Error::Config(message));
        }
        for (i, (shift, scale)) in shift.iter().zip(scale).enumerate() {
            if !shift.is_finite() || !scale.is_finite() || *scale <= 0.0 {
                return Err(Error::Config(format!(
                    "column {i} has mean {shift} and standard deviation {scale}: drop constant columns and clean the data"
                )));
            }
        }
        let buffer =
            |name, values: &[f64]| scope.buffer(name, &Tensor::new(values, scope.device())?.to_dtype(scope.dtype())?);
        Ok(Self { shift: buffer("shift", shift)?, scale: buffer("scale", scale)? })
    }
}

impl Network for ZScore {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
        let shift = self.shift.get();
        check_event("the context to standardize", x, shift.dims())?;
        Ok(x.broadcast_sub(&shift)?.broadcast_div(&self.scale.get())?)
    }

    fn structure(&self) -> Structure {
        Structure::new("Standardize", format!("{} columns", self.shift.get().elem_count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::bijectors::{Chain, Embed, Radial};
    use crate::nn::Parameters;
    use crate::testing::{difference, measure, perturb};
    use candle_core::{DType, Device};

    #[test]
    fn data_and_context_are_standardized() -> Result<()> {
        let mut rng = Rng::seed(1);
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let scope = parameters.scope();
        let radial = Radial::new(2, Some(1), &scope.enter("radial"))?;
        let columns = Standardize::new(&[1.0, -3.0], &[2.0, 0.1], &scope.enter("data"))?;
        let x = columns.forward(&Tensor::new(&[[1.0, 1.0]], &Device::Cpu)?, None)?;
        assert!(difference(&x.0, &Tensor::new(&[[3.0, -2.9]], &Device::Cpu)?)? < 1e-15);
        assert!((x.1.to_vec1::<f64>()?[0] - 0.2f64.ln()).abs() < 1e-15);
        let chain = Chain::new(vec![Box::new(radial), Box::new(columns)])?;
        let flow = Embed::standardize(&[100.0], &[5.0], Box::new(chain), &scope.enter("context"))?;
        perturb(&parameters, 0.3, &mut rng)?;
        let z = rng.normal_tensor((4, 2), DType::F64, &Device::Cpu)?;
        let context = Tensor::new(&[[95.0], [100.0], [105.0], [110.0]], &Device::Cpu)?;
        assert!(measure(&flow, &parameters, &z, Some(&context), &mut rng)?.worst() < 1e-8);
        assert!(flow.forward(&z, None).is_err());
        assert!(Standardize::new(&[0.0], &[0.0], &scope.enter("constant")).is_err());
        Ok(())
    }
}
