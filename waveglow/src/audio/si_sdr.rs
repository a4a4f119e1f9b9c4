//! Ratios of signal to distortion.

use flows_core::{Error, Result};

/// The signal-to-noise ratio of an estimate in dB, `10 log10(|s|^2 / |s' - s|^2)` for a reference s and an estimate s';
/// infinite when they agree.
///
/// # Errors
/// When the lengths differ, or the reference is silent.
pub fn snr(reference: &[f32], estimate: &[f32]) -> Result<f64> {
    check(reference, estimate)?;
    let signal: f64 = reference.iter().map(|&s| f64::from(s).powi(2)).sum();
    let noise: f64 = pairs(reference, estimate).map(|(s, e)| (e - s).powi(2)).sum();
    if signal == 0.0 {
        return Err(silent());
    }
    Ok(10.0 * (signal / noise).log10())
}

/// The scale-invariant signal-to-distortion ratio of an estimate in dB (Le Roux et al., 2019): the ratio of
/// `|a s|^2` to `|s' - a s|^2` with the a that makes it largest, means removed.
///
/// It does not change when the estimate is scaled or shifted in value; infinite when nothing else differs.
///
/// # Errors
/// When the lengths differ, or either signal is constant.
pub fn si_sdr(reference: &[f32], estimate: &[f32]) -> Result<f64> {
    check(reference, estimate)?;
    let mean = |x: &[f32]| x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
    let (of_reference, of_estimate) = (mean(reference), mean(estimate));
    let centred = || pairs(reference, estimate).map(|(s, e)| (s - of_reference, e - of_estimate));
    let product: f64 = centred().map(|(s, e)| s * e).sum();
    let (signal, power) = centred().fold((0.0, 0.0), |(a, b), (s, e)| (a + s * s, b + e * e));
    if signal == 0.0 || power == 0.0 {
        return Err(silent());
    }
    let scale = product / signal;
    let rest: f64 = centred().map(|(s, e)| (e - scale * s).powi(2)).sum();
    Ok(10.0 * (scale * scale * signal / rest).log10())
}

fn pairs(a: &[f32], b: &[f32]) -> impl Iterator<Item = (f64, f64)> {
    a.iter().zip(b).map(|(&a, &b)| (a.into(), b.into()))
}

fn silent() -> Error {
    Error::Data("a silent or constant signal has no ratio of signal to distortion; leave it out".into())
}

/// Checks that signals can be compared sample by sample.
pub(super) fn check(reference: &[f32], estimate: &[f32]) -> Result<()> {
    if reference.len() != estimate.len() {
        return Err(Error::shape(
            "the estimate",
            &[estimate.len()],
            format!("({}), as the reference", reference.len()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_by_hand() -> Result<()> {
        let (s, noise) = ([1.0, -1.0, 1.0, -1.0], [0.1, 0.1, -0.1, -0.1]);
        let estimate: Vec<f32> = s.iter().zip(noise).map(|(s, n)| s + n).collect();
        assert!((snr(&s, &estimate)? - 20.0).abs() < 1e-5);
        assert!((si_sdr(&s, &estimate)? - 20.0).abs() < 1e-5);
        // Scaled and shifted: the one ratio suffers, the other does not.
        let moved: Vec<f32> = estimate.iter().map(|e| 0.7 - 3.0 * e).collect();
        assert!((si_sdr(&s, &moved)? - 20.0).abs() < 1e-4);
        assert!(snr(&s, &moved)? < -11.0);
        assert_eq!(snr(&s, &s)?, f64::INFINITY);
        // An estimate without any of the signal.
        assert_eq!(si_sdr(&s, &[1.0, 1.0, -1.0, -1.0])?, f64::NEG_INFINITY);
        Ok(())
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for ratio in [snr, si_sdr] {
            assert!(ratio(&[1.0, 2.0], &[1.0]).unwrap_err().to_string().contains("[1]"));
            assert!(ratio(&[0.0, 0.0], &[1.0, 2.0]).unwrap_err().to_string().contains("silent"));
            assert!(ratio(&[], &[]).is_err());
        }
        assert!(si_sdr(&[1.0, 2.0], &[3.0, 3.0]).is_err());
    }
}
