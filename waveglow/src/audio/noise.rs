//! Noise to train denoisers with.

use super::decibels_to_factor;
use flows_core::{Error, Result, Rng};
use realfft::{RealFftPlanner, num_complex::Complex};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// A kind of artificial noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noise {
    /// The same power at all frequencies: independent normal samples.
    White,
    /// The same power in every octave from 20 Hz on: power falls as 1 / f.
    Pink,
    /// A band an octave wide whose centre goes to and fro between 200 Hz and 0.4 of the rate, by random ways.
    SweptBand,
    /// Mains hum: 50 or 60 Hz and its harmonics with random amplitudes and phases.
    Hum,
}

impl Noise {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::White, Self::Pink, Self::SweptBand, Self::Hum];

    /// Draws this many samples of mean square 1 at a rate in Hz.
    ///
    /// # Errors
    /// When there are more than 2^28 samples, or the rate is below 1,000 Hz.
    pub fn draw(self, samples: usize, rate: usize, rng: &mut Rng) -> Result<Vec<f32>> {
        if samples > 1 << 28 || rate < 1000 {
            return Err(Error::Config(format!(
                "{samples} samples of noise at {rate} Hz: give at most 2^28 at 1000 Hz or more"
            )));
        }
        let mut noise = match self {
            Self::White => (0..samples).map(|_| rng.normal()).collect(),
            Self::Pink => pink(samples, rate as f64, rng)?,
            Self::SweptBand => swept_band(samples, rate as f64, rng),
            Self::Hum => hum(samples, rate as f64, rng),
        };
        let square = noise.iter().map(|x| x * x).sum::<f64>() / samples.max(1) as f64;
        if square > 0.0 {
            noise.iter_mut().for_each(|x| *x /= square.sqrt());
        }
        Ok(noise.into_iter().map(|x| x as f32).collect())
    }
}

/// Normal Fourier coefficients of variance 1 / f.
fn pink(samples: usize, rate: f64, rng: &mut Rng) -> Result<Vec<f64>> {
    const LOWEST: f64 = 20.0;
    let length = samples.next_power_of_two().max(2);
    let transform = RealFftPlanner::new().plan_fft_inverse(length);
    let mut spectrum = transform.make_input_vec();
    let last = spectrum.len() - 1;
    for (k, z) in spectrum.iter_mut().enumerate() {
        let hertz = k as f64 * rate / length as f64;
        let size = hertz.max(LOWEST).powf(-0.5);
        *z = Complex::new(size * rng.normal(), size * rng.normal());
        // The mean is 0, and the coefficients at both ends are real.
        if k == 0 || k == last {
            *z = Complex::new(if k == 0 { 0.0 } else { z.re }, 0.0);
        }
    }
    let mut noise = transform.make_output_vec();
    let done = transform.process(&mut spectrum, &mut noise);
    done.map_err(|e| Error::Internal(format!("a Fourier transform: {e}")))?;
    noise.truncate(samples);
    Ok(noise)
}

/// White noise through a state-variable band-pass filter (Simper's, stable at any speed of change) whose centre moves.
fn swept_band(samples: usize, rate: f64, rng: &mut Rng) -> Vec<f64> {
    const LOWEST: f64 = 200.0;
    /// An octave's width is this fraction of its centre.
    const DAMPING: f64 = std::f64::consts::FRAC_1_SQRT_2;
    let octaves = (0.4 * rate / LOWEST).log2().max(0.0);
    let (mut at, mut speed) = (octaves * rng.uniform(), 0.0);
    let (mut left, mut first, mut second) = (0usize, 0.0, 0.0);
    let mut noise = Vec::with_capacity(samples);
    for _ in 0..samples {
        if left == 0 {
            // To a new place, in 0.2 to 1 s.
            let seconds = 0.2 + 0.8 * rng.uniform();
            left = (seconds * rate) as usize + 1;
            speed = (octaves * rng.uniform() - at) / left as f64;
        }
        left -= 1;
        at += speed;
        let g = (0.5 * TAU * LOWEST * at.exp2() / rate).tan();
        let band = (g * (rng.normal() - second) + first) / (1.0 + g * (g + DAMPING));
        let low = second + g * band;
        (first, second) = (2.0 * band - first, 2.0 * low - second);
        noise.push(band);
    }
    noise
}

/// Up to 20 harmonics below 0.45 of the rate, whose amplitudes fall as 1 / k on average.
fn hum(samples: usize, rate: f64, rng: &mut Rng) -> Vec<f64> {
    let mains = [50.0, 60.0][rng.below(2)];
    let mut noise = vec![0.0; samples];
    for k in (1..=20).map(f64::from).take_while(|k| k * mains < 0.45 * rate) {
        let (size, phase) = ((0.1 + rng.uniform()) / k, TAU * rng.uniform());
        let step = TAU * k * mains / rate;
        noise.iter_mut().enumerate().for_each(|(i, x)| *x += size * (step * i as f64 + phase).sin());
    }
    noise
}

