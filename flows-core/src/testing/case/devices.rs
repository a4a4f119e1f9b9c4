//! Checks on other devices than the CPU.

use super::{CPU, Case, Tolerances, close, require};
use crate::bijectors::leaf;
use crate::nn::Parameters;
use crate::ops::Direction;
use crate::{Result, Rng};
use candle_core::{DType, Device, Tensor};

impl Case {
    /// On `device` the values, the log-determinants and the gradients with respect to weights, input and context are
    /// those on the CPU, within ten times the tolerance of f64 and twenty times that of f32.
    ///
    /// # Errors
    /// When one is not; the message says which, and how large the error is.
    pub fn agrees_on(&self, device: &Device) -> Result<()> {
        const ROWS: usize = 12;
        let Tolerances { double, single, .. } = self.tolerances;
        for (dtype, tolerance) in [(DType::F64, 10.0 * double), (DType::F32, 20.0 * single)] {
            let (bijector, parameters) = self.model(dtype)?;
            let there = Parameters::new(dtype, device, Rng::seed(3));
            let other = (self.build)(&there.scope())?;
            there.load(&parameters.tensors().into_iter().collect())?;
            let z = self.latent(&*bijector, ROWS, dtype)?;
            let context = self.context(ROWS, dtype)?;
            let x = bijector.forward(&z, context.as_ref())?.0.detach();
            for (direction, at) in [(Direction::Forward, &z), (Direction::Inverse, &x)] {
                let run = |bijector: &dyn super::Bijector, parameters: &Parameters, device: &Device| {
                    let at = leaf(&at.to_device(device)?)?;
                    let given = context.as_ref().map(|context| leaf(&context.to_device(device)?)).transpose()?;
                    let given_tensor = given.as_ref().map(|given| given.as_tensor());
                    let (value, log_det) = match direction {
                        Direction::Forward => bijector.forward(&at, given_tensor)?,
                        Direction::Inverse => bijector.inverse(&at, given_tensor)?,
                    };
                    let weights = Rng::seed(4).normal_tensor(value.shape().clone(), dtype, CPU)?.to_device(device)?;
                    let gradients = ((&value * weights)?.sum_all()? + log_det.sum_all()?)?.backward()?;
                    let mut results =
                        vec![("value".to_string(), Some(value)), ("log-determinant".into(), Some(log_det))];
                    results.push(("gradient of the input".into(), gradients.get(&at).cloned()));
                    results
                        .extend(given.map(|given| ("gradient of the context".into(), gradients.get(&given).cloned())));
                    for (name, var) in parameters.trainable() {
                        results.push((format!("gradient of `{name}`"), gradients.get(&var).cloned()));
                    }
                    Ok::<Vec<(String, Option<Tensor>)>, crate::Error>(results)
                };
                let (here, there) = (run(&*bijector, &parameters, CPU)?, run(&*other, &there, device)?);
                for ((what, a), (_, b)) in here.into_iter().zip(there) {
                    let what = format!("{direction:?}, {dtype:?}: {what}");
                    require(a.is_some() == b.is_some(), || format!("{what} exists on one device only"))?;
                    if let (Some(a), Some(b)) = (a, b) {
                        close(&what, &a, &b.to_device(CPU)?, tolerance)?;
                    }
                }
            }
        }
        Ok(())
    }
}
