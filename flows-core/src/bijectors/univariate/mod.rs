//! Monotone functions of one real number: the element-wise families that couplings and
//! autoregressive layers use as transformers, and that [`Elementwise`](super::Elementwise)
//! applies on their own.

use super::Bounds;
use crate::nn::Output;
use crate::ops::{self, Direction};
use crate::{Error, Result, Structure};
use candle_core::{DType, Tensor};
use std::ops::Range;

mod affine;
mod deep_dense_sigmoid;
mod deep_sigmoid;
mod fixed;
mod inverted;
mod logistic_mixture;
mod monotone;
mod monotonic_integral;
mod pointwise;
mod rq_spline;
mod sinh_arcsinh;

pub use affine::{Additive, Affine};
pub use deep_dense_sigmoid::DeepDenseSigmoid;
pub use deep_sigmoid::DeepSigmoid;
pub use fixed::{Fixed, Positive};
pub use inverted::Inverted;
pub use logistic_mixture::LogisticMixture;
pub use monotone::{Monotone, numerical_inverse};
pub use monotonic_integral::MonotonicIntegral;
pub use pointwise::Pointwise;
pub use rq_spline::RqSpline;
pub use sinh_arcsinh::SinhArcsinh;

/// A family of monotone functions of one number, each element with its own parameters.
///
/// Values are (B, N). Parameters are unconstrained and come as (B, N, P), or (1, N, P) where all
/// rows share them, P being [`Self::parameter_count`]; a family without parameters gets P = 0 and must
/// not read them.
///
/// A point outside the range of a family (`inverse`) or its domain (`forward`), or whose image overflows, has
/// log-derivative minus infinity and a finite value, so that its density is zero and no gradient is NaN. Whether a
/// point is outside is decided by the point itself: a NaN, in a point or a parameter, gives NaN.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use flows_core::bijectors::{Bijector, Coupling, Mask, univariate::Univariate};
/// use flows_core::nn::{NetworkConfig, Parameters};
/// use flows_core::{Result, Rng};
/// use std::sync::Arc;
///
/// /// `x = e^r z`.
/// #[derive(Debug)]
/// struct Scale;
///
/// impl Univariate for Scale {
///     fn name(&self) -> String {
///         "scale".into()
///     }
///
///     fn parameter_count(&self) -> usize {
///         1
///     }
///
///     fn identity(&self) -> Vec<f64> {
///         vec![0.0]
///     }
///
///     fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
///         let r = parameters.squeeze(2)?.broadcast_as(z.shape())?;
///         Ok(((z * r.exp()?)?, r))
///     }
///
///     fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
///         self.forward(x, &parameters.neg()?)
///     }
/// }
///
/// let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
/// let (mask, network) = (Mask::Alternating { odd: false }, NetworkConfig::mlp([8]));
/// let coupling = Coupling::new(&[4], &mask, Arc::new(Scale), None, &network, &parameters.scope())?;
/// let z = Rng::seed(1).normal_tensor((3, 4), DType::F64, &Device::Cpu)?;
/// let (x, log_det) = coupling.forward(&z, None)?;
/// let (back, inverse_log_det) = coupling.inverse(&x, None)?;
/// assert!((back - z)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
/// assert!((log_det + inverse_log_det)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
/// # Ok::<(), flows_core::Error>(())
/// ```
pub trait Univariate: std::fmt::Debug + Send + Sync {
    /// The usual name of the family, with its settings: "RQ-spline, 8 bins on [-3, 3]".
    fn name(&self) -> String;

    /// How many numbers describe the function of one element.
    fn parameter_count(&self) -> usize;

    /// The raw parameters, [`Self::parameter_count`] numbers, that make the function the identity, or as
    /// near to it as the family gets.
    fn identity(&self) -> Vec<f64>;

    /// What z lie between, whatever the parameters.
    fn domain(&self) -> Bounds {
        Bounds::NONE
    }

    /// What x lie between, whatever the parameters.
    fn range(&self) -> Bounds {
        Bounds::NONE
    }

    /// What the family is made of besides the parameters of its elements, if it has weights.
    fn structure(&self) -> Option<Structure> {
        None
    }

