//! Complex spectrograms.

use super::Sample;
use flows_core::{Error, Result};
use rayon::prelude::*;
use realfft::num_complex::Complex;

/// A complex spectrogram (frames, bins), bin k of a transform of N samples being that of k / N of the sampling rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrogram<T> {
    values: Vec<Complex<T>>,
    bins: usize,
}

impl<T: Sample> Spectrogram<T> {
    /// The spectrogram of these values, row-major (frames, bins).
    ///
    /// # Errors
    /// When there are none, or they are not whole frames.
    pub fn new(values: Vec<Complex<T>>, bins: usize) -> Result<Self> {
        if values.is_empty() || bins == 0 || !values.len().is_multiple_of(bins) {
            return Err(Error::shape("a spectrogram", &[values.len()], format!("whole frames of {bins} bins")));
        }
        Ok(Self { values, bins })
    }

    /// The number of frames.
    pub fn frames(&self) -> usize {
        self.values.len() / self.bins
    }

    /// The number of bins of a frame.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// The values, row-major (frames, bins).
    pub fn values(&self) -> &[Complex<T>] {
        &self.values
    }

    /// The values, row-major (frames, bins), to be changed.
    pub fn values_mut(&mut self) -> &mut [Complex<T>] {
        &mut self.values
    }

    /// `|z|` of each value, row-major (frames, bins).
    pub fn magnitudes(&self) -> Vec<T> {
        self.values.par_iter().map(|z| power(z).sqrt()).collect()
    }

    /// `|z|^2` of each value, row-major (frames, bins).
    pub fn powers(&self) -> Vec<T> {
        self.values.par_iter().map(power).collect()
    }
}

/// `|z|^2`.
#[inline(always)]
pub(super) fn power<T: Sample>(z: &Complex<T>) -> T {
    z.re * z.re + z.im * z.im
}
