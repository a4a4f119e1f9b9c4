//! Colours as unbounded numbers.

use candle_core::Tensor;
use flows_core::bijectors::Bijector;
use flows_core::{Error, Result, Structure, ops};

/// Colours x of [0, 1] as numbers `z = logit(alpha + (1 - 2 alpha) x)` (Dinh et al. 2016, section 4.1);
/// outside of these colours `log|det dz/dx|` is minus infinity.
#[derive(Clone, Debug)]
pub struct Logit {
    shape: Vec<usize>,
    alpha: f64,
}

impl Logit {
    /// For events of `shape`.
    ///
    /// # Errors
    /// When alpha is not above 0 and below 1/2.
    pub fn new(shape: &[usize], alpha: f64) -> Result<Self> {
        if !(alpha > 0.0 && alpha < 0.5) {
            return Err(Error::Config(format!("an alpha of {alpha}: give a number above 0 and below 1/2")));
        }
        Ok(Self { shape: shape.to_vec(), alpha })
    }

    fn log_slope(&self) -> f64 {
        self.shape.iter().product::<usize>() as f64 * (-2.0 * self.alpha).ln_1p()
    }

    fn check(&self, what: &str, v: &Tensor) -> Result<()> {
        match v.dims() {
            [_, event @ ..] if event == self.shape => Ok(()),
            got => Err(Error::shape(what, got, format!("(B, ...) of {:?}", self.shape))),
        }
    }
}

impl Bijector for Logit {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn forward(&self, z: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.check("the latent of a logit", z)?;
        let scale = 1.0 / (1.0 - 2.0 * self.alpha);
        let x = ops::sigmoid(z)?.affine(scale, -self.alpha * scale)?;
        let slope = (ops::log_sigmoid(z)? + ops::log_sigmoid(&z.neg()?)?)?;
        Ok((x, (ops::sum_event(&slope)? - self.log_slope())?))
    }

    fn inverse(&self, x: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.check("the data of a logit", x)?;
        let scale = 1.0 - 2.0 * self.alpha;
        let at = x.clamp(0.0, 1.0)?;
        // Of 1 - x rather than 1 - y, which has lost the digits near white.
        let (up, down) = (at.affine(scale, self.alpha)?, at.affine(-1.0, 1.0)?.affine(scale, self.alpha)?);
        let (up, down) = (ops::ln(&up)?, ops::ln(&down)?);
        let slope = (&up + &down)?.neg()?;
        // Comparisons say no to a NaN, whose row is to stay NaN.
        let outside = (x.lt(0.0)? + x.gt(1.0)?)?;
        let slope = outside.where_cond(&(slope.zeros_like()? + f64::NEG_INFINITY)?, &slope)?;
        Ok(((up - down)?, (ops::sum_event(&slope)? + self.log_slope())?))
    }

    fn structure(&self) -> Structure {
        Structure::new("Logit", format!("{:?}, alpha {:e}", self.shape, self.alpha))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use flows_core::Rng;
    use flows_core::testing::{difference, jacobian_log_det};

    #[test]
    fn both_directions_have_their_jacobians() -> Result<()> {
        let logit = Logit::new(&[1, 2, 3], 0.05)?;
        let z = (Rng::seed(0).normal_tensor((4, 1, 2, 3), DType::F64, &Device::Cpu)? * 2.0)?;
        let (x, log_det) = logit.forward(&z, None)?;
        assert!(difference(&jacobian_log_det(|z| Ok(logit.forward(z, None)?.0), &z)?, &log_det)? < 1e-10);
        // Where the sigmoid is between alpha and 1 - alpha, there are colours for it.
        let x = x.clamp(0.01, 0.99)?;
        let (back, log_det) = logit.inverse(&x, None)?;
        assert!(difference(&x, &logit.forward(&back, None)?.0)? < 1e-12);
        assert!(difference(&jacobian_log_det(|x| Ok(logit.inverse(x, None)?.0), &x)?, &log_det)? < 1e-10);
        Ok(())
    }

    #[test]
    fn black_and_white_are_finite_and_beyond_is_nothing() -> Result<()> {
        let logit = Logit::new(&[1], 1e-6)?;
        let x = Tensor::new(&[[0f32], [1.0], [-0.1], [1.1], [f32::NAN]], &Device::Cpu)?;
        let (z, log_det) = logit.inverse(&x, None)?;
        let (z, log_det) = (z.flatten_all()?.to_vec1::<f32>()?, log_det.to_vec1::<f32>()?);
        assert!((z[0] + 13.8155).abs() < 1e-3 && (z[1] - 13.8155).abs() < 1e-3, "{z:?}");
        assert!(log_det[..2].iter().all(|l| (l - 13.8155).abs() < 1e-3), "{log_det:?}");
        assert!(log_det[2..4].iter().all(|l| *l == f32::NEG_INFINITY) && log_det[4].is_nan(), "{log_det:?}");
        assert!(Logit::new(&[1], 0.0).is_err() && Logit::new(&[1], 0.5).is_err());
        Ok(())
    }
}
