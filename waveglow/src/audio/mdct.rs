//! The modified discrete cosine transform as a bijector.

use super::Sample;
use super::sample::{check_dtype, on_cpu};
use candle_core::{DType, Shape, Tensor};
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::ops::kernel::{Backward, Precomputed, with_slice};
use flows_core::shape::zero_log_det;
use flows_core::{Error, Result, Structure};
use rayon::prelude::*;
use realfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};
use std::f64::consts::PI;
use std::sync::Arc;

/// The blocks that one task transforms.
const BLOCK: usize = 16;

/// The modified discrete cosine transform (Princen, Johnson and Bradley 1987) with a sine window: `inverse` turns a
/// signal x (1, T) into coefficients z (M, T / M) of M bands, `forward` turns them back; `log|det| = 0`.
///
/// `z[k, j] = sqrt(2 / M) sum_n sin(pi (n + 1/2) / 2M) x[j M - M/2 + n] cos(pi / M (n + 1/2 + M/2) (k + 1/2))`, n from
/// 0 to 2M - 1: frames of 2M samples overlap by half, so that coefficients have no edges between blocks, unlike groups
/// of samples. The first and the last frame have half a frame less: there the window is 0 outside the signal and 1
/// within the half block at its end. The map is orthogonal for any number of blocks, so noise keeps its distribution,
/// and the gradient of each direction is the other direction.
///
/// It takes a time of O(T log M).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use flows_core::bijectors::Bijector;
/// use waveglow::audio::Mdct;
/// let mdct = Mdct::new(16_000, 256);
/// assert!(mdct.is_err());
/// let mdct = Mdct::new(16_128, 256)?;
/// let x = Tensor::ones((2, 1, 16_128), DType::F32, &Device::Cpu)?;
/// assert_eq!(mdct.inverse(&x, None)?.0.dims(), [2, 256, 63]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mdct {
    latent: [usize; 2],
    data: [usize; 2],
    single: Arc<Transform<f32>>,
    double: Arc<Transform<f64>>,
}

impl Mdct {
    /// The transform of signals of `length` samples to `bands` bands.
    ///
    /// # Errors
    /// When one is 0, or `bands` does not divide `length`.
    pub fn new(length: usize, bands: usize) -> Result<Self> {
        if bands == 0 || length == 0 || !length.is_multiple_of(bands) {
            return Err(Error::Config(format!(
                "a signal of {length} samples is not whole blocks of {bands} bands: crop or pad it to a multiple"
            )));
        }
        Ok(Self {
            latent: [bands, length / bands],
            data: [1, length],
            single: Arc::new(Transform::new(bands)),
            double: Arc::new(Transform::new(bands)),
        })
    }

    /// The number of bands.
    pub fn bands(&self) -> usize {
        self.latent[0]
    }
}

impl Bijector for Mdct {
    fn latent_shape(&self) -> &[usize] {
        &self.latent
    }

    fn data_shape(&self) -> &[usize] {
        &self.data
    }

    fn map(&self, direction: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        self.check_input(direction, v)?;
        check_dtype("the input of an MDCT", v)?;
        let value = on_cpu(v, |v| match v.dtype() {
            DType::F32 => apply(&self.single, direction, v, self.latent[1]),
            _ => apply(&self.double, direction, v, self.latent[1]),
        })?;
        Ok((value, zero_log_det(v)?))
    }

    fn structure(&self) -> Structure {
        Structure::new("Mdct", format!("of {} bands, {} samples", self.latent[0], self.data[1]))
    }
}

/// The transform of blocks of one number of bands.
struct Transform<T: Sample> {
    bands: usize,
    /// The sine window at distances 1/2, 3/2, ... after the edge of two blocks, and before it.
    window: Vec<(T, T)>,
    fft: Arc<dyn Fft<T>>,
    /// The factors before the Fourier transform.
    before: Vec<Complex<T>>,
    /// Those after it.
    after: Vec<Complex<T>>,
}

