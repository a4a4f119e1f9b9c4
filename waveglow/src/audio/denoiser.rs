//! The removal of a vocoder's constant noise.

use super::{Sample, Stft};
use flows_core::{Error, Result};
use rayon::prelude::*;
use realfft::num_complex::Complex;

/// WaveGlow's denoiser (Prenger et al., in its published code): from each frame's magnitudes it subtracts the bias, the
/// magnitudes of what the model makes of silence, and keeps the phases.
#[derive(Clone, Debug)]
pub struct Denoiser<T: Sample> {
    stft: Stft<T>,
    bias: Vec<T>,
}

impl<T: Sample> Denoiser<T> {
    /// The denoiser with this bias, a magnitude for each bin.
    ///
    /// # Errors
    /// When it has another number of bins than the transform.
    pub fn new(stft: Stft<T>, bias: Vec<T>) -> Result<Self> {
        match bias.len() == stft.bins() {
            true => Ok(Self { stft, bias }),
            false => Err(Error::shape("the bias", &[bias.len()], format!("({}), one a bin", stft.bins()))),
        }
    }

    /// The denoiser whose bias is the first frame of `silence`, which the model made of the log-mel spectrogram of
    /// silence without noise of its own (a standard deviation of 0).
    ///
    /// # Errors
    /// When there are no samples.
    pub fn of_silence(stft: Stft<T>, silence: &[T]) -> Result<Self> {
        let mut bias = stft.transform(silence)?.magnitudes();
        bias.truncate(stft.bins());
        Self::new(stft, bias)
    }

    /// The magnitudes that are subtracted at a strength of 1.
    pub fn bias(&self) -> &[T] {
        &self.bias
    }

    /// The signal with magnitudes `max(|X| - strength bias, 0)`, of the same length; the published code returns only
    /// its first `(frames - 1) hop` samples. Strengths of 0.01 to 0.1 are usual.
    ///
    /// # Errors
    /// When the signal is empty, or the strength negative or not finite.
    pub fn apply(&self, samples: &[T], strength: f64) -> Result<Vec<T>> {
        if !(strength.is_finite() && strength >= 0.0) {
            return Err(Error::Config(format!(
                "a denoiser's strength of {strength}: give one from 0 on, such as 0.01"
            )));
        }
        let (strength, zero) = (T::of(strength), T::zero());
        let mut spectrogram = self.stft.transform(samples)?;
        spectrogram.values_mut().par_chunks_mut(self.bias.len()).for_each(|frame| {
            for (z, &bias) in frame.iter_mut().zip(&self.bias) {
                let magnitude = z.re.hypot(z.im);
                let left = magnitude - strength * bias;
                *z = if left <= zero { Complex::new(zero, zero) } else { *z * (left / magnitude) };
            }
        });
        self.stft.inverse(&spectrogram, samples.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Padding;
    use flows_core::Rng;

    #[test]
    fn a_constant_tone_is_removed() -> Result<()> {
        let stft = || Stft::<f64>::new(256, 64, 256, Padding::Centred);
        let tone: Vec<f64> = (0..3000).map(|n| 0.1 * (std::f64::consts::TAU * f64::from(n) / 16.0).cos()).collect();
        let denoiser = Denoiser::of_silence(stft()?, &tone)?;
        let energy = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
        assert!(energy(&denoiser.apply(&tone, 1.0)?) < 0.05 * energy(&tone));
        let rng = &mut Rng::seed(1);
        let noisy: Vec<f64> = tone.iter().map(|x| x + rng.normal()).collect();
        let same = denoiser.apply(&noisy, 0.0)?;
        assert!(same.len() == noisy.len() && same.iter().zip(&noisy).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!(denoiser.apply(&noisy, -0.1).is_err() && denoiser.apply(&[], 0.1).is_err());
        assert!(Denoiser::new(stft()?, vec![0.0; 128]).is_err() && Denoiser::of_silence(stft()?, &[]).is_err());
        assert_eq!(denoiser.bias().len(), 129);
        Ok(())
    }
}
