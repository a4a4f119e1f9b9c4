//! Checks that any bijector must pass, for this workspace's tests and for bijectors of your own, and its programs.

use crate::bijectors::Bijector;
use crate::nn::Parameters;
use crate::{Error, Result, Rng};
use candle_core::{DType, Tensor, Var};

mod case;
#[cfg(feature = "cli")]
mod program;

pub use case::Case;
#[cfg(feature = "cli")]
pub use program::{check_arguments, check_presets};

/// Adds normal noise of this standard deviation to every weight, so that nothing is at its
/// (often trivial) starting value.
///
/// # Errors
/// When a weight cannot be set.
pub fn perturb(parameters: &Parameters, std: f64, rng: &mut Rng) -> Result<()> {
    for (_, var) in parameters.trainable() {
        let noise = rng.tensor(var.shape().clone(), var.dtype(), var.device(), |rng| std * rng.normal())?;
        var.set(&(var.as_tensor() + noise)?)?;
    }
    Ok(())
}

/// The largest `|a - b| / max(1, |a|)`.
///
/// # Errors
/// When the shapes differ. A NaN in either is an infinite difference.
pub fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    if a.shape() != b.shape() {
        return Err(Error::shape("the second tensor", b.dims(), format!("{:?}", a.dims())));
    }
    let flat = |t: &Tensor| -> Result<Vec<f64>> { Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?) };
    let worst = |worst: f64, (a, b): (&f64, &f64)| {
        let d = if a == b { 0.0 } else { (a - b).abs() / a.abs().max(1.0) };
        if d.is_nan() { f64::INFINITY } else { worst.max(d) }
    };
    Ok(flat(a)?.iter().zip(&flat(b)?).fold(0.0, worst))
}

/// `log|det df/dx|` of each row of x (B, event...), from the Jacobian that autograd gives for the
/// first output of `f`; (B) in f64.
///
/// # Errors
/// When `f` fails or is not differentiable.
pub fn jacobian_log_det(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<Tensor> {
    let x = Var::from_tensor(&x.detach())?;
    let batch = x.dim(0)?;
    let y = f(&x)?.reshape((batch, ()))?;
    let n = y.dim(1)?;
    let mut rows = vec![vec![0.0; n * n]; batch];
    for i in 0..n {
        let grads = y.narrow(1, i, 1)?.sum_all()?.backward()?;
        let grad = match grads.get(&x) {
            Some(g) => g.reshape((batch, n))?.to_dtype(DType::F64)?.to_vec2::<f64>()?,
            None => vec![vec![0.0; n]; batch],
        };
        for (matrix, g) in rows.iter_mut().zip(grad) {
            matrix[i * n..(i + 1) * n].copy_from_slice(&g);
        }
    }
    let log_dets: Vec<f64> = rows.into_iter().map(|matrix| log_abs_det(matrix, n)).collect();
    Ok(Tensor::from_vec(log_dets, batch, x.device())?)
}

/// Gaussian elimination with partial pivoting, kept apart from the code under test.
fn log_abs_det(mut a: Vec<f64>, n: usize) -> f64 {
    let mut log_det = 0.0;
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| a[i * n + k].abs().total_cmp(&a[j * n + k].abs())).unwrap_or(k);
        for j in 0..n {
            a.swap(k * n + j, pivot * n + j);
        }
        log_det += a[k * n + k].abs().ln();
        for i in k + 1..n {
            let factor = a[i * n + k] / a[k * n + k];
            for j in k..n {
                a[i * n + j] -= factor * a[k * n + j];
            }
        }
    }
    log_det
}

