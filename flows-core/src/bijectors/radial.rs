//! Radial flows.

use super::amortised::{Amortised, dot, epsilon};
use super::{Bijector, Direction, Mode, check_input_of};
use crate::nn::Scope;
use crate::ops::softplus;
use crate::{Error, Result, Rng, Structure};
use candle_core::{D, Tensor};

/// The radial flow of Rezende & Mohamed (2015), a contraction or expansion around a point z0:
/// `x = z + beta' h (z - z0)`, `h = 1/(alpha' + r)`, `r = |z - z0|`,
/// `log|det dx/dz| = (D - 1) ln(1 + beta' h) + ln(1 + alpha' beta' h^2)`.
///
/// `alpha' = |alpha|` and `beta' = softplus(beta) - |alpha| > -alpha'`, hence the map is invertible
/// (their appendix A.2). The inverse has a closed form: r is the positive root of
/// `r^2 + (softplus(beta) - y) r - alpha' y = 0` for `y = |x - z0|`. With a context, z0, alpha and
/// beta are a linear map of it, one flow for each row.
#[derive(Debug)]
pub struct Radial {
    shape: [usize; 1],
    parameters: Amortised<3>,
}

/// A flow seen from its centre, in a unit of length for each row, (B, 1), that keeps squares from overflowing.
struct Terms {
    /// The distance of the point from the centre.
    distance: Tensor,
    /// alpha'.
    alpha: Tensor,
    /// softplus(beta) = alpha' + beta'.
    sum: Tensor,
    /// The point relative to the centre, (B, D), in the units of the data.
    offset: Tensor,
}

impl Radial {
    /// A flow of vectors of length `dim`, near the identity; its parameters come from a context of
    /// this width, if one is given.
    ///
    /// # Errors
    /// When a size is 0 or the names `z0`, `alpha` and `beta` are taken in `scope`.
    pub fn new(dim: usize, context: Option<usize>, scope: &Scope) -> Result<Self> {
        if dim == 0 {
            return Err(Error::Config("a radial flow needs at least one dimension".into()));
        }
        let start = |rng: &mut Rng| ((0..dim).map(|_| rng.normal()).collect(), rng.normal());
        let (z0, noise) = scope.draw(start).unwrap_or_else(|| (vec![0.0; dim], 0.0));
        // softplus(beta) = alpha is the identity.
        let beta = 1f64.exp_m1().ln() + 1e-2 * noise;
        let parts = [("z0", z0), ("alpha", vec![1.0]), ("beta", vec![beta])];
        Ok(Self { shape: [dim], parameters: Amortised::new(parts, context, scope)? })
    }

    fn terms(&self, at: &Tensor, batch: usize, context: Option<&Tensor>) -> Result<Terms> {
        let [z0, alpha, beta] = self.parameters.get(batch, context)?;
        let offset = at.broadcast_sub(&z0)?;
        // The flow is the same in all units of length.
        let unit = offset.detach().abs()?.max_keepdim(D::Minus1)?.maximum(1.0)?;
        let scaled = offset.broadcast_div(&unit)?;
        // The bound keeps the gradient of the root at the centre 0 instead of NaN.
        let distance = dot(&scaled, &scaled)?.maximum(1e-36)?.sqrt()?;
        let alpha = alpha.abs()?.maximum(1e-6)?.broadcast_div(&unit)?;
        let sum = softplus(&beta)?.maximum(epsilon(at))?.broadcast_div(&unit)?;
        Ok(Terms { distance, alpha, sum, offset })
    }

    /// `log|det dx/dz|` at the distance r; logarithms of sums of positive terms.
    fn log_det(&self, r: &Tensor, terms: &Terms) -> Result<Tensor> {
        let h = (&terms.alpha + r)?.recip()?;
        let (near, far, sum) = ((&terms.alpha * &h)?, (r * &h)?, (&terms.sum * &h)?);
        let tangential = (&far + &sum)?.log()?;
        let radial = (((&far + (&near * 2.0)?)? * &far)? + near * sum)?.log()?;
        Ok((tangential.affine(self.shape[0] as f64 - 1.0, 0.0)? + radial)?.squeeze(1)?)
    }

