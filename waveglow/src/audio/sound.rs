//! Sound in memory.

use flows_core::{Error, Result};
use std::ops::Range;

/// Sound of one or more channels of the same length. Full scale is 1; samples are finite, but may lie beyond it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    rate: usize,
    channels: Vec<Vec<f32>>,
}

impl Sound {
    /// Sound of these channels at a sampling rate in Hz.
    ///
    /// Channels without samples are allowed, for what only reads or describes sound: see [`Sound::check_not_empty`].
    ///
    /// # Errors
    /// When the rate is 0, there is no channel, the lengths differ, or a sample is NaN or infinite (the message names
    /// the first).
    pub fn new(rate: usize, channels: Vec<Vec<f32>>) -> Result<Self> {
        let length = channels.first().map(Vec::len);
        let fault = if rate == 0 {
            "the sampling rate is 0 Hz; state the true one".to_owned()
        } else if length.is_none() {
            "there is no channel; give at least one".to_owned()
        } else if channels.iter().any(|channel| Some(channel.len()) != length) {
            let lengths: Vec<usize> = channels.iter().map(Vec::len).collect();
            format!("the channels have {lengths:?} samples; give all the same number")
        } else if let Some((channel, sample, value)) = first_not_finite(&channels) {
            format!("sample {sample} of channel {channel} is {value}; repair the sound, or cut that part out")
        } else {
            return Ok(Self { rate, channels });
        };
        Err(Error::Data(fault))
    }

    /// Sound of one channel at a sampling rate in Hz.
    ///
    /// # Errors
    /// As [`Sound::new`].
    pub fn mono(rate: usize, samples: Vec<f32>) -> Result<Self> {
        Self::new(rate, vec![samples])
    }

    /// The sampling rate in Hz.
    pub fn rate(&self) -> usize {
        self.rate
    }

    /// The samples of each channel.
    pub fn channels(&self) -> &[Vec<f32>] {
        &self.channels
    }

    /// The samples of each channel.
    pub fn into_channels(self) -> Vec<Vec<f32>> {
        self.channels
    }

    /// The number of samples of each channel.
    pub fn len(&self) -> usize {
        self.channels.first().map_or(0, Vec::len)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks that there is a sample, as training and spectrograms require.
    ///
    /// # Errors
    /// When there is none.
    pub fn check_not_empty(&self) -> Result<()> {
        if self.is_empty() {
            return Err(Error::Data("the sound has no samples; leave it out, or record it again".into()));
        }
        Ok(())
    }

    /// The duration in seconds.
    pub fn seconds(&self) -> f64 {
        self.len() as f64 / self.rate as f64
    }

    /// The largest absolute sample, 0 if there is none.
    pub fn peak(&self) -> f32 {
        self.channels.iter().flatten().fold(0.0, |peak, x| peak.max(x.abs()))
    }

    /// The mean of the channels, sample by sample.
    pub fn mix(&self) -> Vec<f32> {
        let mut sum = vec![0.0; self.len()];
        for channel in &self.channels {
            sum.iter_mut().zip(channel).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let share = 1.0 / self.channels.len() as f64;
        sum.into_iter().map(|sum| (share * sum) as f32).collect()
    }

    /// The mean of the channels as sound of one.
    #[must_use]
    pub fn into_mono(self) -> Self {
        if self.channels.len() == 1 {
            return self;
        }
        Self { rate: self.rate, channels: vec![self.mix()] }
    }

    /// The samples of this range, as far as there are any.
    #[must_use]
    pub fn cut(&self, range: Range<usize>) -> Self {
        let end = range.end.min(self.len());
        let range = range.start.min(end)..end;
        let part = |channel: &Vec<f32>| channel.get(range.clone()).map(<[f32]>::to_vec).unwrap_or_default();
        Self { rate: self.rate, channels: self.channels.iter().map(part).collect() }
    }

    /// The samples times a factor.
    ///
    /// # Errors
    /// When a product is NaN or infinite.
    pub fn scaled(&self, factor: f64) -> Result<Self> {
        let scaled = |channel: &Vec<f32>| channel.iter().map(|&x| (factor * f64::from(x)) as f32).collect();
        Self::new(self.rate, self.channels.iter().map(scaled).collect())
    }
}

/// The channel and the place of the first sample that is NaN or infinite, and its value.
fn first_not_finite(channels: &[Vec<f32>]) -> Option<(usize, usize, f32)> {
    let first = |samples: &Vec<f32>| samples.iter().position(|x| !x.is_finite());
    channels.iter().enumerate().find_map(|(c, samples)| first(samples).map(|i| (c, i, samples[i])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let said = |rate, channels| Sound::new(rate, channels).unwrap_err().to_string();
        assert!(said(0, vec![vec![0.0]]).contains("rate is 0"));
        assert!(said(8000, vec![]).contains("no channel"));
        assert!(said(8000, vec![vec![0.0], vec![]]).contains("[1, 0] samples"));
        let odd = vec![vec![0.0; 3], vec![0.0, 1.0, f32::NAN]];
        assert!(said(8000, odd).contains("sample 2 of channel 1 is NaN"));
        assert!(said(8000, vec![vec![f32::NEG_INFINITY]]).contains("sample 0 of channel 0 is -inf"));
        let empty = Sound::mono(8000, vec![]).unwrap();
        assert!(empty.check_not_empty().unwrap_err().to_string().contains("no samples"));
        assert!(Sound::mono(8000, vec![0.0]).unwrap().check_not_empty().is_ok());
    }

    #[test]
    fn mixing_and_cutting() {
        let sound = Sound::new(4, vec![vec![1.0, 0.5, 0.0], vec![-0.5, 0.5, 3.0]]).unwrap();
        assert_eq!(sound.mix(), [0.25, 0.5, 1.5]);
        assert_eq!((sound.len(), sound.seconds(), sound.peak()), (3, 0.75, 3.0));
        assert_eq!(sound.cut(1..9).channels(), [[0.5, 0.0], [0.5, 3.0]]);
        assert!(sound.cut(7..9).is_empty());
        let backwards = Range { start: 2, end: 1 };
        assert!(sound.cut(backwards).is_empty());
        assert_eq!(sound.clone().into_mono().channels(), [[0.25, 0.5, 1.5]]);
        assert_eq!(sound.scaled(-2.0).unwrap().channels(), [[-2.0, -1.0, -0.0], [1.0, -1.0, -6.0]]);
        assert!(sound.scaled(1e39).is_err());
    }
}
