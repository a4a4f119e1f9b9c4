//! The four energy functions of Rezende and Mohamed (2015).

use crate::ops::{log_sum_exp, sigmoid};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::fmt;

/// A two-dimensional target `p(z) = exp(-U(z)) / Z`, known up to its constant Z, to fit a flow to by reverse KL.
///
/// The energies of Rezende and Mohamed (2015), table 1, with `w1 = sin(pi z1 / 2)`,
/// `w2 = 3 exp(-1/2 ((z1 - 1) / 0.6)^2)` and `w3 = 3 sigmoid((z1 - 1) / 0.3)`. U2 to U4 extend indefinitely along z1,
/// so that Z would be infinite: `sum_i max(|z_i| - 6, 0)^2` is added to them, as in the code of De Cao et al. (2019).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use flows_core::data::Energy;
/// let z = Tensor::new(&[[1f64, 0.0]], &Device::Cpu)?;
/// assert_eq!(Energy::U2.log_density(&z)?.to_vec1::<f64>()?, [-3.125]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Energy {
    /// Two half moons: `((|z| - 2) / 0.4)^2 / 2 - ln(e^(-((z1 - 2) / 0.6)^2 / 2) + e^(-((z1 + 2) / 0.6)^2 / 2))`.
    U1,
    /// A sine wave: `((z2 - w1) / 0.4)^2 / 2`.
    U2,
    /// A wave that splits and joins: `-ln(e^(-((z2 - w1) / 0.35)^2 / 2) + e^(-((z2 - w1 + w2) / 0.35)^2 / 2))`.
    U3,
    /// A wave that splits: `-ln(e^(-((z2 - w1) / 0.4)^2 / 2) + e^(-((z2 - w1 + w3) / 0.35)^2 / 2))`.
    U4,
}

/// Half the side of the soft box.
const BOX: f64 = 6.0;

impl Energy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::U1, Self::U2, Self::U3, Self::U4];

    /// The name, `U1` to `U4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U1 => "U1",
            Self::U2 => "U2",
            Self::U3 => "U3",
            Self::U4 => "U4",
        }
    }

    /// `-U(z)`, the log-density in nats up to a constant, (B), for z (B, 2); differentiable.
    ///
    /// # Errors
    /// When `z` has another shape or is not floating-point.
    pub fn log_density(self, z: &Tensor) -> Result<Tensor> {
        let [_, 2] = z.dims() else { return Err(Error::shape("z", z.dims(), "(B, 2)")) };
        if !z.dtype().is_float() {
            return Err(Error::Data(format!("z has dtype {:?}; convert it to f32 or f64", z.dtype())));
        }
        let z1 = z.narrow(1, 0, 1)?.squeeze(1)?;
        if self == Self::U1 {
            // The bound makes the gradient of the square root 0 at the origin instead of NaN.
            let radius = z.sqr()?.sum(1)?.maximum(1e-30)?.sqrt()?;
            let ends = either(&bell(&z1, 2.0, 0.6)?, &bell(&z1, -2.0, 0.6)?)?;
            return Ok((bell(&radius, 2.0, 0.4)? + ends)?);
        }
        let above = (z.narrow(1, 1, 1)?.squeeze(1)? - (&z1 * (0.5 * PI))?.sin()?)?;
        let wave = match self {
            Self::U1 | Self::U2 => bell(&above, 0.0, 0.4)?,
            Self::U3 => {
                let w2 = (bell(&z1, 1.0, 0.6)?.exp()? * 3.0)?;
                either(&bell(&above, 0.0, 0.35)?, &bell(&(&above + w2)?, 0.0, 0.35)?)?
            }
            Self::U4 => {
                let w3 = (sigmoid(&((&z1 - 1.0)? / 0.3)?)? * 3.0)?;
                either(&bell(&above, 0.0, 0.4)?, &bell(&(&above + w3)?, 0.0, 0.35)?)?
            }
        };
        let outside = (z.abs()? - BOX)?.relu()?.sqr()?.sum(1)?;
        Ok((wave - outside)?)
    }

    /// `ln Z`, the logarithm of the integral of `exp(-U)` over the plane, to about seven digits.
    ///
    /// # Errors
    /// When memory is insufficient.
    pub fn log_normalizer(self) -> Result<f64> {
        // On functions this smooth the trapezoidal rule is exact to rounding; outside the square exp(-U) is below
        // e^-16.
        const SIDE: usize = 401;
        const END: f64 = 10.0;
        let step = 2.0 * END / (SIDE - 1) as f64;
        let at = |i: usize| step * i as f64 - END;
        let nodes: Vec<f64> = (0..SIDE * SIDE).flat_map(|k| [at(k % SIDE), at(k / SIDE)]).collect();
        let z = Tensor::from_vec(nodes, (SIDE * SIDE, 2), &Device::Cpu)?;
        let sum = log_sum_exp(&self.log_density(&z)?)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        Ok(sum + 2.0 * step.ln())
    }
}

