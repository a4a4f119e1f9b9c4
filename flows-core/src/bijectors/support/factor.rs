//! Lower-triangular factors.

use super::onto::{Limits, Map, clip, constant};
use crate::Result;
use crate::ops::{exp, ln, log_tanh_slope, sum, tanh};
use candle_core::{D, DType, Device, Tensor};

/// The way from free numbers (B, N) to entries of matrices (B, K, K), and back.
#[derive(Debug)]
struct Positions {
    size: usize,
    /// Of each entry of a matrix its number, or N, where there is a zero.
    numbers: Tensor,
    /// Of each number its entry.
    entries: Tensor,
    /// Ones above the diagonal.
    upper: Tensor,
}

impl Positions {
    /// Numbers that lie at these positions, (row, column), in this order.
    fn new(size: usize, positions: &[(usize, usize)], device: &Device) -> Result<Self> {
        let mut numbers = vec![positions.len() as u32; size * size];
        let entries: Vec<u32> = positions.iter().map(|(i, j)| (i * size + j) as u32).collect();
        for (number, &entry) in entries.iter().enumerate() {
            numbers[entry as usize] = number as u32;
        }
        let upper: Vec<u8> = (0..size * size).map(|e| u8::from(e % size > e / size)).collect();
        Ok(Self {
            size,
            numbers: Tensor::new(numbers, device)?,
            entries: Tensor::new(entries, device)?,
            upper: Tensor::from_vec(upper, (1, size * size), device)?,
        })
    }

    fn matrix(&self, numbers: &Tensor) -> Result<Tensor> {
        let batch = numbers.dim(0)?;
        let zero = Tensor::zeros((batch, 1), numbers.dtype(), numbers.device())?;
        let flat = Tensor::cat(&[numbers, &zero], 1)?.index_select(&self.numbers, 1)?;
        Ok(flat.reshape((batch, self.size, self.size))?)
    }

    fn numbers(&self, matrix: &Tensor) -> Result<Tensor> {
        Ok(matrix.flatten_from(1)?.index_select(&self.entries, 1)?)
    }

    /// Marks entries above the diagonal that are not 0, (B, K K).
    fn above(&self, matrix: &Tensor) -> Result<Tensor> {
        let flat = matrix.flatten_from(1)?;
        Ok((flat.ne(0.0)?.broadcast_mul(&self.upper))?)
    }
}

/// The diagonal of matrices (B, K, K), (B, K).
fn diagonal(matrix: &Tensor) -> Result<Tensor> {
    let size = matrix.dim(D::Minus1)?;
    let step = size as u32 + 1;
    let index = Tensor::arange_step(0, size as u32 * step, step, matrix.device())?;
    Ok(matrix.flatten_from(1)?.index_select(&index, 1)?)
}

/// A lower-triangular matrix of positive diagonal; see [`super::Support::CovarianceFactor`].
#[derive(Debug)]
pub(super) struct CovarianceFactor {
    positions: Positions,
    /// Marks the numbers of the diagonal, (1, N).
    on_diagonal: Tensor,
    /// Their numbers, (K).
    diagonal: Tensor,
    /// By how many powers each diagonal entry changes the volume, (1, K).
    powers: Tensor,
    /// The power of the largest number that entries stay below, so that products of them do not overflow.
    share: f64,
    limits: Limits,
}

impl CovarianceFactor {
    pub(super) fn new(size: usize, dtype: DType, device: &Device) -> Result<Self> {
        Self::with(size, vec![1.0; size], 1.0, dtype, device)
    }

    /// The factor of a covariance, with the volume of `L L^T` by L besides.
    pub(super) fn of_covariance(size: usize, dtype: DType, device: &Device) -> Result<Self> {
        Self::with(size, (0..size).map(|k| (size - k + 1) as f64).collect(), 0.4, dtype, device)
    }

    fn with(size: usize, powers: Vec<f64>, share: f64, dtype: DType, device: &Device) -> Result<Self> {
        let positions: Vec<_> = (0..size).flat_map(|i| (0..=i).map(move |j| (i, j))).collect();
        let on_diagonal: Vec<u8> = positions.iter().map(|(i, j)| u8::from(i == j)).collect();
        let diagonal: Vec<u32> = (0..size as u32).map(|i| i * (i + 3) / 2).collect();
        Ok(Self {
            on_diagonal: Tensor::from_vec(on_diagonal, (1, positions.len()), device)?,
            positions: Positions::new(size, &positions, device)?,
            diagonal: Tensor::new(diagonal, device)?,
            powers: constant(powers, &[1, size], dtype, device)?,
            share,
            limits: Limits::of(dtype),
        })
    }

    fn log_det(&self, log_diagonal: &Tensor) -> Result<Tensor> {
        sum(&log_diagonal.broadcast_mul(&self.powers)?, 1)
    }
}

impl Map for CovarianceFactor {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let parts = 2 * self.positions.size;
        let far = (self.limits.huge / parts as f64).powf(self.share);
        let on_diagonal = self.on_diagonal.broadcast_as(z.shape())?.contiguous()?;
        let numbers = on_diagonal.where_cond(&self.limits.exp(z, self.share, parts)?, &clip(z, -far, far)?)?;
        Ok((self.positions.matrix(&numbers)?, self.log_det(&z.index_select(&self.diagonal, 1)?)?))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        Ok(Tensor::cat(&[self.positions.above(x)?, diagonal(x)?.le(0.0)?], 1)?)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let logs = self.limits.ln(&diagonal(x)?)?;
        let on_diagonal = self.on_diagonal.broadcast_as((x.dim(0)?, self.on_diagonal.dim(1)?))?.contiguous()?;
        let free = self.positions.numbers(x)?;
        let z = on_diagonal.where_cond(&self.limits.ln(&free)?, &free)?;
        Ok((z, self.log_det(&logs)?.neg()?))
    }
}

