//! Affine maps that are not trained.

use super::linear::check_dim;
use super::{Bijector, Direction, Mode, Support};
use crate::ops::Diagonal;
use crate::shape::check_event;
use crate::{Error, Result, Structure, ops};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// A given affine map, `x = A z + b`, which has no parameters: for figures, units and tests.
///
/// Where A is diagonal, a z between two of -1, 0 and 1, or beyond, has an x whose inverse is so as well, if
/// there is such a number: after a sigmoid, a hyperbolic tangent or an exponential, rounding carries no draw
/// onto the ends of their range. For other maps and ranges the [`Chain`](super::Chain) sees to that.
///
/// A box is mapped onto a box, its [`image`](Bijector::image), where each row of A has one number other than 0; the
/// parallelepiped that others make of it has no name, so their image is not known.
///
/// ```
/// use flows_core::bijectors::{Bijector, FixedAffine};
/// use candle_core::{Device, Tensor};
/// // Scaled by 2, then turned by 45 degrees.
/// let map = FixedAffine::scale(&[2.0, 2.0])?.then(&FixedAffine::rotation2d(45f64.to_radians())?)?;
/// let (x, log_det) = map.forward(&Tensor::new(&[[1f32, 0.0]], &Device::Cpu)?, None)?;
/// assert!((x.to_vec2::<f32>()?[0][1] - 2f32.sqrt()).abs() < 1e-6);
/// assert!((log_det.to_vec1::<f32>()?[0] - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FixedAffine {
    shape: [usize; 1],
    // In f64 on the CPU: the map has no type or device of its own, it takes those of its input.
    matrix: Tensor,
    inverse: Tensor,
    shift: Tensor,
    /// The map's numbers where the matrix is diagonal.
    diagonal: Option<Arc<Diagonal>>,
    log_det: f64,
}

impl FixedAffine {
    /// The map with the rows of `matrix` as A and `shift` as b.
    ///
    /// # Errors
    /// When A is not a square of the size of b, or has no finite inverse, or b is not finite.
    pub fn new(matrix: &[Vec<f64>], shift: &[f64]) -> Result<Self> {
        let n = shift.len();
        check_dim(n)?;
        if matrix.len() != n || matrix.iter().any(|row| row.len() != n) {
            let got: Vec<usize> = matrix.iter().map(Vec::len).collect();
            return Err(Error::Config(format!(
                "a shift of {n} numbers needs {n} rows of {n} numbers, but the rows have {got:?}"
            )));
        }
        let matrix = Tensor::from_vec(matrix.concat(), (n, n), &Device::Cpu)?;
        Self::from_tensors(matrix, Tensor::new(shift, &Device::Cpu)?)
    }

    /// `x_i = scales_i z_i`.
    ///
    /// # Errors
    /// When there is no scale or one is zero or not finite.
    pub fn scale(scales: &[f64]) -> Result<Self> {
        let n = scales.len();
        let entry = |i: usize, j: usize| if i == j { scales[i] } else { 0.0 };
        let rows: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect();
        Self::new(&rows, &vec![0.0; n])
    }

    /// `x = z + shift`.
    ///
    /// # Errors
    /// When the shift is empty or not finite.
    pub fn shift(shift: &[f64]) -> Result<Self> {
        check_dim(shift.len())?;
        let identity = Self::scale(&vec![1.0; shift.len()])?;
        Self::from_tensors(identity.matrix, Tensor::new(shift, &Device::Cpu)?)
    }

    /// The plane turned by `angle` radians, counterclockwise.
    ///
    /// # Errors
    /// When the angle is not finite.
    pub fn rotation2d(angle: f64) -> Result<Self> {
        let (sin, cos) = angle.sin_cos();
        Self::new(&[vec![cos, -sin], vec![sin, cos]], &[0.0, 0.0])
    }

    /// The plane sheared: `x_1 = z_1 + along_first z_2`, `x_2 = z_2 + along_second z_1`.
    ///
    /// # Errors
    /// When the product of both is 1, which is singular, or one is not finite.
    pub fn shear(along_first: f64, along_second: f64) -> Result<Self> {
        Self::new(&[vec![1.0, along_first], vec![along_second, 1.0]], &[0.0, 0.0])
    }

    /// This map and then `next`, as one.
    ///
    /// # Errors
    /// When the dimensions differ.
    pub fn then(&self, next: &Self) -> Result<Self> {
        if self.shape != next.shape {
            return Err(Error::shape("the second map", &next.shape, format!("{:?}", self.shape)));
        }
        let shift = (next.matrix.matmul(&self.shift.unsqueeze(1)?)?.squeeze(1)? + &next.shift)?;
        Self::from_tensors(next.matrix.matmul(&self.matrix)?, shift)
    }

