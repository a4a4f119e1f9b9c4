//! The short-time Fourier transform, its inverse and its adjoint.

use super::{Padding, Sample, Spectrogram};
use flows_core::ops::kernel::dispatch;
use flows_core::{Error, Result};
use rayon::prelude::*;
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

/// The longest transform and the largest hop.
const LONGEST: usize = 1 << 24;

/// The frames that one task transforms.
const BLOCK: usize = 16;

/// The short-time Fourier transform of real signals,
/// `X[i, k] = sum_n w[n] x[i hop + n - padding] e^(-2 pi j k n / fft)` for k from 0 to `fft / 2`.
///
/// The window w is periodic Hann's, centred in the transform; before its start and after its end the signal is
/// reflected, as often as it takes, without repeating its first and last sample. This is what librosa and PyTorch
/// compute, for signals of any length above 0.
///
/// Transforms are planned once; threads may share them. Frames are transformed on all threads, with the same result
/// for any number of them.
///
/// ```
/// use waveglow::audio::{Padding, Stft};
/// let stft = Stft::new(512, 128, 512, Padding::Centred)?;
/// let x: Vec<f64> = (0..2000).map(|n| (0.05 * f64::from(n)).sin()).collect();
/// let spectrogram = stft.transform(&x)?;
/// assert_eq!((spectrogram.frames(), spectrogram.bins()), (16, 257));
/// let back = stft.inverse(&spectrogram, x.len())?;
/// assert!(x.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-12));
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Stft<T: Sample> {
    fft: usize,
    hop: usize,
    padding: Padding,
    window: Vec<T>,
    forward: Arc<dyn RealToComplex<T>>,
    backward: Arc<dyn ComplexToReal<T>>,
}

/// The memory that transforming a frame needs.
pub(super) struct Work<T> {
    /// A frame's samples; overwritten by its transform.
    time: Vec<T>,
    /// A frame's bins.
    pub spectrum: Vec<Complex<T>>,
    scratch: Vec<Complex<T>>,
}

impl<T: Sample> Stft<T> {
    /// The transform of `fft` samples every `hop` samples, under a window of `window` samples.
    ///
    /// # Errors
    /// When `fft` is below 2 or above 2^24, `hop` is 0 or above 2^24, the window is empty or longer than the transform,
    /// or padding is [`Padding::Uncentred`] with a hop longer than the transform.
    pub fn new(fft: usize, hop: usize, window: usize, padding: Padding) -> Result<Self> {
        if !(2..=LONGEST).contains(&fft) || !(1..=LONGEST).contains(&hop) || !(1..=fft).contains(&window) {
            return Err(Error::Config(format!(
                "a transform of {fft} samples with a window of {window} and a hop of {hop}: give \
                 2 <= `fft` <= {LONGEST}, 1 <= `window` <= `fft` and 1 <= `hop` <= {LONGEST}"
            )));
        }
        if padding == Padding::Uncentred && hop > fft {
            return Err(Error::Config(format!("a `hop` of {hop} samples leaves gaps between frames of {fft}")));
        }
        let hann = |n: usize| match window {
            1 => T::one(),
            _ => T::of(0.5 - 0.5 * (TAU * n as f64 / window as f64).cos()),
        };
        let mut planner = RealFftPlanner::new();
        Ok(Self {
            fft,
            hop,
            padding,
            window: (0..window).map(hann).collect(),
            forward: planner.plan_fft_forward(fft),
            backward: planner.plan_fft_inverse(fft),
        })
    }

    /// The length of the transform in samples.
    pub fn fft(&self) -> usize {
        self.fft
    }

    /// The distance of frames in samples.
    pub fn hop(&self) -> usize {
        self.hop
    }

    /// The number of bins of a frame, `1 + floor(fft / 2)`.
    pub fn bins(&self) -> usize {
        self.fft / 2 + 1
    }

    /// The number of frames of a signal of `samples` samples: 0 for none; else, for centred frames,
    /// `1 + floor((samples + 2 floor(fft / 2) - fft) / hop)`, and for uncentred ones `floor(samples / hop)`.
    pub fn frames(&self, samples: usize) -> usize {
        match self.padding {
            Padding::Centred if samples > 0 => 1 + (samples - self.fft % 2) / self.hop,
            _ => samples / self.hop,
        }
    }

