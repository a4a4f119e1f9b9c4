//! The source of randomness: explicit, seeded, and saved with a training run.

use crate::{Result, ops::elements};
use candle_core::{DType, Device, Shape, Tensor};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

/// A seedable generator (ChaCha with 12 rounds) whose state can be saved and restored.
///
/// The same seed gives the same numbers on every machine: all draws are made in f64 and, for f32 tensors, rounded.
///
/// ```
/// use flows_core::Rng;
/// let (mut a, mut b) = (Rng::seed(7), Rng::seed(7));
/// assert_eq!(a.uniform(), b.uniform());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rng(ChaCha12Rng);

impl Rng {
    /// A generator with this seed.
    pub fn seed(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// A new, independent generator, seeded by the next number of this one.
    pub fn fork(&mut self) -> Self {
        Self::seed(self.0.random())
    }

    /// A uniform number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    /// A standard normal number.
    pub fn normal(&mut self) -> f64 {
        self.0.sample(rand_distr::StandardNormal)
    }

    /// A draw from any distribution of `rand_distr`.
    pub fn draw<T>(&mut self, distribution: &impl rand_distr::Distribution<T>) -> T {
        distribution.sample(&mut self.0)
    }

    /// A uniform integer in [0, `bound`); 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.random_range(0..bound) }
    }

    /// The numbers 0 to `n - 1` in random order.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.shuffle(&mut self.0);
        order
    }

    /// A tensor of independent standard normal numbers.
    ///
    /// # Errors
    /// When it has more than 2^30 elements or the device cannot hold it.
    pub fn normal_tensor(&mut self, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
        self.tensor(shape, dtype, device, Self::normal)
    }

    /// A tensor of independent uniform numbers in [0, 1).
    ///
    /// # Errors
    /// When it has more than 2^30 elements or the device cannot hold it.
    pub fn uniform_tensor(&mut self, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
        self.tensor(shape, dtype, device, Self::uniform)
    }

    /// A tensor of independent draws from `next`.
    ///
    /// # Errors
    /// When it has more than 2^30 elements or the device cannot hold it.
    pub fn tensor(
        &mut self,
        shape: impl Into<Shape>,
        dtype: DType,
        device: &Device,
        mut next: impl FnMut(&mut Self) -> f64,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let n = elements(shape.dims())?;
        // Directly in f32 if required: half the memory, one pass.
        if dtype == DType::F32 {
            let values: Vec<f32> = (0..n).map(|_| next(self) as f32).collect();
            return Ok(Tensor::from_vec(values, shape, device)?);
        }
        let values: Vec<f64> = (0..n).map(|_| next(self)).collect();
        Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
    }
}
