//! Segments of clips, drawn at random.

use super::Clips;
use candle_core::{Device, Tensor};
use flows_core::{Error, Result, Rng};

/// Segments of the same length from clips of any.
#[derive(Debug)]
pub struct Segments<'a> {
    clips: &'a Clips,
    length: usize,
    /// The number of samples of the clips up to each.
    ends: Vec<usize>,
}

/// The largest change of the level in either direction, as a logarithm: 6 dB.
const GAIN: f64 = 0.69;

/// Half a step of 16 bits: without noise, what is stored in so many could have any density.
pub(crate) const HALF_STEP: f64 = 0.5 / 32_768.0;

impl<'a> Segments<'a> {
    /// Segments of so many samples; a clip that is shorter is one with silence after it.
    ///
    /// # Errors
    /// When there is no clip or no sample.
    pub fn new(clips: &'a Clips, length: usize) -> Result<Self> {
        if length == 0 || clips.samples() == 0 {
            return Err(Error::Data("there is no audio to draw segments from: give clips of at least a sample".into()));
        }
        let ends = clips.signals.iter().scan(0, |end, signal| {
            *end += signal.len();
            Some(*end)
        });
        let ends = ends.collect();
        Ok(Self { clips, length, ends })
    }

    /// Segments (count, 1, T) of clips that are drawn by their lengths, from any place in them, with a random level and
    /// sign, and with noise of half a step of 16 bits.
    ///
    /// # Errors
    /// When the device fails.
    pub fn draw(&self, count: usize, rng: &mut Rng, device: &Device) -> Result<Tensor> {
        let mut values = Vec::with_capacity(count * self.length);
        for _ in 0..count {
            let place = rng.below(self.ends.last().copied().unwrap_or(1));
            let signal = &self.clips.signals[self.ends.partition_point(|end| *end <= place)];
            let start = rng.below(signal.len().saturating_sub(self.length) + 1);
            let segment = &signal[start..signal.len().min(start + self.length)];
            let gain = (GAIN * (2.0 * rng.uniform() - 1.0)).exp() * if rng.below(2) == 0 { 1.0 } else { -1.0 };
            let padded = segment.iter().copied().chain(std::iter::repeat(0.0)).take(self.length);
            values.extend(padded.map(|x| with_noise(gain * f64::from(x), rng)));
        }
        Ok(Tensor::from_vec(values, (count, 1, self.length), &Device::Cpu)?.to_device(device)?)
    }
}

/// A sample with the noise of half a step of 16 bits.
pub(crate) fn with_noise(x: f64, rng: &mut Rng) -> f32 {
    (x + HALF_STEP * (2.0 * rng.uniform() - 1.0)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_lie_within_clips() -> Result<()> {
        let mut clips = Clips::default();
        clips.push("short".into(), vec![0.5; 10]);
        clips.push("ramp".into(), (0..1000).map(|i| i as f32 / 1000.0).collect());
        let segments = Segments::new(&clips, 64)?;
        let x = segments.draw(50, &mut Rng::seed(1), &Device::Cpu)?;
        assert_eq!(x.dims(), [50, 1, 64]);
        for row in x.squeeze(1)?.to_vec2::<f32>()? {
            let step = row[1] - row[0];
            let straight = row.windows(2).all(|pair| (pair[1] - pair[0] - step).abs() < 1e-3);
            let short = row[20..].iter().all(|x| x.abs() <= HALF_STEP as f32);
            assert!(straight != short, "{row:?}");
        }
        let short = Segments::new(&clips.first(1), 64)?.draw(3, &mut Rng::seed(2), &Device::Cpu)?;
        for row in short.squeeze(1)?.to_vec2::<f32>()? {
            assert!(row[..10].iter().all(|x| x.abs() > 0.2) && row[10..].iter().all(|x| x.abs() <= HALF_STEP as f32));
        }
        assert!(Segments::new(&Clips::default(), 64).is_err());
        Ok(())
    }
}