/// A lower-triangular matrix of positive diagonal whose rows have length 1; see [`super::Support::CorrelationFactor`].
#[derive(Debug)]
pub(super) struct CorrelationFactor {
    positions: Positions,
    /// By how many powers `1 - t^2` of each number's hyperbolic tangent t changes the volume, (1, N).
    powers: Tensor,
    /// Sums what comes before an entry in its row, (K, K).
    before: Tensor,
    /// Sums an entry and what comes behind it in its row, (K, K).
    behind: Tensor,
    unit: Tensor,
    limits: Limits,
}

impl CorrelationFactor {
    /// Row after row.
    pub(super) fn new(size: usize, dtype: DType, device: &Device) -> Result<Self> {
        let positions: Vec<_> = (0..size).flat_map(|i| (0..i).map(move |j| (i, j))).collect();
        let powers = positions.iter().map(|(i, j)| 1.0 + 0.5 * (i - 1 - j) as f64).collect();
        Self::with(size, &positions, powers, dtype, device)
    }

    /// The factor of a correlation matrix, column after column, with the volume of `L L^T` by L besides.
    pub(super) fn of_correlation(size: usize, dtype: DType, device: &Device) -> Result<Self> {
        let positions: Vec<_> = (0..size).flat_map(|j| (j + 1..size).map(move |i| (i, j))).collect();
        let powers = positions.iter().map(|(_, j)| 1.0 + 0.5 * (size - 2 - j) as f64).collect();
        Self::with(size, &positions, powers, dtype, device)
    }

    fn with(
        size: usize,
        positions: &[(usize, usize)],
        powers: Vec<f64>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let ones = |inside: fn(usize, usize) -> bool| {
            let values = (0..size * size).map(|e| f64::from(u8::from(inside(e / size, e % size)))).collect();
            constant(values, &[size, size], dtype, device)
        };
        Ok(Self {
            positions: Positions::new(size, positions, device)?,
            powers: constant(powers, &[1, positions.len()], dtype, device)?,
            before: ones(|k, j| k < j)?,
            behind: ones(|k, j| k >= j)?,
            unit: ones(|i, j| i == j)?,
            limits: Limits::of(dtype),
        })
    }

    /// Sums along the rows of matrices (B, K, K).
    fn sums(&self, matrix: &Tensor, which: &Tensor) -> Result<Tensor> {
        let [batch, size] = [matrix.dim(0)?, self.positions.size];
        Ok(matrix.reshape((batch * size, size))?.matmul(which)?.reshape((batch, size, size))?)
    }

    fn log_det(&self, slopes: &Tensor) -> Result<Tensor> {
        sum(&slopes.broadcast_mul(&self.powers)?, 1)
    }
}

impl Map for CorrelationFactor {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let most = 1.0 - self.limits.epsilon;
        let slopes = log_tanh_slope(z)?;
        let entries = self.positions.matrix(&clip(&tanh(z)?, -most, most)?)?.broadcast_add(&self.unit)?;
        // The logarithm of 1 less the squares before an entry. Squares of what it leaves are to be numbers still.
        let left = self.sums(&self.positions.matrix(&slopes)?, &self.before)?;
        let left = clip(&(left * 0.5)?, 0.5 * self.limits.tiny.ln() + 1.0, 0.0)?;
        Ok(((entries * exp(&left)?)?, self.log_det(&slopes)?))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        let lengths = sum(&x.sqr()?, 2)?;
        let off = (lengths - 1.0)?.abs()?.gt(self.limits.tolerance())?;
        Ok(Tensor::cat(&[self.positions.above(x)?, diagonal(x)?.le(0.0)?, off], 1)?)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        // What an entry and those behind it in the row leave for it, as sums of squares, which do not cancel.
        let rest = self.sums(&clip(&x.sqr()?, self.limits.tiny, 4.0)?, &self.behind)?;
        let size = self.positions.size;
        let none = Tensor::zeros((x.dim(0)?, size, 1), x.dtype(), x.device())?;
        let next = Tensor::cat(&[&rest.narrow(2, 1, size - 1)?, &none], 2)?;
        let [entry, rest, next] = [x, &rest, &next].map(|m| self.positions.numbers(m));
        let (entry, log_rest, log_next) = (entry?, self.limits.ln(&rest?)?, self.limits.ln(&next?)?);
        // artanh(t) of t = entry / sqrt(rest) is arsinh(entry / sqrt(next)) = +-ln((|entry| + sqrt(rest)) / sqrt(next)).
        let both = (entry.abs()? + exp(&(&log_rest * 0.5)?)?)?;
        let z = (ln(&both)? - (&log_next * 0.5)?)?;
        // At 0 abs has slope 1, as this sign.
        let sign = entry.ge(0.0)?.where_cond(&z.ones_like()?, &(z.ones_like()? * -1.0)?)?;
        Ok(((z * sign)?, self.log_det(&(log_rest - log_next)?)?))
    }
}
