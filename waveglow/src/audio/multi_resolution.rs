//! The distance of signals by their magnitudes at several resolutions.

use super::sample::{check_signals, on_cpu};
use super::spectrogram::power;
use super::stft::Work;
use super::{Padding, Sample, Stft};
use candle_core::{DType, Shape, Tensor};
use flows_core::ops::kernel::{Backward, Precomputed, dispatch, with_elements};
use flows_core::{Error, Result};
use rayon::prelude::*;
use realfft::num_complex::Complex;
use realfft::num_traits::Float;
use std::sync::Arc;

/// The least power of a bin.
const FLOOR: f64 = 1e-7;

/// The frames whose terms one task sums.
const BLOCK: usize = 16;

/// The distance of signals by their magnitudes at several resolutions (Yamamoto, Song and Kim 2020, Parallel WaveGAN,
/// arXiv:1910.11480): the mean over resolutions of `|Y - X|_F / |Y|_F + mean |ln Y - ln X|`, where X and Y are the
/// magnitudes `sqrt(max(|STFT|^2, 1e-7))` of all frames and signals of a batch.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use flows_core::Rng;
/// use waveglow::audio::MultiResolutionStft;
/// let distance = MultiResolutionStft::default();
/// let y = Rng::seed(1).normal_tensor((2, 4000), DType::F32, &Device::Cpu)?;
/// let halved = distance.loss(&(&y * 0.5)?, &y)?;
/// assert!((halved.to_scalar::<f32>()? - (0.5 + 2f32.ln())).abs() < 1e-4);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MultiResolutionStft {
    single: Arc<[Stft<f32>]>,
    double: Arc<[Stft<f64>]>,
}

impl Default for MultiResolutionStft {
    /// The three resolutions of Parallel WaveGAN.
    fn default() -> Self {
        Self::new(&[[1024, 120, 600], [2048, 240, 1200], [512, 50, 240]]).expect("resolutions that are valid")
    }
}

impl MultiResolutionStft {
    /// The distance at these resolutions, each given by the length of the transform, the hop and the length of the
    /// window, in samples.
    ///
    /// # Errors
    /// When there are none, or one is not accepted by [`Stft::new`].
    pub fn new(resolutions: &[[usize; 3]]) -> Result<Self> {
        if resolutions.is_empty() {
            return Err(Error::Config("a multi-resolution distance needs at least one resolution".into()));
        }
        Ok(Self { single: transforms(resolutions)?, double: transforms(resolutions)? })
    }

    /// The distance of the signals x from y, both (B, T) of f32 or both of f64: a scalar with gradients with respect to
    /// both. Where a bin's power is below 1e-7 its gradient is 0.
    ///
    /// # Errors
    /// When the shapes or types differ or are others.
    pub fn loss(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        check_signals("a batch of signals", x)?;
        check_signals("the batch of signals to compare with", y)?;
        if x.dims() != y.dims() || x.dtype() != y.dtype() {
            let want = format!("{:?} of {:?}, as the other", x.dims(), x.dtype());
            return Err(Error::shape("the batch of signals to compare with", y.dims(), want));
        }
        on_cpu(x, |x| {
            let y = y.to_device(x.device())?;
            match x.dtype() {
                DType::F32 => loss(&self.single, x, &y),
                _ => loss(&self.double, x, &y),
            }
        })
    }
}

fn transforms<T: Sample>(resolutions: &[[usize; 3]]) -> Result<Arc<[Stft<T>]>> {
    resolutions.iter().map(|&[fft, hop, window]| Stft::new(fft, hop, window, Padding::Centred)).collect()
}

/// What the frames of a batch add up to at one resolution.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    /// `sum (Y - X)^2`
    difference: f64,
    /// `sum Y^2`
    reference: f64,
    /// `sum |ln Y - ln X|`
    logarithms: f64,
    /// The number of magnitudes.
    count: f64,
}

impl Terms {
    fn plus(self, other: Self) -> Self {
        Self {
            difference: self.difference + other.difference,
            reference: self.reference + other.reference,
            logarithms: self.logarithms + other.logarithms,
            count: self.count + other.count,
        }
    }

    fn value(&self) -> f64 {
        (self.difference / self.reference).sqrt() + self.logarithms / self.count
    }
}

/// The magnitude of a bin.
#[inline(always)]
fn magnitude<T: Sample>(z: &Complex<T>, floor: T) -> T {
    let power = power(z);
    // Not by `max`, which would hide a NaN.
    (if power < floor { floor } else { power }).sqrt()
}

