//! Invertible residual networks.

use super::{Bijector, Direction, Mode, check_input_of};
use crate::nn::{LipschitzActivation, LipschitzMlp, NormalizedMlp, Scope};
use crate::{Error, Result, Rng, Structure, ops};
use candle_core::{DType, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

mod roulette;

pub use roulette::Roulette;

/// Terms of the series that are always taken.
const CERTAIN: usize = 2;

/// Settings of a [`Residual`] flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResidualSettings {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// The bound on the Lipschitz constant of g, below 1.
    pub coefficient: f64,
    /// The activation of g.
    pub activation: LipschitzActivation,
    /// The estimator of the log-determinant in training; `None` for the exact value, which is also
    /// cheaper up to about four dimensions.
    pub roulette: Option<Roulette>,
    /// The relative change of the spectral norms at which the power iteration stops.
    pub tolerance: f64,
}

impl Default for ResidualSettings {
    fn default() -> Self {
        Self {
            hidden: vec![64, 64],
            coefficient: 0.9,
            activation: LipschitzActivation::LipSwish,
            roulette: Some(Roulette::Poisson { rate: 2.0 }),
            tolerance: 1e-6,
        }
    }
}

/// The invertible residual network of Behrmann et al. (2019): `z = x + g(x)` from the data to the
/// base, g a [`LipschitzMlp`] with constant below 1. With a context c it is `z = x + g(x; c)`, one map
/// for each row.
///
/// `log|det dz/dx| = ln det(I + J)`, J = dg/dx, in two ways. Evaluation builds J from its D products
/// with the basis and takes the determinant, exact to rounding and meant for small D. Training uses the
/// unbiased estimator of residual flows (Chen et al., 2019, equation 6), if there is one:
/// `sum_k (-1)^(k+1)/k v^T J^k v / P(N >= k)` with random signs v and a random number N of terms.
///
/// `forward` iterates `x <- z - g(x)` and ends with a step of Newton's method, which takes the
/// error to that of rounding and carries the gradients of the implicit function.
#[derive(Debug)]
pub struct Residual {
    shape: [usize; 1],
    network: LipschitzMlp,
    coefficient: f64,
    roulette: Option<Roulette>,
}

impl Residual {
    /// A flow of vectors of length `dim`, given a context of this width if there is one.
    ///
    /// # Errors
    /// When a width is 0, or a setting is outside of its range.
    pub fn new(dim: usize, settings: &ResidualSettings, context: Option<usize>, scope: &Scope) -> Result<Self> {
        let ResidualSettings { hidden, coefficient, activation, roulette, tolerance } = settings;
        roulette.map_or(Ok(()), Roulette::check)?;
        let network = LipschitzMlp::new(dim, hidden, context, *coefficient, *activation, *tolerance, scope)?;
        Ok(Self { shape: [dim], network, coefficient: *coefficient, roulette: *roulette })
    }

    /// `(x + g(x), ln det(I + J))`; `shift` is the context's term in g.
    fn exact(&self, x: &Tensor, shift: Option<&Tensor>, network: &NormalizedMlp) -> Result<(Tensor, Tensor)> {
        let (g, slopes) = network.forward(x, shift)?;
        let jacobian = transposed_jacobian(network, &slopes, x)?;
        let (inverse, log_det) = inverses(&jacobian)?;
        // The derivative of ln det A is the transposed inverse of A.
        let change = (inverse.transpose(1, 2)? * (&jacobian - jacobian.detach())?)?;
        Ok(((x + g)?, (log_det + ops::sum_event(&change)?)?))
    }

    /// `(x + g(x), ln det(I + J))`, the second by the estimator in training if there is one.
    fn apply(
        &self,
        x: &Tensor,
        shift: Option<&Tensor>,
        network: &NormalizedMlp,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let (Some(roulette), Some(rng)) = (self.roulette, mode.rng()) else { return self.exact(x, shift, network) };
        let (g, slopes) = network.forward(x, shift)?;
        let log_det = self.estimate(roulette, network, &slopes, x, rng)?;
        Ok(((x + g)?, log_det))
    }

    /// The fixed point of `x = z - g(x)`, so close that one step of Newton's method is enough.
    fn fixed_point(&self, z: &Tensor, shift: Option<&Tensor>, network: &NormalizedMlp) -> Result<Tensor> {
        let (c, double) = (self.coefficient, z.dtype() == DType::F64);
        let (enough, epsilon) = if double { (1e-9, f64::EPSILON) } else { (1e-5, f64::from(f32::EPSILON)) };
        // The distance to the fixed point is at most the last change times c / (1 - c); a change
        // cannot fall below rounding.
        let tolerance = (enough * (1.0 - c) / c).max(16.0 * epsilon);
        let limit = 100 + (2.0 * (tolerance * (1.0 - c)).ln() / c.ln()) as usize;
        let size = (z.abs()? + 1.0)?;
        let mut x = z.clone();
        for _ in 0..limit {
            let next = (z - network.forward(&x, shift)?.0)?;
            let change = ((&next - &x)?.abs()? / (next.abs()? + &size)?)?.to_dtype(DType::F64)?;
            x = next;
            let change: Vec<f64> = change.flatten_all()?.to_vec1()?;
            if change.iter().all(|change| change.is_nan() || *change <= tolerance) {
                return Ok(x);
            }
        }
        Err(Error::Diverged(
            "the residual flow is not a contraction any more, its weights may have overflowed: lower the learning rate"
                .into(),
        ))
    }