impl<T: Sample> std::fmt::Debug for Transform<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transform {{ bands: {} }}", self.bands)
    }
}

impl<T: Sample> Transform<T> {
    fn new(bands: usize) -> Self {
        let m = bands as f64;
        let edge = |i: usize| (PI * (0.5 * m + i as f64 + 0.5) / (2.0 * m)).sin_cos();
        let window = (0..bands / 2).map(edge).map(|(sin, cos)| (T::of(sin), T::of(cos))).collect();
        let turn = |scale: f64, angle: f64| Complex::new(T::of(scale * angle.cos()), T::of(-scale * angle.sin()));
        let scale = (2.0 / m).sqrt();
        // An even number of samples is a Fourier transform of half as many complex numbers; an odd one takes twice as
        // many.
        let (size, before, after) = match bands.is_multiple_of(2) {
            true => {
                let angle = |n: usize| PI * (n as f64 + 0.125) / m;
                let half = 0..bands / 2;
                let before = half.clone().map(|n| turn(1.0, angle(n))).collect();
                (bands / 2, before, half.map(|k| turn(-scale, angle(k))).collect())
            }
            false => {
                let before = (0..bands).map(|n| turn(1.0, PI * n as f64 / (2.0 * m))).collect();
                (2 * bands, before, (0..bands).map(|k| turn(-scale, PI * (k as f64 + 0.5) / (2.0 * m))).collect())
            }
        };
        Self { bands, window, fft: FftPlanner::new().plan_fft_forward(size), before, after }
    }

    /// The memory that transforming a block needs.
    fn work(&self) -> (Vec<Complex<T>>, Vec<Complex<T>>) {
        let zero = Complex::new(T::zero(), T::zero());
        (vec![zero; self.fft.len()], vec![zero; self.fft.get_inplace_scratch_len()])
    }

    /// `X[k] = -sqrt(2 / M) sum_n x[n] cos(pi / M (n + 1/2) (k + 1/2))` in place; its own inverse.
    fn cosines(&self, block: &mut [T], (buffer, scratch): &mut (Vec<Complex<T>>, Vec<Complex<T>>)) {
        let last = self.bands - 1;
        if self.bands.is_multiple_of(2) {
            for (n, (z, &w)) in buffer.iter_mut().zip(&self.before).enumerate() {
                *z = Complex::new(block[2 * n], block[last - 2 * n]) * w;
            }
            self.fft.process_with_scratch(buffer, scratch);
            for (k, (z, &w)) in buffer.iter().zip(&self.after).enumerate() {
                let z = z * w;
                (block[2 * k], block[last - 2 * k]) = (z.re, -z.im);
            }
        } else {
            buffer.fill(Complex::new(T::zero(), T::zero()));
            for (z, (&x, &w)) in buffer.iter_mut().zip(block.iter().zip(&self.before)) {
                *z = w * x;
            }
            self.fft.process_with_scratch(buffer, scratch);
            for (x, (z, w)) in block.iter_mut().zip(buffer.iter().zip(&self.after)) {
                *x = (z * w).re;
            }
        }
    }

    /// Rotates the samples around each edge of two blocks, `turn` giving the new samples after and before the edge.
    fn edges(&self, signal: &mut [T], turn: impl Fn((T, T), (T, T)) -> (T, T)) {
        for edge in (self.bands..signal.len()).step_by(self.bands) {
            let (left, right) = signal.split_at_mut(edge);
            for ((before, after), &window) in left.iter_mut().rev().zip(right).zip(&self.window) {
                (*after, *before) = turn((*after, *before), window);
            }
        }
    }

