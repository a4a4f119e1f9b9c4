//! Mel-cepstral distortion.

use super::mfcc::cosine_transform;
use flows_core::{Error, Result};

/// The number of coefficients that distortion compares; the one before them, the level, is left out.
const ORDER: usize = 24;

/// The cepstrum `c_d = 2 / bands sum_m L_m cos(pi d (m + 1/2) / bands)`, d = 0 to 24, of each frame of a log-mel
/// spectrogram L (bands, frames) in natural logarithms: (25, frames), both stored row by row.
///
/// # Errors
/// When L is no such array, or has fewer than 25 bands.
pub fn mel_cepstrum(log_mel: &[f64], bands: usize) -> Result<Vec<f64>> {
    let mut cepstrum = cosine_transform(log_mel, bands, ORDER + 1)?;
    cepstrum.iter_mut().for_each(|c| *c *= 2.0 / bands as f64);
    Ok(cepstrum)
}

/// The mel-cepstral distortion in dB between log-mel spectrograms (bands, frames) whose frames belong together, over
/// the frames of the shorter: the mean of `10 sqrt(2) / ln 10 sqrt(sum_(d = 1 to 24) (c_d - c'_d)^2)`, with the cepstra c
/// of [`mel_cepstrum`].
///
/// # Errors
/// As [`mel_cepstrum`]; when a spectrogram has no frames.
pub fn cepstral_distortion(x: &[f64], y: &[f64], bands: usize) -> Result<f64> {
    let (x, y) = (Frames::new(x, bands)?, Frames::new(y, bands)?);
    let frames = x.len().min(y.len());
    Ok((0..frames).map(|i| x.distance(i, &y, i)).sum::<f64>() / frames as f64)
}

/// A mel-cepstral distortion between signals that differ in timing.
#[derive(Clone, Debug, PartialEq)]
pub struct AlignedDistortion {
    /// The mean along the path, in dB.
    pub distortion: f64,
    /// The pairs of frames that belong together, from the first pair to the last.
    pub path: Vec<[usize; 2]>,
}

/// The mel-cepstral distortion between log-mel spectrograms (bands, frames) of any two lengths, with frames aligned by
/// dynamic time warping: the mean of [`cepstral_distortion`]'s terms along the path of the smallest sum, whose steps
/// (1, 1), (1, 0) and (0, 1) count alike.
///
/// # Errors
/// As [`cepstral_distortion`]; when the product of the numbers of frames is above 2^30.
pub fn aligned_cepstral_distortion(x: &[f64], y: &[f64], bands: usize) -> Result<AlignedDistortion> {
    const MOST: usize = 1 << 30;
    let (x, y) = (Frames::new(x, bands)?, Frames::new(y, bands)?);
    let (rows, columns) = (x.len(), y.len());
    if rows.saturating_mul(columns) > MOST {
        return Err(Error::Data(format!("{rows} and {columns} frames are too many to align; compare shorter parts")));
    }
    // Of each pair, where the cheapest path to it comes from; sums of the last row only.
    let mut origins = vec![Step::Both; rows * columns];
    let mut sums = vec![f64::INFINITY; columns];
    for i in 0..rows {
        let (mut diagonal, mut left) = (if i == 0 { 0.0 } else { f64::INFINITY }, f64::INFINITY);
        for (j, (sum, origin)) in sums.iter_mut().zip(&mut origins[i * columns..]).enumerate() {
            let mut best = (diagonal, Step::Both);
            for other in [(*sum, Step::First), (left, Step::Second)] {
                best = if other.0 < best.0 { other } else { best };
            }
            diagonal = *sum;
            (left, *origin) = (best.0 + x.distance(i, &y, j), best.1);
            *sum = left;
        }
    }
    let total = sums.last().copied().unwrap_or(f64::NAN);
    let (mut i, mut j) = (rows - 1, columns - 1);
    let mut path = vec![[i, j]];
    while (i, j) != (0, 0) {
        let step = origins[i * columns + j];
        i -= usize::from(step != Step::Second);
        j -= usize::from(step != Step::First);
        path.push([i, j]);
    }
    path.reverse();
    Ok(AlignedDistortion { distortion: total / path.len() as f64, path })
}

/// Which signal goes on by a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Both,
    First,
    Second,
}

/// The compared coefficients, frame by frame.
struct Frames(Vec<[f64; ORDER]>);

impl Frames {
    fn new(log_mel: &[f64], bands: usize) -> Result<Self> {
        let cepstrum = mel_cepstrum(log_mel, bands)?;
        let frames = cepstrum.len() / (ORDER + 1);
        if frames == 0 || cepstrum.iter().any(|c| !c.is_finite()) {
            return Err(Error::Data("a log-mel spectrogram must have frames, and finite values; leave it out".into()));
        }
        Ok(Self((0..frames).map(|i| std::array::from_fn(|d| cepstrum[(d + 1) * frames + i])).collect()))
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// The distortion in dB between frame i and frame j of another signal.
    fn distance(&self, i: usize, other: &Self, j: usize) -> f64 {
        let square: f64 = self.0[i].iter().zip(&other.0[j]).map(|(a, b)| (a - b).powi(2)).sum();
        10.0 * (2.0 * square).sqrt() / std::f64::consts::LN_10
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::Rng;

    #[test]
    fn a_stretched_signal_is_aligned() -> Result<()> {
        let (bands, frames) = (30, 7);
        let mut rng = Rng::seed(0);
        let x: Vec<f64> = (0..bands * frames).map(|_| rng.normal()).collect();
        // Frame 0 twice, frame 3 three times.
        let order = [0, 0, 1, 2, 3, 3, 3, 4, 5, 6];
        let y: Vec<f64> = (0..bands).flat_map(|m| order.map(|i| x[m * frames + i])).collect();
        let aligned = aligned_cepstral_distortion(&x, &y, bands)?;
        assert!(aligned.distortion.abs() < 1e-12);
        let want: Vec<[usize; 2]> = order.iter().enumerate().map(|(j, &i)| [i, j]).collect();
        assert_eq!(aligned.path, want);
        let back = aligned_cepstral_distortion(&y, &x, bands)?;
        assert_eq!(back.path, want.iter().map(|&[i, j]| [j, i]).collect::<Vec<_>>());
        assert!(cepstral_distortion(&x, &y, bands)? > 1.0);
        assert_eq!(cepstral_distortion(&x, &x, bands)?, 0.0);
        // The level is not compared.
        let louder: Vec<f64> = x.iter().map(|l| l + 2.0).collect();
        assert!(cepstral_distortion(&x, &louder, bands)? < 1e-12);
        Ok(())
    }

    #[test]
    fn one_coefficient_by_hand() -> Result<()> {
        let bands = 25;
        let wave = |d: f64| move |m: usize| 0.1 * (std::f64::consts::PI * d * (m as f64 + 0.5) / bands as f64).cos();
        let (x, y): (Vec<f64>, Vec<f64>) = ((0..bands).map(wave(3.0)).collect(), vec![0.0; bands]);
        let want = 10.0 * 2f64.sqrt() / std::f64::consts::LN_10 * 0.1;
        assert!((cepstral_distortion(&x, &y, bands)? - want).abs() < 1e-12);
        assert!(cepstral_distortion(&[], &y, bands).unwrap_err().to_string().contains("frames"));
        assert!(cepstral_distortion(&[0.0; 24], &[0.0; 24], 24).unwrap_err().to_string().contains("24 bands"));
        assert!(aligned_cepstral_distortion(&[f64::NAN; 25], &y, bands).is_err());
        Ok(())
    }
}
