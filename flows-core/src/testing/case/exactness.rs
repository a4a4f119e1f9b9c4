//! Values, log-determinants and gradients are exact.

use super::{Case, close, require};
use crate::testing::measure;
use crate::{Result, Rng};
use candle_core::DType;

impl Case {
    /// Both directions undo each other at 10,000 random points and their log-determinants are
    /// opposite, within 1e-9 in f64 and 1e-4 in f32.
    ///
    /// # Errors
    /// When that does not hold.
    pub fn round_trip(&self) -> Result<()> {
        const ROWS: usize = 10_000;
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-4)] {
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

    /// Log-determinants are those of autograd's Jacobian, within 1e-9, and gradients those of
    /// central differences, in both directions.
    ///
    /// # Errors
    /// When that does not hold, or a weight has no gradient.
    pub fn derivatives(&self) -> Result<()> {
        const ROWS: usize = 4;
        let (bijector, parameters) = self.model(DType::F64)?;
        let (z, context) = (self.latent(&*bijector, ROWS, DType::F64)?, self.context(ROWS, DType::F64)?);
        let report = measure(&*bijector, &parameters, &z, context.as_ref(), &mut Rng::seed(1))?;
        let exact = report.forward_log_det.max(report.inverse_log_det).max(report.consistency);
        let gradient = report.forward_gradient.max(report.inverse_gradient);
        require(exact <= 1e-9 && gradient <= self.gradient, || format!("{report:?}"))
    }

    /// The results in f32 are those in f64, within 1e-4, where the weights are the same.
    ///
    /// # Errors
    /// When they are not.
    pub fn precisions_agree(&self) -> Result<()> {
        const ROWS: usize = 100;
        let (single, parameters) = self.model(DType::F32)?;
        let (double, other) = self.fresh(DType::F64, 4)?;
        other.load(&parameters.tensors().into_iter().collect())?;
        let z = self.latent(&*single, ROWS, DType::F32)?;
        let context = self.context(ROWS, DType::F32)?;
        let wide = context.as_ref().map(|c| c.to_dtype(DType::F64)).transpose()?;
        let (x, log_det) = single.forward(&z, context.as_ref())?;
        let (want, want_log_det) = double.forward(&z.to_dtype(DType::F64)?, wide.as_ref())?;
        close("x in f32 and f64", &want, &x, 1e-4)?;
        close("forward's log-determinant in f32 and f64", &want_log_det, &log_det, 1e-4)?;
        let (z, log_det) = single.inverse(&x, context.as_ref())?;
        let (want, want_log_det) = double.inverse(&x.to_dtype(DType::F64)?, wide.as_ref())?;
        close("z in f32 and f64", &want, &z, 1e-4)?;
        close("inverse's log-determinant in f32 and f64", &want_log_det, &log_det, 1e-4)
    }
}
