//! How the divergence of a field is computed.

use candle_core::Tensor;
use flows_core::ops::kernel::Real;
use flows_core::{Result, Rng};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How training computes the divergence; evaluation always uses the exact one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// `sum_k e_k^T J e_k` over the standard basis, in one batched pass at the cost of 1 + D evaluations.
    #[default]
    Exact,
    /// Hutchinson's estimate `e^T J e` with random signs e, fixed throughout a solve, at the cost of 2 evaluations.
    Rademacher,
    /// Hutchinson's estimate with standard normal e.
    Gaussian,
    /// Hutchinson's estimate of the same trace at the bottleneck of `f = g(h(z))`, `e^T (dh/dz) (dg/dh) e` with
    /// standard normal e as wide as h (Grathwohl et al. 2019, section 3.1.1), for networks with a hidden layer
    /// narrower than the data.
    BottleneckGaussian,
}

impl Divergence {
    /// Draws the vectors for one solve, of the shape of `x`: (B, D), or (B, H) for a bottleneck of width H.
    ///
    /// # Errors
    /// When the device fails.
    pub fn draw(self, x: &Tensor, rng: &mut Rng) -> Result<Probe> {
        let sign = |rng: &mut Rng| if rng.below(2) == 0 { -1.0 } else { 1.0 };
        let mut noise = |next: fn(&mut Rng) -> f64| rng.tensor(x.shape().clone(), x.dtype(), x.device(), next);
        Ok(match self {
            Self::Exact => Probe::Basis,
            Self::Rademacher => Probe::Noise(noise(sign)?),
            Self::Gaussian => Probe::Noise(noise(Rng::normal)?),
            Self::BottleneckGaussian => Probe::Bottleneck(noise(Rng::normal)?),
        })
    }
}

/// The vectors e of `sum e^T J e`.
#[derive(Clone, Debug)]
pub enum Probe {
    /// The standard basis: the sum is the divergence.
    Basis,
    /// One random vector per row, (B, D): the sum estimates the divergence.
    Noise(Tensor),
    /// One random vector per row at the bottleneck of the field, (B, H).
    Bottleneck(Tensor),
}

/// A penalty that training subtracts from the divergence, so that fields become smooth and cheap to solve (RNODE,
/// Finlay et al. 2020): `kinetic |f|^2 / D + jacobian |J e|^2 / D`, where the second term is summed over the
/// basis if the divergence is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Penalty {
    /// The weight of the kinetic energy.
    pub kinetic: f64,
    /// The weight of the Jacobian's squared Frobenius norm.
    pub jacobian: f64,
}

impl Penalty {
    /// Whether both weights are 0.
    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// Subtracts the penalty from the `divergence` (B), given the values (B, D) and the Jacobian-vector products
    /// (K, B, D).
    pub(super) fn subtract<T: Real>(self, dim: usize, values: &[T], products: &[T], divergence: &mut [T]) {
        for (weight, terms) in [(self.kinetic, values), (self.jacobian, products)] {
            let weight = T::of(weight / dim as f64);
            if weight == T::zero() {
                continue;
            }
            for block in terms.chunks_exact(divergence.len() * dim) {
                for (out, row) in divergence.iter_mut().zip(block.chunks_exact(dim)) {
                    *out -= weight * row.iter().map(|&v| v * v).sum::<T>();
                }
            }
        }
    }

    /// Given the gradient with respect to the divergence, adds the penalty's part to `sum`, the gradient with respect
    /// to `outputs`: the values followed by the Jacobian-vector products.
    pub(super) fn add_gradient<T: Real>(self, dim: usize, outputs: &[T], gradient: &[T], sum: &mut [T]) {
        let size = gradient.len() * dim;
        for (i, (outputs, sum)) in outputs.chunks_exact(size).zip(sum.chunks_exact_mut(size)).enumerate() {
            let weight = T::of(-2.0 * if i == 0 { self.kinetic } else { self.jacobian } / dim as f64);
            for ((out, sum), &g) in outputs.chunks_exact(dim).zip(sum.chunks_exact_mut(dim)).zip(gradient) {
                sum.iter_mut().zip(out).for_each(|(sum, &v)| *sum += weight * g * v);
            }
        }
    }
}

