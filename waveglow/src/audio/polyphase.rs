//! Resampling by a short filter, for a measure that is defined with one.

use flows_core::{Error, Result};
use std::f64::consts::PI;

/// Samples at the rate `from` in Hz as samples at the rate `to`, `ceil(n * to / from)` of them, by the filter of
/// Octave's `resample`: a sinc in a Kaiser window, 60 dB of rejection, a transition of a tenth of its cutoff.
///
/// # Errors
/// When the ratio of the rates in lowest terms has a term above 2^16.
pub(super) fn polyphase(samples: &[f64], from: usize, to: usize) -> Result<Vec<f64>> {
    const LARGEST_TERM: usize = 1 << 16;
    const REJECTION: f64 = 60.0;
    let divisor = greatest_common_divisor(from, to);
    if from == to || divisor == 0 {
        return Ok(samples.to_vec());
    }
    let (down, up) = (from / divisor, to / divisor);
    if down == 0 || up == 0 || down.max(up) > LARGEST_TERM {
        return Err(Error::Config(format!(
            "{from} Hz to {to} Hz is the ratio {down}:{up}, whose terms must lie between 1 and 2^16; resample the \
             sound to a usual rate first"
        )));
    }
    // The filter at the least common multiple of the rates.
    let cutoff = 0.5 / down.max(up) as f64;
    let half = ((REJECTION - 8.0) / (28.714 * cutoff / 10.0)).ceil();
    let bend = 0.1102 * (REJECTION - 8.7);
    let tap = |t: f64| {
        let angle = 2.0 * PI * cutoff * t;
        let sinc = if t == 0.0 { 1.0 } else { angle.sin() / angle };
        sinc * bessel_i0(bend * (1.0 - (t / half).powi(2)).max(0.0).sqrt())
    };
    let half = half as usize;
    let mut filter: Vec<f64> = (0..=2 * half).map(|i| tap(i as f64 - half as f64)).collect();
    let scale = up as f64 / filter.iter().sum::<f64>();
    filter.iter_mut().for_each(|h| *h *= scale);
    // Sample i lies at i * down, input k at k * up.
    let sample = |i: usize| {
        let centre = i * down;
        let first = centre.saturating_sub(half).div_ceil(up);
        let inputs = samples.iter().enumerate().skip(first);
        let taps = inputs.map_while(|(k, x)| Some(x * filter.get((centre + half).checked_sub(k * up)?)?));
        taps.sum()
    };
    Ok((0..(samples.len() * up).div_ceil(down)).map(sample).collect())
}

/// The modified Bessel function of the first kind of order 0, by its series.
fn bessel_i0(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..200 {
        term *= (0.5 * x / f64::from(k)).powi(2);
        sum += term;
        if term < 1e-17 * sum {
            break;
        }
    }
    sum
}

/// The greatest number that divides both.
pub(super) fn greatest_common_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_stay_and_aliases_go() -> Result<()> {
        assert!((bessel_i0(5.0) - 27.239_871_823_604_44).abs() < 1e-10);
        for (from, to) in [(16_000, 10_000), (22_050, 10_000), (8000, 10_000), (44_100, 10_000)] {
            let tone = |hertz: f64, rate: usize, i: usize| (2.0 * PI * hertz * i as f64 / rate as f64 + 0.3).sin();
            let samples: Vec<f64> = (0..from / 5).map(|i| tone(700.0, from, i)).collect();
            let got = polyphase(&samples, from, to)?;
            assert_eq!(got.len(), 2000);
            assert!((200..1800).all(|i| (got[i] - tone(700.0, to, i)).abs() < 2e-3), "{from}");
            if from > 12_000 {
                let alias: Vec<f64> = (0..from / 5).map(|i| tone(5800.0, from, i)).collect();
                assert!(polyphase(&alias, from, to)?[200..1800].iter().all(|y| y.abs() < 3e-3), "{from}");
            }
        }
        assert_eq!(polyphase(&[1.0, 2.0], 10_000, 10_000)?, [1.0, 2.0]);
        assert!(polyphase(&[], 16_000, 10_000)?.is_empty());
        assert!(polyphase(&[1.0], 1_000_003, 10_000).unwrap_err().to_string().contains("ratio"));
        assert!(polyphase(&[1.0], 0, 10_000).is_err());
        Ok(())
    }
}