    /// `(x, log|dx/dz|)`, both (B, N), for z of shape (B, N).
    ///
    /// # Errors
    /// When a shape is wrong.
    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)>;

    /// `(z, log|dz/dx|)`, both (B, N), for x of shape (B, N).
    ///
    /// # Errors
    /// When a shape is wrong.
    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)>;

    /// Maps the `moved` elements of each row of x (B, N) and leaves the others as they are, given raw parameters
    /// (B, P M) of the M moved elements, the first of all, then the second of all, and so on; also returns the
    /// log-determinants of the rows, (B).
    ///
    /// This is how a coupling over channels uses the output of a convolution. Families with a kernel override it.
    ///
    /// # Errors
    /// When a shape is wrong.
    fn couple(
        &self,
        direction: Direction,
        x: &Tensor,
        moved: Range<usize>,
        parameters: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (batch, n) = x.dims2()?;
        let raw = parameters.reshape((batch, self.parameter_count(), moved.len()))?.transpose(1, 2)?.contiguous()?;
        let part = x.narrow(1, moved.start, moved.len())?.contiguous()?;
        let (value, log) = match direction {
            Direction::Forward => self.forward(&part, &raw)?,
            Direction::Inverse => self.inverse(&part, &raw)?,
        };
        let parts = [x.narrow(1, 0, moved.start)?, value, x.narrow(1, moved.end, n - moved.end)?];
        let parts: Vec<Tensor> = parts.into_iter().filter(|part| part.elem_count() > 0).collect();
        Ok((Tensor::cat(&parts, 1)?, ops::sum_event(&log)?))
    }

    /// The kernel for [`Self::forward`], for families of this crate that have one.
    fn pointwise(&self) -> Option<Pointwise> {
        None
    }
}

/// The value and log-derivative of `f` at z where |z| is at most the fourth root of the largest number, so that
/// squares of such numbers times weights are finite; beyond, the value at the bound with log-derivative minus infinity.
fn within_reach(z: &Tensor, f: impl Fn(&Tensor) -> Result<(Tensor, Tensor)>) -> Result<(Tensor, Tensor)> {
    let largest = if z.dtype() == DType::F64 { f64::MAX } else { f32::MAX.into() };
    let most = largest.powf(0.25);
    let (value, log) = f(&z.clamp(-most, most)?)?;
    // Comparisons with a NaN are false, so it stays.
    let beyond = (z.gt(most)? + z.lt(-most)?)?;
    Ok((value, beyond.where_cond(&(log.zeros_like()? + f64::NEG_INFINITY)?, &log)?))
}

/// The output of a network for the parameters of `elements` elements, which start near the identity.
pub(super) fn identities(univariate: &dyn Univariate, elements: usize) -> Result<Output> {
    ops::check_width(&univariate.name(), &[elements, univariate.parameter_count()])?;
    Ok(Output::near(univariate.identity().repeat(elements)))
}

/// Applies a family in a direction to values (B, N), and checks that the results have their shape.
pub(super) fn apply(
    univariate: &dyn Univariate,
    direction: Direction,
    values: &Tensor,
    parameters: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (value, log) = match direction {
        Direction::Forward => univariate.forward(values, parameters)?,
        Direction::Inverse => univariate.inverse(values, parameters)?,
    };
    for (what, tensor) in [("value", &value), ("log-derivative", &log)] {
        if tensor.shape() != values.shape() {
            let what = format!("the {what} of the family \"{}\"", univariate.name());
            return Err(Error::shape(what, tensor.dims(), format!("{:?}", values.dims())));
        }
    }
    Ok((value, log))
}

