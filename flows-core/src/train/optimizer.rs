//! Gradient descent over the weights of a model.

use super::OptimizerConfig;
use crate::nn::Parameters;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use rayon::prelude::*;
use std::collections::HashMap;

/// Fewer numbers than this are updated sooner than another thread is awake.
const SIDE_BY_SIDE: usize = 1 << 16;

/// An optimiser over all weights of a model.
///
/// A weight that a step gives no gradient is left alone, and so are its moments; each weight
/// counts its own steps, so that the corrections of Adam are right for it.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    weights: Vec<Weight>,
}

#[derive(Debug)]
struct Weight {
    name: String,
    var: Var,
    decays: bool,
    steps: i64,
    moments: Vec<Tensor>,
}

impl Optimizer {
    /// An optimiser over the weights that `parameters` has by now.
    ///
    /// # Errors
    /// When a setting is out of its range, or the device cannot hold the state.
    pub fn new(config: OptimizerConfig, parameters: &Parameters) -> Result<Self> {
        config.validate()?;
        let weight = |(name, var): (String, Var)| {
            let decays = config.decays(&name, var.rank());
            let moments = config.moments().iter().map(|_| var.zeros_like()).collect::<candle_core::Result<_>>()?;
            Ok(Weight { name, var, decays, steps: 0, moments })
        };
        let weights = parameters.trainable().into_iter().map(weight).collect::<Result<_>>()?;
        Ok(Self { config, weights })
    }

    /// The settings.
    pub fn config(&self) -> &OptimizerConfig {
        &self.config
    }

    /// Moves every weight that has a gradient by one step at the learning rate `lr`.
    ///
    /// # Errors
    /// When a gradient has another shape than its weight.
    pub fn step(&mut self, grads: &GradStore, lr: f64) -> Result<()> {
        let config = &self.config;
        let step = |weight: &mut Weight| match grads.get(&weight.var) {
            Some(grad) => {
                weight.steps += 1;
                config.rule(lr, weight.steps, weight.decays).apply(&weight.var, grad, &weight.moments)
            }
            None => Ok(()),
        };
        let count: usize = self.weights.iter().map(|w| w.var.elem_count()).sum();
        if count < SIDE_BY_SIDE || self.weights.iter().any(|w| !w.var.device().is_cpu()) {
            return self.weights.iter_mut().try_for_each(step);
        }
        self.weights.par_iter_mut().try_for_each(step)
    }

    /// The state: `optimizer.m.NAME` and `optimizer.v.NAME` for each weight, and `optimizer.steps`.
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

