//! Triangular matrices from their entries.

use super::elements;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// Builds triangular n x n matrices from the off-diagonal entries, in row-major order, and the diagonal.
///
/// The order is that of numpy's `tril_indices(n, -1)` and `triu_indices(n, 1)`.
#[derive(Clone, Debug)]
pub struct Triangle {
    n: usize,
    upper: bool,
    index: Tensor,
}

impl Triangle {
    /// The lower triangle of n x n matrices on `device`.
    ///
    /// # Errors
    /// When `n` is 0, or the matrix too large.
    pub fn lower(n: usize, device: &Device) -> Result<Self> {
        Self::new(n, false, device)
    }

    /// The upper triangle of n x n matrices on `device`.
    ///
    /// # Errors
    /// When `n` is 0, or the matrix too large.
    pub fn upper(n: usize, device: &Device) -> Result<Self> {
        Self::new(n, true, device)
    }

    fn new(n: usize, upper: bool, device: &Device) -> Result<Self> {
        if n == 0 {
            return Err(Error::Config("a linear map needs at least one dimension".into()));
        }
        elements(&[n, n])?;
        // Source: the entries, then the diagonal, then one zero.
        let (entries, mut next) = (n * (n - 1) / 2, 0);
        let index: Vec<u32> = (0..n * n)
            .map(|e| match (e / n, e % n) {
                (i, j) if i == j => (entries + i) as u32,
                (i, j) if (j > i) == upper => {
                    next += 1;
                    next - 1
                }
                _ => (entries + n) as u32,
            })
            .collect();
        Ok(Self { n, upper, index: Tensor::from_vec(index, n * n, device)? })
    }

    /// The number of off-diagonal entries: n (n - 1) / 2.
    pub fn entries(&self) -> usize {
        self.n * (self.n - 1) / 2
    }

    /// The matrix (n, n) with the off-diagonal `entries` (n (n - 1) / 2) and the `diagonal` (n), or ones if there is
    /// none.
    ///
    /// # Errors
    /// When a shape is wrong.
    pub fn matrix(&self, entries: &Tensor, diagonal: Option<&Tensor>) -> Result<Tensor> {
        let (dtype, device) = (entries.dtype(), entries.device());
        let ones = Tensor::ones(self.n, dtype, device)?;
        let zero = Tensor::zeros(1, dtype, device)?;
        let source = Tensor::cat(&[entries, diagonal.unwrap_or(&ones), &zero], 0)?;
        Ok(source.index_select(&self.index, 0)?.reshape((self.n, self.n))?)
    }

    /// The off-diagonal entries of a row-major matrix, in this order.
    pub fn entries_of(&self, matrix: &[f64]) -> Vec<f64> {
        let inside = |i: usize, j: usize| i != j && (j > i) == self.upper;
        matrix.iter().enumerate().filter(|(e, _)| inside(e / self.n, e % self.n)).map(|(_, &v)| v).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_lie_in_row_major_order() -> Result<()> {
        let matrix = [1., 2., 3., 4., 5., 6., 7., 8., 9.];
        let device = &Device::Cpu;
        let diagonal = Tensor::new(&[1., 5., 9.], device)?;
        for (triangle, want, rows) in [
            (Triangle::lower(3, device)?, [4., 7., 8.], [[1., 0., 0.], [4., 5., 0.], [7., 8., 9.]]),
            (Triangle::upper(3, device)?, [2., 3., 6.], [[1., 2., 3.], [0., 5., 6.], [0., 0., 9.]]),
        ] {
            assert_eq!(triangle.entries_of(&matrix), want);
            let full = triangle.matrix(&Tensor::new(&want, device)?, Some(&diagonal))?;
            assert_eq!(full.to_vec2::<f64>()?, rows);
        }
        // One dimension has no entries.
        let none = Tensor::zeros(0, candle_core::DType::F64, device)?;
        assert_eq!(Triangle::lower(1, device)?.matrix(&none, None)?.to_vec2::<f64>()?, [[1.0]]);
        Ok(())
    }
}
