//! Log-mel spectrograms, of samples and as a differentiable operation.

use super::sample::{check_signals, on_cpu};
use super::spectrogram::power;
use super::{AudioConfig, MelBank, Sample, Stft};
use candle_core::{DType, Shape, Tensor};
use flows_core::ops::kernel::{Backward, Precomputed, dispatch, with_elements, with_slice};
use flows_core::{Error, Result};
use rayon::prelude::*;
use realfft::num_complex::Complex;
use std::sync::Arc;

/// The least value of a band before its logarithm.
const FLOOR: f64 = 1e-5;

/// The frames that are filtered side by side.
const LANES: usize = 8;

/// Log-mel spectrograms, `ln(max(bank |STFT(x)|, 1e-5))`: by default those of Tacotron 2, which WaveGlow and
/// SqueezeWave take.
///
/// ```
/// use waveglow::audio::{AudioConfig, LogMel};
/// let log_mel = LogMel::new(&AudioConfig::default())?;
/// let mel = log_mel.of(&vec![0f32; 22_050])?;
/// // 80 bands of 87 frames, all at the floor.
/// assert_eq!((mel.len(), mel[0]), (80 * 87, 1e-5f32.ln()));
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LogMel {
    pub(super) single: Arc<Front<f32>>,
    pub(super) double: Arc<Front<f64>>,
}

/// What log-mel spectrograms of signals of one type are made by.
#[derive(Clone, Debug)]
pub struct Front<T: Sample> {
    /// The transform.
    pub stft: Stft<T>,
    /// The filters.
    pub bank: MelBank<T>,
    offset: f64,
}

impl LogMel {
    /// The spectrograms of these settings.
    ///
    /// # Errors
    /// When the settings do not pass [`AudioConfig::check`].
    pub fn new(config: &AudioConfig) -> Result<Self> {
        Self::build(config, 0.0)
    }

    /// The same with magnitudes `sqrt(|STFT(x)|^2 + offset)`. HiFi-GAN's mels have an offset of 1e-9, and
    /// [`Padding::Uncentred`](super::Padding::Uncentred).
    ///
    /// # Errors
    /// When the settings do not pass [`AudioConfig::check`], or the offset is negative or not finite.
    pub fn with_power_offset(config: &AudioConfig, offset: f64) -> Result<Self> {
        if !(offset.is_finite() && offset >= 0.0) {
            return Err(Error::Config(format!("an offset of powers of {offset}: give one from 0 on, such as 1e-9")));
        }
        Self::build(config, offset)
    }

    fn build(config: &AudioConfig, offset: f64) -> Result<Self> {
        config.check()?;
        Ok(Self { single: Arc::new(Front::new(config, offset)?), double: Arc::new(Front::new(config, offset)?) })
    }

    /// The transform and the filters for signals of f32 or f64.
    pub fn front<T: Sample>(&self) -> &Front<T> {
        T::front(self)
    }

    /// The number of bands.
    pub fn bands(&self) -> usize {
        self.single.bank.bands()
    }

    /// The number of frames of a signal of `samples` samples: see [`Stft::frames`].
    pub fn frames(&self, samples: usize) -> usize {
        self.single.stft.frames(samples)
    }

    /// The log-mel spectrogram of a signal, row-major (bands, frames).
    ///
    /// # Errors
    /// When the signal is empty, or too short for an uncentred frame.
    pub fn of<T: Sample>(&self, samples: &[T]) -> Result<Vec<T>> {
        let front = self.front::<T>();
        front.stft.check_length(samples.len())?;
        Ok(front.of_rows(samples, samples.len()))
    }

    /// The log-mel spectrograms (B, bands, frames) of a batch of signals (B, T) of f32 or f64, as an operation with a
    /// gradient. Where a magnitude is 0, or a band below 1e-5, the gradient is 0.
    ///
    /// # Errors
    /// When the batch has another shape or type, or its signals are too short for an uncentred frame.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, length) = check_signals("a batch of signals", x)?;
        self.single.stft.check_length(length)?;
        on_cpu(x, |x| match x.dtype() {
            DType::F32 => self.single.forward(x, length),
            _ => self.double.forward(x, length),
        })
    }
}

impl<T: Sample> Front<T> {
    fn new(config: &AudioConfig, offset: f64) -> Result<Self> {
        let stft = Stft::new(config.fft, config.hop, config.window, config.padding)?;
        Ok(Self { stft, bank: MelBank::new(config)?, offset })
    }

