//! The element types of signals, and the tensors that hold signals.

use super::{Front, LogMel};
use candle_core::{DType, Device, Tensor};
use flows_core::ops::kernel::Real;
use flows_core::{Error, Result};
use realfft::FftNum;
use std::sync::Arc;

/// The element type of a signal: f32 or f64.
pub trait Sample: Real + FftNum {
    /// What log-mel spectrograms of signals of this type are made by.
    fn front(log_mel: &LogMel) -> &Arc<Front<Self>>;
}

impl Sample for f32 {
    fn front(log_mel: &LogMel) -> &Arc<Front<Self>> {
        &log_mel.single
    }
}

impl Sample for f64 {
    fn front(log_mel: &LogMel) -> &Arc<Front<Self>> {
        &log_mel.double
    }
}

/// Checks that `x`, which errors call `what`, is a batch of signals (B, T) of f32 or f64, and returns `(B, T)`.
pub(super) fn check_signals(what: &str, x: &Tensor) -> Result<(usize, usize)> {
    check_dtype(what, x)?;
    match *x.dims() {
        [batch, length] if batch > 0 && length > 0 => Ok((batch, length)),
        _ => Err(Error::shape(what, x.dims(), "(B, T), neither of them 0")),
    }
}

/// Checks that `x`, which errors call `what`, is of f32 or f64.
pub(super) fn check_dtype(what: &str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 | DType::F64 => Ok(()),
        other => Err(Error::Data(format!("{what} has dtype {other:?}: convert it to f32 or f64"))),
    }
}

/// `f(x)` evaluated on the CPU, where Fourier transforms run, and brought back to the device of x.
pub(super) fn on_cpu(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if x.device().is_cpu() {
        return f(x);
    }
    Ok(f(&x.to_device(&Device::Cpu)?)?.to_device(x.device())?)
}
