//! Checks that values, log-determinants and gradients are exact.

use super::{Case, close, require};
use crate::testing::{Findings, findings};
use crate::{Result, Rng};
use candle_core::DType;

impl Case {
    /// Each direction inverts the other at 10,000 random points, and their log-determinants are
    /// opposite, within the tolerances of f64 and f32.
    ///
    /// # Errors
    /// When that does not hold.
    pub fn round_trip(&self) -> Result<()> {
        const ROWS: usize = 10_000;
        for dtype in [DType::F64, DType::F32] {
            let tolerance = self.tolerances.of(dtype);
            let (bijector, _) = self.model(dtype)?;
            let (z, context) = (self.latent(&*bijector, ROWS, dtype)?, self.context(ROWS, dtype)?);
            let (x, forward) = bijector.forward(&z, context.as_ref())?;
            let (back, inverse) = bijector.inverse(&x, context.as_ref())?;
            let shapes = (x.dims() == [&[ROWS], bijector.data_shape()].concat(), x.dtype(), forward.dtype());
            require(shapes == (true, dtype, dtype), || format!("x is {x:?}, its log-determinant {forward:?}"))?;
            close(&format!("z there and back in {dtype:?}"), &z, &back, tolerance)?;
            close(&format!("log-determinants in {dtype:?}"), &forward, &inverse.neg()?, tolerance)?;
            let again = bijector.forward(&back, context.as_ref())?.0;
            close(&format!("x there and back in {dtype:?}"), &x, &again, tolerance)?;
        }
        Ok(())
    }

    /// Log-determinants are those of the Jacobian by autograd, within the tolerance of f64, and gradients those
    /// of central differences, in both directions.
    ///
    /// # Errors
    /// When that does not hold, or a weight has no gradient.
    pub fn derivatives(&self) -> Result<()> {
        const ROWS: usize = 4;
        let (bijector, parameters) = self.model(DType::F64)?;
        let (z, context) = (self.latent(&*bijector, ROWS, DType::F64)?, self.context(ROWS, DType::F64)?);
        let Findings { exact, gradients } = findings(&*bijector, &parameters, &z, context.as_ref(), &mut Rng::seed(1))?;
        // The round trip has its own check, at more points.
        exact[1..].iter().try_for_each(|entry| entry.within(self.tolerances.double))?;
        gradients.iter().try_for_each(|entry| entry.within(self.tolerances.gradient))
    }

    /// With the same weights, the results in f32 are those in f64, within the tolerance of f32.
    ///
    /// # Errors
    /// When they are not.
    pub fn precisions_agree(&self) -> Result<()> {
        const ROWS: usize = 100;
        let tolerance = self.tolerances.single;
        let (single, parameters) = self.model(DType::F32)?;
        let (double, other) = self.fresh(DType::F64, 4)?;
        other.load(&parameters.tensors().into_iter().collect())?;
        let z = self.latent(&*single, ROWS, DType::F32)?;
        let context = self.context(ROWS, DType::F32)?;
        let wide = context.as_ref().map(|c| c.to_dtype(DType::F64)).transpose()?;
        let (x, log_det) = single.forward(&z, context.as_ref())?;
        let (want, want_log_det) = double.forward(&z.to_dtype(DType::F64)?, wide.as_ref())?;
        close("x in f32 and f64", &want, &x, tolerance)?;
        close("forward's log-determinant in f32 and f64", &want_log_det, &log_det, tolerance)?;
        let (z, log_det) = single.inverse(&x, context.as_ref())?;
        let (want, want_log_det) = double.inverse(&x.to_dtype(DType::F64)?, wide.as_ref())?;
        close("z in f32 and f64", &want, &z, tolerance)?;
        close("inverse's log-determinant in f32 and f64", &want_log_det, &log_det, tolerance)
    }
}