impl fmt::Display for Energy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `-1/2 ((x - mean) / deviation)^2`.
fn bell(x: &Tensor, mean: f64, deviation: f64) -> Result<Tensor> {
    Ok((x.affine(1.0 / deviation, -mean / deviation)?.sqr()? * -0.5)?)
}

/// `ln(e^a + e^b)`.
fn either(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    log_sum_exp(&Tensor::stack(&[a, b], 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Parameters;
    use crate::testing::{difference, gradient_difference};
    use candle_core::Var;

    #[test]
    fn values_by_hand() -> Result<()> {
        let ln2 = 2f64.ln();
        // w1, w2, w3 are 1, 3, 1.5 at z1 = 1, and w1 = 0 at 0 and 8.
        let cases = [
            (Energy::U1, [0.0, 0.0], ln2 - 12.5 - 50.0 / 9.0),
            (Energy::U1, [0.0, 2.0], ln2 - 50.0 / 9.0),
            (Energy::U1, [2.0, 0.0], (-200f64 / 9.0).exp().ln_1p()),
            (Energy::U2, [1.0, 0.0], -3.125),
            (Energy::U2, [8.0, 0.4], -0.5 - 4.0),
            (Energy::U3, [1.0, -0.5], ln2 - 0.5 * (1.5f64 / 0.35).powi(2)),
            (Energy::U3, [1.0, 1.0], (-0.5 * (3f64 / 0.35).powi(2)).exp().ln_1p()),
            (Energy::U4, [1.0, 0.25], ((-225f64 / 128.0).exp() + (-225f64 / 98.0).exp()).ln()),
        ];
        for (energy, z, want) in cases {
            let got = energy.log_density(&Tensor::new(&[z], &Device::Cpu)?)?.to_vec1::<f64>()?[0];
            assert!((got - want).abs() < 1e-12, "{energy} at {z:?}: {got}, not {want}");
        }
        assert!(Energy::U1.log_density(&Tensor::zeros(2, DType::F32, &Device::Cpu)?).is_err());
        assert!(Energy::U1.log_density(&Tensor::zeros((1, 2), DType::U8, &Device::Cpu)?).is_err());
        Ok(())
    }

    #[test]
    fn gradients_and_types() -> Result<()> {
        let mut rng = Rng::seed(0);
        let none = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let z = Var::from_tensor(&(rng.normal_tensor((40, 2), DType::F64, &Device::Cpu)? * 4.0)?)?;
        let far = Var::new(&[[0.0, 0.0], [1e15, -1e15], [-300.0, 9.0]], &Device::Cpu)?;
        for energy in Energy::ALL {
            let loss = || Ok(energy.log_density(&z)?.sum_all()?);
            let d = gradient_difference(loss, &none, &[("z", &z)], &mut rng)?;
            assert!(d < 1e-6, "{energy}: {d}");
            let single = energy.log_density(&z.to_dtype(DType::F32)?)?;
            assert!(single.dtype() == DType::F32 && difference(&energy.log_density(&z)?, &single)? < 1e-3);
            let grads = energy.log_density(&far)?.sum_all()?.backward()?;
            let grad = grads.get(&far).unwrap().flatten_all()?.to_vec1::<f64>()?;
            assert!(grad.iter().all(|g| g.is_finite()), "{energy}: {grad:?}");
        }
        Ok(())
    }

    #[test]
    fn normalizers() -> Result<()> {
        // Z of U2 in closed form: a normal's along z2, except for the box; along z1 12, plus the two edges of the box.
        let u2 = (0.4 * (2.0 * PI).sqrt() * (12.0 + PI.sqrt())).ln();
        assert!((Energy::U2.log_normalizer()? - u2).abs() < 1e-6);
        // U3 adds a wave of the same width everywhere.
        let u3 = (2.0 * 0.35 * (2.0 * PI).sqrt() * (12.0 + PI.sqrt())).ln();
        assert!((Energy::U3.log_normalizer()? - u3).abs() < 1e-6);
        let u4 = (0.75 * (2.0 * PI).sqrt() * (12.0 + PI.sqrt())).ln();
        assert!((Energy::U4.log_normalizer()? - u4).abs() < 1e-6);
        Ok(())
    }
}