fn terms<T: Sample>(stft: &Stft<T>, x: &[T], y: &[T], length: usize) -> Terms {
    let (frames, floor) = (stft.frames(length), T::of(FLOOR));
    let blocks = frames.div_ceil(BLOCK);
    let block = |(work, of_y): &mut (Work<T>, Work<T>), block: usize| {
        let (row, first) = (block / blocks, block % blocks * BLOCK);
        let rows = row * length..(row + 1) * length;
        let mut terms = Terms::default();
        for frame in (first..frames).take(BLOCK) {
            stft.spectrum(&x[rows.clone()], frame, work);
            stft.spectrum(&y[rows.clone()], frame, of_y);
            let pairs = work.spectrum.iter().zip(&of_y.spectrum);
            dispatch(
                #[inline(always)]
                || {
                    for (x, y) in pairs {
                        let (x, y) = (magnitude(x, floor), magnitude(y, floor));
                        let (difference, reference) = ((y - x).wide(), y.wide());
                        terms.difference += difference * difference;
                        terms.reference += reference * reference;
                        terms.logarithms += Float::abs((y / x).fast_ln()).wide();
                    }
                },
            );
            terms.count += stft.bins() as f64;
        }
        terms
    };
    let blocks = 0..x.len() / length * blocks;
    let sums: Vec<Terms> = blocks.into_par_iter().map_init(|| (stft.work(), stft.work()), block).collect();
    sums.into_iter().fold(Terms::default(), Terms::plus)
}

/// The factors of the gradient at one resolution.
struct Factors<T> {
    /// `1 / (|Y - X|_F |Y|_F)`
    difference: T,
    /// `|Y - X|_F / |Y|_F^3`
    reference: T,
    /// One over the number of magnitudes.
    logarithm: T,
    floor: T,
}

impl<T: Sample> Factors<T> {
    fn new(terms: &Terms, scale: f64) -> Self {
        let (difference, reference) = (terms.difference.sqrt(), terms.reference.sqrt());
        Self {
            difference: T::of(if difference == 0.0 { 0.0 } else { scale / (difference * reference) }),
            reference: T::of(scale * difference / reference.powi(3)),
            logarithm: T::of(scale / terms.count),
            floor: T::of(FLOOR),
        }
    }

    /// Turns the bins `own` of one of the two spectra into their gradient, given those of the `other`; `of_y` is for
    /// those of y.
    fn gradient(&self, own: &mut [Complex<T>], other: &[Complex<T>], of_y: bool) {
        for (z, other) in own.iter_mut().zip(other) {
            let (a, b) = (magnitude(z, self.floor), magnitude(other, self.floor));
            let sign = if a == b { T::zero() } else { Float::signum(a - b) };
            let of_norm = if of_y { self.reference * a } else { T::zero() };
            let slope = (a - b) * self.difference - of_norm + sign * self.logarithm / a;
            *z = if power(z) < self.floor { Complex::new(T::zero(), T::zero()) } else { *z * (slope / a) };
        }
    }
}

fn loss<T: Sample>(stfts: &Arc<[Stft<T>]>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let length = x.dim(1)?;
    let terms: Vec<Terms> =
        with_elements::<T, _, _>([x, y], |[x, y]| stfts.iter().map(|stft| terms(stft, x, y, length)).collect())?;
    let mean = terms.iter().map(Terms::value).sum::<f64>() / terms.len() as f64;
    let value = (T::storage(vec![T::of(mean)]), Shape::from(()));
    Ok(x.apply_op2(y, Precomputed::new(value, Gradient { stfts: stfts.clone(), terms }))?)
}

struct Gradient<T: Sample> {
    stfts: Arc<[Stft<T>]>,
    terms: Vec<Terms>,
}

impl<T: Sample> Gradient<T> {
    /// The gradient of the signals `own`, given the `other`; `of_y` if they are those of y.
    fn of(&self, own: &[T], other: &[T], (length, of_y): (usize, bool), scale: f64) -> Vec<T> {
        let mut sum = vec![T::zero(); own.len()];
        for (stft, terms) in self.stfts.iter().zip(&self.terms) {
            let factors = Factors::new(terms, scale / self.stfts.len() as f64);
            let rows = own.chunks_exact(length).zip(other.chunks_exact(length));
            for (sum, (own, other)) in sum.chunks_exact_mut(length).zip(rows) {
                let gradient = stft.pull_back(
                    length,
                    || stft.work(),
                    |of_other, frame, work| {
                        stft.spectrum(own, frame, work);
                        stft.spectrum(other, frame, of_other);
                        factors.gradient(&mut work.spectrum, &of_other.spectrum, of_y);
                    },
                );
                sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
            }
        }
        sum
    }
}

impl<T: Sample> Backward<2> for Gradient<T> {
    const NAME: &'static str = "multi-resolution-stft";

