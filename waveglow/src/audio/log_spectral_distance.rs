//! Log-spectral distance.

use flows_core::{Error, Result};

/// The log-spectral distance in dB between power spectrograms (bins, frames), `|STFT|^2` stored row by row: the mean
/// over frames of `sqrt(mean over bins of (10 log10 p - 10 log10 p')^2)`.
///
/// Powers below 1e-8 of the reference's largest count as that.
///
/// # Errors
/// When they are no such arrays of one shape with a frame, or the reference is silent.
pub fn log_spectral_distance(reference: &[f64], estimate: &[f64], bins: usize) -> Result<f64> {
    const FLOOR: f64 = 1e-8;
    if bins == 0 || reference.is_empty() || !reference.len().is_multiple_of(bins) || reference.len() != estimate.len() {
        let want = format!("({bins}, frames), row by row, as the reference of {} powers", reference.len());
        return Err(Error::shape("the power spectrogram", &[estimate.len()], want));
    }
    let floor = FLOOR * reference.iter().copied().fold(0.0, f64::max);
    if !(floor > 0.0 && floor.is_finite()) {
        return Err(Error::Data("a silent signal has no log-spectral distance; leave it out".into()));
    }
    let frames = reference.len() / bins;
    let mut squares = vec![0.0; frames];
    for (p, q) in reference.chunks_exact(frames).zip(estimate.chunks_exact(frames)) {
        for (square, (p, q)) in squares.iter_mut().zip(p.iter().zip(q)) {
            *square += (10.0 * (p.max(floor) / q.max(floor)).log10()).powi(2);
        }
    }
    Ok(squares.iter().map(|square| (square / bins as f64).sqrt()).sum::<f64>() / frames as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() -> Result<()> {
        // Two bins, three frames: 10 dB in one bin of frame 0, everywhere in frame 1, nowhere in frame 2.
        let (p, q) = ([1.0, 1.0, 1.0, 1.0, 1.0, 1e-9], [10.0, 0.1, 1.0, 1.0, 0.1, 0.0]);
        let want = (50f64.sqrt() + 10.0) / 3.0;
        assert!((log_spectral_distance(&p, &q, 2)? - want).abs() < 1e-12);
        assert!(log_spectral_distance(&p, &q[..4], 2).is_err());
        assert!(log_spectral_distance(&p, &q, 4).is_err());
        assert!(log_spectral_distance(&[], &[], 2).is_err());
        assert!(log_spectral_distance(&[0.0; 2], &[1.0; 2], 2).unwrap_err().to_string().contains("silent"));
        Ok(())
    }
}