    /// The spectrograms (rows, bands, frames) of signals of `length` samples, which must have frames.
    fn of_rows(&self, signals: &[T], length: usize) -> Vec<T> {
        let (frames, bands, reach) = (self.stft.frames(length), self.bank.bands(), self.bank.reach());
        let (floor, offset) = (T::of(FLOOR), T::of(self.offset));
        let (rows, blocks) = (signals.len() / length, frames.div_ceil(LANES));
        let mut mels = vec![[T::zero(); LANES]; rows * blocks * bands];
        mels.par_chunks_mut(bands).enumerate().for_each_init(
            || (self.stft.work(), vec![[T::zero(); LANES]; reach.len()]),
            |(work, bins), (block, mel)| {
                let (row, first) = (block / blocks, block % blocks * LANES);
                let samples = &signals[row * length..(row + 1) * length];
                // What is left in the lanes of no frame is not used.
                for (lane, frame) in (first..frames).take(LANES).enumerate() {
                    self.stft.spectrum(samples, frame, work);
                    for (bin, z) in bins.iter_mut().zip(&work.spectrum[reach.clone()]) {
                        bin[lane] = power(z);
                    }
                }
                dispatch(
                    #[inline(always)]
                    || {
                        for v in bins.as_flattened_mut() {
                            *v = (*v + offset).sqrt();
                        }
                        self.bank.apply_lanes(bins, mel);
                        for v in mel.as_flattened_mut() {
                            // Not by `max`, which would hide a NaN.
                            let raised = if *v < floor { floor } else { *v };
                            *v = raised.fast_ln();
                        }
                    },
                );
            },
        );
        let mut out = Vec::with_capacity(rows * bands * frames);
        for row in mels.chunks_exact(blocks * bands) {
            for band in 0..bands {
                for (first, block) in (0..).step_by(LANES).zip(row.chunks_exact(bands)) {
                    out.extend_from_slice(&block[band][..LANES.min(frames - first)]);
                }
            }
        }
        out
    }

    /// The gradient (rows, length) of the signals, given that of their spectrograms.
    fn pull_back(&self, signals: &[T], gradient: &[T], length: usize) -> Vec<T> {
        let (frames, bands, reach) = (self.stft.frames(length), self.bank.bands(), self.bank.reach());
        let (floor, offset) = (T::of(FLOOR), T::of(self.offset));
        let zero = Complex::new(T::zero(), T::zero());
        let mut out = Vec::with_capacity(signals.len());
        for (samples, gradient) in signals.chunks_exact(length).zip(gradient.chunks_exact(bands * frames)) {
            let buffers = || (Vec::new(), vec![[T::zero()]; reach.len()], vec![[T::zero()]; bands]);
            out.extend(self.stft.pull_back(length, buffers, |(magnitudes, bins, mel), frame, work| {
                self.stft.spectrum(samples, frame, work);
                let (covered, spectrum) = (reach.clone(), &mut work.spectrum);
                magnitudes.clear();
                magnitudes.extend(spectrum[covered.clone()].iter().map(|z| (power(z) + offset).sqrt()));
                self.bank.apply_lanes(magnitudes.as_chunks::<1>().0, mel);
                for (v, gradient) in mel.iter_mut().zip(gradient.chunks_exact(frames)) {
                    v[0] = if v[0] < floor { T::zero() } else { gradient[frame] / v[0] };
                }
                self.bank.transpose_lanes(mel, bins);
                spectrum[..covered.start].fill(zero);
                spectrum[covered.end..].fill(zero);
                for (z, (&[g], &magnitude)) in spectrum[covered].iter_mut().zip(bins.iter().zip(&*magnitudes)) {
                    *z = if magnitude == T::zero() { zero } else { *z * (g / magnitude) };
                }
            }));
        }
        out
    }

    fn forward(self: &Arc<Self>, x: &Tensor, length: usize) -> Result<Tensor> {
        let mel = with_slice::<T, _>(x, |x| self.of_rows(x, length))?;
        let shape = Shape::from((x.dim(0)?, self.bank.bands(), self.stft.frames(length)));
        Ok(x.apply_op1(Precomputed::new((T::storage(mel), shape), Gradient(self.clone())))?)
    }
}

struct Gradient<T: Sample>(Arc<Front<T>>);

impl<T: Sample> Backward<1> for Gradient<T> {
    const NAME: &'static str = "log-mel";

