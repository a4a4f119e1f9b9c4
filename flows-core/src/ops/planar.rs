//! The planar map of Rezende and Mohamed (2015), with its forward and its backward pass in one loop each.
//!
//! A flow of planar maps consists of many tiny operations: as a composition nearly all of its time would be overhead.

use super::cpu::Real;
use super::operation::{Kernel, Operation, View, with_elements};
use crate::Result;
use candle_core::{DType, Shape, Tensor};

/// Whether [`planar`] works for z and a weight of the map.
pub(crate) fn planar_is_fused(z: &Tensor, weight: &Tensor) -> bool {
    z.device().is_cpu() && matches!(z.dtype(), DType::F32 | DType::F64) && z.dtype() == weight.dtype()
}

/// `x = z + u' tanh(w.z + b)` and its `log|det dx/dz|`, shapes (B, D) and (B), for z (B, D), w and u (R, D) and
/// b (R, 1), R being 1 or B; `u' = u + (softplus(w.u) - 1 - w.u) w/|w|^2`.
///
/// # Errors
/// When shapes do not agree.
pub(crate) fn planar(z: &Tensor, [w, u, b]: [&Tensor; 3]) -> Result<(Tensor, Tensor)> {
    let (batch, dim) = z.dims2()?;
    let packed = z.contiguous()?.apply_op2(&Tensor::cat(&[w, u, b], 1)?, Operation(Planar))?;
    Ok((packed.narrow(0, 0, batch * dim)?.reshape((batch, dim))?, packed.narrow(0, batch * dim, batch)?))
}

struct Planar;

/// A lower bound of |w|^2 where it is a divisor.
const TINY: f64 = 1e-30;

/// The map of one row of parameters.
struct Map<'a, T> {
    w: &'a [T],
    u: &'a [T],
    b: T,
    /// w.u and |w|^2.
    wu: T,
    norm: T,
    /// u' = u + pull w, 1 + w.u' = slope.
    pull: T,
    slope: T,
    moved: Vec<T>,
}

/// The sums over rows of the gradients with respect to w, u', b and the slope.
struct Sums<T> {
    w: Vec<T>,
    moved: Vec<T>,
    b: T,
    slope: T,
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

impl<'a, T: Real> Map<'a, T> {
    fn new(parameters: &'a [T]) -> Self {
        let (one, dim) = (T::one(), parameters.len() / 2);
        let (w, u, b) = (&parameters[..dim], &parameters[dim..2 * dim], parameters[2 * dim]);
        let (wu, norm) = (dot(w, u), dot(w, w));
        let softplus = wu.max(T::zero()) + (-wu.abs()).exp().ln_1p();
        let pull = (softplus - one - wu) / norm.max(T::of(TINY));
        let slope = if norm < T::of(TINY) { one + wu + pull * norm } else { softplus };
        let moved = w.iter().zip(u).map(|(&w, &u)| u + pull * w).collect();
        Self { w, u, b, wu, norm, pull, slope: slope.max(T::epsilon()), moved }
    }

    /// t = tanh(w.z + b), 1 - t^2 and the determinant, a sum of positive terms.
    fn at(&self, z: &[T]) -> (T, T, T) {
        let t = (dot(self.w, z) + self.b).tanh();
        let rest = T::one() - t * t;
        (t, rest, self.slope * rest + t * t)
    }

    /// Adds the terms of one row to the sums and writes the gradient with respect to z.
    fn backward(&self, z: &[T], gx: &[T], gl: T, gz: &mut [T], sums: &mut Sums<T>) {
        let (t, rest, det) = self.at(z);
        let inner = (dot(gx, &self.moved) + T::of(2.0) * gl * t * (T::one() - self.slope) / det) * rest;
        for j in 0..z.len() {
            gz[j] = gx[j] + inner * self.w[j];
            sums.w[j] += inner * z[j];
            sums.moved[j] += gx[j] * t;
        }
        sums.b += inner;
        sums.slope += gl * rest / det;
    }