    /// The spectrogram of a signal.
    ///
    /// # Errors
    /// When the signal is empty, or too short for an uncentred frame.
    pub fn transform(&self, samples: &[T]) -> Result<Spectrogram<T>> {
        let (frames, bins) = (self.check_length(samples.len())?, self.bins());
        let mut values = vec![Complex::new(T::zero(), T::zero()); frames * bins];
        values.par_chunks_mut(BLOCK * bins).enumerate().for_each_init(
            || self.work(),
            |work, (block, values)| {
                for (frame, out) in (block * BLOCK..).zip(values.chunks_exact_mut(bins)) {
                    self.spectrum(samples, frame, work);
                    out.copy_from_slice(&work.spectrum);
                }
            },
        );
        Spectrogram::new(values, bins)
    }

    /// The signal of `length` samples whose frames are closest to those of a spectrogram in the sense of Griffin and
    /// Lim (1984): the inverse transforms of its frames, windowed, added up, and divided by the sum of squared windows
    /// where that is not 0. The imaginary parts of the bins at frequency 0 and at half the rate are ignored.
    ///
    /// # Errors
    /// When the spectrogram has another number of bins or fewer frames than the signal.
    pub fn inverse(&self, spectrogram: &Spectrogram<T>, length: usize) -> Result<Vec<T>> {
        let (frames, bins) = (spectrogram.frames(), spectrogram.bins());
        if bins != self.bins() || self.frames(length) > frames {
            let want = format!("at least {} frames of {} bins", self.frames(length), self.bins());
            return Err(Error::shape("the spectrogram", &[frames, bins], format!("{want} for {length} samples")));
        }
        let from = self.before();
        let mut signal = vec![T::zero(); length];
        self.overlap_add(
            frames,
            (from, &mut signal),
            || (),
            |(), frame, work| work.spectrum.copy_from_slice(&spectrogram.values()[frame * bins..][..bins]),
        );
        let squares: Vec<T> = self.window.iter().map(|&w| w * w).collect();
        let scale = T::of(self.fft as f64);
        let size = self.chunk();
        signal.par_chunks_mut(size).enumerate().for_each_init(
            || vec![T::zero(); size],
            |norms, (chunk, signal)| {
                let positions = from + chunk * size..from + chunk * size + signal.len();
                norms.fill(T::zero());
                for frame in self.covering(&positions, frames) {
                    let (skip, place) = self.overlap(frame, positions.start);
                    let squares = squares.get(skip..).unwrap_or_default();
                    norms[place..signal.len()].iter_mut().zip(squares).for_each(|(norm, &w)| *norm += w);
                }
                for (y, &norm) in signal.iter_mut().zip(&*norms) {
                    let norm = if norm > T::of(f64::from(f32::MIN_POSITIVE)) { norm } else { T::one() };
                    *y *= (norm * scale).recip();
                }
            },
        );
        Ok(signal)
    }

    /// The vector-Jacobian product of [`Self::transform`] of a signal of `samples` samples: the gradient of a loss with
    /// respect to the signal, given that with respect to the spectrogram, whose real parts are the gradients of real
    /// parts, and imaginary ones those of imaginary ones.
    ///
    /// # Errors
    /// When the gradient does not have the spectrogram's shape.
    pub fn adjoint(&self, gradient: &Spectrogram<T>, samples: usize) -> Result<Vec<T>> {
        let (frames, bins) = (self.check_length(samples)?, self.bins());
        if (gradient.frames(), gradient.bins()) != (frames, bins) {
            let want = format!("({frames}, {bins})");
            return Err(Error::shape("the gradient", &[gradient.frames(), gradient.bins()], want));
        }
        let fill = |(): &mut (), frame: usize, work: &mut Work<T>| {
            work.spectrum.copy_from_slice(&gradient.values()[frame * bins..][..bins]);
        };
        Ok(self.pull_back(samples, || (), fill))
    }

