//! The check that nothing overflows unseen.

use super::{CPU, Case, Pass, require};
use crate::testing::{extreme_number, perturb};
use crate::{Result, Rng};
use candle_core::{DType, Tensor, Var};

/// Rows of a batch.
const ROWS: usize = 48;

impl Case {
    /// Under random weights, numbers of any size up to 1e30 have a finite image and log-determinant with finite
    /// gradients with respect to the input, or are refused: by an error, or with a log-determinant of minus infinity and
    /// no NaN. In f32 and f64, and in both directions.
    ///
    /// # Errors
    /// When that does not hold: the message says where.
    pub fn is_finite_or_refuses(&self) -> Result<()> {
        let mut faults = Vec::new();
        for dtype in [DType::F32, DType::F64] {
            for (seed, factor) in [(0, 1.0), (1, 3.0)] {
                let (bijector, parameters) = self.fresh(dtype, 3)?;
                perturb(&parameters, factor * self.noise, &mut Rng::seed(seed))?;
                let context = self.context(ROWS, dtype)?;
                let passes: [(&str, &[usize], Pass<'_>); 2] = [
                    ("forward", bijector.latent_shape(), &|z, c| bijector.forward(z, c)),
                    ("inverse", bijector.data_shape(), &|x, c| bijector.inverse(x, c)),
                ];
                for (name, event, pass) in passes {
                    let rng = &mut Rng::seed(10 + seed);
                    let at = rng.tensor([&[ROWS], event].concat(), dtype, CPU, extreme_number)?;
                    let fault = fault(&at, context.as_ref(), pass)?;
                    faults.extend(fault.map(|fault| format!("{name} in {dtype:?}, weights {factor}: {fault}")));
                }
            }
        }
        require(faults.is_empty(), || faults.join("\n"))
    }
}

/// What is wrong in the first faulty row, if there is one.
fn fault(at: &Tensor, context: Option<&Tensor>, pass: Pass<'_>) -> Result<Option<String>> {
    let at = Var::from_tensor(at)?;
    let Ok((value, log_det)) = pass(&at, context) else { return Ok(None) };
    let gradients = (value.sum_all()? + log_det.sum_all()?)?.backward()?;
    let gradient = gradients.get(&at).map_or_else(|| at.zeros_like(), |g| Ok(g.clone()))?;
    let rows = |t: &Tensor| -> Result<Vec<Vec<f64>>> { Ok(t.to_dtype(DType::F64)?.reshape((ROWS, ()))?.to_vec2()?) };
    let (inputs, values, log_dets, gradients) = (rows(&at)?, rows(&value)?, rows(&log_det)?, rows(&gradient)?);
    let fault = |row: usize| {
        let all = |numbers: &[f64], fine: fn(f64) -> bool| numbers.iter().all(|&v| fine(v));
        let (value, log_det, gradient) = (&values[row], log_dets[row][0], &gradients[row]);
        let fine = match log_det == f64::NEG_INFINITY {
            true => all(value, |v| !v.is_nan()) && all(gradient, |v| !v.is_nan()),
            false => log_det.is_finite() && all(value, f64::is_finite) && all(gradient, f64::is_finite),
        };
        (!fine).then(|| format!("{:?} gives {value:?}, {log_det:e}, {gradient:?}", inputs[row]))
    };
    Ok((0..ROWS).find_map(fault))
}