    /// The random estimate of `ln det(I + J)`, (B).
    fn estimate(
        &self,
        roulette: Roulette,
        network: &NormalizedMlp,
        slopes: &[Tensor],
        x: &Tensor,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        let signs = |rng: &mut Rng| if rng.uniform() < 0.5 { -1.0 } else { 1.0 };
        let v = rng.tensor(x.shape().clone(), x.dtype(), x.device(), signs)?.unsqueeze(1)?;
        let terms = CERTAIN + roulette.draw(rng);
        let mut power = v.clone();
        let mut sum: Option<Tensor> = None;
        for k in 1..=terms {
            power = network.jvp(slopes, &power)?;
            let weight =
                if k % 2 == 0 { -1.0 } else { 1.0 } / (k as f64 * roulette.survival(k.saturating_sub(CERTAIN)));
            let term = ops::sum_event(&(&power * &v)?)?.affine(weight, 0.0)?;
            sum = Some(match sum {
                None => term,
                Some(sum) => (sum + term)?,
            });
        }
        sum.ok_or_else(|| Error::Config("the series needs at least one term".into()))
    }
}

/// J^T of each row, (B, D, D).
fn transposed_jacobian(network: &NormalizedMlp, slopes: &[Tensor], x: &Tensor) -> Result<Tensor> {
    let (batch, dim) = x.dims2()?;
    let basis = Tensor::eye(dim, x.dtype(), x.device())?.unsqueeze(0)?;
    // Without a hidden layer the Jacobian is the same for all rows.
    Ok(network.jvp(slopes, &basis)?.broadcast_as((batch, dim, dim))?.contiguous()?)
}

/// `((I + A)^-1, ln det(I + A))` of each A of (B, D, D) with norm below 1, in f64 and without graph.
fn inverses(a: &Tensor) -> Result<(Tensor, Tensor)> {
    let (batch, dim, _) = a.dims3()?;
    let mut values: Vec<f64> = a.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
    let log_dets: Vec<f64> = values.par_chunks_mut(dim * dim).map(|a| invert(a, dim)).collect();
    let inverse = Tensor::from_vec(values, (batch, dim, dim), a.device())?.to_dtype(a.dtype())?;
    Ok((inverse, Tensor::from_vec(log_dets, batch, a.device())?.to_dtype(a.dtype())?))
}

/// Replaces A by `(I + A)^-1`, returns `ln det(I + A)`: Gauss-Jordan elimination. With |A| < 1 the
/// quadratic form of I + A is positive, and so is every pivot without exchanges of rows.
fn invert(a: &mut [f64], n: usize) -> f64 {
    (0..n).for_each(|i| a[i * n + i] += 1.0);
    let mut log_det = 0.0;
    for k in 0..n {
        let pivot = a[k * n + k];
        log_det += pivot.ln();
        a[k * n + k] = 1.0;
        a[k * n..(k + 1) * n].iter_mut().for_each(|v| *v /= pivot);
        for i in (0..n).filter(|&i| i != k) {
            let factor = std::mem::take(&mut a[i * n + k]);
            for j in 0..n {
                a[i * n + j] -= factor * a[k * n + j];
            }
        }
    }
    log_det
}

impl Residual {
    fn to_data(
        &self,
        z: &Tensor,
        shift: Option<&Tensor>,
        network: &NormalizedMlp,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let root = self.fixed_point(&z.detach(), shift.map(Tensor::detach).as_ref(), &network.detach())?;
        let (g, slopes) = network.forward(&root, shift)?;
        let (inverse, _) = inverses(&transposed_jacobian(&network.detach(), &detached(&slopes), &root)?)?;
        let rest = ((&root + g)? - z)?;
        let x = (&root - rest.unsqueeze(1)?.matmul(&inverse)?.squeeze(1)?)?;
        let (_, log_det) = self.apply(&x, shift, network, mode)?;
        Ok((x, log_det.neg()?))
    }
}

impl Bijector for Residual {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let batch = check_input_of("a residual flow", self, direction, input)?;
        let shift = self.network.context_term(context, batch)?;
        let network = self.network.normalized(mode)?;
        match direction {
            Direction::Forward => self.to_data(input, shift.as_ref(), &network, mode),
            Direction::Inverse => self.apply(input, shift.as_ref(), &network, mode),
        }
    }

    fn structure(&self) -> Structure {
        let estimator = match self.roulette {
            None => "exact log-determinant".into(),
            Some(Roulette::Geometric { stop }) => format!("log-determinant by geometric({stop}) roulette"),
            Some(Roulette::Poisson { rate }) => format!("log-determinant by Poisson({rate}) roulette"),
        };
        Structure::new("Residual", format!("{}, {estimator}", self.shape[0])).part(self.network.structure())
    }
}