    /// [`Self::adjoint`] of a gradient that `fill` writes, frame by frame, into the spectrum of the work that it is
    /// given, with a state for each thread that `state` makes. There must be frames.
    pub(super) fn pull_back<S>(
        &self,
        samples: usize,
        state: impl Fn() -> S + Sync,
        fill: impl Fn(&mut S, usize, &mut Work<T>) + Sync,
    ) -> Vec<T> {
        let (frames, before) = (self.frames(samples), self.before());
        let reach = (frames.saturating_sub(1) * self.hop + self.fft).max(before + samples);
        let mut padded = vec![T::zero(); reach];
        let half = T::of(0.5);
        self.overlap_add(frames, (0, &mut padded), state, |state, frame, work| {
            fill(state, frame, work);
            // The inverse transform counts all bins twice but these at the ends.
            for z in &mut work.spectrum[1..self.fft.div_ceil(2)] {
                *z = *z * half;
            }
        });
        let mut gradient = padded[before..before + samples].to_vec();
        for position in (0..before).chain(before + samples..reach) {
            gradient[reflected(position, before, samples)] += padded[position];
        }
        gradient
    }

    /// The memory for [`Self::spectrum`] of a thread.
    pub(super) fn work(&self) -> Work<T> {
        let scratch = self.forward.get_scratch_len().max(self.backward.get_scratch_len());
        Work {
            time: self.forward.make_input_vec(),
            spectrum: self.forward.make_output_vec(),
            scratch: vec![Complex::new(T::zero(), T::zero()); scratch],
        }
    }

    /// Writes the spectrum of a frame, one of those that the signal has, to `work`.
    pub(super) fn spectrum(&self, samples: &[T], frame: usize, work: &mut Work<T>) {
        let Work { time, spectrum, scratch } = work;
        let (offset, before) = (self.offset(), self.before());
        let start = frame * self.hop + offset;
        let (front, rest) = time.split_at_mut(offset);
        let (inside, back) = rest.split_at_mut(self.window.len());
        front.fill(T::zero());
        back.fill(T::zero());
        let whole = start.checked_sub(before).and_then(|start| samples.get(start..start + inside.len()));
        if let Some(samples) = whole {
            dispatch(
                #[inline(always)]
                || {
                    for (y, (&x, &w)) in inside.iter_mut().zip(samples.iter().zip(&self.window)) {
                        *y = x * w;
                    }
                },
            );
        } else {
            for (position, (y, &w)) in (start..).zip(inside.iter_mut().zip(&self.window)) {
                *y = samples[reflected(position, before, samples.len())] * w;
            }
        }
        self.forward.process_with_scratch(time, spectrum, scratch).expect("buffers of the transform's own lengths");
    }

    /// Adds to `out`, which begins at position `from` of the padded signal, the windowed inverse transforms (not
    /// divided by `fft`) of the frames whose spectra `fill` writes.
    fn overlap_add<S>(
        &self,
        frames: usize,
        (from, out): (usize, &mut [T]),
        state: impl Fn() -> S + Sync,
        fill: impl Fn(&mut S, usize, &mut Work<T>) + Sync,
    ) {
        let (offset, size) = (self.offset(), self.chunk());
        // Frames that reach into two chunks are transformed for each: no thread waits for another, and sums have one
        // order.
        out.par_chunks_mut(size).enumerate().for_each_init(
            || (self.work(), state()),
            |(work, state), (chunk, out)| {
                let positions = from + chunk * size..from + chunk * size + out.len();
                for frame in self.covering(&positions, frames) {
                    fill(state, frame, work);
                    let Work { time, spectrum, scratch } = &mut *work;
                    spectrum[0].im = T::zero();
                    if self.fft.is_multiple_of(2) {
                        spectrum[self.fft / 2].im = T::zero();
                    }
                    let done = self.backward.process_with_scratch(spectrum, time, scratch);
                    done.expect("buffers of the transform's own lengths, and real ends");
                    let (skip, place) = self.overlap(frame, positions.start);
                    let windowed = time[offset..].iter().zip(&self.window).skip(skip);
                    out[place..].iter_mut().zip(windowed).for_each(|(y, (&x, &w))| *y += x * w);
                }
            },
        );
    }

    /// The samples that one task of [`Self::overlap_add`] sums.
    fn chunk(&self) -> usize {
        self.hop.max(8 * self.fft)
    }

    /// The frames, of the first `frames`, whose windows cover one of these positions of the padded signal.
    fn covering(&self, positions: &Range<usize>, frames: usize) -> Range<usize> {
        let offset = self.offset();
        let first = (positions.start + 1).saturating_sub(offset + self.window.len()).div_ceil(self.hop);
        first..positions.end.saturating_sub(offset).div_ceil(self.hop).min(frames)
    }

