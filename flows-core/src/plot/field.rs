//! Functions of two variables on a regular grid, and their level sets.

use super::axis::{Range, drawable};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use contour::ContourBuilder;

/// A regular grid of n x n points over a rectangle, its edges included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    pub(super) x: Range,
    pub(super) y: Range,
    n: usize,
}

impl Grid {
    /// The grid of `n` x `n` points over the ranges `x` and `y`; 200 is enough for a smooth picture.
    ///
    /// # Errors
    /// When a range is empty or not finite, or `n` is not in 2 to 4096.
    pub fn new(x: (f64, f64), y: (f64, f64), n: usize) -> Result<Self> {
        for (low, high) in [x, y] {
            if !(drawable(low) && drawable(high) && low < high) {
                return Err(Error::Config(format!("the range {low} to {high} of a grid is empty; give (low, high)")));
            }
        }
        if !(2..=4096).contains(&n) {
            return Err(Error::Config(format!("a grid of {n} points per side cannot be drawn; give 2 to 4096")));
        }
        Ok(Self { x, y, n })
    }

    fn nodes(&self) -> impl Iterator<Item = (f64, f64)> {
        let Self { x, y, n } = *self;
        let at = move |(low, high): Range, i: usize| low + (high - low) * i as f64 / (n - 1) as f64;
        (0..n * n).map(move |k| (at(x, k % n), at(y, k / n)))
    }

    /// The points as a tensor (n², 2) to evaluate a model on, with x varying fastest.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn points(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        let flat: Vec<f64> = self.nodes().flat_map(|(x, y)| [x, y]).collect();
        Ok(Tensor::from_vec(flat, (self.n * self.n, 2), device)?.to_dtype(dtype)?)
    }

    /// The field of the density whose logarithm at [`Grid::points`] is `log_density` (n²), up to a constant factor,
    /// which does not affect the picture; NaN counts as density 0.
    ///
    /// # Errors
    /// When the shape is wrong.
    pub fn density(&self, log_density: &Tensor) -> Result<Field> {
        if log_density.dims() != [self.n * self.n] {
            return Err(Error::shape("log_density", log_density.dims(), format!("({})", self.n * self.n)));
        }
        let logs = log_density.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let largest = logs.iter().copied().filter(|l| l.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        let value = |l: f64| if l == f64::INFINITY { 1. } else { (l - largest).exp() };
        Ok(self.field(logs.into_iter().map(value).collect()))
    }

    /// The field of a non-negative function `f(x, y)`.
    pub fn map(&self, f: impl Fn(f64, f64) -> f64) -> Field {
        self.field(self.nodes().map(|(x, y)| f(x, y)).collect())
    }

    fn field(&self, mut values: Vec<f64>) -> Field {
        for v in &mut values {
            *v = if drawable(*v) { v.max(0.) } else { 0. };
        }
        Field { grid: *self, values }
    }
}

/// A function of two variables on a [`Grid`].
#[derive(Clone, Debug)]
pub struct Field {
    pub(super) grid: Grid,
    values: Vec<f64>,
}

impl Field {
    /// The closed curves around the region where the function is at least the level, for `count` - 1 evenly spaced
    /// levels below [`Field::cap`]: one item per level, from low to high.
    pub(super) fn contours(&self, count: usize) -> Vec<Vec<Vec<(f64, f64)>>> {
        let Grid { x, y, n } = self.grid;
        let cap = self.cap();
        let levels: Vec<f64> = (1..count).map(|i| cap * i as f64 / count as f64).collect();
        if levels.first().is_none_or(|l| *l <= 0.) {
            return Vec::new();
        }
        // The contour crate puts values at the centres of unit cells, so its 0.5 is our first point. Curves that leave
        // the grid run half a cell outside it, and are drawn along the frame.
        let step = |(low, high): Range| (high - low) / (n - 1) as f64;
        let (dx, dy) = (step(x), step(y));
        let lines = ContourBuilder::new(n, n, true).lines(&self.values, &levels).unwrap_or_default();

        lines
            .iter()
            .map(|line| {
                line.geometry()
                    .0
                    .iter()
                    .map(|ring| ring.0.iter().map(|p| (x.0 + (p.x - 0.5) * dx, y.0 + (p.y - 0.5) * dy)).collect())
                    .collect()
            })
            .collect()
    }

    /// The level above which a hundredth of the mass lies, so that a spike of a few cells does not darken the rest.
    fn cap(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let mut left = 0.01 * sorted.iter().sum::<f64>();
        sorted
            .into_iter()
            .find(|v| {
                left -= v;
                left <= 0.
            })
            .unwrap_or(0.)
    }
}
