//! Fundamental frequency.

use flows_core::{Error, Result};
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use std::sync::Arc;

/// How the fundamental frequency is tracked.
#[derive(Clone, Debug, PartialEq)]
pub struct PitchConfig {
    /// The distance of frames in samples; frame i is centred on sample `i hop`.
    pub hop: usize,
    /// The length of a frame in seconds, at least two periods of `low`.
    pub window: f64,
    /// The lowest frequency in Hz.
    pub low: f64,
    /// The highest frequency in Hz, at most a quarter of the rate.
    pub high: f64,
    /// The normalised autocorrelation, in (0, 1), from which on a frame counts as voiced.
    pub voicing: f64,
    /// The level under the signal's peak, in (0, 1), below which a frame counts as silent.
    pub silence: f64,
}

impl Default for PitchConfig {
    fn default() -> Self {
        Self { hop: 160, window: 0.064, low: 60.0, high: 600.0, voicing: 0.5, silence: 0.03 }
    }
}

/// The fundamental frequency in Hz of each of the `1 + floor(T / hop)` frames of a signal, `None` where it is unvoiced.
///
/// Candidates are the maxima of the normalised autocorrelation `2 sum x_j x_(j+t) / sum (x_j^2 + x_(j+t)^2)` (McLeod
/// and Wyvill, 2005), interpolated by its spectrum and a parabola; the cheapest path through them (Boersma, 1993)
/// avoids octave errors. The signal counts as 0 beyond its ends.
///
/// # Errors
/// When the signal is empty, or a setting is out of its range.
pub fn pitch(samples: &[f32], rate: usize, config: &PitchConfig) -> Result<Vec<Option<f64>>> {
    let frame = Frame::new(rate, config)?;
    if samples.is_empty() {
        return Err(Error::Data("a signal without samples has no pitch; leave it out".into()));
    }
    let (hop, half) = (config.hop, frame.window / 2);
    let peak = samples.iter().fold(0.0, |peak: f64, &x| peak.max(f64::from(x).abs()));
    let mut planned = frame.plan();
    let mut x = vec![0.0; frame.window];
    let mut candidates = Vec::with_capacity(samples.len() / hop + 1);
    for centre in (0..=samples.len()).step_by(hop) {
        for (j, x) in x.iter_mut().enumerate() {
            let sample = (centre + j).checked_sub(half).and_then(|at| samples.get(at));
            *x = sample.map_or(0.0, |&x| f64::from(x));
        }
        candidates.push(frame.candidates(&x, peak, config, &mut planned)?);
    }
    Ok(cheapest_path(&candidates, hop as f64 / rate as f64))
}

/// The median of the voiced frames in Hz, `None` when there are none.
pub fn median_pitch(pitch: &[Option<f64>]) -> Option<f64> {
    let mut voiced: Vec<f64> = pitch.iter().copied().flatten().collect();
    voiced.sort_by(f64::total_cmp);
    let (below, above) = (voiced.get(voiced.len().saturating_sub(1) / 2)?, voiced.get(voiced.len() / 2)?);
    Some(0.5 * (below + above))
}

/// A frequency in Hz, or `None` for unvoiced, and its strength.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    hertz: Option<f64>,
    strength: f64,
}

/// What is the same for all frames.
struct Frame {
    rate: f64,
    window: usize,
    /// The lags that are searched.
    shortest: usize,
    longest: usize,
    /// How many lags a sample are searched: enough that no maximum lies far beside one.
    finer: usize,
}

/// Transforms and their buffers.
struct Planned {
    forward: Arc<dyn RealToComplex<f64>>,
    inverse: Arc<dyn ComplexToReal<f64>>,
    padded: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    correlation: Vec<f64>,
}

impl Frame {
    fn new(rate: usize, config: &PitchConfig) -> Result<Self> {
        /// The least rate of lags in Hz.
        const FINE: f64 = 30_000.0;
        let PitchConfig { hop, window, low, high, voicing, silence } = *config;
        let inside = |x: f64| 0.0 < x && x < 1.0;
        let rate = rate as f64;
        let samples = (rate * window).round();
        let fault = if hop == 0 || !inside(voicing) || !inside(silence) {
            "the pitch's `hop` must be at least 1, `voicing` and `silence` between 0 and 1".to_owned()
        } else if !(0.0 < low && low < high && high <= rate / 4.0) {
            format!("pitch from {low} to {high} Hz: give 0 < `low` < `high` <= {}, a quarter of the rate", rate / 4.0)
        } else if !(samples >= 2.0 * rate / low && samples <= 1e6) {
            format!("a `window` of {window} s has no two periods of {low} Hz, or over 10^6 samples; change it")
        } else {
            let (shortest, longest) = ((rate / high).floor() as usize, (rate / low).ceil() as usize);
            let finer = ((FINE / rate).ceil() as usize).clamp(1, 16).next_power_of_two();
            return Ok(Self { rate, window: samples as usize, shortest, longest, finer });
        };
        Err(Error::Config(fault))
    }

