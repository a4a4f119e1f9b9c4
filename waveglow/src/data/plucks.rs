//! Sounds made in code.

use flows_core::Rng;
use std::f64::consts::TAU;

/// The standard deviation of the noise behind the sounds, as in a quiet room.
const NOISE: f64 = 5e-4;

/// A few seconds of plucked strings and bells at a sampling rate in Hz: notes of a random scale at random times, with a
/// peak of 0.7 and faint noise.
///
/// A string is a delay line with a low-pass filter in its loop, started by noise (Karplus and Strong, 1983); a bell is a
/// sum of decaying tones at inharmonic multiples.
pub fn plucks(rate: usize, seconds: f64, rng: &mut Rng) -> Vec<f32> {
    let samples = (seconds * rate as f64).ceil() as usize;
    let mut sound = vec![0f64; samples];
    // A pentatonic scale on a random note from 110 to 220 Hz.
    let root = 110.0 * 2f64.powf(rng.uniform());
    let mut start = 0;
    while start < samples {
        let degree = [0.0, 2.0, 4.0, 7.0, 9.0][rng.below(5)] + 12.0 * rng.below(2) as f64;
        let (pitch, level) = (root * 2f64.powf(degree / 12.0), 0.3 + 0.7 * rng.uniform());
        let room = &mut sound[start..];
        if rng.below(4) == 0 {
            bell(room, pitch * 2.0, level, rate, rng)
        } else {
            string(room, pitch, level, rate, rng)
        }
        start += ((0.12 + 0.38 * rng.uniform()) * rate as f64) as usize + 1;
    }
    let peak = sound.iter().fold(1e-9, |peak: f64, x| peak.max(x.abs()));
    sound.into_iter().map(|x| (0.7 * x / peak + NOISE * rng.normal()) as f32).collect()
}

fn string(sound: &mut [f64], pitch: f64, level: f64, rate: usize, rng: &mut Rng) {
    // The filter delays by half a sample; what is left of the period is made up by interpolation.
    let period = rate as f64 / pitch - 0.5;
    let (whole, part) = (period.floor().max(1.0) as usize, period.fract());
    let mut line: Vec<f64> = (0..whole + 2).map(|_| 2.0 * rng.uniform() - 1.0).collect();
    let decay = 0.5 * (0.01f64).powf(1.0 / (pitch * (1.0 + 1.5 * rng.uniform())));
    let (n, mut last) = (line.len(), 0.0);
    for (i, sample) in sound.iter_mut().enumerate() {
        let tap = |back: usize| line[(i + n - back) % n];
        let delayed = (1.0 - part) * tap(whole) + part * tap(whole + 1);
        let next = decay * (delayed + last);
        last = delayed;
        line[i % n] = next;
        *sample += level * next;
    }
}

fn bell(sound: &mut [f64], pitch: f64, level: f64, rate: usize, rng: &mut Rng) {
    for (ratio, weight, seconds) in [(1.0, 1.0, 1.2), (2.76, 0.6, 0.7), (5.4, 0.35, 0.4), (8.93, 0.2, 0.25)] {
        let frequency = pitch * ratio / rate as f64;
        if frequency >= 0.45 {
            continue;
        }
        let (phase, decay) = (TAU * rng.uniform(), (-1.0 / (seconds * rate as f64)).exp());
        let mut weight = 0.5 * level * weight;
        for (i, sample) in sound.iter_mut().enumerate() {
            *sample += weight * (TAU * (frequency * i as f64).fract() + phase).sin();
            weight *= decay;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_sound_and_strings_have_their_pitch() {
        let sound = |seed| plucks(16_000, 1.5, &mut Rng::seed(seed));
        assert_eq!(sound(1), sound(1));
        assert_ne!(sound(1), sound(2));
        assert_eq!(sound(3).len(), 24_000);
        let peak = sound(4).iter().fold(0f32, |peak, x| peak.max(x.abs()));
        assert!((peak - 0.7).abs() < 3e-3);
        let mut tone = vec![0.0; 16_000];
        string(&mut tone, 220.0, 1.0, 16_000, &mut Rng::seed(5));
        // The autocorrelation is largest at the period, of 72.7 samples.
        let correlation = |lag: usize| (4000..12_000).map(|i| tone[i] * tone[i + lag]).sum::<f64>();
        let best = (50..100).max_by(|a, b| correlation(*a).total_cmp(&correlation(*b)));
        assert!(matches!(best, Some(72 | 73)), "{best:?}");
    }
}