    /// The coefficients (rows, bands, blocks) of signals (rows, bands * blocks).
    fn analysis(&self, signals: &[T], blocks: usize) -> Vec<T> {
        let (bands, length) = (self.bands, self.bands * blocks);
        let mut folded = signals.to_vec();
        folded.par_chunks_mut(length).for_each(|signal| {
            self.edges(signal, |(after, before), (w, v)| (w * after - v * before, w * before + v * after));
        });
        folded.par_chunks_mut(BLOCK * bands).for_each_init(
            || self.work(),
            |work, some| {
                for block in some.chunks_exact_mut(bands) {
                    block.reverse();
                    self.cosines(block, work);
                }
            },
        );
        transposed(&folded, blocks, bands)
    }

    /// The inverse of [`Self::analysis`].
    fn synthesis(&self, coefficients: &[T], blocks: usize) -> Vec<T> {
        let (bands, length) = (self.bands, self.bands * blocks);
        let mut signals = transposed(coefficients, bands, blocks);
        signals.par_chunks_mut(BLOCK * bands).for_each_init(
            || self.work(),
            |work, some| {
                for block in some.chunks_exact_mut(bands) {
                    self.cosines(block, work);
                    block.reverse();
                }
            },
        );
        signals.par_chunks_mut(length).for_each(|signal| {
            self.edges(signal, |(after, before), (w, v)| (w * after + v * before, w * before - v * after));
        });
        signals
    }

    fn apply(&self, direction: Direction, v: &[T], blocks: usize) -> Vec<T> {
        match direction {
            Direction::Inverse => self.analysis(v, blocks),
            Direction::Forward => self.synthesis(v, blocks),
        }
    }
}

/// The transposes (columns, rows) of matrices (rows, columns).
fn transposed<T: Sample>(matrices: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut out = vec![T::zero(); matrices.len()];
    out.par_chunks_mut(rows).enumerate().for_each(|(i, out)| {
        let (matrix, column) = (i / columns * rows * columns, i % columns);
        for (y, &x) in out.iter_mut().zip(matrices[matrix + column..].iter().step_by(columns)) {
            *y = x;
        }
    });
    out
}

fn apply<T: Sample>(transform: &Arc<Transform<T>>, direction: Direction, v: &Tensor, blocks: usize) -> Result<Tensor> {
    let (value, shape) = image(transform, direction, v, blocks)?;
    let backward = Transpose { transform: transform.clone(), direction, blocks };
    Ok(v.apply_op1(Precomputed::new((T::storage(value), shape), backward))?)
}

/// The image of a batch, and its shape.
fn image<T: Sample>(
    transform: &Transform<T>,
    direction: Direction,
    v: &Tensor,
    blocks: usize,
) -> candle_core::Result<(Vec<T>, Shape)> {
    let value = with_slice::<T, _>(v, |v| transform.apply(direction, v, blocks))?;
    let (batch, bands) = (v.dim(0)?, transform.bands);
    let shape = match direction {
        Direction::Inverse => (batch, bands, blocks),
        Direction::Forward => (batch, 1, bands * blocks),
    };
    Ok((value, shape.into()))
}

/// The gradient of an orthogonal map is its inverse.
struct Transpose<T: Sample> {
    transform: Arc<Transform<T>>,
    direction: Direction,
    blocks: usize,
}

impl<T: Sample> Backward<1> for Transpose<T> {
    const NAME: &'static str = "mdct";

