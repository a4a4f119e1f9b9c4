//! How the divergence of a field is found.

use candle_core::Tensor;
use flows_core::ops::kernel::Real;
use flows_core::{Result, Rng};
use serde::{Deserialize, Serialize};

/// How training finds the divergence; evaluation always takes the exact one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// `sum_k e_k^T J e_k` over the basis, in one batched pass: 1 + D rows for each.
    #[default]
    Exact,
    /// Hutchinson's estimate `e^T J e` with random signs, the same throughout a solve: 2 rows for each.
    Rademacher,
    /// The same with standard normal numbers.
    Gaussian,
}

impl Divergence {
    /// The vectors of a solve for `x`, (B, D).
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
        })
    }
}

/// The vectors e of `sum e^T J e`.
#[derive(Clone, Debug)]
pub enum Probe {
    /// Those of the basis: the sum is the divergence.
    Basis,
    /// One for each row, (B, D): the sum estimates the divergence.
    Noise(Tensor),
}

/// What training takes off the divergence, so that fields are smooth and cheap to solve (RNODE, Finlay
/// et al. 2020): `kinetic |f|^2 / D + jacobian |J e|^2 / D`, J e being summed over the basis where the
/// divergence is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Penalty {
    /// The weight of the kinetic energy.
    pub kinetic: f64,
    /// The weight of the Jacobian's Frobenius norm.
    pub jacobian: f64,
}

impl Penalty {
    /// Whether there is none.
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Takes it off the `divergence` of each row, given the values and the products with the tangents.
    pub(super) fn take<T: Real>(self, dim: usize, values: &[T], products: &[T], divergence: &mut [T]) {
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

    /// Adds to the gradients of values and products, one after another, what that of the divergence gives.
    pub(super) fn add_gradient<T: Real>(self, dim: usize, outputs: &[T], gradient: &[T], to: &mut [T]) {
        let size = gradient.len() * dim;
        for (i, (outputs, to)) in outputs.chunks_exact(size).zip(to.chunks_exact_mut(size)).enumerate() {
            let weight = T::of(-2.0 * if i == 0 { self.kinetic } else { self.jacobian } / dim as f64);
            for ((out, to), &g) in outputs.chunks_exact(dim).zip(to.chunks_exact_mut(dim)).zip(gradient) {
                to.iter_mut().zip(out).for_each(|(to, &v)| *to += weight * g * v);
            }
        }
    }
}

/// The same for kernels.
#[derive(Clone, Copy, Debug)]
pub enum Vectors<'a, T> {
    /// None: the value alone, and a divergence of zero.
    None,
    /// Those of the basis.
    Basis,
    /// One for each row, (B, D).
    Noise(&'a [T]),
}

impl<T: Real> Vectors<'_, T> {
    /// Tangents of each row of `dim` numbers.
    pub(super) fn tangents(self, dim: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Basis => dim,
            Self::Noise(_) => 1,
        }
    }

    /// Writes the tangents of `rows` rows from `start` to `out`, whose rows have `width` numbers.
    pub(super) fn write(self, (start, rows): (usize, usize), dim: usize, width: usize, out: &mut [T]) {
        match self {
            Self::None => {}
            Self::Basis => {
                for (k, block) in out.chunks_exact_mut(rows * width).enumerate() {
                    block.chunks_exact_mut(width).for_each(|row| row[k] = T::one());
                }
            }
            Self::Noise(e) => {
                for (row, e) in out.chunks_exact_mut(width).zip(e[start * dim..].chunks_exact(dim)) {
                    row[..dim].copy_from_slice(e);
                }
            }
        }
    }

    /// `sum e^T w` of each row, given the products w of the Jacobian with the tangents.
    pub(super) fn contract(self, start: usize, dim: usize, products: &[T], out: &mut [T]) {
        let rows = out.len();
        match self {
            Self::None => out.fill(T::zero()),
            Self::Basis => {
                for (r, out) in out.iter_mut().enumerate() {
                    *out = (0..dim).map(|k| products[(k * rows + r) * dim + k]).sum();
                }
            }
            Self::Noise(e) => {
                let pairs = products.chunks_exact(dim).zip(e[start * dim..].chunks_exact(dim));
                for (out, (w, e)) in out.iter_mut().zip(pairs) {
                    *out = w.iter().zip(e).map(|(&w, &e)| w * e).sum();
                }
            }
        }
    }

    /// The gradient of the products, zeros before, given that of the sums.
    pub(super) fn spread(self, start: usize, dim: usize, gradient: &[T], out: &mut [T]) {
        let rows = gradient.len();
        match self {
            Self::None => {}
            Self::Basis => {
                for (r, &g) in gradient.iter().enumerate() {
                    for k in 0..dim {
                        out[(k * rows + r) * dim + k] = g;
                    }
                }
            }
            Self::Noise(e) => {
                let rows = out.chunks_exact_mut(dim).zip(e[start * dim..].chunks_exact(dim));
                for ((out, e), &g) in rows.zip(gradient) {
                    out.iter_mut().zip(e).for_each(|(out, &e)| *out = g * e);
                }
            }
        }
    }
}
