//! Levels and loudness.

use super::Sound;
use flows_core::{Error, Result};
use std::f64::consts::PI;

/// The factor on amplitudes of a level in dB, `10^(level / 20)`.
pub fn decibels_to_factor(decibels: f64) -> f64 {
    10f64.powf(decibels / 20.0)
}

/// The root mean square of all samples in dB relative to full scale, minus infinity if all are 0 or there are none.
pub fn level(sound: &Sound) -> f64 {
    let square: f64 = sound.channels().iter().flatten().map(|&x| f64::from(x).powi(2)).sum();
    let count = sound.len() * sound.channels().len();
    10.0 * (square / count.max(1) as f64).log10()
}

/// Scales a sound so that its largest absolute sample is at this level in dB relative to full scale.
///
/// # Errors
/// When the sound is silent or the level not finite.
pub fn with_peak(sound: &Sound, decibels: f64) -> Result<Sound> {
    scaled(sound, decibels, 20.0 * f64::from(sound.peak()).log10())
}

/// Scales a sound so that its [`level`] is this one in dB. Samples may then exceed full scale.
///
/// # Errors
/// When the sound is silent or the level not finite.
pub fn with_level(sound: &Sound, decibels: f64) -> Result<Sound> {
    scaled(sound, decibels, level(sound))
}

/// Scales a sound so that its [`loudness`] is this one in LUFS. Samples may then exceed full scale.
///
/// # Errors
/// As [`loudness`]; when no part is loud enough to be measured, or `lufs` is not finite.
pub fn with_loudness(sound: &Sound, lufs: f64) -> Result<Sound> {
    scaled(sound, lufs, loudness(sound)?)
}

fn scaled(sound: &Sound, wanted: f64, has: f64) -> Result<Sound> {
    if !wanted.is_finite() {
        return Err(Error::Config(format!("a level of {wanted} dB cannot be reached; give a finite one")));
    }
    if !has.is_finite() {
        return Err(Error::Data("silence cannot be made louder; leave the sound out".into()));
    }
    sound.scaled(decibels_to_factor(wanted - has))
}

/// The integrated loudness in LUFS of sound of one or two channels (ITU-R BS.1770-4): the mean power of K-weighted
/// blocks of 400 ms, overlapping by 75 %, of those above -70 LUFS and then those less than 10 LU under their mean;
/// minus infinity when there are none.
///
/// # Errors
/// When there are more than two channels, whose places are not known, or the rate is below 8,000 Hz.
pub fn loudness(sound: &Sound) -> Result<f64> {
    const ABSOLUTE: f64 = -70.0;
    const RELATIVE: f64 = -10.0;
    let rate = sound.rate();
    if sound.channels().len() > 2 || rate < 8000 {
        return Err(Error::Data(format!(
            "loudness is that of 1 or 2 channels at 8000 Hz or more, not of {} at {rate} Hz; mix or resample the sound",
            sound.channels().len()
        )));
    }
    let step = rate / 10;
    // The power of the blocks, from sums over their quarters.
    let mut powers = vec![0.0; (sound.len() / step).saturating_sub(3)];
    for channel in sound.channels() {
        let weighted = k_weighting(rate).into_iter().fold(samples(channel), |x, filter| filter.apply(x));
        let quarters: Vec<f64> = weighted.chunks_exact(step).map(|part| part.iter().map(|x| x * x).sum()).collect();
        for (power, quarters) in powers.iter_mut().zip(quarters.windows(4)) {
            *power += quarters.iter().sum::<f64>() / (4 * step) as f64;
        }
    }
    let lufs = |power: f64| -0.691 + 10.0 * power.log10();
    let mean_above = |gate: f64| {
        let loud = powers.iter().filter(|power| lufs(**power) > gate);
        let (sum, count) = loud.fold((0.0, 0), |(sum, count), power| (sum + power, count + 1));
        if count == 0 { f64::NEG_INFINITY } else { lufs(sum / f64::from(count)) }
    };
    Ok(mean_above(ABSOLUTE.max(mean_above(ABSOLUTE) + RELATIVE)))
}

fn samples(channel: &[f32]) -> Vec<f64> {
    channel.iter().map(|&x| x.into()).collect()
}

/// A filter `(b0 + b1 / z + b2 / z^2) / (1 + a1 / z + a2 / z^2)`.
#[derive(Clone, Copy, Debug)]
struct Biquad {
    b: [f64; 3],
    a: [f64; 2],
}

impl Biquad {
    fn apply(self, mut x: Vec<f64>) -> Vec<f64> {
        let (mut first, mut second) = (0.0, 0.0);
        for x in &mut x {
            let input = *x;
            *x = self.b[0] * input + first;
            first = self.b[1] * input - self.a[0] * *x + second;
            second = self.b[2] * input - self.a[1] * *x;
        }
        x
    }
}