    fn to_data(&self, z: &Tensor, terms: &Terms) -> Result<(Tensor, Tensor)> {
        let pull = ((&terms.sum - &terms.alpha)? / (&terms.alpha + &terms.distance)?)?;
        let x = (z + terms.offset.broadcast_mul(&pull)?)?;
        Ok((x, self.log_det(&terms.distance, terms)?))
    }

    fn to_latent(&self, x: &Tensor, terms: &Terms) -> Result<(Tensor, Tensor)> {
        // Of the two forms of the root, the one without cancellation.
        let excess = (&terms.distance - &terms.sum)?;
        let product = (&terms.alpha * &terms.distance)?;
        let larger = (excess.abs()? + (excess.sqr()? + (&product * 4.0)?)?.sqrt()?)?;
        let r = excess.ge(0.0)?.where_cond(&(&larger * 0.5)?, &((product * 2.0)? / &larger)?)?;
        let pull = ((&terms.sum - &terms.alpha)? / (&terms.sum + &r)?)?;
        let z = (x - terms.offset.broadcast_mul(&pull)?)?;
        Ok((z, self.log_det(&r, terms)?.neg()?))
    }
}

impl Bijector for Radial {
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
        let batch = check_input_of("a radial flow", self, direction, input)?;
        let terms = self.terms(input, batch, context)?;
        match direction {
            Direction::Forward => self.to_data(input, &terms),
            Direction::Inverse => self.to_latent(input, &terms),
        }
    }

    fn structure(&self) -> Structure {
        self.parameters.structure("Radial", self.shape[0].to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Parameters;
    use crate::testing::{difference, measure, perturb};
    use candle_core::{DType, Device, Var};

    #[test]
    fn exact_with_and_without_context() -> Result<()> {
        for (dim, context) in [(1, None), (3, None), (3, Some(2))] {
            let mut rng = Rng::seed(dim as u64);
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let flow = Radial::new(dim, context, &parameters.scope())?;
            perturb(&parameters, 0.5, &mut rng)?;
            let z = (rng.normal_tensor((6, dim), DType::F64, &Device::Cpu)? * 2.0)?;
            let context = rng.normal_tensor((6, context.unwrap_or(1)), DType::F64, &Device::Cpu)?;
            let report = measure(&flow, &parameters, &z, Some(&context), &mut rng)?;
            assert!(report.worst() < 1e-8, "{report:?}");
        }
        Ok(())
    }

    #[test]
    fn centre_and_far_points_are_safe() -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let parameters = Parameters::new(dtype, &Device::Cpu, Rng::seed(0));
            let flow = Radial::new(2, None, &parameters.scope())?;
            for (values, (_, weight)) in [vec![0.5, -1.0], vec![0.7], vec![1.5]].into_iter().zip(parameters.trainable())
            {
                weight.set(&Tensor::from_vec(values, weight.shape().clone(), &Device::Cpu)?.to_dtype(dtype)?)?;
            }
            let z = Tensor::new(&[[0.5, -1.0], [1e30, -1e30], [0.5, -1.0 + 1e-6]], &Device::Cpu)?.to_dtype(dtype)?;
            let z = Var::from_tensor(&z)?;
            for pass in [Radial::forward, Radial::inverse] {
                let (value, log_det) = pass(&flow, &z, None)?;
                let grads = (value.sum_all()? + log_det.sum_all()?)?.backward()?;
                let grad = grads.get(&z).unwrap().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                assert!(grad.iter().all(|g| g.is_finite()), "{grad:?}");
            }
            let back = flow.inverse(&flow.forward(&z, None)?.0, None)?.0;
            assert!(difference(&z, &back)? < 1e-6);
        }
        Ok(())
    }
}