    fn gradients(&self, _: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> candle_core::Result<[Option<Tensor>; 1]> {
        let back = match self.direction {
            Direction::Inverse => Direction::Forward,
            Direction::Forward => Direction::Inverse,
        };
        let (gradient, shape) = image(&self.transform, back, gradient, self.blocks)?;
        Ok([Some(T::tensor(gradient, &shape)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use flows_core::Rng;
    use flows_core::testing::{Case, difference};

    const SIZES: [(usize, usize); 10] =
        [(1, 1), (5, 1), (2, 2), (3, 3), (8, 2), (12, 4), (15, 5), (15, 3), (24, 8), (36, 12)];

    /// The coefficients by the definition.
    fn direct(x: &[f64], bands: usize) -> Vec<f64> {
        let (m, length, blocks) = (bands as f64, x.len(), x.len() / bands);
        let coefficient = |k: usize, j: usize| {
            let sum = x.iter().enumerate().map(|(t, x)| {
                // The place of the sample in the frame, from 0 to 2M - 1; half a sample off for an odd number of bands.
                let n = t as f64 - (j * bands) as f64 + 0.5 * m;
                let whole = (j == 0 && t < bands / 2) || (j + 1 == blocks && t + bands / 2 >= length);
                let window = match whole {
                    true => 1.0,
                    false if n < 0.0 || n + 0.5 > 2.0 * m => 0.0,
                    false => (PI * (n + 0.5) / (2.0 * m)).sin(),
                };
                window * x * (PI / m * (n + 0.5 + 0.5 * m) * (k as f64 + 0.5)).cos()
            });
            (2.0 / m).sqrt() * sum.sum::<f64>()
        };
        (0..bands).flat_map(|k| (0..blocks).map(move |j| (k, j))).map(|(k, j)| coefficient(k, j)).collect()
    }

    #[test]
    fn is_as_defined_and_orthogonal() -> Result<()> {
        for (length, bands) in SIZES {
            let mdct = Mdct::new(length, bands)?;
            // Row t is what a 1 at time t becomes.
            let ones = Tensor::eye(length, DType::F64, &Device::Cpu)?.unsqueeze(1)?;
            let matrix = mdct.inverse(&ones, None)?.0.reshape((length, length))?;
            let want: Vec<f64> = ones.squeeze(1)?.to_vec2()?.iter().flat_map(|x| direct(x, bands)).collect();
            let want = Tensor::from_vec(want, (length, length), &Device::Cpu)?;
            assert!(difference(&want, &matrix)? < 1e-12, "{length}, {bands}");
            let product = matrix.matmul(&matrix.t()?)?;
            assert!(difference(&ones.squeeze(1)?, &product)? < 1e-12, "{length}, {bands}");
        }
        Ok(())
    }

    #[test]
    fn is_a_bijector() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|e| Error::Io(e.to_string()))?;
        for (length, bands) in SIZES {
            let case =
                Case::new(format!("mdct of {length} to {bands}"), move |_| Ok(Box::new(Mdct::new(length, bands)?)));
            case.all(folder.path())?;
        }
        Ok(())
    }

    #[test]
    fn long_signals_come_back() -> Result<()> {
        for (length, bands) in [(32 * 256, 256), (40 * 240, 240), (99 * 81, 81), (4096, 4096)] {
            let mdct = Mdct::new(length, bands)?;
            for (dtype, tolerance) in [(DType::F32, 3e-6), (DType::F64, 1e-14 * 30.0)] {
                let x = Rng::seed(1).normal_tensor((2, 1, length), dtype, &Device::Cpu)?;
                let (z, log_det) = mdct.inverse(&x, None)?;
                assert!(difference(&x, &mdct.forward(&z, None)?.0)? < tolerance, "{length}, {bands}");
                assert_eq!(log_det.to_dtype(DType::F64)?.to_vec1::<f64>()?, [0.0, 0.0]);
                // Its energy is that of the signal.
                let energy =
                    |v: &Tensor| -> Result<f64> { Ok(v.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?) };
                assert!((energy(&z)? / energy(&x)? - 1.0).abs() < 1e-5);
            }
        }
        Ok(())
    }

    #[test]
    fn misuse_is_an_error() -> Result<()> {
        for (length, bands) in [(0, 4), (4, 0), (0, 0), (10, 4), (2, 4)] {
            assert!(Mdct::new(length, bands).is_err(), "{length}, {bands}");
        }
        let half = Tensor::zeros((1, 1, 8), DType::F16, &Device::Cpu)?;
        assert!(Mdct::new(8, 4)?.inverse(&half, None).is_err());
        Ok(())
    }
}