/// The shelf and the high-pass of the K-weighting at any rate: the bilinear transforms of the analogue filters that
/// give the coefficients in the recommendation at 48 kHz.
fn k_weighting(rate: usize) -> [Biquad; 2] {
    let warped = |hertz: f64| (PI * hertz / rate as f64).tan();
    let (k, q) = (warped(1_681.974_450_955_533), 0.707_175_236_955_419_6);
    let high = decibels_to_factor(3.999_843_853_973_347);
    let middle = high.powf(0.499_666_774_154_541_6);
    let scale = 1.0 / (1.0 + k / q + k * k);
    let shelf = Biquad {
        b: [
            (high + middle * k / q + k * k) * scale,
            2.0 * (k * k - high) * scale,
            (high - middle * k / q + k * k) * scale,
        ],
        a: [2.0 * (k * k - 1.0) * scale, (1.0 - k / q + k * k) * scale],
    };
    let (k, q) = (warped(38.135_470_876_024_44), 0.500_327_037_323_877_3);
    let scale = 1.0 / (1.0 + k / q + k * k);
    let high_pass = Biquad { b: [1.0, -2.0, 1.0], a: [2.0 * (k * k - 1.0) * scale, (1.0 - k / q + k * k) * scale] };
    [shelf, high_pass]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: usize, seconds: f64, hertz: f64, decibels: f64) -> Vec<f32> {
        let peak = decibels_to_factor(decibels);
        let at = |i: usize| (peak * (2.0 * PI * hertz * i as f64 / rate as f64).sin()) as f32;
        (0..(seconds * rate as f64) as usize).map(at).collect()
    }

    #[test]
    fn the_weighting_is_the_recommendations() {
        let [shelf, high_pass] = k_weighting(48_000);
        let want = [1.535_124_859_586_97, -2.691_696_189_406_38, 1.198_392_810_852_85];
        assert!(shelf.b.iter().zip(want).all(|(b, want)| (b - want).abs() < 1e-10), "{shelf:?}");
        let want = [-1.690_659_293_182_41, 0.732_480_774_215_85];
        assert!(shelf.a.iter().zip(want).all(|(a, want)| (a - want).abs() < 1e-10), "{shelf:?}");
        let want = [-1.990_047_454_833_98, 0.990_072_250_366_21];
        assert!(high_pass.a.iter().zip(want).all(|(a, want)| (a - want).abs() < 1e-10), "{high_pass:?}");
    }

    #[test]
    fn loudness_of_the_test_signals() -> Result<()> {
        // Recommendation: 997 Hz at full scale in one channel gives -3.01 LUFS.
        for (rate, tolerance) in [(16_000, 0.1), (22_050, 0.05), (44_100, 0.02), (48_000, 0.02)] {
            let measured = loudness(&Sound::mono(rate, sine(rate, 3.0, 997.0, 0.0))?)?;
            assert!((measured + 3.01).abs() < tolerance, "{measured} at {rate} Hz");
        }
        // EBU Tech 3341, cases 1 and 3: in both channels, and with softer parts that the gate leaves out.
        let rate = 48_000;
        let both = |samples: Vec<f32>| Sound::new(rate, vec![samples.clone(), samples]);
        assert!((loudness(&both(sine(rate, 20.0, 1000.0, -23.0))?)? + 23.0).abs() < 0.1);
        let parts = [(10.0, -36.0), (60.0, -23.0), (10.0, -36.0)];
        let gated = parts.into_iter().flat_map(|(seconds, level)| sine(rate, seconds, 1000.0, level)).collect();
        assert!((loudness(&both(gated)?)? + 23.0).abs() < 0.1);
        assert_eq!(loudness(&Sound::mono(rate, vec![0.0; 48_000])?)?, f64::NEG_INFINITY);
        assert_eq!(loudness(&Sound::mono(rate, sine(rate, 0.3, 997.0, 0.0))?)?, f64::NEG_INFINITY);
        assert!(loudness(&Sound::new(rate, vec![vec![], vec![], vec![]])?).is_err());
        assert!(loudness(&Sound::mono(4000, vec![])?).is_err());
        Ok(())
    }

    #[test]
    fn sounds_are_scaled_to_levels() -> Result<()> {
        let sound = Sound::new(8000, vec![sine(8000, 1.0, 440.0, -12.0), vec![0.0; 8000]])?;
        assert!((level(&sound) + 12.0 + 20.0 * 2f64.log10()).abs() < 1e-3);
        assert!((with_peak(&sound, -6.0)?.peak() - 0.501_187).abs() < 1e-4);
        assert!((level(&with_level(&sound, -20.0)?) + 20.0).abs() < 1e-4);
        assert!((loudness(&with_loudness(&sound, -23.0)?)? + 23.0).abs() < 1e-3);
        let silence = Sound::mono(8000, vec![0.0; 8000])?;
        assert_eq!(level(&silence), f64::NEG_INFINITY);
        assert_eq!(level(&Sound::mono(8000, vec![])?), f64::NEG_INFINITY);
        for with in [with_peak, with_level, with_loudness] {
            assert!(with(&silence, -6.0).unwrap_err().to_string().contains("silence"));
            assert!(with(&sound, f64::NAN).is_err());
            assert!(with(&sound, 1e5).is_err());
        }
        Ok(())
    }
}