/// `clean` plus the multiple of `noise` that gives this signal-to-noise ratio in dB, and that multiple alone.
///
/// Noise that is longer is cut, noise that is shorter repeated.
///
/// # Errors
/// When the ratio is not finite, there is no noise, or either signal is silent.
pub fn mix_at_snr(clean: &[f32], noise: &[f32], snr: f64) -> Result<(Vec<f32>, Vec<f32>)> {
    let energy = |x: &mut dyn Iterator<Item = &f32>| x.map(|&x| f64::from(x).powi(2)).sum::<f64>();
    let repeated = || noise.iter().cycle().take(clean.len());
    let (signal, disturbance) = (energy(&mut clean.iter()), energy(&mut repeated()));
    let scale = decibels_to_factor(-snr) * (signal / disturbance).sqrt();
    if !(snr.is_finite() && scale.is_finite() && scale > 0.0) {
        return Err(Error::Data(format!(
            "a signal of energy {signal} and noise of energy {disturbance} cannot be mixed at {snr} dB; give sound \
             that is not silent, and a finite ratio"
        )));
    }
    let scaled: Vec<f32> = repeated().map(|&n| (scale * f64::from(n)) as f32).collect();
    Ok((clean.iter().zip(&scaled).map(|(x, n)| x + n).collect(), scaled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::snr;

    /// The shares of power in octaves below half the rate, the highest first.
    fn octaves(noise: &[f32]) -> Vec<f64> {
        let transform = RealFftPlanner::new().plan_fft_forward(noise.len());
        let mut x: Vec<f64> = noise.iter().map(|&x| x.into()).collect();
        let mut spectrum = transform.make_output_vec();
        transform.process(&mut x, &mut spectrum).unwrap();
        let total: f64 = spectrum.iter().map(|z| z.norm_sqr()).sum();
        let bins = |octave: u32| (noise.len() >> (octave + 2))..(noise.len() >> (octave + 1));
        (0..6).map(|octave| spectrum[bins(octave)].iter().map(|z| z.norm_sqr()).sum::<f64>() / total).collect()
    }

    #[test]
    fn kinds_have_their_spectra() -> Result<()> {
        let mut rng = Rng::seed(5);
        for noise in Noise::ALL {
            let x = noise.draw(1 << 16, 16_000, &mut rng.clone())?;
            assert_eq!(x, noise.draw(1 << 16, 16_000, &mut rng)?);
            let square = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64;
            assert!((square - 1.0).abs() < 1e-5, "{noise:?}");
            let shares = octaves(&x);
            match noise {
                Noise::White => assert!((0..5).all(|k| (shares[k] / shares[k + 1] / 2.0 - 1.0).abs() < 0.15)),
                Noise::Pink => assert!((0..5).all(|k| (shares[k] / shares[k + 1] - 1.0).abs() < 0.3), "{shares:?}"),
                Noise::SweptBand => assert!(shares[..5].iter().sum::<f64>() > 0.9, "{shares:?}"),
                Noise::Hum => assert!(shares[..2].iter().sum::<f64>() < 1e-4, "{shares:?}"),
            }
            for samples in [0, 1, 2, 3] {
                assert_eq!(noise.draw(samples, 8000, &mut rng)?.len(), samples);
            }
        }
        assert!(Noise::White.draw(1, 10, &mut rng).is_err());
        assert!(Noise::Pink.draw(usize::MAX, 8000, &mut rng).is_err());
        Ok(())
    }

    #[test]
    fn a_swept_band_moves() -> Result<()> {
        let x = Noise::SweptBand.draw(1 << 16, 16_000, &mut Rng::seed(2))?;
        // The loudest octave of quarter seconds.
        let loudest = |part: &[f32]| {
            let shares = octaves(part);
            (0..6).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap()
        };
        let mut places: Vec<usize> = x.chunks_exact(4096).map(loudest).collect();
        places.sort();
        places.dedup();
        assert!(places.len() >= 3, "{places:?}");
        Ok(())
    }

    #[test]
    fn mixtures_have_their_ratio() -> Result<()> {
        let mut rng = Rng::seed(6);
        let clean: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.05).sin()).collect();
        let noise = Noise::White.draw(1700, 16_000, &mut rng)?;
        for ratio in [-10.0, 0.0, 7.5, 40.0] {
            let (mixed, added) = mix_at_snr(&clean, &noise, ratio)?;
            assert!((snr(&clean, &mixed)? - ratio).abs() < 0.01);
            assert!((0..5000).all(|i| mixed[i] == clean[i] + added[i]) && added[1700] == added[0]);
        }
        for (clean, noise, ratio) in [(&clean[..], &[][..], 0.0), (&[0.0; 4], &noise, 0.0), (&clean, &noise, f64::NAN)]
        {
            assert!(mix_at_snr(clean, noise, ratio).unwrap_err().to_string().contains("silent"));
        }
        assert!(mix_at_snr(&clean, &[0.0; 9], 0.0).is_err());
        Ok(())
    }
}
