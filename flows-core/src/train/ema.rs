//! Moving averages of the weights over the steps of training.

use super::slices::{CHUNK, Updatable, with_mut_and};
use crate::nn::Parameters;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How weights are averaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// The share of the old average that is kept at each step.
    pub decay: f64,
    /// Whether update t = 0, 1, ... uses the lower decay `min(decay, (1 + t) / (10 + t))`, so that
    /// the initial weights are soon forgotten.
    pub warmup: bool,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.999, warmup: true }
    }
}

/// The exponential moving average of a model's weights, `a = a + (1 - decay) (p - a)`.
///
/// The averages have the weights' dtype and start at the weights. Buffers are not averaged.
#[derive(Debug)]
pub struct Ema {
    config: EmaConfig,
    updates: u64,
    averages: Vec<(String, Var, Tensor)>,
}

/// A state that was read and validated but not applied yet.
pub(super) struct EmaState {
    updates: u64,
    averages: Vec<Tensor>,
}

impl Ema {
    /// The average of the weights currently in `parameters`.
    ///
    /// # Errors
    /// When the decay is not in [0, 1).
    pub fn new(config: EmaConfig, parameters: &Parameters) -> Result<Self> {
        Self::over(config, parameters.trainable())
    }

    /// The average of these weights, for example a subset of a store.
    ///
    /// # Errors
    /// Same as [`Self::new`].
    pub fn over(config: EmaConfig, weights: Vec<(String, Var)>) -> Result<Self> {
        if !(0.0..1.0).contains(&config.decay) {
            return Err(Error::Config(format!("the decay of the EMA is {}, but must be in [0, 1)", config.decay)));
        }
        let copy = |(name, var): (String, Var)| {
            let average = var.as_detached_tensor().copy()?;
            Ok((name, var, average))
        };
        let averages = weights.into_iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { config, updates: 0, averages })
    }

    /// Updates the averages with the current weights.
    ///
    /// # Errors
    /// When the device fails.
    pub fn update(&mut self) -> Result<()> {
        let t = self.updates as f64;
        let decay = self.config.decay;
        let share = 1.0 - if self.config.warmup { decay.min((1.0 + t) / (10.0 + t)) } else { decay };
        for (_, var, average) in &mut self.averages {
            match (var.device(), var.dtype()) {
                (Device::Cpu, DType::F32) => fused::<f32>(average, var, share)?,
                (Device::Cpu, DType::F64) => fused::<f64>(average, var, share)?,
                _ => *average = composed(average, var, share)?,
            }
        }
        self.updates += 1;
        Ok(())
    }

    /// Swaps the weights and their averages; a second call restores both exactly.
    ///
    /// # Errors
    /// When the device fails.
    pub fn swap(&mut self) -> Result<()> {
        for (_, var, average) in &mut self.averages {
            let weights = var.as_detached_tensor().copy()?;
            var.set(average)?;
            *average = weights;
        }
        Ok(())
    }

    /// The result of `work`, called while the model has the averaged weights; they are swapped back whether
    /// it succeeds or not.
    ///
    /// # Errors
    /// Any error from `work`.
    pub fn applied<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.swap()?;
        let done = work();
        self.swap()?;
        done
    }

    /// The averages as `ema.NAME`, and the number of updates as `ema`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let updates = Tensor::new(self.updates as i64, &Device::Cpu)?;
        let averages = self.averages.iter().map(|(name, _, average)| (format!("ema.{name}"), average.clone()));
        Ok(std::iter::once(("ema".to_string(), updates)).chain(averages).collect())
    }

    /// Restores a state returned by [`Self::state`]; other names are ignored.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape; then nothing is changed.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let state = self.read_state(state)?;
        self.set_state(state);
        Ok(())
    }

    pub(super) fn read_state(&self, state: &HashMap<String, Tensor>) -> Result<EmaState> {
        let find = |name: &str, shape: &[usize]| match state.get(name) {
            Some(tensor) if tensor.dims() == shape => Ok(tensor),
            Some(_) => Err(Error::Config(format!("`{name}` has another shape: it was saved for another model"))),
            None => Err(Error::Config(format!(
                "there is no `{name}`: the state was saved without an EMA or for another model"
            ))),
        };
        let updates = find("ema", &[])?.to_dtype(DType::I64)?.to_scalar::<i64>()?;
        let averages = self.averages.iter().map(|(name, var, _)| {
            let average = find(&format!("ema.{name}"), var.dims())?;
            Ok(average.to_dtype(var.dtype())?.to_device(var.device())?.contiguous()?.copy()?)
        });
        Ok(EmaState { updates: updates.unsigned_abs(), averages: averages.collect::<Result<_>>()? })
    }

    pub(super) fn set_state(&mut self, state: EmaState) {
        self.updates = state.updates;
        for ((_, _, average), loaded) in self.averages.iter_mut().zip(state.averages) {
            *average = loaded;
        }
    }
}

