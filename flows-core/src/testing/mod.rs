//! Checks that any bijector must pass, for this workspace's tests and for your own bijectors; and checks for the
//! workspace's programs.
//!
//! Your own bijector and its test:
//!
//! ```
//! use candle_core::Tensor;
//! use flows_core::bijectors::{Bijector, Direction, Mode};
//! use flows_core::nn::{Init, Scope};
//! use flows_core::shape::shared_log_det;
//! use flows_core::testing::{Case, Tolerances};
//! use flows_core::{Result, Structure};
//!
//! /// `x_i = e^(s_i) z_i` of D numbers, s being a weight.
//! #[derive(Debug)]
//! struct Scale {
//!     shape: [usize; 1],
//!     log_scale: Tensor,
//! }
//!
//! impl Scale {
//!     fn new(features: usize, scope: &Scope) -> Result<Self> {
//!         Ok(Self { shape: [features], log_scale: scope.weight("log_scale", features, Init::Zeros)? })
//!     }
//! }
//!
//! impl Bijector for Scale {
//!     fn latent_shape(&self) -> &[usize] {
//!         &self.shape
//!     }
//!
//!     fn map(
//!         &self,
//!         direction: Direction,
//!         input: &Tensor,
//!         _context: Option<&Tensor>,
//!         _mode: &mut Mode<'_>,
//!     ) -> Result<(Tensor, Tensor)> {
//!         let batch = self.check_input(direction, input)?;
//!         let log_scale = match direction {
//!             Direction::Forward => self.log_scale.clone(),
//!             Direction::Inverse => self.log_scale.neg()?,
//!         };
//!         Ok((input.broadcast_mul(&log_scale.exp()?)?, shared_log_det(&log_scale.sum_all()?, batch)?))
//!     }
//!
//!     fn structure(&self) -> Structure {
//!         Structure::new("Scale", format!("of {}", self.shape[0])).weights([&self.log_scale])
//!     }
//! }
//!
//! let folder = tempfile::tempdir().unwrap();
//! let case = Case::new("scale", |scope| Ok(Box::new(Scale::new(3, scope)?)));
//! case.all(folder.path())?;
//!
//! // The bounds can be changed: tighter for a map as simple as this one, wider for one that relies on a solver with a
//! // tolerance.
//! case.tolerances(Tolerances { double: 1e-12, single: 1e-6, ..Tolerances::default() }).all(folder.path())?;
//! # Ok::<(), flows_core::Error>(())
//! ```

use crate::bijectors::Bijector;
use crate::nn::Parameters;
use crate::{Error, Result, Rng};
use candle_core::{DType, Tensor, Var};
use entry::Entry;

mod case;
mod entry;
#[cfg(feature = "cli")]
mod program;

pub use case::{Case, Tolerances, each};
#[cfg(feature = "cli")]
pub use program::{check_arguments, check_presets};

/// Adds normal noise of this standard deviation to every weight, so that none has its
/// (often trivial) initial value.
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

/// A number of any size up to 1e30, or one at which something may change.
pub(crate) fn extreme_number(rng: &mut Rng) -> f64 {
    const MARKS: [f64; 8] = [0.0, 0.5, 1.0, 6.0, 17.0, 88.0, 710.0, 1e30];
    let sign = if rng.below(2) == 0 { 1.0 } else { -1.0 };
    match rng.below(4) {
        0 => rng.normal(),
        1 => sign * MARKS[rng.below(MARKS.len())],
        2 => sign * 100.0 * rng.uniform(),
        _ => sign * 10f64.powf(60.0 * rng.uniform() - 30.0),
    }
}

/// The largest `|a - b| / max(1, |a|)`.
///
/// # Errors
/// When the shapes differ. A NaN in either is an infinite difference.
pub fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok(Entry::furthest("the second tensor", a, b)?.off)
}

/// Checks that two tensors, called `what` in the message, differ by at most `tolerance`, as [`difference`] measures it.
///
/// # Errors
/// When they differ by more, naming the entry with the largest error; or when the shapes differ.
pub fn close(what: &str, want: &Tensor, got: &Tensor, tolerance: f64) -> Result<()> {
    Entry::furthest(what, want, got)?.within(tolerance)
}

/// `log|det df/dx|` of each row of x (B, event...), (B) in f64, from the Jacobian of `f` by autograd.
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

/// Gaussian elimination with partial pivoting, independent of the code under test.
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

