//! Mel-frequency cepstral coefficients.

use flows_core::{Error, Result};
use std::f64::consts::PI;

/// The logarithm that is taken of mel energies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnergy {
    /// `ln max(e, 1e-10)`.
    Natural,
    /// `10 log10 max(e, 1e-10)`, not lower than 80 dB under the largest of the signal, as librosa has it.
    Decibels,
}

/// The first `count` mel-frequency cepstral coefficients of each frame, (count, frames): the orthonormal DCT-II of the
/// logarithms of mel energies (bands, frames), both stored row by row.
///
/// Energies are those of mel filters over the power spectrum, `|STFT|^2`.
///
/// # Errors
/// When the energies are no such array, one is negative or not finite, or `count` is 0 or above the number of bands.
pub fn mfcc(energies: &[f64], bands: usize, count: usize, log: LogEnergy) -> Result<Vec<f64>> {
    const FLOOR: f64 = 1e-10;
    const RANGE: f64 = 80.0;
    if energies.iter().any(|e| !(e.is_finite() && *e >= 0.0)) {
        return Err(Error::Data("mel energies must be finite and not negative; give those of |STFT|^2".into()));
    }
    let logarithms: Vec<f64> = match log {
        LogEnergy::Natural => energies.iter().map(|e| e.max(FLOOR).ln()).collect(),
        LogEnergy::Decibels => {
            let decibels = energies.iter().map(|e| 10.0 * e.max(FLOOR).log10());
            let lowest = decibels.clone().fold(f64::NEG_INFINITY, f64::max) - RANGE;
            decibels.map(|db| db.max(lowest)).collect()
        }
    };
    let mut cepstrum = cosine_transform(&logarithms, bands, count)?;
    let frames = logarithms.len() / bands;
    for (d, row) in cepstrum.chunks_exact_mut(frames.max(1)).enumerate() {
        let power = if d == 0 { 1.0 } else { 2.0 };
        let scale = (power / bands as f64).sqrt();
        row.iter_mut().for_each(|c| *c *= scale);
    }
    Ok(cepstrum)
}

/// `c_d = sum_m x_m cos(pi d (m + 1/2) / bands)` for d from 0 to `count - 1`, of each column of x (bands, frames).
pub(super) fn cosine_transform(x: &[f64], bands: usize, count: usize) -> Result<Vec<f64>> {
    if bands == 0 || !x.len().is_multiple_of(bands) {
        return Err(Error::shape("the mel spectrogram", &[x.len()], format!("({bands}, frames), row by row")));
    }
    if count == 0 || count > bands {
        return Err(Error::Config(format!("{count} cepstral coefficients of {bands} bands: give 1 to {bands}")));
    }
    let frames = x.len() / bands;
    let mut cepstrum = vec![0.0; count * frames];
    for (d, row) in cepstrum.chunks_exact_mut(frames.max(1)).enumerate() {
        for (m, band) in x.chunks_exact(frames.max(1)).enumerate() {
            let weight = (PI * d as f64 * (m as f64 + 0.5) / bands as f64).cos();
            row.iter_mut().zip(band).for_each(|(c, x)| *c += weight * x);
        }
    }
    Ok(cepstrum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_orthonormal() -> Result<()> {
        // e^x for a unit vector x in each of 5 frames gives the transform's columns.
        let bands = 5;
        let unit: Vec<f64> = (0..25).map(|i| if i / 5 == i % 5 { 1f64.exp() } else { 1.0 }).collect();
        let c = mfcc(&unit, bands, bands, LogEnergy::Natural)?;
        for i in 0..bands {
            for j in 0..bands {
                let product: f64 = (0..bands).map(|d| c[d * bands + i] * c[d * bands + j]).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
        // Rising energies have a negative first coefficient.
        assert!(mfcc(&[1.0, 2.0, 3.0], 3, 2, LogEnergy::Natural)?[1] < 0.0);
        Ok(())
    }

    #[test]
    fn decibels_have_a_floor() -> Result<()> {
        let c = mfcc(&[1.0, 0.0], 1, 1, LogEnergy::Decibels)?;
        assert_eq!(c, [0.0, -80.0]);
        assert_eq!(mfcc(&[0.0], 1, 1, LogEnergy::Decibels)?, [-100.0]);
        assert!(mfcc(&[], 4, 2, LogEnergy::Natural)?.is_empty());
        assert!(mfcc(&[1.0; 5], 2, 1, LogEnergy::Natural).unwrap_err().to_string().contains("[5]"));
        assert!(mfcc(&[1.0; 4], 2, 3, LogEnergy::Natural).unwrap_err().to_string().contains("give 1 to 2"));
        assert!(mfcc(&[1.0; 4], 0, 1, LogEnergy::Natural).is_err());
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(mfcc(&[bad], 1, 1, LogEnergy::Natural).is_err());
        }
        Ok(())
    }
}