    /// How much of a frame's window lies before position `start`, and how far after `start` the window begins.
    fn overlap(&self, frame: usize, start: usize) -> (usize, usize) {
        let window = frame * self.hop + self.offset();
        (start.saturating_sub(window), window.saturating_sub(start))
    }

    /// The start of the window in the transform.
    fn offset(&self) -> usize {
        (self.fft - self.window.len()) / 2
    }

    /// The samples that the signal is extended by in front.
    fn before(&self) -> usize {
        match self.padding {
            Padding::Centred => self.fft / 2,
            Padding::Uncentred => (self.fft - self.hop) / 2,
        }
    }

    /// The number of frames of a signal of this length, which must not be 0.
    pub(super) fn check_length(&self, samples: usize) -> Result<usize> {
        match self.frames(samples) {
            0 if samples == 0 => Err(Error::Data("a signal without samples has no spectrogram".into())),
            0 => Err(Error::Data(format!(
                "a signal of {samples} samples has no uncentred frame: give at least the hop, {}",
                self.hop
            ))),
            frames => Ok(frames),
        }
    }
}

impl<T: Sample> std::fmt::Debug for Stft<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (fft, hop, window) = (self.fft, self.hop, self.window.len());
        write!(f, "Stft {{ fft: {fft}, hop: {hop}, window: {window}, padding: {:?} }}", self.padding)
    }
}