#[cfg(test)]
mod extremes;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::bijectors::{Bijector, Elementwise};
    use crate::nn::{Parameters, Scope};
    use crate::testing::{difference, measure, perturb};
    use candle_core::Device;
    use std::sync::Arc;

    pub(super) type Make = fn(&Scope) -> Result<Arc<dyn Univariate>>;

    /// Families with a shift and scale that take a normal number into their domain.
    pub(super) fn families() -> Vec<(&'static str, Make, [f64; 2])> {
        vec![
            ("affine", |_| Ok(Arc::new(Affine::default())), [0.0, 3.0]),
            ("affine exp", |_| Ok(Arc::new(Affine::exp())), [0.0, 3.0]),
            ("affine sigmoid", |_| Ok(Arc::new(Affine::sigmoid(2.0))), [0.0, 3.0]),
            ("affine gated", |_| Ok(Arc::new(Affine::gated(1.5))), [0.0, 3.0]),
            ("additive", |_| Ok(Arc::new(Additive)), [0.0, 3.0]),
            ("inverse affine", |_| Ok(Arc::new(Inverted(Affine::exp()))), [0.0, 3.0]),
            ("exp", |_| Ok(Arc::new(Fixed::Exp)), [0.0, 3.0]),
            ("softplus", |_| Ok(Arc::new(Fixed::Softplus)), [0.0, 3.0]),
            ("sigmoid", |_| Ok(Arc::new(Fixed::Sigmoid)), [0.0, 2.0]),
            ("logit", |_| Ok(Arc::new(Inverted(Fixed::Sigmoid))), [0.5, 0.1]),
            ("tanh", |_| Ok(Arc::new(Fixed::Tanh)), [0.0, 1.0]),
            ("leaky ReLU", |_| Ok(Arc::new(Fixed::leaky_relu(0.1)?)), [0.0, 3.0]),
            ("power", |_| Ok(Arc::new(Fixed::power(2.5)?)), [3.0, 0.5]),
            ("sinh-arcsinh", |_| Ok(Arc::new(SinhArcsinh)), [0.0, 3.0]),
            ("deep sigmoid", |_| Ok(Arc::new(DeepSigmoid::new(5)?)), [0.0, 3.0]),
            ("inverse deep sigmoid", |_| Ok(Arc::new(Inverted(DeepSigmoid::new(3)?))), [0.0, 3.0]),
            ("deep dense sigmoid", |_| Ok(Arc::new(DeepDenseSigmoid::new(4, 3)?)), [0.0, 3.0]),
            ("logistic mixture", |_| Ok(Arc::new(LogisticMixture::new(4)?)), [0.0, 3.0]),
            ("integral", |s| Ok(Arc::new(MonotonicIntegral::new(3, &[8], 30, s)?)), [0.0, 1.0]),
            ("RQ-spline", |_| Ok(Arc::new(RqSpline::linear_tails(6, 3.0)?)), [0.0, 3.0]),
            ("circular RQ-spline", |_| Ok(Arc::new(RqSpline::circular(6, -3.0, 3.0)?)), [0.0, 0.5]),
        ]
    }

    fn build(make: Make, dtype: DType) -> Result<(Parameters, Elementwise)> {
        let parameters = Parameters::new(dtype, &Device::Cpu, Rng::seed(1));
        let scope = parameters.scope();
        let map = Elementwise::new(&[3], make(&scope.enter("family"))?, &scope)?;
        perturb(&parameters, 0.5, &mut Rng::seed(2))?;
        Ok((parameters, map))
    }

    #[test]
    fn every_family_is_exact() -> Result<()> {
        let mut rng = Rng::seed(3);
        for (name, make, [shift, scale]) in families() {
            let (parameters, map) = build(make, DType::F64)?;
            let z = rng.normal_tensor((40, 3), DType::F64, &Device::Cpu)?.affine(scale, shift)?;
            let report = measure(&map, &parameters, &z, None, &mut rng)?;
            let exact =
                report.round_trip.max(report.consistency).max(report.forward_log_det).max(report.inverse_log_det);
            assert!(exact < 1e-9, "{name}: {report:?}");
            // Knots and kinks spoil differences.
            let limit = if ["RQ-spline", "circular RQ-spline"].contains(&name) { 1e-2 } else { 1e-6 };
            assert!(report.worst() < limit, "{name}: {report:?}");
            let (_, single) = build(make, DType::F32)?;
            let z = z.to_dtype(DType::F32)?;
            let back = single.inverse(&single.forward(&z, None)?.0, None)?.0;
            assert!(difference(&z, &back)? < 1e-4, "{name} in f32");
        }
        Ok(())
    }

    #[test]
    fn families_start_at_the_identity() -> Result<()> {
        let z = Rng::seed(4).normal_tensor((10, 3), DType::F64, &Device::Cpu)?.clamp(-2.9, 2.9)?;
        for (name, make, _) in families() {
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
            let family = make(&parameters.scope())?;
            let others = ["affine sigmoid", "affine gated", "integral", "logistic mixture"];
            if family.parameter_count() == 0 || others.contains(&name) {
                continue;
            }
            let raw = Tensor::new(family.identity(), &Device::Cpu)?.reshape((1, 1, family.parameter_count()))?;
            let raw = raw.broadcast_as((1, 3, family.parameter_count()))?.contiguous()?;
            let (x, log) = family.forward(&z, &raw)?;
            assert!(difference(&z, &x)? < 1e-12 && difference(&z.zeros_like()?, &log)? < 1e-12, "{name}");
        }
        Ok(())
    }

    #[test]
    fn rows_are_coupled_element_by_element() -> Result<()> {
        let (batch, moved, mut rng) = (3, 2..6, Rng::seed(6));
        let x = rng.uniform_tensor((batch, 7), DType::F64, &Device::Cpu)?;
        for (name, make, _) in families() {
            let family = make(&Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1)).scope())?;
            let (n, p) = (moved.len(), family.parameter_count());
            if p == 0 {
                continue;
            }
            let raw = rng.normal_tensor((batch, p, n), DType::F64, &Device::Cpu)?;
            let (part, own) = (x.narrow(1, moved.start, n)?.contiguous()?, raw.transpose(1, 2)?.contiguous()?);
            for direction in [Direction::Forward, Direction::Inverse] {
                let (got, log_det) = family.couple(direction, &x, moved.clone(), &raw.flatten_from(1)?)?;
                let (value, log) = match direction {
                    Direction::Forward => family.forward(&part, &own)?,
                    Direction::Inverse => family.inverse(&part, &own)?,
                };
                let want = Tensor::cat(&[&x.narrow(1, 0, 2)?, &value, &x.narrow(1, 6, 1)?], 1)?;
                let worst = difference(&want, &got)?.max(difference(&log.sum(1)?, &log_det)?);
                assert!(worst < 1e-12, "{name} {direction:?}: {worst:e}");
            }
        }
        Ok(())
    }

    #[test]
    fn results_of_another_shape_are_named() -> Result<()> {
        let scope = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1)).scope();
        let summed = |z: &Tensor, _: &Tensor| Ok((z.clone(), z.zeros_like()?.sum(1)?));
        let wide = |z: &Tensor, _: &Tensor| Ok((Tensor::cat(&[z, z], 1)?, z.zeros_like()?));
        let families: [(Arc<dyn Univariate>, &str); 2] = [
            (
                Arc::new(Monotone::new("summed", vec![], summed)),
                "log-derivative of the family \"summed\" has shape [4]",
            ),
            (Arc::new(Monotone::new("wide", vec![], wide)), "value of the family \"wide\" has shape [4, 6]"),
        ];
        for (family, words) in families {
            let map = Elementwise::new(&[3], family, &scope)?;
            let error = map.forward(&Tensor::zeros((4, 3), DType::F64, &Device::Cpu)?, None).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("[4, 3] is required"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn outside_of_the_domain_the_density_is_zero() -> Result<()> {
        let inf = f64::INFINITY;
        let tanh = Monotone::new("tanh", vec![], |z: &Tensor, none: &Tensor| Fixed::Tanh.forward(z, none));
        let cases: [(Arc<dyn Univariate>, Direction, &[f64]); 7] = [
            (Arc::new(Fixed::Exp), Direction::Inverse, &[0.0, -1.0, -inf]),
            (Arc::new(Fixed::Softplus), Direction::Inverse, &[0.0, -1.0, -inf]),
            (Arc::new(Fixed::Sigmoid), Direction::Inverse, &[0.0, 1.0, -1.0, 2.0, inf]),
            (Arc::new(Fixed::Tanh), Direction::Inverse, &[1.0, -1.0, -3.0, inf]),
            (Arc::new(Fixed::power(2.0)?), Direction::Forward, &[0.0, -1.0]),
            (Arc::new(RqSpline::closed(3, 0.0, 1.0)?), Direction::Inverse, &[-0.1, 1.1, inf]),
            (Arc::new(tanh), Direction::Inverse, &[1.5, -2.0, inf, -inf]),
        ];
        for (family, direction, points) in cases {
            let raw = Tensor::new(family.identity(), &Device::Cpu)?.reshape((1, 1, family.parameter_count()))?;
            let x = candle_core::Var::from_tensor(&Tensor::new(points, &Device::Cpu)?.unsqueeze(1)?)?;
            let (value, log) = match direction {
                Direction::Forward => family.forward(&x, &raw)?,
                Direction::Inverse => family.inverse(&x, &raw)?,
            };
            let numbers = |t: &Tensor| t.flatten_all()?.to_vec1::<f64>();
            assert!(numbers(&value)?.iter().all(|v| v.is_finite()), "{} {value}", family.name());
            assert!(numbers(&log)?.iter().all(|v| *v == -inf), "{} {log}", family.name());
            if let Some(grad) = value.sum_all()?.backward()?.get(&x) {
                assert!(numbers(grad)?.iter().all(|v| v.is_finite()), "{} {grad}", family.name());
            }
        }
        Ok(())
    }

    #[test]
    fn deep_sigmoids_invert_far_in_the_tails() -> Result<()> {
        let families: [Arc<dyn Univariate>; 2] =
            [Arc::new(DeepSigmoid::new(6)?), Arc::new(DeepDenseSigmoid::new(4, 2)?)];
        for family in families {
            let raw = Rng::seed(5).normal_tensor((7, 1, family.parameter_count()), DType::F64, &Device::Cpu)?;
            let x = Tensor::new(&[-1e3f64, -40.0, -1e-9, 0.0, 3.0, 50.0, 1e3], &Device::Cpu)?.unsqueeze(1)?;
            let (z, _) = family.inverse(&x, &raw)?;
            assert!(difference(&x, &family.forward(&z, &raw)?.0)? < 1e-12, "{}", family.name());
            let nan = Tensor::new(&[f64::NAN, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &Device::Cpu)?.unsqueeze(1)?;
            let (z, _) = family.inverse(&nan, &raw)?;
            assert!(z.narrow(0, 1, 6)?.flatten_all()?.to_vec1::<f64>()?.iter().all(|v| v.is_finite()));
        }
        Ok(())
    }
}