    fn plan(&self) -> Planned {
        // Long enough that no lag wraps around.
        let length = (self.window + self.longest + 2).next_power_of_two();
        let mut planner = RealFftPlanner::new();
        let inverse = planner.plan_fft_inverse(length * self.finer);
        Planned {
            forward: planner.plan_fft_forward(length),
            padded: vec![0.0; length],
            spectrum: inverse.make_input_vec(),
            correlation: inverse.make_output_vec(),
            inverse,
        }
    }

    /// The normalised autocorrelation of a frame at the lags 0, 1 / finer, ... to `longest + 1`.
    fn autocorrelation(&self, x: &[f64], planned: &mut Planned) -> Result<Vec<f64>> {
        let failed = |e: realfft::FftError| Error::Internal(format!("an autocorrelation: {e}"));
        let Planned { forward, inverse, padded, spectrum, correlation } = planned;
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        // Below this is only what rounding leaves of a constant.
        let floor = 1e-12 * x.iter().map(|x| x * x).sum::<f64>();
        let x: Vec<f64> = x.iter().map(|x| x - mean).collect();
        padded.fill(0.0);
        padded[..x.len()].copy_from_slice(&x);
        // The spectrum of the finer autocorrelation is 0 above that of the coarser.
        spectrum.fill(0.0.into());
        let coarse = forward.complex_len();
        forward.process(padded, &mut spectrum[..coarse]).map_err(failed)?;
        spectrum[..coarse].iter_mut().for_each(|z| *z = z.norm_sqr().into());
        if self.finer > 1 {
            spectrum[coarse - 1] *= 0.5;
        }
        inverse.process(spectrum, correlation).map_err(failed)?;

        // The sums of squares at whole lags, and between them a line.
        let mut energy = 2.0 * x.iter().map(|x| x * x).sum::<f64>();
        let mut energies = vec![energy];
        for (first, last) in x.iter().zip(x.iter().rev()).take(self.longest + 2) {
            energy -= first * first + last * last;
            energies.push(energy);
        }
        let scale = 2.0 / padded.len() as f64;
        let fine = correlation.iter().take((self.longest + 1) * self.finer + 1).enumerate();
        let normalised = fine.map(|(i, product)| {
            let (lag, part) = (i / self.finer, (i % self.finer) as f64 / self.finer as f64);
            let (Some(low), Some(high)) = (energies.get(lag), energies.get(lag + 1)) else { return 0.0 };
            let energy = low + part * (high - low);
            if energy > floor { scale * product / energy } else { 0.0 }
        });
        Ok(normalised.collect())
    }

    /// The frequencies that a frame may have, the unvoiced candidate first.
    fn candidates(&self, x: &[f64], peak: f64, config: &PitchConfig, planned: &mut Planned) -> Result<Vec<Candidate>> {
        const MOST: usize = 12;
        /// What a frame loses for each octave that its candidate lies lower: periods repeat.
        const OCTAVE_COST: f64 = 0.01;
        let loudest = x.iter().fold(0.0, |loudest: f64, x| loudest.max(x.abs()));
        let relative = if peak > 0.0 { loudest / peak } else { 0.0 };
        let quiet = (2.0 - relative * (1.0 + config.voicing) / config.silence).max(0.0);
        let mut found = vec![Candidate { hertz: None, strength: config.voicing + quiet }];
        if loudest == 0.0 {
            return Ok(found);
        }
        let r = self.autocorrelation(x, planned)?;
        for (i, near) in r.windows(3).enumerate().skip((self.shortest * self.finer).saturating_sub(1)) {
            let [before, at, after] = near else { continue };
            if !(at > before && at >= after && *at > 0.5 * config.voicing) {
                continue;
            }
            // The vertex of the parabola through three points, within half a step of the middle one.
            let slope = 0.5 * (after - before);
            let bend = 2.0 * at - before - after;
            let shift = slope / bend;
            let (lag, height) = (((i + 1) as f64 + shift) / self.finer as f64, at + 0.5 * slope * shift);
            let hertz = self.rate / lag;
            if hertz >= config.low && hertz <= config.high {
                let strength = height.min(1.0) - OCTAVE_COST * (config.high / hertz).log2();
                found.push(Candidate { hertz: Some(hertz), strength });
            }
        }
        let (_, voiced) = found.split_at_mut(1);
        voiced.sort_by(|a, b| b.strength.total_cmp(&a.strength));
        found.truncate(MOST);
        Ok(found)
    }
}

