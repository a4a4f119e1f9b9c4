//! Gradient descent on the weights of a model.

use super::{OptimizerConfig, ParameterGroup};
use crate::files::is_finite;
use crate::nn::Parameters;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Below this many numbers, updating them takes less time than waking another thread.
const PARALLEL_FROM: usize = 1 << 16;

/// An optimiser over weights of a model.
///
/// A weight that has no gradient in a step is left alone, and so are its moments; each weight
/// counts its own steps, so that Adam's bias corrections are right for it.
///
/// Several optimisers may be used together, each on its own store or on part of one:
///
/// ```
/// use candle_core::{DType, Device};
/// use flows_core::nn::{Init, Parameters};
/// use flows_core::train::{Optimizer, OptimizerConfig, ParameterGroup};
/// use flows_core::Rng;
/// let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
/// for layer in ["encoder", "decoder", "temperature"] {
///     parameters.scope().enter(layer).weight("w", 3, Init::Zeros)?;
/// }
/// let (temperature, rest) = parameters.trainable().into_iter().partition(|(name, _)| name.starts_with("temp"));
/// let optimizer = Optimizer::over(OptimizerConfig::adam(1e-3), rest)?
///     .with_groups(&[ParameterGroup::new("encoder", 0.1)])?
///     .with_group(|name| name.ends_with("bias"), 1.0, None)?;
/// let slow = Optimizer::over(OptimizerConfig::sgd(1e-4), temperature)?;
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    weights: Vec<Weight>,
}

#[derive(Debug)]
struct Weight {
    name: String,
    var: Var,
    /// The factor on the learning rate; 0 for a frozen weight.
    lr_factor: f64,
    weight_decay: f64,
    steps: i64,
    moments: Vec<Tensor>,
}

/// A state that was read and validated but not applied yet: the steps and moments of each weight.
pub(super) struct OptimizerState(Vec<(i64, Vec<Tensor>)>);

impl Optimizer {
    /// An optimiser over the weights currently in `parameters`.
    ///
    /// # Errors
    /// When a setting is out of range, or the device cannot hold the state.
    pub fn new(config: OptimizerConfig, parameters: &Parameters) -> Result<Self> {
        Self::over(config, parameters.trainable())
    }

    /// An optimiser over these weights, which may be part of a store or come from several stores.
    ///
    /// # Errors
    /// Same as [`Self::new`], or when two weights have the same name.
    pub fn over(config: OptimizerConfig, weights: Vec<(String, Var)>) -> Result<Self> {
        config.validate()?;
        let mut names = HashSet::new();
        if let Some((name, _)) = weights.iter().find(|(name, _)| !names.insert(name.as_str())) {
            return Err(Error::Config(format!("an optimiser has two weights `{name}`: give one of them another name")));
        }
        let weight = |(name, var): (String, Var)| {
            let weight_decay = config.weight_decay_of(&name, var.rank());
            let moments = config.moments().iter().map(|_| var.zeros_like()).collect::<candle_core::Result<_>>()?;
            Ok(Weight { name, var, lr_factor: 1.0, weight_decay, steps: 0, moments })
        };
        let weights = weights.into_iter().map(weight).collect::<Result<_>>()?;
        Ok(Self { config, weights })
    }

    /// Gives groups of weights their own learning rates; where groups overlap, the last one applies.
    ///
    /// # Errors
    /// When a group has no weight, or as [`Self::with_group`].
    pub fn with_groups(self, groups: &[ParameterGroup]) -> Result<Self> {
        groups.iter().try_fold(self, |optimizer, group| {
            if !optimizer.weights.iter().any(|weight| group.contains(&weight.name)) {
                let first = optimizer.weights.first().map(|weight| weight.name.as_str()).unwrap_or_default();
                return Err(Error::Config(format!(
                    "no weight is named `{0}` or `{0}.(something)`, the prefix of a group: give the leading parts of \
                     names of the model's weights, of which `{first}` is one",
                    group.prefix
                )));
            }
            optimizer.with_group(|name| group.contains(name), group.lr_factor, group.weight_decay)
        })
    }

    /// Trains the weights whose name satisfies `contains` at `lr_factor` times the learning rate, 0 to freeze
    /// them, and with `weight_decay` in place of the optimiser's, if given.
    ///
    /// # Errors
    /// When a number is negative or not finite, or the optimiser has no weight decay.
    pub fn with_group(
        mut self,
        contains: impl Fn(&str) -> bool,
        lr_factor: f64,
        weight_decay: Option<f64>,
    ) -> Result<Self> {
        for (name, value) in [("lr_factor", lr_factor), ("weight_decay", weight_decay.unwrap_or(0.0))] {
            if !(0.0..f64::INFINITY).contains(&value) {
                return Err(Error::Config(format!(
                    "the `{name}` of a group is {value}, but must be finite and at least 0"
                )));
            }
        }
        if weight_decay.is_some() && !matches!(self.config, OptimizerConfig::AdamW { .. }) {
            return Err(Error::Config("the `weight_decay` of a group needs the optimiser `adamw`".into()));
        }
        let config = &self.config;
        for weight in self.weights.iter_mut().filter(|weight| contains(&weight.name)) {
            weight.lr_factor = lr_factor;
            if let (Some(decay), true) = (weight_decay, config.decays(&weight.name, weight.var.rank())) {
                weight.weight_decay = decay;
            }
        }
        Ok(self)
    }