    fn gradients(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> candle_core::Result<[Option<Tensor>; 1]> {
        let length = x.dim(1)?;
        let gx = with_elements::<T, _, _>([x, gradient], |[x, gradient]| self.0.pull_back(x, gradient, length))?;
        Ok([Some(T::tensor(gx, x.shape())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{MelScale, Padding};
    use candle_core::{Device, Var};
    use flows_core::Rng;
    use flows_core::nn::Parameters;
    use flows_core::testing::{difference, gradient_difference};

    fn small(padding: Padding) -> AudioConfig {
        AudioConfig {
            rate: 8000,
            fft: 64,
            hop: 20,
            window: 60,
            bands: 10,
            low: 100.0,
            high: 3500.0,
            scale: MelScale::Htk,
            padding,
        }
    }

    #[test]
    fn is_the_composition_of_its_parts() -> Result<()> {
        let rng = &mut Rng::seed(1);
        for (padding, offset) in [(Padding::Centred, 0.0), (Padding::Uncentred, 1e-3)] {
            let log_mel = LogMel::with_power_offset(&small(padding), offset)?;
            // Frames that fill the lanes, and that do not.
            for (rows, length) in [(3, 20), (2, 167), (1, 1000)] {
                let x = rng.normal_tensor((rows, length), DType::F64, &Device::Cpu)?;
                let got = log_mel.forward(&x)?;
                let frames = log_mel.frames(length);
                assert_eq!(got.dims(), [rows, 10, frames]);
                let front = log_mel.front::<f64>();
                for row in 0..rows {
                    let samples: Vec<f64> = x.get(row)?.to_vec1()?;
                    let powers = front.stft.transform(&samples)?.powers();
                    let magnitudes: Vec<f64> = powers.iter().map(|p| (p + offset).sqrt()).collect();
                    let mel = front.bank.apply(&magnitudes)?.iter().map(|v| v.max(1e-5).ln()).collect();
                    let want = Tensor::from_vec(mel, (frames, 10), &Device::Cpu)?.t()?.contiguous()?;
                    assert!(difference(&want, &got.get(row)?)? < 1e-12);
                    assert_eq!(got.get(row)?.flatten_all()?.to_vec1::<f64>()?, log_mel.of(&samples)?);
                }
                let single = log_mel.forward(&x.to_dtype(DType::F32)?)?;
                assert!(single.dtype() == DType::F32 && difference(&got, &single)? < 1e-4);
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_are_those_of_differences() -> Result<()> {
        let rng = &mut Rng::seed(2);
        for (padding, offset) in [(Padding::Centred, 0.0), (Padding::Uncentred, 1e-3)] {
            let log_mel = LogMel::with_power_offset(&small(padding), offset)?;
            for (rows, length) in [(1, 21), (2, 150), (1, 1100)] {
                let x = Var::from_tensor(&rng.normal_tensor((rows, length), DType::F64, &Device::Cpu)?)?;
                let weights = rng.normal_tensor((rows, 10, log_mel.frames(length)), DType::F64, &Device::Cpu)?;
                let loss = || Ok((log_mel.forward(&x)? * &weights)?.sum_all()?);
                let none = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
                let furthest = gradient_difference(loss, &none, &[("x", &x)], rng)?;
                assert!(furthest < 1e-7, "{padding:?} of {length}: {furthest:e}");
                let wide = loss()?.backward()?.get(&x).cloned().ok_or_else(|| Error::Data("no gradient".into()))?;
                let single = Var::from_tensor(&x.to_dtype(DType::F32)?)?;
                let gradients = (log_mel.forward(&single)? * weights.to_dtype(DType::F32)?)?.sum_all()?.backward()?;
                let narrow = gradients.get(&single).ok_or_else(|| Error::Data("no gradient".into()))?;
                assert!(difference(&wide, narrow)? < 1e-3);
            }
        }
        Ok(())
    }

    #[test]
    fn silence_has_the_gradient_0_and_a_nan_is_seen() -> Result<()> {
        let log_mel = LogMel::new(&AudioConfig { low: 0.0, ..small(Padding::Centred) })?;
        let x = Var::from_tensor(&Tensor::zeros((2, 100), DType::F64, &Device::Cpu)?)?;
        let mel = log_mel.forward(&x)?;
        assert!(mel.flatten_all()?.to_vec1::<f64>()?.iter().all(|&v| v == 1e-5f64.ln()));
        let gradients = mel.sum_all()?.backward()?;
        let gradient = gradients.get(&x).ok_or_else(|| Error::Data("no gradient".into()))?;
        assert!(gradient.flatten_all()?.to_vec1::<f64>()?.iter().all(|&g| g == 0.0));
        let mut samples = vec![0f32; 100];
        samples[50] = f32::NAN;
        let nans = log_mel.of(&samples)?.iter().filter(|v| v.is_nan()).count();
        assert!(nans >= 10 && nans < 10 * log_mel.frames(100), "{nans}");
        Ok(())
    }

    #[test]
    fn misuse_is_an_error() -> Result<()> {
        let log_mel = LogMel::new(&small(Padding::Uncentred))?;
        assert!(log_mel.of::<f32>(&[]).is_err() && log_mel.of(&[0f32; 19]).is_err() && log_mel.of(&[0f32; 20]).is_ok());
        for (shape, dtype) in [
            (&[20usize] as &[usize], DType::F32),
            (&[0, 20], DType::F32),
            (&[2, 0], DType::F32),
            (&[2, 19], DType::F32),
            (&[2, 20], DType::U32),
            (&[2, 20], DType::F16),
        ] {
            assert!(log_mel.forward(&Tensor::zeros(shape, dtype, &Device::Cpu)?).is_err(), "{shape:?}, {dtype:?}");
        }
        assert!(LogMel::with_power_offset(&AudioConfig::default(), -1.0).is_err());
        assert!(LogMel::with_power_offset(&AudioConfig::default(), f64::NAN).is_err());
        assert!(LogMel::new(&AudioConfig { bands: 0, ..AudioConfig::default() }).is_err());
        Ok(())
    }
}