/// The largest relative difference between the gradients of `loss` by autograd and by
/// central differences, over a few entries of every weight in `parameters` and of `inputs`.
///
/// The differences are extrapolated, `(4 D(h/2) - D(h)) / 3` at h = 1e-4, which leaves an error of
/// about 1e-11 where the loss is smooth; within h of a kink (ReLU, a spline's knot) they are meaningless.
///
/// # Errors
/// When the loss fails, is not f64, or has no gradient with respect to some weight (the message names it).
pub fn gradient_difference(
    loss: impl Fn() -> Result<Tensor>,
    parameters: &Parameters,
    inputs: &[(&str, &Var)],
    rng: &mut Rng,
) -> Result<f64> {
    Ok(furthest_gradient(loss, parameters, inputs, rng)?.off)
}

/// The entry with the largest difference that [`gradient_difference`] finds.
fn furthest_gradient(
    loss: impl Fn() -> Result<Tensor>,
    parameters: &Parameters,
    inputs: &[(&str, &Var)],
    rng: &mut Rng,
) -> Result<Entry> {
    const STEP: f64 = 1e-4;
    const ENTRIES: usize = 4;
    let grads = loss()?.backward()?;
    let mut worst = Entry::of_number("the gradient", 0.0, 0.0);
    let inputs = inputs.iter().map(|(name, var)| (name.to_string(), (*var).clone()));
    let weights = parameters.trainable().into_iter().map(|(name, var)| (format!("`{name}`"), var));
    for (name, var) in weights.chain(inputs) {
        let grad = grads.get(&var).ok_or_else(|| Error::Config(format!("{name} gets no gradient")))?;
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
            // Relative to the larger of the two gradients.
            let d = (numeric - grad[i]).abs() / numeric.abs().max(grad[i].abs()).max(1.0);
            let entry =
                Entry::of_element(format!("the gradient with respect to {name}"), var.dims(), i, numeric, grad[i]);
            let entry = entry.off_by(d);
            worst = if entry.off > worst.off { entry } else { worst };
        }
        var.set(&Tensor::from_vec(values, var.shape().clone(), var.device())?)?;
    }
    Ok(worst)
}

/// The errors of a bijector.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Largest difference between z and `inverse(forward(z))`.
    pub round_trip: f64,
    /// Largest difference between the log-determinants of the two directions, up to sign.
    pub consistency: f64,
    /// Largest difference between the log-determinant of `forward` and that of the Jacobian by autograd.
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

/// Measures the errors of a bijector with f64 parameters at the points z (B, latent...).
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
    let Findings { exact, gradients } = findings(bijector, parameters, z, context, rng)?;
    let [round_trip, consistency, forward_log_det, inverse_log_det] = exact.map(|entry| entry.off);
    let [forward_gradient, inverse_gradient] = gradients.map(|entry| entry.off);
    Ok(Report { round_trip, consistency, forward_log_det, inverse_log_det, forward_gradient, inverse_gradient })
}

/// The entries behind the numbers of a [`Report`], in its order.
struct Findings {
    exact: [Entry; 4],
    gradients: [Entry; 2],
}

fn findings(
    bijector: &dyn Bijector,
    parameters: &Parameters,
    z: &Tensor,
    context: Option<&Tensor>,
    rng: &mut Rng,
) -> Result<Findings> {
    let (x, forward) = bijector.forward(z, context)?;
    let (back, inverse) = bijector.inverse(&x, context)?;
    let (x, forward, inverse) = (x.detach(), forward.detach(), inverse.detach());
    // Jacobians are square: shapes may differ, sizes may not.
    let forward_jacobian = jacobian_log_det(|z| Ok(bijector.forward(z, context)?.0), z)?;
    let inverse_jacobian = jacobian_log_det(|x| Ok(bijector.inverse(x, context)?.0), &x)?;
    let exact = [
        Entry::furthest("z there and back", z, &back)?,
        Entry::furthest("inverse's log-determinant against forward's", &forward, &inverse.neg()?)?,
        Entry::furthest("forward's log-determinant against autograd's Jacobian", &forward_jacobian, &forward)?,
        Entry::furthest("inverse's log-determinant against autograd's Jacobian", &inverse_jacobian, &inverse)?,
    ];
    let mut gradient = |at: &Tensor, pass: &dyn Fn(&Tensor) -> Result<(Tensor, Tensor)>| -> Result<Entry> {
        let at = Var::from_tensor(at)?;
        let (value, log_det) = pass(&at)?;
        let gv = rng.normal_tensor(value.shape().clone(), DType::F64, value.device())?;
        let gl = rng.normal_tensor(log_det.shape().clone(), DType::F64, value.device())?;
        let loss = || {
            let (value, log_det) = pass(&at)?;
            Ok(((value * &gv)?.sum_all()? + (log_det * &gl)?.sum_all()?)?)
        };
        furthest_gradient(loss, parameters, &[("the input", &at)], rng)
    };
    let gradients = [
        gradient(z, &|z| bijector.forward(z, context))?.named("forward"),
        gradient(&x, &|x| bijector.inverse(x, context))?.named("inverse"),
    ];
    Ok(Findings { exact, gradients })
}