/// The sample that is seen at a position of the signal extended by `before` samples in front.
fn reflected(position: usize, before: usize, samples: usize) -> usize {
    let period = 2 * (samples - 1);
    if period == 0 {
        return 0;
    }
    let at = (position + period - before % period) % period;
    at.min(period - at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::Rng;

    fn noise(n: usize, rng: &mut Rng) -> Vec<f64> {
        (0..n).map(|_| rng.normal()).collect()
    }

    /// By the definition, with the signal extended as numpy does it: by up to `samples - 1` samples a time.
    fn direct(x: &[f64], [fft, hop, window]: [usize; 3], padding: Padding) -> Vec<Complex<f64>> {
        let before = if padding == Padding::Centred { fft / 2 } else { (fft - hop) / 2 };
        let (mut extended, mut start) = (x.to_vec(), 0);
        while start < before || extended.len() < start + x.len() + fft {
            if x.len() == 1 {
                extended.splice(0..0, [x[0]]);
                extended.push(x[0]);
                start += 1;
                continue;
            }
            let n = extended.len();
            let front: Vec<f64> = extended[1..].iter().rev().copied().collect();
            let back: Vec<f64> = extended[..n - 1].iter().rev().copied().collect();
            extended.splice(0..0, front);
            extended.extend(back);
            start += n - 1;
        }
        let frames =
            if padding == Padding::Centred { 1 + (x.len() + 2 * (fft / 2) - fft) / hop } else { x.len() / hop };
        let mut values = Vec::new();
        for frame in 0..frames {
            for k in 0..=fft / 2 {
                let mut sum = Complex::new(0.0, 0.0);
                for n in 0..window {
                    let sine = (std::f64::consts::PI * n as f64 / window as f64).sin();
                    let w = if window == 1 { 1.0 } else { sine * sine };
                    let n = (fft - window) / 2 + n;
                    let sample = extended[start + frame * hop + n - before];
                    sum += Complex::from_polar(w * sample, -TAU * (k * n % fft) as f64 / fft as f64);
                }
                values.push(sum);
            }
        }
        values
    }

    const SIZES: [([usize; 3], Padding); 7] = [
        ([16, 4, 16], Padding::Centred),
        ([15, 4, 11], Padding::Centred),
        ([16, 5, 12], Padding::Uncentred),
        ([12, 20, 9], Padding::Centred),
        ([9, 3, 9], Padding::Uncentred),
        ([2, 1, 1], Padding::Centred),
        ([3, 1, 2], Padding::Centred),
    ];

    #[test]
    fn is_as_defined_at_any_length() -> Result<()> {
        let rng = &mut Rng::seed(1);
        for (sizes @ [fft, hop, window], padding) in SIZES {
            let stft = Stft::new(fft, hop, window, padding)?;
            for samples in [1, 2, 3, 7, 8, 33, 300] {
                let x = noise(samples, rng);
                if stft.frames(samples) == 0 {
                    assert!(stft.transform(&x).is_err());
                    continue;
                }
                let (got, want) = (stft.transform(&x)?, direct(&x, sizes, padding));
                assert_eq!(got.values().len(), want.len(), "{stft:?} of {samples}");
                let furthest = got.values().iter().zip(&want).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
                assert!(furthest < 1e-12, "{stft:?} of {samples}: {furthest:e}");
                let single: Vec<f32> = x.iter().map(|&x| x as f32).collect();
                let single = Stft::<f32>::new(fft, hop, window, padding)?.transform(&single)?;
                let mut pairs = single.values().iter().zip(&want);
                assert!(pairs.all(|(a, b)| (Complex::new(f64::from(a.re), f64::from(a.im)) - b).norm() < 1e-4));
            }
            assert!(stft.transform(&[]).is_err());
        }
        Ok(())
    }

    #[test]
    fn the_adjoint_is_the_transpose() -> Result<()> {
        let rng = &mut Rng::seed(2);
        for ([fft, hop, window], padding) in SIZES {
            let stft = Stft::new(fft, hop, window, padding)?;
            // The last is longer than a chunk.
            for samples in [1, 2, 5, 40, 500] {
                if stft.frames(samples) == 0 {
                    continue;
                }
                let x = noise(samples, rng);
                let spectrogram = stft.transform(&x)?;
                let values = spectrogram.values().iter().map(|_| Complex::new(rng.normal(), rng.normal())).collect();
                let gradient = Spectrogram::new(values, stft.bins())?;
                let pairs = spectrogram.values().iter().zip(gradient.values());
                let there: f64 = pairs.map(|(z, g)| z.re * g.re + z.im * g.im).sum();
                let back: f64 = stft.adjoint(&gradient, samples)?.iter().zip(&x).map(|(g, x)| g * x).sum();
                assert!((there - back).abs() < 1e-11 * (1.0 + there.abs()), "{stft:?} of {samples}: {there}, {back}");
                assert!(stft.adjoint(&gradient, samples + hop).is_err());
            }
        }
        Ok(())
    }

    #[test]
    fn the_inverse_returns_the_signal() -> Result<()> {
        let rng = &mut Rng::seed(3);
        for ([fft, hop, window], samples) in [([64, 16, 64], 1000), ([45, 10, 40], 333), ([64, 16, 64], 33)] {
            let stft = Stft::new(fft, hop, window, Padding::Centred)?;
            let x = noise(samples, rng);
            let spectrogram = stft.transform(&x)?;
            for length in [samples, samples / 2, 1] {
                let back = stft.inverse(&spectrogram, length)?;
                assert_eq!(back.len(), length);
                assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-12), "{stft:?} of {samples}");
            }
            assert!(stft.inverse(&spectrogram, samples + hop).is_err());
            assert!(Stft::new(fft + 2, hop, window, Padding::Centred)?.inverse(&spectrogram, samples).is_err());
        }
        Ok(())
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
        let stft = Stft::new(64, 10, 60, Padding::Centred)?;
        let x = noise(5000, &mut Rng::seed(4));
        let run = |threads: usize| -> Result<_> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.map_err(|e| Error::Internal(e.to_string()))?.install(|| {
                let spectrogram = stft.transform(&x)?;
                let (back, adjoint) = (stft.inverse(&spectrogram, 5000)?, stft.adjoint(&spectrogram, 5000)?);
                Ok((spectrogram, back, adjoint))
            })
        };
        assert!(run(1)? == run(3)?);
        Ok(())
    }

    #[test]
    fn misuse_is_an_error() {
        for (fft, hop, window) in [(1, 1, 1), (8, 0, 8), (8, 2, 0), (8, 2, 9), (usize::MAX, 1, 1), (8, usize::MAX, 8)] {
            assert!(Stft::<f32>::new(fft, hop, window, Padding::Centred).is_err(), "{fft}, {hop}, {window}");
        }
        assert!(Stft::<f32>::new(8, 9, 8, Padding::Uncentred).is_err());
        assert!(Spectrogram::<f32>::new(Vec::new(), 3).is_err());
    }
}