    /// The settings.
    pub fn config(&self) -> &OptimizerConfig {
        &self.config
    }

    /// The weights that are not frozen.
    pub(super) fn moving(&self) -> Vec<(String, Var)> {
        let moving = self.weights.iter().filter(|weight| weight.lr_factor > 0.0);
        moving.map(|weight| (weight.name.clone(), weight.var.clone())).collect()
    }

    /// Updates every weight that has a gradient and is not frozen by one step at the learning rate `lr`.
    ///
    /// # Errors
    /// When a gradient is not finite; then nothing is changed. When a gradient's shape is not its weight's.
    pub fn step(&mut self, grads: &GradStore, lr: f64) -> Result<()> {
        for weight in self.weights.iter().filter(|weight| weight.lr_factor > 0.0) {
            if let Some(grad) = grads.get(&weight.var)
                && !is_finite(grad)?
            {
                let name = &weight.name;
                return Err(Error::Diverged(format!(
                    "the gradient of the weight `{name}` is not finite, so nothing was changed: skip the step, lower \
                     the learning rate or clip the gradients, and check the data for non-finite values"
                )));
            }
        }
        self.step_finite(grads, lr)
    }

    /// [`Self::step`] for gradients that are known to be finite.
    pub(super) fn step_finite(&mut self, grads: &GradStore, lr: f64) -> Result<()> {
        let config = &self.config;
        let step = |weight: &mut Weight| match grads.get(&weight.var) {
            Some(grad) if weight.lr_factor > 0.0 => {
                weight.steps += 1;
                let rule = config.rule(lr * weight.lr_factor, weight.steps, weight.weight_decay);
                rule.apply(&weight.var, grad, &weight.moments)
            }
            _ => Ok(()),
        };
        let count: usize = self.weights.iter().map(|w| w.var.elem_count()).sum();
        if count < PARALLEL_FROM || self.weights.iter().any(|w| !w.var.device().is_cpu()) {
            return self.weights.iter_mut().try_for_each(step);
        }
        self.weights.par_iter_mut().try_for_each(step)
    }

    /// The state: `optimizer.m.NAME` and `optimizer.v.NAME` for each weight, and `optimizer.steps`.
    ///
    /// The tensors share memory with the optimiser.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let steps: Vec<i64> = self.weights.iter().map(|w| w.steps).collect();
        let count = steps.len();
        let mut state = vec![("optimizer.steps".to_string(), Tensor::from_vec(steps, count, &Device::Cpu)?)];
        for weight in &self.weights {
            for (moment, tensor) in self.config.moments().iter().zip(&weight.moments) {
                state.push((format!("optimizer.{moment}.{}", weight.name), tensor.clone()));
            }
        }
        Ok(state)
    }

    /// Restores a state returned by [`Self::state`]; names that do not begin with `optimizer.` are ignored.
    ///
    /// # Errors
    /// When the state belongs to another optimiser or another model; then nothing is changed.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let state = self.read_state(state)?;
        self.set_state(state);
        Ok(())
    }

    pub(super) fn read_state(&self, state: &HashMap<String, Tensor>) -> Result<OptimizerState> {
        let moments = self.config.moments();
        let other =
            |what: String| Error::Config(format!("{what}: it was saved by another optimiser or for another model"));
        let find = |name: &str, shape: &[usize]| {
            let tensor = state.get(name).ok_or_else(|| other(format!("the optimiser's state has no `{name}`")))?;
            if tensor.dims() == shape {
                return Ok(tensor);
            }
            Err(other(format!("`{name}` of the optimiser's state has shape {:?}, not {shape:?}", tensor.dims())))
        };
        let steps: Vec<i64> = find("optimizer.steps", &[self.weights.len()])?.to_dtype(DType::I64)?.to_vec1()?;
        let mut loaded = Vec::with_capacity(self.weights.len());
        for Weight { name, var, .. } in &self.weights {
            let of_weight = moments.iter().map(|moment| {
                let tensor = find(&format!("optimizer.{moment}.{name}"), var.dims())?;
                // A copy: updates in place must not reach the caller's tensors.
                Ok(tensor.to_dtype(var.dtype())?.to_device(var.device())?.contiguous()?.copy()?)
            });
            loaded.push(of_weight.collect::<Result<Vec<_>>>()?);
        }
        let known = 1 + moments.len() * self.weights.len();
        if state.keys().filter(|name| name.starts_with("optimizer.")).count() != known {
            return Err(other("the optimiser's state has unexpected tensors".into()));
        }
        Ok(OptimizerState(steps.into_iter().zip(loaded).collect()))
    }

    pub(super) fn set_state(&mut self, OptimizerState(state): OptimizerState) {
        for (weight, (steps, moments)) in self.weights.iter_mut().zip(state) {
            weight.steps = steps;
            weight.moments = moments;
        }
    }
}

#[cfg(test)]
mod tests;
