//! Signals from magnitudes.

use super::{LogMel, Sample, Spectrogram, Stft};
use flows_core::{Error, Result, Rng};
use rayon::prelude::*;
use realfft::num_complex::Complex;
use std::f64::consts::TAU;

/// The phases for given magnitudes by alternating projections (Griffin and Lim 1984), with momentum (Perraudin, Balazs
/// and Sondergaard 2013): from random phases, each iteration takes those of `u = z_t - m / (1 + m) z_(t - 1)`, where
/// z_t is the spectrogram of the signal so far, and m the momentum. This is librosa's.
///
/// ```
/// use flows_core::Rng;
/// use waveglow::audio::{GriffinLim, Padding, Stft};
/// let stft = Stft::new(512, 128, 512, Padding::Centred)?;
/// let x: Vec<f32> = (0..4000).map(|n| (0.05 * n as f32).sin()).collect();
/// let magnitudes = stft.transform(&x)?.magnitudes();
/// let y = GriffinLim::default().signal(&stft, &magnitudes, x.len(), &mut Rng::seed(1))?;
/// assert_eq!(y.len(), x.len());
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GriffinLim {
    /// The number of iterations.
    pub iterations: usize,
    /// The momentum, from 0, Griffin and Lim's own, to 1.
    pub momentum: f64,
}

impl Default for GriffinLim {
    /// 32 iterations with a momentum of 0.99.
    fn default() -> Self {
        Self { iterations: 32, momentum: 0.99 }
    }
}

impl GriffinLim {
    /// A signal of `length` samples whose magnitudes are close to these, row-major (frames, bins).
    ///
    /// # Errors
    /// When there are not the magnitudes of a signal of this length, or the momentum is out of range.
    pub fn signal<T: Sample>(&self, stft: &Stft<T>, magnitudes: &[T], length: usize, rng: &mut Rng) -> Result<Vec<T>> {
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(Error::Config(format!("a `momentum` of {}: give one from 0 to 1", self.momentum)));
        }
        let (frames, bins) = (stft.check_length(length)?, stft.bins());
        if magnitudes.len() != frames * bins {
            let want = format!("({frames}, {bins}) for {length} samples");
            return Err(Error::shape("the magnitudes", &[magnitudes.len() / bins, bins], want));
        }
        let random = |&m: &T| {
            let phase = TAU * rng.uniform();
            Complex::new(m * T::of(phase.cos()), m * T::of(phase.sin()))
        };
        let mut estimate = Spectrogram::new(magnitudes.iter().map(random).collect(), bins)?;
        let mut last = None::<Spectrogram<T>>;
        let weight = T::of(self.momentum / (1.0 + self.momentum));
        for _ in 0..self.iterations {
            let now = stft.transform(&stft.inverse(&estimate, length)?)?;
            let estimates = estimate.values_mut().par_iter_mut().zip(now.values()).zip(magnitudes);
            match &last {
                Some(last) => estimates.zip(last.values()).for_each(|(((estimate, now), &m), last)| {
                    *estimate = with_magnitude(*now - *last * weight, m);
                }),
                None => estimates.for_each(|((estimate, now), &m)| *estimate = with_magnitude(*now, m)),
            }
            last = Some(now).filter(|_| self.momentum > 0.0);
        }
        stft.inverse(&estimate, length)
    }

    /// A signal of `length` samples whose log-mel spectrogram is close to this, row-major (bands, frames); its
    /// magnitudes are those of [`MelBank::magnitudes`](super::MelBank::magnitudes).
    ///
    /// # Errors
    /// As [`Self::signal`].
    pub fn from_log_mel<T: Sample>(
        &self,
        log_mel: &LogMel,
        spectrogram: &[T],
        length: usize,
        rng: &mut Rng,
    ) -> Result<Vec<T>> {
        let front = log_mel.front::<T>();
        let (bands, frames) = (front.bank.bands(), front.stft.check_length(length)?);
        if spectrogram.len() != bands * frames {
            let want = format!("({bands}, {frames}) for {length} samples");
            return Err(Error::shape("the log-mel spectrogram", &[bands, spectrogram.len() / bands], want));
        }
        let mels = (0..frames).flat_map(|i| spectrogram[i..].iter().step_by(frames).map(|v| v.exp()));
        self.signal(&front.stft, &front.bank.magnitudes(&mels.collect::<Vec<T>>())?, length, rng)
    }
}