/// The vectors e of `sum e^T J e` on plain slices, for kernels.
#[derive(Clone, Copy, Debug)]
pub enum Vectors<'a, T> {
    /// No vectors: only the value is computed, and the divergence is 0.
    None,
    /// The standard basis.
    Basis,
    /// One random vector per row, (B, D).
    Noise(&'a [T]),
    /// One random vector per row at the bottleneck of the field.
    Bottleneck {
        /// The vectors, (B, H).
        noise: &'a [T],
        /// The width of the bottleneck, H.
        width: usize,
    },
}

impl<T: Real> Vectors<'_, T> {
    /// The number of tangents per row, K, for rows of `dim` numbers.
    pub(super) fn tangents(self, dim: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Basis => dim,
            Self::Noise(_) | Self::Bottleneck { .. } => 1,
        }
    }

    /// The length of a tangent, for rows of `dim` numbers.
    pub(super) fn width(self, dim: usize) -> usize {
        match self {
            Self::None | Self::Basis | Self::Noise(_) => dim,
            Self::Bottleneck { width, .. } => width,
        }
    }

    /// The vectors of some rows of a batch with `dim` numbers per row.
    pub(crate) fn of_rows(self, rows: Range<usize>, dim: usize) -> Self {
        match self {
            Self::None | Self::Basis => self,
            Self::Noise(e) => Self::Noise(&e[rows.start * dim..rows.end * dim]),
            Self::Bottleneck { noise, width } => {
                Self::Bottleneck { noise: &noise[rows.start * width..rows.end * width], width }
            }
        }
    }

    /// Writes the tangents of `rows` to `out` (K, rows, width), which must be zero.
    pub(super) fn write(self, rows: Range<usize>, dim: usize, width: usize, out: &mut [T]) {
        let dim = self.width(dim);
        match self {
            Self::None => {}
            Self::Basis => {
                for (k, block) in out.chunks_exact_mut(rows.len() * width).enumerate() {
                    block.chunks_exact_mut(width).for_each(|row| row[k] = T::one());
                }
            }
            Self::Noise(e) | Self::Bottleneck { noise: e, .. } => {
                for (row, e) in out.chunks_exact_mut(width).zip(e[rows.start * dim..].chunks_exact(dim)) {
                    row[..dim].copy_from_slice(e);
                }
            }
        }
    }

    /// Computes `sum e^T J e` for each of the rows from `start` on, given their Jacobian-vector products.
    pub(super) fn contract(self, start: usize, dim: usize, products: &[T], out: &mut [T]) {
        let (dim, rows) = (self.width(dim), out.len());
        match self {
            Self::None => out.fill(T::zero()),
            Self::Basis => {
                for (r, out) in out.iter_mut().enumerate() {
                    *out = (0..dim).map(|k| products[(k * rows + r) * dim + k]).sum();
                }
            }
            Self::Noise(e) | Self::Bottleneck { noise: e, .. } => {
                let pairs = products.chunks_exact(dim).zip(e[start * dim..].chunks_exact(dim));
                for (out, (w, e)) in out.iter_mut().zip(pairs) {
                    *out = w.iter().zip(e).map(|(&w, &e)| w * e).sum();
                }
            }
        }
    }

    /// The backward pass of [`Self::contract`]: writes the gradient with respect to the products to `out`, which must
    /// be zero, given the gradient with respect to the sums.
    pub(super) fn spread(self, start: usize, dim: usize, gradient: &[T], out: &mut [T]) {
        let (dim, rows) = (self.width(dim), gradient.len());
        match self {
            Self::None => {}
            Self::Basis => {
                for (r, &g) in gradient.iter().enumerate() {
                    for k in 0..dim {
                        out[(k * rows + r) * dim + k] = g;
                    }
                }
            }
            Self::Noise(e) | Self::Bottleneck { noise: e, .. } => {
                let rows = out.chunks_exact_mut(dim).zip(e[start * dim..].chunks_exact(dim));
                for ((out, e), &g) in rows.zip(gradient) {
                    out.iter_mut().zip(e).for_each(|(out, &e)| *out = g * e);
                }
            }
        }
    }
}
