//! What the spectrograms of a model are made by.

use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The log-mel spectrograms that a model is trained on, by default those of Tacotron 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudioConfig {
    /// The sampling rate in Hz.
    pub rate: usize,
    /// The length of the Fourier transform in samples.
    pub fft: usize,
    /// The distance of frames in samples.
    pub hop: usize,
    /// The length of the periodic Hann window in samples, at most that of the transform.
    pub window: usize,
    /// The number of mel bands.
    pub bands: usize,
    /// The lower edge of the lowest band in Hz.
    pub low: f64,
    /// The upper edge of the highest band in Hz, at most half the rate.
    pub high: f64,
    /// The mel scale.
    pub scale: MelScale,
    /// How the first and the last frame see beyond the signal's ends.
    pub padding: Padding,
}

/// A scale of pitch in Hz that mel bands are evenly spaced on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MelScale {
    /// Slaney's, linear below 1 kHz and logarithmic above; filters have the same area.
    Slaney,
    /// HTK's, `2595 log10(1 + f / 700)`; filters have the same height.
    Htk,
}

/// How much a signal is extended by reflection before it is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// By half a transform at both ends, so that frame i is centred on sample `i hop`: `1 + floor(T / hop)` frames.
    Centred,
    /// By `(fft - hop) / 2` at both ends, as in HiFi-GAN and SqueezeWave: `floor(T / hop)` frames.
    Uncentred,
}

impl Default for AudioConfig {
    fn default() -> Self {
        Self {
            rate: 22_050,
            fft: 1024,
            hop: 256,
            window: 1024,
            bands: 80,
            low: 0.0,
            high: 8000.0,
            scale: MelScale::Slaney,
            padding: Padding::Centred,
        }
    }
}

impl AudioConfig {
    /// Checks that the settings make up a spectrogram.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn check(&self) -> Result<()> {
        let nyquist = self.rate as f64 / 2.0;
        let fault = if self.rate == 0 || self.hop == 0 || self.bands == 0 || self.fft < 2 || self.window == 0 {
            "`rate`, `hop`, `window` and `bands` must be at least 1, and `fft` 2".to_owned()
        } else if self.window > self.fft {
            format!("the `window` of {} samples does not fit into the `fft` of {}", self.window, self.fft)
        } else if self.padding == Padding::Uncentred && self.hop > self.fft {
            format!("the `hop` of {} samples is longer than the `fft` of {}", self.hop, self.fft)
        } else if !(0.0 <= self.low && self.low < self.high && self.high <= nyquist) {
            format!(
                "mel bands from {} to {} Hz at a rate of {}: set `high` to at most {nyquist}, half the rate, and `low` \
                 below it",
                self.low, self.high, self.rate
            )
        } else {
            return Ok(());
        };
        Err(Error::Config(fault))
    }
}
