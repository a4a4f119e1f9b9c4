//! Resampling.

use super::Sound;
use super::polyphase::greatest_common_divisor;
use flows_core::{Error, Result};
use rayon::prelude::*;
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

/// The same sound at another rate in Hz: its `len` samples become `ceil(len * rate / sound.rate())`, the first at the
/// same time.
///
/// Tones up to 0.85 of half the lower rate keep their amplitude and phase, with errors below -70 dB; those that the
/// lower rate cannot hold are removed.
///
/// # Errors
/// When the rate is 0, or the ratio of the rates in lowest terms has a term above 2^20.
pub fn resample(sound: &Sound, rate: usize) -> Result<Sound> {
    if rate == sound.rate() {
        return Ok(sound.clone());
    }
    let channels = sound.channels().par_iter().map(|channel| resample_samples(channel, sound.rate(), rate));
    Sound::new(rate, channels.collect::<Result<_>>()?)
}

/// Samples at the rate `from` in Hz as samples at the rate `to`: see [`resample`].
///
/// # Errors
/// As [`resample`].
pub fn resample_samples<T: rubato::Sample>(samples: &[T], from: usize, to: usize) -> Result<Vec<T>> {
    /// The least number of samples of a block at the lower rate: the sharpness of the filter.
    const BLOCK: usize = 1024;
    const LARGEST_TERM: usize = 1 << 20;
    if from == 0 || to == 0 {
        return Err(Error::Config(format!("sound at {from} Hz cannot be resampled to {to} Hz; give positive rates")));
    }
    if from == to || samples.is_empty() {
        return Ok(samples.to_vec());
    }
    let divisor = greatest_common_divisor(from, to);
    let (a, b) = (from / divisor, to / divisor);
    if a.max(b) > LARGEST_TERM {
        return Err(Error::Config(format!(
            "{from} Hz to {to} Hz is the ratio {a}:{b}, whose terms are too large; round the rates, for example to a \
             multiple of 10 Hz"
        )));
    }
    // An even number of times the ratio: half a block is the delay, and must be whole samples at both rates.
    let chunk = BLOCK.div_ceil(2 * a.min(b)) * 2 * a;
    let failed = |e: &dyn std::fmt::Display| Error::Internal(format!("resampling from {from} Hz to {to} Hz: {e}"));
    let window = WindowFunction::BlackmanHarris2;
    let mut resampler = Fft::<T>::new_custom(from, to, chunk, 1, 1, window, FixedSync::Both).map_err(|e| failed(&e))?;
    let input = InterleavedSlice::new(samples, 1, samples.len()).map_err(|e| failed(&e))?;
    let mut output = resampler.process_all(&input, samples.len(), None).map_err(|e| failed(&e))?.take_data();
    // The ratio is rounded inside, so that there can be a sample more.
    let length = (samples.len() as u128 * b as u128).div_ceil(a as u128);
    let length = usize::try_from(length).map_err(|e| failed(&e))?;
    if output.len() < length {
        return Err(failed(&format!("{} of {length} samples came", output.len())));
    }
    output.truncate(length);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_exact_and_tones_stay_in_place() -> Result<()> {
        for (from, to) in [(44_100, 22_050), (48_000, 22_050), (16_000, 22_050), (22_050, 16_000), (192_000, 8000)] {
            for length in [1, 2, 3, 147, 1000, 30_001] {
                let tone = |rate: usize, i: usize| (600.0 * i as f64 / rate as f64 + 0.3).sin();
                let samples: Vec<f64> = (0..length).map(|i| tone(from, i)).collect();
                let got = resample_samples(&samples, from, to)?;
                assert_eq!(got.len(), (length * to).div_ceil(from), "{from} -> {to}");
                let margin = 40 * to / 1000;
                for (i, y) in got.iter().enumerate().skip(margin).take(got.len().saturating_sub(2 * margin)) {
                    assert!((y - tone(to, i)).abs() < 1e-5, "{from} -> {to}, sample {i}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn channels_and_odd_rates() -> Result<()> {
        let sound = Sound::new(8000, vec![vec![0.5; 800], vec![-0.25; 800]])?;
        let faster = resample(&sound, 11_025)?;
        assert_eq!((faster.rate(), faster.len()), (11_025, 1103));
        assert!((faster.channels()[0][551] - 0.5).abs() < 1e-4 && (faster.channels()[1][551] + 0.25).abs() < 1e-4);
        assert_eq!(resample(&sound, 8000)?, sound);
        assert!(resample(&Sound::mono(8000, vec![])?, 16_000)?.is_empty());
        assert!(resample(&sound, 0).unwrap_err().to_string().contains("positive"));
        let prime = Sound::mono(2_000_003, vec![0.0])?;
        assert!(resample(&prime, 8000).unwrap_err().to_string().contains("ratio"));
        // A large numerator and a large denominator.
        assert_eq!(resample(&sound, 8001)?.len(), 801);
        Ok(())
    }
}