/// `weight = weight + share (towards - weight)`, in place.
pub(super) fn lerp(weight: &Var, towards: &Tensor, share: f64) -> Result<()> {
    match (weight.device(), weight.dtype()) {
        (Device::Cpu, DType::F32) => fused::<f32>(weight, towards, share)?,
        (Device::Cpu, DType::F64) => fused::<f64>(weight, towards, share)?,
        _ => weight.set(&composed(weight, towards, share)?.detach())?,
    }
    Ok(())
}

fn fused<T: Updatable>(average: &Tensor, weights: &Tensor, share: f64) -> candle_core::Result<()> {
    let share = T::from_f64(share);
    with_mut_and(average, weights, |average, weights: &[T]| {
        let update = |(average, weights): (&mut [T], &[T])| {
            average.iter_mut().zip(weights).for_each(|(a, w)| *a += (*w - *a) * share);
        };
        if average.len() <= CHUNK {
            update((average, weights));
        } else {
            average.par_chunks_mut(CHUNK).zip(weights.par_chunks(CHUNK)).for_each(update);
        }
        Ok(())
    })
}

fn composed(average: &Tensor, weights: &Tensor, share: f64) -> candle_core::Result<Tensor> {
    let average = average.detach();
    &average + (weights.detach() - &average)?.affine(share, 0.0)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Init;

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn averages_warm_up_and_swap_exactly() {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let w = parameters.scope().weight("w", 1, Init::Constant(1.0)).unwrap();
        let mut ema = Ema::new(EmaConfig { decay: 0.15, warmup: true }, &parameters).unwrap();
        let var = parameters.trainable()[0].1.clone();
        let mut want = 1.0;
        for (t, value) in [3.0, -2.0, 7.0].into_iter().enumerate() {
            var.set(&Tensor::new(&[value], &Device::Cpu).unwrap()).unwrap();
            ema.update().unwrap();
            let decay = f64::min(0.15, (1.0 + t as f64) / (10.0 + t as f64));
            want = decay * want + (1.0 - decay) * value;
        }
        let inside = ema.applied(|| Ok(values(&w)[0])).unwrap();
        assert!((inside - want).abs() < 1e-14);
        assert_eq!(values(&w), [7.0]);
        assert!(ema.applied(|| Err::<(), _>(Error::Config("no".into()))).is_err());
        assert_eq!(values(&w), [7.0]);
    }

    #[test]
    fn fused_and_composed_agree_bit_for_bit() {
        let mut rng = Rng::seed(1);
        let mut draw = || rng.normal_tensor(CHUNK + 5, DType::F32, &Device::Cpu).unwrap();
        let (average, var) = (draw(), Var::from_tensor(&draw()).unwrap());
        let want = composed(&average, &var, 0.01).unwrap();
        fused::<f32>(&average, &var, 0.01).unwrap();
        assert_eq!(average.to_vec1::<f32>().unwrap(), want.to_vec1::<f32>().unwrap());
    }
}