    /// Takes up the state that [`Self::state`] gave; other names than `optimizer...` are ignored.
    ///
    /// # Errors
    /// When the state is of another optimiser or another model; then nothing is changed.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
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
            return Err(other("the optimiser's state has tensors without a place here".into()));
        }
        for ((weight, steps), moments) in self.weights.iter_mut().zip(steps).zip(loaded) {
            weight.steps = steps;
            weight.moments = moments;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Init;
    use crate::train::slices::CHUNK;

    fn grads(of: &[(&Tensor, Vec<f64>)]) -> GradStore {
        let mut store = GradStore::default();
        for (weight, values) in of {
            let grad = Tensor::from_vec(values.clone(), weight.shape().clone(), &Device::Cpu).unwrap();
            store.insert(weight, grad.to_dtype(weight.dtype()).unwrap());
        }
        store
    }

    /// The documented formulae, number by number.
    fn reference(config: &OptimizerConfig, gradients: &[f64], lr: f64, decays: bool) -> f64 {
        let (mut p, mut m, mut v) = (0.5f64, 0.0f64, 0.0f64);
        for (i, g) in gradients.iter().enumerate() {
            let t = (i + 1) as i32;
            match config {
                OptimizerConfig::Adam { beta1, beta2, eps, .. } | OptimizerConfig::AdamW { beta1, beta2, eps, .. } => {
                    if let (OptimizerConfig::AdamW { weight_decay, .. }, true) = (config, decays) {
                        p -= lr * weight_decay * p;
                    }
                    m = beta1 * m + (1.0 - beta1) * g;
                    v = beta2 * v + (1.0 - beta2) * g * g;
                    let (mean, square) = (m / (1.0 - beta1.powi(t)), v / (1.0 - beta2.powi(t)));
                    p -= lr * mean / (square.sqrt() + eps);
                }
                OptimizerConfig::Adamax { beta1, beta2, eps, .. } => {
                    m = beta1 * m + (1.0 - beta1) * g;
                    v = (beta2 * v).max(g.abs());
                    p -= lr / (1.0 - beta1.powi(t)) * m / (v + eps);
                }
                OptimizerConfig::Sgd { momentum, nesterov, .. } => {
                    m = if t == 1 { *g } else { momentum * m + g };
                    p -= lr * if *nesterov { g + momentum * m } else { m };
                }
            }
        }
        p
    }

    fn all() -> Vec<OptimizerConfig> {
        vec![
            OptimizerConfig::adam(0.1),
            OptimizerConfig::adamw(0.1, 0.3),
            OptimizerConfig::adamax(0.1),
            OptimizerConfig::sgd(0.1),
            OptimizerConfig::Sgd { lr: 0.1, momentum: 0.9, nesterov: false },
            OptimizerConfig::Sgd { lr: 0.1, momentum: 0.9, nesterov: true },
        ]
    }

    #[test]
    fn steps_are_those_of_the_formulae() {
        let gradients = [0.3, -1.2, 0.0, 5.0, 1e-3];
        for config in all() {
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let weight = parameters.scope().weight("weight", (1, 2), Init::Constant(0.5)).unwrap();
            let bias = parameters.scope().weight("bias", (1, 1), Init::Constant(0.5)).unwrap();
            let idle = parameters.scope().weight("idle", (1, 1), Init::Constant(0.5)).unwrap();
            let mut optimizer = Optimizer::new(config.clone(), &parameters).unwrap();
            for g in gradients {
                optimizer.step(&grads(&[(&weight, vec![g, -g]), (&bias, vec![g])]), 0.1).unwrap();
            }
            let negated = gradients.map(|g| -g);
            let want = [reference(&config, &gradients, 0.1, true), reference(&config, &negated, 0.1, true)];
            let got = weight.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() < 1e-14, "{config:?}: {got} is not {want}");
            }
            let bias = bias.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0];
            assert!((bias - reference(&config, &gradients, 0.1, false)).abs() < 1e-14, "{config:?}");
            assert_eq!(idle.flatten_all().unwrap().to_vec1::<f64>().unwrap(), [0.5]);
        }
    }

    #[test]
    fn a_hand_computed_step() {
        // Step 1 of Adam moves by lr * sign(g) but for eps; of momentum by lr * g.
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let w = parameters.scope().weight("w", (), Init::Constant(1.0)).unwrap();
        let mut adam = Optimizer::new(OptimizerConfig::adam(0.01), &parameters).unwrap();
        adam.step(&grads(&[(&w, vec![4.0])]), 0.01).unwrap();
        assert!((w.to_scalar::<f64>().unwrap() - (1.0 - 0.01 * 4.0 / (4.0 + 1e-8))).abs() < 1e-15);
    }

    #[test]
    fn fused_and_composed_agree_to_the_bit_in_any_number_of_threads() {
        // Three chunks, the last one not full, and a gradient that is not contiguous.
        let shape = (2, CHUNK + 17);
        let mut rng = Rng::seed(3);
        for config in all() {
            for dtype in [DType::F32, DType::F64] {
                let start = rng.normal_tensor(shape, dtype, &Device::Cpu).unwrap();
                let gradients: Vec<Tensor> = (0..3)
                    .map(|_| rng.normal_tensor((shape.1, shape.0), dtype, &Device::Cpu).unwrap().t().unwrap())
                    .collect();
                let run = |threads: usize, fused: bool| {
                    let var = Var::from_tensor(&start).unwrap();
                    let moments: Vec<Tensor> = config.moments().iter().map(|_| var.zeros_like().unwrap()).collect();
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    for (i, grad) in gradients.iter().enumerate() {
                        let rule = config.rule(0.1, i as i64 + 1, true);
                        let done = pool.install(|| match fused {
                            true => rule.apply(&var, grad, &moments),
                            false => rule.composed(&var, grad, &moments),
                        });
                        done.unwrap();
                    }
                    let bits = var.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
                    bits.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>()
                };
                let one = run(1, true);
                assert_eq!(one, run(3, true), "{config:?} {dtype:?}");
                // With the feature `mkl` candle's roots are rounded otherwise.
                if cfg!(not(feature = "mkl")) {
                    assert_eq!(one, run(1, false), "{config:?} {dtype:?}");
                }
            }
        }
    }

    #[test]
    fn a_state_of_another_optimiser_is_refused() {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        parameters.scope().weight("w", 3, Init::Normal(1.0)).unwrap();
        let state = |config| Optimizer::new(config, &parameters).unwrap().state().unwrap().into_iter().collect();
        let mut adam = Optimizer::new(OptimizerConfig::adam(0.1), &parameters).unwrap();
        assert!(adam.load_state(&state(OptimizerConfig::adamax(0.1))).is_ok());
        assert!(adam.load_state(&state(OptimizerConfig::sgd(0.1))).is_err());
        let mut sgd = Optimizer::new(OptimizerConfig::sgd(0.1), &parameters).unwrap();
        assert!(sgd.load_state(&state(OptimizerConfig::adam(0.1))).is_err());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        for bad in ["kind = 'adam'\nlr = nan", "kind = 'adam'\nbeta2 = 1.0", "kind = 'sgd'\nnesterov = true"] {
            assert!(Optimizer::new(toml::from_str(bad).unwrap(), &parameters).is_err(), "{bad}");
        }
        assert!(toml::from_str::<OptimizerConfig>("kind = 'adam'\nlearning = 1.0").is_err());
    }
}
