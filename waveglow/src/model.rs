//! The model: a density of audio.

use crate::config::AudioFlowConfig;
use crate::flow::flow;
use candle_core::{DType, Tensor};
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::nn::Scope;
use flows_core::{Config, Error, Model, Result, Rng, Structure};
use std::f64::consts::PI;
use std::ops::Deref;

/// A trainable density of signals (1, T) given log-mel spectrograms (bands, frames), and a bijection between signals and
/// standard normal vectors.
pub type AudioFlow = Model<AudioFlowConfig>;

/// The density built from an [`AudioFlowConfig`].
#[derive(Debug)]
pub struct AudioDensity {
    samples: usize,
    signals: Transformed,
}

impl Config for AudioFlowConfig {
    const KIND: &'static str = "waveglow";
    type Built = AudioDensity;

    fn build(&self, scope: &Scope) -> Result<AudioDensity> {
        let flow = flow(self, scope)?;
        let base = StandardNormal::new([self.samples], scope.dtype(), scope.device())?;
        Ok(AudioDensity { samples: self.samples, signals: Transformed::new(base, flow)? })
    }

    fn splits_batches(&self) -> bool {
        true
    }

    fn root(&self) -> Structure {
        Structure::new("Audio flow", format!("over {} samples at {} Hz", self.samples, self.audio.rate))
    }
}

impl Deref for AudioDensity {
    type Target = Transformed;

    fn deref(&self) -> &Transformed {
        &self.signals
    }
}

impl Distribution for AudioDensity {
    flows_core::delegate_distribution!(|self| self.signals);

    fn structure(&self) -> Structure {
        Structure::new("Density", "").part(self.signals.structure())
    }
}

impl AudioDensity {
    /// A signal (B, 1, T) for each spectrogram of a batch (B, bands, frames), from latents of the standard deviation
    /// `sigma`; with 0 the signal of the latent 0.
    ///
    /// # Errors
    /// When the shape is wrong.
    pub fn synthesize(&self, mel: &Tensor, sigma: f64, rng: &mut Rng) -> Result<Tensor> {
        let batch = mel.dims().first().copied().unwrap_or(0);
        let (dtype, device) = (self.signals.dtype().unwrap_or(DType::F32), self.signals.device());
        let z = rng.tensor((batch, self.samples), dtype, &device, |rng| sigma * rng.normal())?;
        Ok(self.signals.bijector().forward(&z, Some(mel))?.0)
    }

    /// The loss of the published WaveGlow for signals (B, 1, T) and their spectrograms, a scalar:
    /// `(sum z^2 / (2 sigma^2) - log|det dz/dx|) / (B T)`.
    ///
    /// It lacks a constant: [`Self::nats`] of it is the negative log-likelihood.
    ///
    /// # Errors
    /// When a shape is wrong, or sigma is not positive.
    pub fn published_loss(&self, x: &Tensor, mel: &Tensor, sigma: f64) -> Result<Tensor> {
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(Error::Config(format!("a sigma of {sigma}: give a positive number")));
        }
        let (z, log_det) = self.signals.bijector().inverse(x, Some(mel))?;
        let energy = (z.sqr()?.sum_all()? * (0.5 / (sigma * sigma)))?;
        Ok(((energy - log_det.sum_all()?)? / z.elem_count() as f64)?)
    }

    /// The negative log-likelihood in nats a sample, under latents of the standard deviation `sigma`, for the value
    /// of [`Self::published_loss`]: `loss + ln sigma + ln(2 pi) / 2`.
    pub fn nats(loss: f64, sigma: f64) -> f64 {
        loss + sigma.ln() + 0.5 * (2.0 * PI).ln()
    }
}
