//! Short-time objective intelligibility.

use super::polyphase::polyphase;
use super::si_sdr::check;
use flows_core::{Error, Result};
use realfft::RealFftPlanner;

/// The rate in Hz at which the measures are defined.
const RATE: usize = 10_000;
/// The length of frames, half of which is the distance between them.
const FRAME: usize = 256;
const HOP: usize = FRAME / 2;
const FFT: usize = 512;
const BANDS: usize = 15;
/// The centre of the lowest third-octave band in Hz.
const LOWEST: f64 = 150.0;
/// The number of frames that are compared at a time.
const SEGMENT: usize = 30;
/// Frames so far in dB under the loudest of the reference do not count.
const RANGE: f64 = 40.0;
/// The lowest ratio of signal to distortion in dB.
const CLIP: f64 = -15.0;

/// The short-time objective intelligibility of a processed recording of speech, at most 1 (Taal, Hendriks, Heusdens and
/// Jensen, 2011): the mean correlation of the envelopes of 15 third-octave bands over 384 ms with those of the clean
/// recording, at 10 kHz and without its silent frames.
///
/// # Errors
/// When the lengths differ, the clean recording has less than about 0.4 s of speech, or the rate cannot be resampled.
pub fn stoi(clean: &[f32], processed: &[f32], rate: usize) -> Result<f64> {
    mean_over_segments(clean, processed, rate, |x, y| {
        let clip = 1.0 + 10f64.powf(-CLIP / 20.0);
        let mut sum = 0.0;
        for (x, y) in x.chunks_exact_mut(SEGMENT).zip(y.chunks_exact_mut(SEGMENT)) {
            let scale = norm(x) / (norm(y) + f64::EPSILON);
            y.iter_mut().zip(&*x).for_each(|(y, x)| *y = (*y * scale).min(clip * x));
            normalise(x);
            normalise(y);
            sum += x.iter().zip(&*y).map(|(x, y)| x * y).sum::<f64>();
        }
        sum / BANDS as f64
    })
}

/// The extended short-time objective intelligibility, at most 1 (Jensen and Taal, 2016): like [`stoi`], but compares
/// spectra whose bands and frames are normalised, which also suits noise that fluctuates.
///
/// # Errors
/// As [`stoi`].
pub fn extended_stoi(clean: &[f32], processed: &[f32], rate: usize) -> Result<f64> {
    mean_over_segments(clean, processed, rate, |x, y| {
        for signal in [&mut *x, &mut *y] {
            signal.chunks_exact_mut(SEGMENT).for_each(normalise);
            for frame in 0..SEGMENT {
                let mut column: Vec<f64> = signal.iter().skip(frame).step_by(SEGMENT).copied().collect();
                normalise(&mut column);
                signal.iter_mut().skip(frame).step_by(SEGMENT).zip(column).for_each(|(to, from)| *to = from);
            }
        }
        x.iter().zip(&*y).map(|(x, y)| x * y).sum::<f64>() / SEGMENT as f64
    })
}

/// The mean of `compare` over all segments, each given as (bands, frames) of both signals.
fn mean_over_segments(
    clean: &[f32],
    processed: &[f32],
    rate: usize,
    compare: impl Fn(&mut [f64], &mut [f64]) -> f64,
) -> Result<f64> {
    check(clean, processed)?;
    let (mut x, mut y) = (at_rate(clean, rate)?, at_rate(processed, rate)?);
    remove_silence(&mut x, &mut y);
    let (x, y) = (envelopes(&x)?, envelopes(&y)?);
    let segments = (x.len() + 1).saturating_sub(SEGMENT);
    if segments == 0 {
        return Err(Error::Data(format!(
            "intelligibility needs {SEGMENT} frames, 0.4 s of speech without silence, and there are {}; give a longer \
             recording",
            x.len()
        )));
    }
    let part = |frames: &[[f64; BANDS]]| -> Vec<f64> {
        (0..BANDS).flat_map(|band| frames.iter().map(move |frame| frame[band])).collect()
    };
    let pairs = x.windows(SEGMENT).zip(y.windows(SEGMENT));
    Ok(pairs.map(|(x, y)| compare(&mut part(x), &mut part(y))).sum::<f64>() / segments as f64)
}

/// Resamples as the published program does. Its filter is less selective than that of [`super::resample`], which shows
/// where a band of the processed recording is all but empty.
fn at_rate(samples: &[f32], rate: usize) -> Result<Vec<f64>> {
    let samples: Vec<f64> = samples.iter().map(|&x| x.into()).collect();
    polyphase(&samples, rate, RATE)
}