/// The path of the greatest sum of strengths less the costs of jumps, for frames `step` seconds apart.
fn cheapest_path(candidates: &[Vec<Candidate>], step: f64) -> Vec<Option<f64>> {
    // Boersma's costs are meant for frames 10 ms apart.
    let (octave_jump, voicing_change) = (0.35 * 0.01 / step, 0.14 * 0.01 / step);
    let cost = |from: &Candidate, to: &Candidate| match (from.hertz, to.hertz) {
        (Some(from), Some(to)) => octave_jump * (from / to).log2().abs(),
        (None, None) => 0.0,
        _ => voicing_change,
    };
    let mut totals: Vec<f64> = Vec::new();
    let mut origins: Vec<Vec<usize>> = Vec::with_capacity(candidates.len());
    let mut previous: &[Candidate] = &[];
    for frame in candidates {
        let reach = |to: &Candidate| {
            let ways = previous.iter().zip(&totals).enumerate().map(|(k, (from, total))| (k, total - cost(from, to)));
            let (origin, total) = ways.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
            (origin, total + to.strength)
        };
        let (origin, total) = frame.iter().map(reach).unzip();
        origins.push(origin);
        totals = total;
        previous = frame;
    }
    let best = totals.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    let mut at = best.map_or(0, |(k, _)| k);
    let mut path = Vec::with_capacity(candidates.len());
    for (frame, origin) in candidates.iter().zip(&origins).rev() {
        path.push(frame.get(at).and_then(|candidate| candidate.hertz));
        at = origin.get(at).copied().unwrap_or(0);
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::Rng;
    use std::f64::consts::TAU;

    /// A second of harmonics of this frequency with amplitudes 1, 1/2, 1/3, ...; the first may be missing.
    fn tone(hertz: f64, rate: usize, first: usize) -> Vec<f32> {
        let harmonics = (first..=8).filter(|&k| k as f64 * hertz < 0.45 * rate as f64);
        let at =
            |i: usize, k: usize| 0.2 / k as f64 * (TAU * k as f64 * hertz * i as f64 / rate as f64 + k as f64).sin();
        (0..rate).map(|i| harmonics.clone().map(|k| at(i, k)).sum::<f64>() as f32).collect()
    }

    #[test]
    fn steady_tones_at_all_rates() -> Result<()> {
        for rate in [8000, 16_000, 22_050, 44_100] {
            for (hertz, first) in [(65.0, 1), (98.7, 1), (120.0, 2), (220.0, 1), (431.0, 1), (590.0, 1)] {
                let found =
                    pitch(&tone(hertz, rate, first), rate, &PitchConfig { hop: rate / 100, ..Default::default() })?;
                assert_eq!(found.len(), 101);
                for f0 in &found[5..96] {
                    let cents = 1200.0 * (f0.expect("a voiced frame") / hertz).log2();
                    assert!(cents.abs() < 5.0, "{hertz} Hz at {rate} Hz: {cents} cents");
                }
                assert!((median_pitch(&found).unwrap() / hertz - 1.0).abs() < 3e-3);
            }
        }
        Ok(())
    }

    #[test]
    fn noise_and_silence_have_none() -> Result<()> {
        let mut rng = Rng::seed(1);
        let noise: Vec<f32> = (0..16_000).map(|_| 0.1 * rng.normal() as f32).collect();
        let voiced = pitch(&noise, 16_000, &PitchConfig::default())?.iter().flatten().count();
        assert!(voiced <= 2, "{voiced} of 101 frames of noise have a pitch");
        assert_eq!(median_pitch(&pitch(&[0.0; 4000], 16_000, &PitchConfig::default())?), None);
        assert_eq!(median_pitch(&pitch(&[0.5; 4000], 16_000, &PitchConfig::default())?[4..20]), None);
        // A tone beside which a soft one counts as silence.
        let mut sound = tone(200.0, 16_000, 1);
        sound.extend(tone(200.0, 16_000, 1).iter().map(|x| 0.001 * x));
        let found = pitch(&sound, 16_000, &PitchConfig::default())?;
        assert!(found[5..95].iter().all(Option::is_some) && found[106..195].iter().all(Option::is_none));
        assert_eq!(pitch(&[0.3], 16_000, &PitchConfig::default())?.len(), 1);
        Ok(())
    }

    #[test]
    fn settings_are_checked_and_medians_taken() {
        let said = |config| pitch(&[0.0], 16_000, &config).unwrap_err().to_string();
        let standard = PitchConfig::default;
        assert!(said(PitchConfig { hop: 0, ..standard() }).contains("`hop`"));
        assert!(said(PitchConfig { high: 5000.0, ..standard() }).contains("a quarter"));
        assert!(said(PitchConfig { low: f64::NAN, ..standard() }).contains("`low`"));
        assert!(said(PitchConfig { window: 0.01, ..standard() }).contains("two periods"));
        assert!(said(PitchConfig { voicing: 1.0, ..standard() }).contains("`voicing`"));
        assert!(pitch(&[], 16_000, &standard()).unwrap_err().to_string().contains("without samples"));
        assert_eq!(median_pitch(&[None, Some(3.0), Some(1.0), None]), Some(2.0));
        assert_eq!(median_pitch(&[Some(5.0), Some(3.0), Some(1.0)]), Some(3.0));
    }
}