    fn from_tensors(matrix: Tensor, shift: Tensor) -> Result<Self> {
        let log_det = ops::log_abs_det(&matrix)?.to_scalar::<f64>()?;
        let inverse = ops::inverse(&matrix)?;
        let values = [inverse.flatten_all()?.to_vec1::<f64>()?, shift.to_vec1()?].concat();
        if !log_det.is_finite() || values.iter().any(|v| !v.is_finite()) {
            return Err(Error::Config(format!(
                "a matrix with log|det| {log_det} or its shift is not invertible in f64: \
                 give a matrix that is not singular, and finite numbers"
            )));
        }
        let diagonal = Diagonal::of(&matrix, &inverse, &shift)?.map(Arc::new);
        Ok(Self { shape: [shift.dim(0)?], matrix, inverse, shift, diagonal, log_det })
    }

    fn log_dets(&self, sign: f64, like: &Tensor, batch: usize) -> Result<Tensor> {
        Ok(Tensor::full(sign * self.log_det, batch, like.device())?.to_dtype(like.dtype())?)
    }
}

/// `t` in the type and on the device of `like`.
fn as_in(t: &Tensor, like: &Tensor) -> Result<Tensor> {
    Ok(t.to_dtype(like.dtype())?.to_device(like.device())?)
}

impl FixedAffine {
    /// The box that a matrix and a shift make of the box that holds `support`, where each row has one number other than 0.
    fn box_of(&self, matrix: &Tensor, shift: &Tensor, support: &Support) -> Option<Support> {
        let bounds = support.bounds();
        let (rows, shift) = (matrix.to_vec2::<f64>().ok()?, shift.to_vec1::<f64>().ok()?);
        let element = |(row, shift): (&Vec<f64>, f64)| {
            let mut entries = row.iter().zip(&bounds).filter(|(entry, _)| **entry != 0.0);
            let (scale, bounds) = entries.next()?;
            entries.next().is_none().then(|| bounds.scaled(*scale, shift))
        };
        let bounds = rows.iter().zip(shift).map(element).collect::<Option<Vec<_>>>()?;
        Support::in_box(&self.shape, bounds)
    }

    fn to_data(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let batch = check_event("z", z, &self.shape)?;
        if let Some(diagonal) = &self.diagonal {
            return Ok((diagonal.map(z, Direction::Forward)?, self.log_dets(1.0, z, batch)?));
        }
        let x = super::linear::times_rows(&as_in(&self.matrix, z)?, z, Some(&as_in(&self.shift, z)?))?;
        Ok((x, self.log_dets(1.0, z, batch)?))
    }

    fn to_latent(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let batch = check_event("x", x, &self.shape)?;
        if let Some(diagonal) = &self.diagonal {
            return Ok((diagonal.map(x, Direction::Inverse)?, self.log_dets(-1.0, x, batch)?));
        }
        let centred = x.broadcast_sub(&as_in(&self.shift, x)?)?;
        let z = super::linear::times_rows(&as_in(&self.inverse, x)?, &centred, None)?;
        Ok((z, self.log_dets(-1.0, x, batch)?))
    }
}

impl Bijector for FixedAffine {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        _: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match direction {
            Direction::Forward => self.to_data(input),
            Direction::Inverse => self.to_latent(input),
        }
    }

    /// A box where each row of A has one number other than 0.
    fn image(&self, latent: &Support) -> Option<Support> {
        self.box_of(&self.matrix, &self.shift, latent)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        let shift = self.inverse.matmul(&self.shift.neg().ok()?.unsqueeze(1).ok()?).ok()?.squeeze(1).ok()?;
        self.box_of(&self.inverse, &shift, data)
    }

    fn structure(&self) -> Structure {
        Structure::new("FixedAffine", format!("{0} x {0}, not trained", self.shape[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::linear::check;

    #[test]
    fn is_exact() -> Result<()> {
        let map = FixedAffine::shear(0.5, 0.0)?.then(&FixedAffine::shift(&[1.0, -2.0])?)?;
        let map = map.then(&FixedAffine::rotation2d(0.3)?)?.then(&FixedAffine::scale(&[2.0, -0.5])?)?;
        check(&[2], |_| Ok(map.clone()))?;
        let z = Tensor::new(&[[1.0, 2.0]], &Device::Cpu)?;
        let (sin, cos) = 0.3f64.sin_cos();
        let (a, b) = (3.0, 0.0);
        let want = [[2.0 * (cos * a - sin * b), -0.5 * (sin * a + cos * b)]];
        assert!(crate::testing::difference(&map.forward(&z, None)?.0, &Tensor::new(&want, &Device::Cpu)?)? < 1e-15);
        assert!(FixedAffine::shear(2.0, 0.5).is_err());
        assert!(FixedAffine::scale(&[1.0, 0.0]).is_err());
        assert!(FixedAffine::new(&[vec![1.0]], &[0.0, 1.0]).is_err());
        assert!(FixedAffine::scale(&[]).is_err());
        Ok(())
    }
}