/// The largest relative difference between the gradients that autograd gives for `loss` and
/// central differences, over a few entries of every weight in `parameters` and of `inputs`.
///
/// The differences are extrapolated, `(4 D(h/2) - D(h)) / 3` at h = 1e-4, which leaves an error of
/// about 1e-11 where the loss is smooth; within h of a kink (ReLU, a spline's knot) they mean nothing.
///
/// # Errors
/// When the loss fails, is not f64, or gives some weight no gradient (the message names it).
pub fn gradient_difference(
    loss: impl Fn() -> Result<Tensor>,
    parameters: &Parameters,
    inputs: &[(&str, &Var)],
    rng: &mut Rng,
) -> Result<f64> {
    const STEP: f64 = 1e-4;
    const ENTRIES: usize = 4;
    let grads = loss()?.backward()?;
    let mut worst = 0.0f64;
    let inputs = inputs.iter().map(|(name, var)| (name.to_string(), (*var).clone()));
    for (name, var) in parameters.trainable().into_iter().chain(inputs) {
        let grad = grads.get(&var).ok_or_else(|| Error::Config(format!("`{name}` gets no gradient")))?;
        let grad: Vec<f64> = grad.flatten_all()?.to_vec1()?;
        let values: Vec<f64> = var.flatten_all()?.to_vec1()?;
        for _ in 0..ENTRIES.min(values.len()) {
            let i = rng.below(values.len());
            let at = |delta: f64| -> Result<f64> {
                let mut moved = values.clone();
                moved[i] += delta;
                var.set(&Tensor::from_vec(moved, var.shape().clone(), var.device())?)?;
                Ok(loss()?.to_scalar::<f64>()?)
            };
            let central = |step: f64| -> Result<f64> { Ok((at(step)? - at(-step)?) / (2.0 * step)) };
            let numeric = (4.0 * central(0.5 * STEP)? - central(STEP)?) / 3.0;
            let d = (numeric - grad[i]).abs() / numeric.abs().max(grad[i].abs()).max(1.0);
            worst = if d.is_nan() { f64::INFINITY } else { worst.max(d) };
        }
        var.set(&Tensor::from_vec(values, var.shape().clone(), var.device())?)?;
    }
    Ok(worst)
}

/// How exactly a bijector does what it says.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Largest difference between z and `inverse(forward(z))`.
    pub round_trip: f64,
    /// Largest difference between the log-determinants of the two directions, up to sign.
    pub consistency: f64,
    /// Largest difference between `forward`'s log-determinant and that of autograd's Jacobian.
    pub forward_log_det: f64,
    /// The same for `inverse`.
    pub inverse_log_det: f64,
    /// Largest difference between gradients and central differences, of a loss that uses value and
    /// log-determinant of `forward`.
    pub forward_gradient: f64,
    /// The same for `inverse`.
    pub inverse_gradient: f64,
}

impl Report {
    /// The largest entry.
    pub fn worst(&self) -> f64 {
        let exact = [self.round_trip, self.consistency, self.forward_log_det, self.inverse_log_det];
        exact.into_iter().chain([self.forward_gradient, self.inverse_gradient]).fold(0.0, f64::max)
    }
}

/// Measures a bijector of f64 parameters at the points z (B, latent...).
///
/// # Errors
/// When a pass fails or a weight gets no gradient.
pub fn measure(
    bijector: &dyn Bijector,
    parameters: &Parameters,
    z: &Tensor,
    context: Option<&Tensor>,
    rng: &mut Rng,
) -> Result<Report> {
    let (x, forward) = bijector.forward(z, context)?;
    let (back, inverse) = bijector.inverse(&x, context)?;
    let (x, forward, inverse) = (x.detach(), forward.detach(), inverse.detach());
    // Square Jacobians only: shapes may differ, sizes may not.
    let forward_jacobian = jacobian_log_det(|z| Ok(bijector.forward(z, context)?.0), z)?;
    let inverse_jacobian = jacobian_log_det(|x| Ok(bijector.inverse(x, context)?.0), &x)?;
    let mut gradient = |at: &Tensor, pass: &dyn Fn(&Tensor) -> Result<(Tensor, Tensor)>| -> Result<f64> {
        let at = Var::from_tensor(at)?;
        let (value, log_det) = pass(&at)?;
        let gv = rng.normal_tensor(value.shape().clone(), DType::F64, value.device())?;
        let gl = rng.normal_tensor(log_det.shape().clone(), DType::F64, value.device())?;
        let loss = || {
            let (value, log_det) = pass(&at)?;
            Ok(((value * &gv)?.sum_all()? + (log_det * &gl)?.sum_all()?)?)
        };
        gradient_difference(loss, parameters, &[("the input", &at)], rng)
    };
    Ok(Report {
        round_trip: difference(z, &back)?,
        consistency: difference(&forward, &inverse.neg()?)?,
        forward_log_det: difference(&forward_jacobian, &forward)?,
        inverse_log_det: difference(&inverse_jacobian, &inverse)?,
        forward_gradient: gradient(z, &|z| bijector.forward(z, context))?,
        inverse_gradient: gradient(&x, &|x| bijector.inverse(x, context))?,
    })
}
