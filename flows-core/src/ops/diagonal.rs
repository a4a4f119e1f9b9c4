//! Columns scaled and shifted by constants.

use super::Direction;
use super::cpu::Real;
use super::operation::{Kernel, Operation, View};
use super::simd::{CHUNK, chunks};
use crate::Result;
use candle_core::{DType, Device, Shape, Tensor};
use std::sync::Arc;

/// `x_i = a_i z_i + b_i`, or its inverse.
///
/// Forward, a finite z gives a finite x, and where z is none of -1, 0 and 1, the inverse of x lies on the same sides of
/// them as z, if there is such an x: rounding moves no z of (0, 1), (-1, 1) or the positive numbers onto their ends.
#[derive(Clone, Debug)]
pub(crate) struct Diagonal {
    /// The a_i, their inverses, and the b_i.
    columns: Vec<[f64; 3]>,
}

impl Diagonal {
    /// The map of a matrix (D, D) with its inverse and a shift (D), all in f64 on the CPU; `None` if the matrix is not
    /// diagonal.
    pub(crate) fn of(matrix: &Tensor, inverse: &Tensor, shift: &Tensor) -> Result<Option<Self>> {
        let rows = |t: &Tensor| t.to_vec2::<f64>();
        let (matrix, inverse, shift) = (rows(matrix)?, rows(inverse)?, shift.to_vec1::<f64>()?);
        let off_diagonal = |(i, row): (usize, &Vec<f64>)| row.iter().enumerate().any(|(j, v)| i != j && *v != 0.0);
        if matrix.iter().enumerate().any(off_diagonal) {
            return Ok(None);
        }
        Ok(Some(Self { columns: (0..shift.len()).map(|i| [matrix[i][i], inverse[i][i], shift[i]]).collect() }))
    }

    /// The image of v (B, D).
    pub(crate) fn map(self: &Arc<Self>, v: &Tensor, direction: Direction) -> Result<Tensor> {
        if v.device().is_cpu() && matches!(v.dtype(), DType::F32 | DType::F64) {
            return Ok(v.contiguous()?.apply_op1(Operation(Columns { map: self.clone(), direction }))?);
        }
        let [scales, inverses, shifts] = [0, 1, 2].map(|i| self.column(i, v));
        Ok(match direction {
            Direction::Forward => v.broadcast_mul(&scales?)?.broadcast_add(&shifts?)?,
            Direction::Inverse => v.broadcast_sub(&shifts?)?.broadcast_mul(&inverses?)?,
        })
    }

    fn column(&self, i: usize, like: &Tensor) -> candle_core::Result<Tensor> {
        let column: Vec<f64> = self.columns.iter().map(|column| column[i]).collect();
        Tensor::new(column, &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())
    }
}

struct Columns {
    map: Arc<Diagonal>,
    direction: Direction,
}

/// Whether two numbers lie on the same sides of -1, 0 and 1, where -1 and 1 count as outside of (-1, 1).
#[inline(always)]
fn alike<T: Real>(a: T, b: T) -> bool {
    let one = T::one();
    let inner = ((a > T::zero()) == (b > T::zero())) & ((a < T::zero()) == (b < T::zero()));
    let outer = ((a >= one) == (b >= one)) & ((a <= -one) == (b <= -one));
    inner & outer
}

#[inline(always)]
fn forward<T: Real>(z: T, column: [T; 3]) -> T {
    let [scale, inverse, shift] = column;
    let x = z * scale + shift;
    if alike(z, (x - shift) * inverse) & (x.abs() <= T::max_value()) { x } else { inside(z, x, column) }
}

/// The nearest number to x whose inverse is on the same sides as z, or a neighbour of it.
#[cold]
fn inside<T: Real>(z: T, x: T, [scale, inverse, shift]: [T; 3]) -> T {
    if !z.is_finite() {
        return x;
    }
    let mut x = x.max(T::min_value()).min(T::max_value());
    for _ in 0..4 {
        let back = (x - shift) * inverse;
        if alike(z, back) {
            break;
        }
        let up = (z > back) == (scale > T::zero());
        let step = (x.abs() * T::epsilon()).max(T::min_positive_value());
        x += if up { step } else { -step };
    }
    x
}

impl Columns {
    fn values<T: Real>(&self, v: &[T]) -> Vec<T> {
        let columns: Vec<[T; 3]> = self.map.columns.iter().map(|column| column.map(T::of)).collect();
        let d = columns.len();
        let mut out = vec![T::zero(); v.len()];
        chunks(&mut out, (CHUNK / d).max(1) * d, &|start, out: &mut [T]| {
            for (out, v) in out.chunks_exact_mut(d).zip(v[start..].chunks_exact(d)) {
                for ((out, &v), &column) in out.iter_mut().zip(v).zip(&columns) {
                    *out = match self.direction {
                        Direction::Forward => forward(v, column),
                        Direction::Inverse => (v - column[2]) * column[1],
                    };
                }
            }
        });
        out
    }
}

impl Kernel<1> for Columns {
    const NAME: &'static str = "diagonal";

    fn value<T: Real>(&self, [v]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        Ok((self.values(v.values), v.shape.clone()))
    }

    fn gradients<T: Real>(
        &self,
        _: [&Tensor; 1],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let i = match self.direction {
            Direction::Forward => 0,
            Direction::Inverse => 1,
        };
        Ok([Some(grad.broadcast_mul(&self.map.column(i, grad)?)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_draw_rounds_to_an_end() {
        let below = 1.0 - f32::EPSILON / 2.0;
        let draws = [f32::MIN_POSITIVE, 1e-30, 1e-9, 0.3, below, -1e-30, -below, 1.0 + f32::EPSILON, 5.0, f32::MAX];
        for shift in [0.0f32, -2.0, 0.1, 100.0, -1e-20] {
            for scale in [4.0f32, 3.0, -0.7, 1e-3, 1e3, 1.0 / 3.0] {
                for z in draws {
                    // An interval with no number between its ends has no inside.
                    if shift.abs() * f32::EPSILON > 0.5 * scale.abs() * z.abs().min(1.0) && z.abs() > 0.1 {
                        continue;
                    }
                    let column = [scale, scale.recip(), shift];
                    let x = forward(z, column);
                    let back = (x - shift) * column[1];
                    assert!(x.is_finite() && alike(z, back), "{scale} {z:e} + {shift} = {x:e} comes back as {back:e}");
                    let plain = z * scale + shift;
                    let off = if plain.is_finite() { (x - plain).abs() } else { 0.0 };
                    assert!(off <= 4.0 * f32::EPSILON * x.abs().max(1e-30), "{scale} {z:e} + {shift} = {x:e}");
                }
            }
        }
        assert!(forward(f32::NAN, [1.0, 1.0, 2.0]).is_nan() && forward(f32::INFINITY, [1.0, 1.0, 2.0]).is_infinite());
    }
}