    /// The gradients with respect to w, u and b.
    fn finish(&self, sums: Sums<T>, grad: &mut [T]) {
        let dim = self.w.len();
        let norm = self.norm.max(T::of(TINY));
        let pull = dot(&sums.moved, self.w) / norm;
        let kept = self.norm >= T::of(TINY);
        let slope = if kept && self.slope > T::epsilon() { sums.slope } else { T::zero() };
        let sigmoid = (T::one() + (-self.wu).exp()).recip();
        let wu = (slope + pull) * sigmoid - pull;
        let squares = if kept { T::of(-2.0) * pull * self.pull } else { T::zero() };
        for j in 0..dim {
            grad[j] = sums.w[j] + self.pull * sums.moved[j] + squares * self.w[j] + wu * self.u[j];
            grad[dim + j] = sums.moved[j] + wu * self.w[j];
        }
        grad[2 * dim] = sums.b;
    }
}

impl<T: Real> Sums<T> {
    fn new(dim: usize) -> Self {
        Self { w: vec![T::zero(); dim], moved: vec![T::zero(); dim], b: T::zero(), slope: T::zero() }
    }
}

/// The number of rows of z that share a row of parameters of width 2 D + 1.
fn rows_per_map(batch: usize, parameters: usize, dim: usize) -> candle_core::Result<usize> {
    match parameters / (2 * dim + 1) {
        1 => Ok(batch),
        rows if rows == batch => Ok(1),
        rows => candle_core::bail!("{rows} planar maps for a batch of {batch}"),
    }
}

fn forward<T: Real>(z: &[T], parameters: &[T], (batch, dim): (usize, usize)) -> candle_core::Result<Vec<T>> {
    let rows = rows_per_map(batch, parameters.len(), dim)?;
    let mut packed = Vec::with_capacity(batch * (dim + 1));
    let mut log_det = Vec::with_capacity(batch);
    for (z, parameters) in z.chunks(rows.max(1) * dim).zip(parameters.chunks(2 * dim + 1)) {
        let map = Map::new(parameters);
        for z in z.chunks(dim) {
            let (t, _, det) = map.at(z);
            packed.extend(z.iter().zip(&map.moved).map(|(&z, &u)| z + u * t));
            log_det.push(det.ln());
        }
    }
    packed.append(&mut log_det);
    Ok(packed)
}

fn backward<T: Real>(
    z: &[T],
    parameters: &[T],
    grad: &[T],
    (batch, dim): (usize, usize),
) -> candle_core::Result<(Vec<T>, Vec<T>)> {
    let rows = rows_per_map(batch, parameters.len(), dim)?.max(1);
    let width = 2 * dim + 1;
    let (gx, gl) = grad.split_at(batch * dim);
    let (mut gz, mut gp) = (vec![T::zero(); z.len()], vec![T::zero(); parameters.len()]);
    for (i, parameters) in parameters.chunks(width).enumerate() {
        let (map, mut sums) = (Map::new(parameters), Sums::new(dim));
        for row in (i * rows..(i + 1) * rows).take_while(|row| *row < batch) {
            let at = row * dim..(row + 1) * dim;
            map.backward(&z[at.clone()], &gx[at.clone()], gl[row], &mut gz[at], &mut sums);
        }
        map.finish(sums, &mut gp[i * width..(i + 1) * width]);
    }
    Ok((gz, gp))
}

impl Kernel<2> for Planar {
    const NAME: &'static str = "planar";

    fn value<T: Real>(&self, [z, parameters]: [View<'_, T>; 2]) -> candle_core::Result<(Vec<T>, Shape)> {
        let (batch, dim) = z.shape.dims2()?;
        Ok((forward(z.values, parameters.values, (batch, dim))?, Shape::from(batch * (dim + 1))))
    }

    fn gradients<T: Real>(
        &self,
        [z, parameters]: [&Tensor; 2],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let sizes = z.dims2()?;
        let (gz, gp) = with_elements::<T, _, _>([z, parameters, grad], |[z, parameters, grad]| {
            backward(z, parameters, grad, sizes)
        })??;
        Ok([Some(T::tensor(gz, z.shape())?), Some(T::tensor(gp, parameters.shape())?)])
    }
}
