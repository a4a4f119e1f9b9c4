//! Planar flows.

use super::amortised::{Amortised, column, dot, epsilon};
use super::{Bijector, Direction, Mode, check_input_of};
use crate::nn::Scope;
use crate::ops::{increasing_roots, planar, planar_is_fused, softplus};
use crate::{Error, Result, Rng, Structure};
use candle_core::Tensor;

/// The planar flow of Rezende & Mohamed (2015): `x = z + u' tanh(w.z + b)`,
/// `log|det dx/dz| = ln(1 + w.u' (1 - tanh^2(w.z + b)))`.
///
/// `u' = u + (softplus(w.u) - 1 - w.u) w/|w|^2` makes `w.u' > -1`, hence the map invertible (their
/// appendix A.1). The inverse has no closed form: the projection `a = w.z` solves the increasing
/// equation `a + w.u' tanh(a + b) = w.x`, to machine precision and for any x; its gradients are
/// those of the implicit function. With a context, w, u and b are a linear map of it, one flow for
/// each row.
#[derive(Debug)]
pub struct Planar {
    shape: [usize; 1],
    parameters: Amortised<3>,
}

/// w (R, D), u' (R, D), b (R, 1), w.u' (R, 1) and 1 + w.u', R being 1 or B.
struct Terms {
    w: Tensor,
    u: Tensor,
    b: Tensor,
    wu: Tensor,
    slope: Tensor,
}

impl Planar {
    /// A flow of vectors of length `dim`, near the identity; its parameters come from a context of
    /// this width, if one is given.
    ///
    /// # Errors
    /// When a size is 0 or the names `w`, `u` and `b` are taken in `scope`.
    pub fn new(dim: usize, context: Option<usize>, scope: &Scope) -> Result<Self> {
        if dim == 0 {
            return Err(Error::Config("a planar flow needs at least one dimension".into()));
        }
        let start = |rng: &mut Rng| {
            let w: Vec<f64> = (0..dim).map(|_| rng.normal() / (dim as f64).sqrt()).collect();
            // softplus(w.u) = 1 makes u' the part of u orthogonal to w: nothing but the noise.
            let unit = 1f64.exp_m1().ln() / w.iter().map(|w| w * w).sum::<f64>().max(f64::MIN_POSITIVE);
            let u = w.iter().map(|w| unit * w + 1e-2 * rng.normal()).collect();
            (w, u)
        };
        let (w, u) = scope.draw(start).unwrap_or_else(|| (vec![0.0; dim], vec![0.0; dim]));
        let parameters = Amortised::new([("w", w), ("u", u), ("b", vec![0.0])], context, scope)?;
        Ok(Self { shape: [dim], parameters })
    }
}

impl Terms {
    fn new([w, u, b]: [Tensor; 3]) -> Result<Self> {
        let wu = dot(&w, &u)?;
        let pull = (((softplus(&wu)? - 1.0)? - wu)? / dot(&w, &w)?.maximum(1e-30)?)?;
        let u = (u + w.broadcast_mul(&pull)?)?;
        let wu = dot(&w, &u)?;
        let slope = (&wu + 1.0)?.maximum(epsilon(&wu))?;
        Ok(Self { w, u, b, wu, slope })
    }

    /// `1 + w.u' (1 - t^2)` for t = tanh(w.z + b), (B, 1); a sum of positive terms.
    fn derivative(&self, t: &Tensor) -> Result<Tensor> {
        let square = t.sqr()?;
        Ok((square.affine(-1.0, 1.0)?.broadcast_mul(&self.slope)? + square)?)
    }
}

/// The forward pass as a composition of candle's operations, for other devices and as the tests' reference.
fn composed(z: &Tensor, terms: Terms) -> Result<(Tensor, Tensor)> {
    let t = dot(z, &terms.w)?.broadcast_add(&terms.b)?.tanh()?;
    let x = (z + terms.u.broadcast_mul(&t)?)?;
    Ok((x, terms.derivative(&t)?.log()?.squeeze(1)?))
}

fn to_data(z: &Tensor, [w, u, b]: [Tensor; 3]) -> Result<(Tensor, Tensor)> {
    if planar_is_fused(z, &w) { planar(z, [&w, &u, &b]) } else { composed(z, Terms::new([w, u, b])?) }
}