/// The number with the phase of z, 0 for z = 0, and this magnitude.
fn with_magnitude<T: Sample>(z: Complex<T>, magnitude: T) -> Complex<T> {
    // Not by `sqrt(re^2 + im^2)`, which is 0 for small z in f32.
    let norm = z.re.hypot(z.im);
    if norm == T::zero() { Complex::new(magnitude, T::zero()) } else { z * (magnitude / norm) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{AudioConfig, Padding};

    /// Two gliding tones and a click.
    fn sound(n: usize) -> Vec<f64> {
        let at = |i: usize| i as f64 / 22_050.0;
        let tone = |i: usize, hz: f64| (TAU * (hz * at(i) + 200.0 * at(i).powi(2))).sin();
        (0..n).map(|i| 0.3 * tone(i, 300.0) + 0.1 * tone(i, 1250.0) + f64::from(u8::from(i == n / 2))).collect()
    }

    #[test]
    fn momentum_helps_and_seeds_decide() -> Result<()> {
        let stft = Stft::new(256, 64, 256, Padding::Centred)?;
        let x = sound(4000);
        let magnitudes = stft.transform(&x)?.magnitudes();
        let off = |iterations: usize, momentum: f64| -> Result<f64> {
            let griffin_lim = GriffinLim { iterations, momentum };
            let y = griffin_lim.signal(&stft, &magnitudes, x.len(), &mut Rng::seed(1))?;
            let again = stft.transform(&y)?.magnitudes();
            let sum = |f: &dyn Fn(f64, f64) -> f64| magnitudes.iter().zip(&again).map(|(&a, &b)| f(a, b)).sum::<f64>();
            Ok((sum(&|a, b| (a - b).powi(2)) / sum(&|a, _| a * a)).sqrt())
        };
        let (none, slow, fast) = (off(0, 0.0)?, off(30, 0.0)?, off(30, 0.99)?);
        assert!(none > 2.0 * slow && slow > 1.5 * fast, "{none}, {slow}, {fast}");
        let draw = |seed| GriffinLim::default().signal(&stft, &magnitudes, x.len(), &mut Rng::seed(seed));
        assert!(draw(1)? == draw(1)? && draw(1)? != draw(2)?);
        Ok(())
    }

    #[test]
    fn a_log_mel_comes_back() -> Result<()> {
        let log_mel = LogMel::new(&AudioConfig::default())?;
        let x = sound(12_000);
        let spectrogram = log_mel.of(&x)?;
        let y = GriffinLim::default().from_log_mel(&log_mel, &spectrogram, x.len(), &mut Rng::seed(1))?;
        let again = log_mel.of(&y)?;
        let off = spectrogram.iter().zip(&again).map(|(a, b)| (a - b).abs()).sum::<f64>() / again.len() as f64;
        assert!(off < 0.5, "{off}");
        Ok(())
    }

    #[test]
    fn misuse_is_an_error() -> Result<()> {
        let (rng, griffin_lim) = (&mut Rng::seed(1), GriffinLim::default());
        let log_mel = LogMel::new(&AudioConfig::default())?;
        let stft = &log_mel.front::<f32>().stft;
        assert!(griffin_lim.signal(stft, &[0.0; 513], 100, rng).is_ok_and(|y| y == [0.0; 100]));
        assert!(griffin_lim.signal(stft, &[0.0; 512], 100, rng).is_err());
        assert!(griffin_lim.signal(stft, &[], 0, rng).is_err());
        assert!(griffin_lim.signal(stft, &[0.0; 513], usize::MAX, rng).is_err());
        assert!(griffin_lim.from_log_mel(&log_mel, &[0f32; 81], 100, rng).is_err());
        for momentum in [-0.1, 1.1, f64::NAN] {
            assert!(GriffinLim { momentum, ..griffin_lim }.signal(stft, &[0.0; 513], 100, rng).is_err());
        }
        Ok(())
    }
}