/// The Hann window whose ends, which are 0, are left out.
fn window() -> [f64; FRAME] {
    std::array::from_fn(|i| 0.5 - 0.5 * (std::f64::consts::TAU * (i + 1) as f64 / (FRAME + 1) as f64).cos())
}

/// The windowed frames of a signal. As in the published program, one that ends with the signal is left out.
fn frames(signal: &[f64]) -> impl Iterator<Item = [f64; FRAME]> {
    let window = window();
    let starts = (0..signal.len().saturating_sub(FRAME)).step_by(HOP);
    starts.map(move |start| std::array::from_fn(|i| window[i] * signal[start + i]))
}

/// Overlaps and adds the frames that are not silent in x.
fn remove_silence(x: &mut Vec<f64>, y: &mut Vec<f64>) {
    let levels: Vec<f64> = frames(x).map(|frame| 20.0 * (norm(&frame) + f64::EPSILON).log10()).collect();
    let threshold = levels.iter().copied().fold(f64::NEG_INFINITY, f64::max) - RANGE;
    for signal in [x, y] {
        let mut kept = Vec::with_capacity(signal.len());
        for (frame, _) in frames(signal).zip(&levels).filter(|(_, level)| **level > threshold) {
            let start = kept.len().saturating_sub(HOP);
            kept.resize(start + FRAME, 0.0);
            kept[start..].iter_mut().zip(frame).for_each(|(sum, x)| *sum += x);
        }
        *signal = kept;
    }
}

/// The amplitude of each frame in each third-octave band.
fn envelopes(signal: &[f64]) -> Result<Vec<[f64; BANDS]>> {
    // The bins nearest to the edges.
    let edge = |k: f64| (LOWEST * 2f64.powf((2.0 * k - 1.0) / 6.0) * FFT as f64 / RATE as f64).round() as usize;
    let edges: [(usize, usize); BANDS] = std::array::from_fn(|k| (edge(k as f64), edge(k as f64 + 1.0)));
    let transform = RealFftPlanner::new().plan_fft_forward(FFT);
    let mut spectrum = transform.make_output_vec();
    let mut padded = vec![0.0; FFT];
    let envelope = |frame: [f64; FRAME]| {
        padded.fill(0.0);
        padded[..FRAME].copy_from_slice(&frame);
        let done = transform.process(&mut padded, &mut spectrum);
        done.map_err(|e| Error::Internal(format!("a Fourier transform: {e}")))?;
        Ok(edges.map(|(low, high)| spectrum[low..high].iter().map(|z| z.norm_sqr()).sum::<f64>().sqrt()))
    };
    frames(signal).map(envelope).collect()
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Removes the mean and divides by the norm.
fn normalise(x: &mut [f64]) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter_mut().for_each(|x| *x -= mean);
    let norm = norm(x) + f64::EPSILON;
    x.iter_mut().for_each(|x| *x /= norm);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::Rng;

    #[test]
    fn noise_lowers_both_measures() -> Result<()> {
        let mut rng = Rng::seed(3);
        // Noise whose level changes some times a second stands for speech.
        let level = |i: usize| (std::f64::consts::TAU * 3.0 * i as f64 / 16_000.0).sin().powi(2) + 0.02;
        let clean: Vec<f32> = (0..32_000).map(|i| (0.2 * level(i) * rng.normal()) as f32).collect();
        let noise: Vec<f32> = (0..32_000).map(|_| 0.1 * rng.normal() as f32).collect();
        for measure in [stoi, extended_stoi] {
            assert!((measure(&clean, &clean, 16_000)? - 1.0).abs() < 1e-9);
            let mut last = 1.0;
            for gain in [0.3, 1.0, 3.0, 10.0] {
                let noisy: Vec<f32> = clean.iter().zip(&noise).map(|(x, n)| x + gain * n).collect();
                let value = measure(&clean, &noisy, 16_000)?;
                assert!(value < last - 0.01, "{value} after {last}");
                last = value;
            }
            // The gain of the processed signal plays no role.
            let louder: Vec<f32> = clean.iter().map(|x| 2.0 * x).collect();
            assert!((measure(&clean, &louder, 16_000)? - 1.0).abs() < 1e-6);
            assert!(measure(&clean, &clean[1..], 16_000).is_err());
            assert!(measure(&clean[..3000], &clean[..3000], 16_000).unwrap_err().to_string().contains("longer"));
            assert!(measure(&[], &[], 16_000).is_err());
            assert!(measure(&clean, &vec![0.0; 32_000], 16_000)?.abs() < 1e-6);
        }
        Ok(())
    }
}
