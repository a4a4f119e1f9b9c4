//! The mixture as a composition of candle's operations.

use super::{LEAST, Mixture, SigmoidMixture};
use crate::Result;
use crate::ops::cpu::with_slice;
use crate::ops::transformer::Transformer as _;
use crate::ops::{exp, ln, log_sigmoid, log_softmax, log_sum_exp, softplus, tanh};
use candle_core::{DType, Device, Tensor};

impl SigmoidMixture {
    pub(super) fn composed(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let part = |i: usize| parameters.narrow(2, i * self.units, self.units);
        let last = |i: usize| parameters.narrow(2, 3 * self.units + i, 1)?.squeeze(2);
        let (x, outer) = (x.unsqueeze(2)?, self.mixture);
        let (logits, u, log_scale) = match outer {
            Mixture::DeepSigmoid => {
                let a = softplus(&part(0)?)?.maximum(LEAST)?;
                (part(2)?, x.broadcast_mul(&a)?.broadcast_add(&part(1)?)?, ln(&a)?)
            }
            Mixture::Logistic(bound) => {
                let minus = bounded(&part(2)?, bound)?.neg()?;
                (part(0)?, x.broadcast_sub(&part(1)?)?.broadcast_mul(&exp(&minus)?)?, minus)
            }
        };
        let logits = log_softmax(&logits)?;
        let (up, down) = (log_sigmoid(&u)?, log_sigmoid(&u.neg()?)?);
        let sum = |terms: &Tensor, weights: &Tensor| log_sum_exp(&terms.broadcast_add(weights)?);
        let (log_p, log_q) = (sum(&up, &logits)?, sum(&down, &logits)?);
        let slope = sum(&(up + down)?, &(&logits + log_scale)?)?;
        let (value, log) = ((&log_p - &log_q)?, ((slope - log_p)? - log_q)?);
        match outer {
            Mixture::DeepSigmoid => Ok((value, log)),
            Mixture::Logistic(bound) => {
                let gain = bounded(&last(0)?, bound)?;
                let value = value.broadcast_mul(&exp(&gain)?)?.broadcast_add(&last(1)?)?;
                Ok((value, log.broadcast_add(&gain)?))
            }
        }
    }

    /// The root that the kernel finds on the CPU, followed by one step of Newton's method, whose
    /// gradient is that of the implicit function.
    pub(super) fn plain_inverse(&self, y: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let exact = |t: &Tensor| t.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let found = with_slice::<f64, _>(&exact(y)?, |y| {
            with_slice::<f64, _>(&exact(parameters)?, |parameters| self.evaluate(y, parameters))
        })??;
        let n = y.elem_count();
        let part = |values: &[f64]| -> Result<Tensor> {
            Ok(Tensor::from_slice(values, y.shape().clone(), y.device())?.to_dtype(y.dtype())?)
        };
        let (root, log) = (part(&found[..n])?, part(&found[n..])?);
        let beyond = log.eq(f64::NEG_INFINITY)?;
        let (value, slope) = self.composed(&root, parameters)?;
        let rate = beyond.where_cond(&root.zeros_like()?, &exp(&slope.neg()?)?)?.detach();
        let x = (&root - ((value - y)? * rate)?)?;
        Ok((x.clone(), beyond.where_cond(&log, &self.composed(&x, parameters)?.1.neg()?)?))
    }
}

fn bounded(raw: &Tensor, bound: f64) -> Result<Tensor> {
    Ok((tanh(&(raw / bound)?)? * bound)?)
}
