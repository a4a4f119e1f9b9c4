//! Silence at the ends of a recording.

use super::{Sound, decibels_to_factor};
use flows_core::{Error, Result};
use std::ops::Range;

/// What counts as silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SilenceConfig {
    /// How far in dB below the loudest frame a frame is silent.
    pub below: f64,
    /// How much is kept before and after what is not silent, in seconds.
    pub margin: f64,
    /// The length of frames in seconds.
    pub frame: f64,
}

impl Default for SilenceConfig {
    fn default() -> Self {
        Self { below: 40.0, margin: 0.05, frame: 0.02 }
    }
}

/// The samples from the first to the last frame that is not silent, with the margin; empty when the sound is silent
/// throughout.
///
/// A frame's level is the root mean square of its samples over all channels.
///
/// # Errors
/// When a setting is out of its range.
pub fn sounding_part(sound: &Sound, config: &SilenceConfig) -> Result<Range<usize>> {
    let SilenceConfig { below, margin, frame } = *config;
    if !(below >= 0.0 && margin >= 0.0 && frame > 0.0) {
        return Err(Error::Config(
            "the silence's `below` and `margin` must be at least 0, and `frame` positive".into(),
        ));
    }
    // Conversions saturate: more than there is means all of it.
    let samples = |seconds: f64| (seconds * sound.rate() as f64).round() as usize;
    let (frame, margin) = (samples(frame).max(1), samples(margin));
    let mut powers = vec![0.0; sound.len().div_ceil(frame)];
    for channel in sound.channels() {
        for (power, part) in powers.iter_mut().zip(channel.chunks(frame)) {
            *power += part.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / part.len() as f64;
        }
    }
    let loudest = powers.iter().copied().fold(0.0, f64::max);
    let sounds = |power: &f64| *power > 0.0 && *power >= loudest * decibels_to_factor(-below).powi(2);
    let (Some(first), Some(last)) = (powers.iter().position(sounds), powers.iter().rposition(sounds)) else {
        return Ok(0..0);
    };
    let end = ((last + 1) * frame).saturating_add(margin).min(sound.len());
    Ok((first * frame).saturating_sub(margin)..end)
}

/// The sound without the silence at its ends: see [`sounding_part`].
///
/// # Errors
/// As [`sounding_part`].
pub fn trim_silence(sound: &Sound, config: &SilenceConfig) -> Result<Sound> {
    Ok(sound.cut(sounding_part(sound, config)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_trimmed_and_pauses_kept() -> Result<()> {
        let mut samples = vec![0.001; 1000];
        for range in [300..400, 600..650] {
            samples[range].fill(0.5);
        }
        let sound = Sound::new(1000, vec![vec![0.0; 1000], samples])?;
        let config = SilenceConfig { below: 40.0, margin: 0.03, frame: 0.01 };
        assert_eq!(sounding_part(&sound, &config)?, 270..680);
        assert_eq!(trim_silence(&sound, &config)?.len(), 410);
        // 0.001 is 54 dB below 0.5.
        assert_eq!(sounding_part(&sound, &SilenceConfig { below: 53.9, ..config })?, 270..680);
        assert_eq!(sounding_part(&sound, &SilenceConfig { below: 54.1, ..config })?, 0..1000);
        assert_eq!(sounding_part(&sound, &SilenceConfig { margin: f64::INFINITY, ..config })?, 0..1000);
        assert_eq!(sounding_part(&sound, &SilenceConfig { frame: f64::INFINITY, ..config })?, 0..1000);
        assert!(trim_silence(&Sound::mono(1000, vec![0.0; 50])?, &config)?.is_empty());
        assert!(trim_silence(&Sound::mono(1000, vec![])?, &config)?.is_empty());
        assert!(sounding_part(&sound, &SilenceConfig { below: -1.0, ..config }).is_err());
        assert!(sounding_part(&sound, &SilenceConfig { frame: f64::NAN, ..config }).is_err());
        Ok(())
    }
}