    fn gradients(
        &self,
        [x, y]: [&Tensor; 2],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let length = x.dim(1)?;
        let scale = gradient.to_dtype(DType::F64)?.to_scalar()?;
        let of = |own: &Tensor, other: &Tensor, of_y: bool| -> candle_core::Result<Option<Tensor>> {
            if !own.track_op() {
                return Ok(None);
            }
            let gradient =
                with_elements::<T, _, _>([own, other], |[own, other]| self.of(own, other, (length, of_y), scale))?;
            Ok(Some(T::tensor(gradient, own.shape())?))
        };
        Ok([of(x, y, false)?, of(y, x, true)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use flows_core::Rng;
    use flows_core::nn::Parameters;
    use flows_core::testing::{difference, gradient_difference};

    fn small() -> Result<MultiResolutionStft> {
        MultiResolutionStft::new(&[[32, 7, 30], [63, 16, 40]])
    }

    #[test]
    fn is_the_composition_of_its_parts() -> Result<()> {
        let rng = &mut Rng::seed(1);
        let (x, y) = (
            rng.normal_tensor((2, 500), DType::F64, &Device::Cpu)?,
            rng.normal_tensor((2, 500), DType::F64, &Device::Cpu)?,
        );
        let mut want = 0.0;
        for (fft, hop, window) in [(32, 7, 30), (63, 16, 40)] {
            let stft = Stft::<f64>::new(fft, hop, window, Padding::Centred)?;
            let magnitudes = |x: &Tensor| -> Result<Vec<f64>> {
                let mut all = Vec::new();
                for row in x.to_vec2()? {
                    all.extend(stft.transform(&row)?.powers().iter().map(|p| p.max(1e-7).sqrt()));
                }
                Ok(all)
            };
            let (x, y) = (magnitudes(&x)?, magnitudes(&y)?);
            let sum = |f: fn(f64, f64) -> f64| x.iter().zip(&y).map(|(&x, &y)| f(x, y)).sum::<f64>();
            want += (sum(|x, y| (x - y).powi(2)) / sum(|_, y| y * y)).sqrt() / 2.0;
            want += sum(|x, y| (x.ln() - y.ln()).abs()) / x.len() as f64 / 2.0;
        }
        assert!((small()?.loss(&x, &y)?.to_scalar::<f64>()? - want).abs() < 1e-12);
        let single = small()?.loss(&x.to_dtype(DType::F32)?, &y.to_dtype(DType::F32)?)?;
        assert!((f64::from(single.to_scalar::<f32>()?) - want).abs() < 1e-5);
        Ok(())
    }

    #[test]
    fn gradients_are_those_of_differences() -> Result<()> {
        let rng = &mut Rng::seed(2);
        let distance = small()?;
        for (rows, length) in [(1, 5), (2, 90), (1, 700)] {
            let mut draw = || -> Result<Var> {
                Ok(Var::from_tensor(&rng.normal_tensor((rows, length), DType::F64, &Device::Cpu)?)?)
            };
            let (x, y) = (draw()?, draw()?);
            let loss = || Ok((distance.loss(&x, &y)? * 7.0)?);
            let none = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let furthest = gradient_difference(loss, &none, &[("x", &x), ("y", &y)], &mut Rng::seed(3))?;
            assert!(furthest < 1e-7, "{rows} of {length}: {furthest:e}");
            let wide = loss()?.backward()?;
            let (a, b) = (Var::from_tensor(&x.to_dtype(DType::F32)?)?, Var::from_tensor(&y.to_dtype(DType::F32)?)?);
            let narrow = (distance.loss(&a, &b)? * 7.0)?.backward()?;
            for (wide, narrow) in [(wide.get(&x), narrow.get(&a)), (wide.get(&y), narrow.get(&b))] {
                assert!(wide.is_some() && narrow.is_some());
                if let (Some(wide), Some(narrow)) = (wide, narrow) {
                    assert!(difference(wide, narrow)? < 1e-3);
                }
            }
            // No gradient is computed for a constant.
            let gradients = distance.loss(&x, &y.detach())?.backward()?;
            assert!(gradients.get(&x).is_some() && gradients.get(&y).is_none());
        }
        Ok(())
    }

    #[test]
    fn equal_and_silent_signals_have_finite_gradients() -> Result<()> {
        let x = Var::from_tensor(&Rng::seed(4).normal_tensor((1, 100), DType::F64, &Device::Cpu)?)?;
        let silence = Var::from_tensor(&x.zeros_like()?)?;
        for (a, b) in [(&x, &x), (&silence, &silence), (&x, &silence), (&silence, &x)] {
            let loss = small()?.loss(a, b)?;
            let gradients = loss.backward()?;
            let numbers = gradients.get(a).map(|g| g.flatten_all()?.to_vec1::<f64>()).transpose()?;
            assert!(numbers.is_some_and(|numbers| numbers.iter().all(|g| g.is_finite())));
            assert_eq!(loss.to_scalar::<f64>()? == 0.0, std::ptr::eq(a, b));
        }
        Ok(())
    }

    #[test]
    fn misuse_is_an_error() -> Result<()> {
        assert!(MultiResolutionStft::new(&[]).is_err() && MultiResolutionStft::new(&[[8, 2, 9]]).is_err());
        let zeros = |rows: usize, length: usize, dtype| Tensor::zeros((rows, length), dtype, &Device::Cpu);
        let x = zeros(2, 50, DType::F32)?;
        for y in [zeros(2, 51, DType::F32)?, zeros(1, 50, DType::F32)?, zeros(2, 50, DType::F64)?, x.get(0)?] {
            assert!(small()?.loss(&x, &y).is_err() && small()?.loss(&y, &x).is_err());
        }
        assert!(small()?.loss(&zeros(2, 0, DType::F32)?, &zeros(2, 0, DType::F32)?).is_err());
        Ok(())
    }
}