fn detached(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::detach).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Parameters;
    use crate::testing::{difference, measure, perturb};
    use candle_core::Device;

    #[test]
    fn exact_in_both_directions() -> Result<()> {
        let cases = [(1, LipschitzActivation::Elu, None), (3, LipschitzActivation::LipSwish, Some(2))];
        for (dim, activation, context) in cases {
            let mut rng = Rng::seed(1);
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let settings = ResidualSettings { hidden: vec![8, 8], activation, tolerance: 1e-15, ..Default::default() };
            let flow = Residual::new(dim, &settings, context, &parameters.scope())?;
            perturb(&parameters, 1.0, &mut rng)?;
            let z = rng.normal_tensor((4, dim), DType::F64, &Device::Cpu)?;
            let context = rng.normal_tensor((4, context.unwrap_or(1)), DType::F64, &Device::Cpu)?;
            let report = measure(&flow, &parameters, &z, Some(&context), &mut rng)?;
            assert!(report.worst() < 1e-6 && report.round_trip < 1e-12, "{report:?}");
            assert!(report.forward_log_det.max(report.inverse_log_det) < 1e-9, "{report:?}");
        }
        Ok(())
    }

    #[test]
    fn roulette_is_unbiased_in_value_and_gradient() -> Result<()> {
        const DRAWS: usize = 2000;
        for (roulette, context) in
            [(Roulette::Geometric { stop: 0.4 }, None), (Roulette::Poisson { rate: 2.0 }, Some(2))]
        {
            let mut rng = Rng::seed(2);
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let settings = ResidualSettings {
                hidden: vec![8],
                coefficient: 0.6,
                roulette: Some(roulette),
                tolerance: 1e-12,
                ..Default::default()
            };
            let flow = Residual::new(3, &settings, context, &parameters.scope())?;
            perturb(&parameters, 1.0, &mut rng)?;
            let x = rng.normal_tensor((2, 3), DType::F64, &Device::Cpu)?;
            let given = rng.normal_tensor((2, context.unwrap_or(1)), DType::F64, &Device::Cpu)?;
            // The value, and the gradient along a fixed direction of all weights.
            let directions: Vec<Tensor> = (parameters.trainable().iter())
                .map(|(_, var)| rng.normal_tensor(var.shape().clone(), DType::F64, &Device::Cpu))
                .collect::<Result<_>>()?;
            let observe = |log_det: Tensor| -> Result<[f64; 2]> {
                let loss = log_det.sum_all()?;
                let grads = loss.backward()?;
                let mut slope = 0.0;
                for ((_, var), direction) in parameters.trainable().iter().zip(&directions) {
                    // The last bias shifts z alone.
                    if let Some(grad) = grads.get(var) {
                        slope += (grad * direction)?.sum_all()?.to_scalar::<f64>()?;
                    }
                }
                Ok([loss.to_scalar::<f64>()?, slope])
            };
            let exact = observe(flow.inverse(&x, Some(&given))?.1)?;
            let mut draws = Vec::with_capacity(DRAWS);
            for _ in 0..DRAWS {
                draws.push(observe(flow.map(Direction::Inverse, &x, Some(&given), &mut Mode::training(&mut rng))?.1)?);
            }
            for (i, exact) in exact.into_iter().enumerate() {
                let mean = draws.iter().map(|d| d[i]).sum::<f64>() / DRAWS as f64;
                let variance = draws.iter().map(|d| (d[i] - mean).powi(2)).sum::<f64>() / (DRAWS - 1) as f64;
                let error = (variance / DRAWS as f64).sqrt();
                assert!((mean - exact).abs() < 4.0 * error, "{roulette:?}: {mean} +- {error}, exact {exact}");
                assert!(error < 0.1 * exact.abs().max(1.0), "the test would see nothing: +- {error} of {exact}");
            }
        }
        Ok(())
    }

    #[test]
    fn single_precision_and_bad_settings() -> Result<()> {
        let mut rng = Rng::seed(1);
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let flow = Residual::new(2, &ResidualSettings::default(), None, &parameters.scope())?;
        perturb(&parameters, 1.0, &mut rng)?;
        let z = Tensor::new(&[[0.0f32, 0.0], [1e6, -3.0], [f32::NAN, 1.0]], &Device::Cpu)?;
        let (x, _) = flow.forward(&z, None)?;
        let back = flow.inverse(&x, None)?.0;
        assert!(difference(&z.narrow(0, 0, 2)?, &back.narrow(0, 0, 2)?)? < 1e-5);
        let settings = ResidualSettings { coefficient: 1.0, ..Default::default() };
        assert!(Residual::new(2, &settings, None, &parameters.scope().enter("x")).is_err());
        let survivals: f64 = (1..60).map(|j| Roulette::Poisson { rate: 2.0 }.survival(j)).sum();
        assert!((survivals - 2.0).abs() < 1e-12, "the mean is the sum of the survivals");
        Ok(())
    }
}