fn to_latent(x: &Tensor, terms: &Terms) -> Result<(Tensor, Tensor)> {
    let batch = x.dim(0)?;
    let wx = dot(x, &terms.w)?;
    let root = {
        let (wx, b) = (column(&wx, batch)?, column(&terms.b, batch)?);
        let slope = column(&terms.slope, batch)?;
        let brackets: Vec<(f64, f64)> = wx.iter().zip(&slope).map(|(wx, s)| bracket(*wx, s - 1.0)).collect();
        let root = increasing_roots(&brackets, |i, a| {
            let t = (a + b[i]).tanh();
            (a + (slope[i] - 1.0) * t - wx[i], slope[i] * (1.0 - t * t) + t * t)
        });
        Tensor::from_vec(root, (batch, 1), x.device())?.to_dtype(x.dtype())?
    };
    // A step of Newton's method that is zero in value and has the gradient of the implicit function.
    let t = root.broadcast_add(&terms.b)?.tanh()?;
    let rest = (t.broadcast_mul(&terms.wu)? - wx)?;
    let step = ((&rest - rest.detach())? / terms.derivative(&t)?.detach())?;
    let t = (root - step)?.broadcast_add(&terms.b)?.tanh()?;
    let z = (x - terms.u.broadcast_mul(&t)?)?;
    Ok((z, terms.derivative(&t)?.log()?.neg()?.squeeze(1)?))
}

impl Bijector for Planar {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let batch = check_input_of("a planar flow", self, direction, input)?;
        let parameters = self.parameters.get(batch, context)?;
        match direction {
            Direction::Forward => to_data(input, parameters),
            Direction::Inverse => to_latent(input, &Terms::new(parameters)?),
        }
    }

    fn structure(&self) -> Structure {
        self.parameters.structure("Planar", self.shape[0].to_string())
    }
}

/// An interval that contains the root of `a + c tanh(a + b) = y`, a little wider than it need be, for rounding.
fn bracket(y: f64, c: f64) -> (f64, f64) {
    let width = c.abs() + 1e-12 * y.abs();
    (y - width, y + width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Parameters;
    use crate::testing::{difference, measure, perturb};
    use candle_core::{DType, Device, Var};

    #[test]
    fn fused_as_composed() -> Result<()> {
        let mut rng = Rng::seed(0);
        for (batch, dim, rows) in [(1, 1, 1), (5, 3, 1), (5, 3, 5), (7, 2, 1)] {
            let mut var = |rows, columns| {
                let values = rng.normal_tensor((rows, columns), DType::F64, &Device::Cpu)?;
                Ok::<_, Error>(Var::from_tensor(&(values * 1.5)?)?)
            };
            let (z, w, u, b) = (var(batch, dim)?, var(rows, dim)?, var(rows, dim)?, var(rows, 1)?);
            if batch == 7 {
                // The flat map; the first weight's gradient is not defined there.
                w.set(&w.zeros_like()?)?;
            }
            let parts = [&w, &u, &b].map(|v| v.as_tensor().clone());
            let (x, log_det) = planar(&z, [&w, &u, &b])?;
            let (want_x, want_log_det) = composed(&z, Terms::new(parts)?)?;
            assert!(difference(&want_x, &x)?.max(difference(&want_log_det, &log_det)?) < 1e-12);
            let grads = |x: Tensor, l: Tensor| ((x.powf(2.0)?.sum_all()? + (l * 3.0)?.sum_all()?)?).backward();
            let (got, want) = (grads(x, log_det)?, grads(want_x, want_log_det)?);
            for v in if batch == 7 { vec![&z, &u, &b] } else { vec![&z, &w, &u, &b] } {
                let d = difference(want.get(v).unwrap(), got.get(v).unwrap())?;
                assert!(d < 1e-11, "{batch} {dim} {rows}: {d}");
            }
        }
        Ok(())
    }

    #[test]
    fn exact_with_and_without_context() -> Result<()> {
        for (dim, context) in [(1, None), (3, None), (3, Some(2))] {
            let mut rng = Rng::seed(dim as u64);
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let flow = Planar::new(dim, context, &parameters.scope())?;
            perturb(&parameters, 1.0, &mut rng)?;
            let z = (rng.normal_tensor((6, dim), DType::F64, &Device::Cpu)? * 2.0)?;
            let context = rng.normal_tensor((6, context.unwrap_or(1)), DType::F64, &Device::Cpu)?;
            let report = measure(&flow, &parameters, &z, Some(&context), &mut rng)?;
            assert!(report.worst() < 1e-8, "{report:?}");
        }
        Ok(())
    }

    #[test]
    fn steepest_flow_is_inverted_at_points_it_never_made() -> Result<()> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let flow = Planar::new(1, None, &parameters.scope())?;
        // w.u = -20: the slope at the plane is softplus(-20) = 2e-9.
        for (value, (_, weight)) in [4.0, -5.0, 0.3].iter().zip(parameters.trainable()) {
            weight.set(&Tensor::full(*value, weight.shape().clone(), &Device::Cpu)?)?;
        }
        let x = Tensor::new(&[[0.0], [1e-12], [-0.8], [3.0], [-1e8], [f64::NAN]], &Device::Cpu)?;
        let (z, log_det) = flow.inverse(&x, None)?;
        let back = flow.forward(&z, None)?.0;
        assert!(difference(&x.narrow(0, 0, 5)?, &back.narrow(0, 0, 5)?)? < 1e-14);
        assert!(log_det.to_vec1::<f64>()?[..5].iter().all(|l| l.is_finite()));
        Ok(())
    }
}
