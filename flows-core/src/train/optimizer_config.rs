//! The settings of the optimisers.

use super::rule::Rule;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// An optimiser and its settings.
///
/// With gradient g, weight p and step t = 1, 2, ..., `m = beta1 m + (1 - beta1) g`:
///
/// | kind | update |
/// |---|---|
/// | `adam` | `v = beta2 v + (1 - beta2) g^2`, `p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)` |
/// | `adam` with `l2` | as `adam` with `g + l2 p` for g: the gradient of the loss plus `l2 / 2` times the sum of squares of all weights |
/// | `adamw` | `p *= 1 - lr weight_decay`, then as `adam` |
/// | `adamax` | `v = max(beta2 v, abs(g))`, `p -= lr m / (1 - beta1^t) / (v + eps)` |
/// | `sgd` | `m = momentum m + g`, `p -= lr m`; with `nesterov`, `p -= lr (g + momentum m)` |
///
/// Sources: Kingma and Ba 2015 (arXiv:1412.6980), algorithms 1 and 2; Loshchilov and Hutter 2019
/// (arXiv:1711.05101), algorithm 2; Sutskever et al. 2013 in the form that PyTorch documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Adam.
    Adam {
        /// Learning rate.
        #[serde(default = "default_lr")]
        lr: f64,
        /// Decay of the mean of gradients.
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// Decay of the mean of squares.
        #[serde(default = "default_beta2")]
        beta2: f64,
        /// Keeps the division finite.
        #[serde(default = "default_eps")]
        eps: f64,
        /// A penalty of `l2 / 2` on the square of every weight, biases included.
        #[serde(default, skip_serializing_if = "is_zero")]
        l2: f64,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Learning rate.
        #[serde(default = "default_lr")]
        lr: f64,
        /// Decay of the mean of gradients.
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// Decay of the mean of squares.
        #[serde(default = "default_beta2")]
        beta2: f64,
        /// Keeps the division finite.
        #[serde(default = "default_eps")]
        eps: f64,
        /// The weights shrink by a factor of `1 - lr * weight_decay` at each step.
        #[serde(default = "default_weight_decay")]
        weight_decay: f64,
        /// Weights with one of these among the dotted parts of their name do not decay.
        #[serde(default = "default_exclude")]
        exclude: Vec<String>,
        /// Whether weights of fewer than two dimensions (biases, scales) decay as well.
        #[serde(default)]
        decay_vectors: bool,
    },
    /// Adam with the largest gradient in place of the root mean square.
    Adamax {
        /// Learning rate.
        #[serde(default = "default_lr")]
        lr: f64,
        /// Decay of the mean of gradients.
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// Decay of the largest gradient.
        #[serde(default = "default_beta2")]
        beta2: f64,
        /// Keeps the division finite.
        #[serde(default = "default_eps")]
        eps: f64,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Learning rate.
        #[serde(default = "default_lr")]
        lr: f64,
        /// The share of the last direction that is kept; 0 for none.
        #[serde(default)]
        momentum: f64,
        /// Nesterov's variant of momentum.
        #[serde(default)]
        nesterov: bool,
    },
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn default_lr() -> f64 {
    1e-3
}

fn default_beta1() -> f64 {
    0.9
}

fn default_beta2() -> f64 {
    0.999
}

fn default_eps() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    1e-2
}

fn default_exclude() -> Vec<String> {
    vec!["bias".into()]
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::adam(default_lr())
    }
}

impl OptimizerConfig {
    /// Adam with the usual settings.
    pub fn adam(lr: f64) -> Self {
        Self::Adam { lr, beta1: default_beta1(), beta2: default_beta2(), eps: default_eps(), l2: 0.0 }
    }

    /// AdamW with the usual settings.
    pub fn adamw(lr: f64, weight_decay: f64) -> Self {
        let (beta1, beta2, eps) = (default_beta1(), default_beta2(), default_eps());
        Self::AdamW { lr, beta1, beta2, eps, weight_decay, exclude: default_exclude(), decay_vectors: false }
    }

    /// Adamax with the usual settings.
    pub fn adamax(lr: f64) -> Self {
        Self::Adamax { lr, beta1: default_beta1(), beta2: default_beta2(), eps: default_eps() }
    }

    /// Plain gradient descent.
    pub fn sgd(lr: f64) -> Self {
        Self::Sgd { lr, momentum: 0.0, nesterov: false }
    }

    /// The learning rate before any schedule.
    pub fn lr(&self) -> f64 {
        match self {
            Self::Adam { lr, .. } | Self::AdamW { lr, .. } | Self::Adamax { lr, .. } | Self::Sgd { lr, .. } => *lr,
        }
    }

    /// Replaces the learning rate.
    #[must_use]
    pub fn with_lr(mut self, rate: f64) -> Self {
        match &mut self {
            Self::Adam { lr, .. } | Self::AdamW { lr, .. } | Self::Adamax { lr, .. } | Self::Sgd { lr, .. } => {
                *lr = rate
            }
        }
        self
    }

    /// The names under which the moments of a weight are saved.
    pub(super) fn moments(&self) -> &'static [&'static str] {
        match self {
            Self::Adam { .. } | Self::AdamW { .. } | Self::Adamax { .. } => &["m", "v"],
            Self::Sgd { momentum, .. } if *momentum != 0.0 => &["m"],
            Self::Sgd { .. } => &[],
        }
    }

    pub(super) fn decays(&self, name: &str, rank: usize) -> bool {
        let Self::AdamW { exclude, decay_vectors, .. } = self else { return false };
        let dotted = format!(".{name}.");
        (*decay_vectors || rank >= 2) && !exclude.iter().any(|part| dotted.contains(&format!(".{part}.")))
    }

    /// The weight decay of the weight of this name.
    pub(super) fn weight_decay_of(&self, name: &str, rank: usize) -> f64 {
        match self {
            Self::AdamW { weight_decay, .. } if self.decays(name, rank) => *weight_decay,
            _ => 0.0,
        }
    }

    /// Step number `step` (1, 2, ...) of a weight.
    pub(super) fn rule(&self, lr: f64, step: i64, weight_decay: f64) -> Rule {
        // Beyond the range of an i32 the corrections are 1.
        let correction = |beta: f64| 1.0 - beta.powi(step.try_into().unwrap_or(i32::MAX));
        match *self {
            Self::Adam { beta1, beta2, eps, .. } | Self::AdamW { beta1, beta2, eps, .. } => {
                let l2 = if let Self::Adam { l2, .. } = *self { l2 } else { 0.0 };
                let keep = 1.0 - lr * weight_decay;
                let (rate, root) = (lr / correction(beta1), 1.0 / correction(beta2).sqrt());
                Rule::Adam { beta1, beta2, eps, l2, keep, rate, root }
            }
            Self::Adamax { beta1, beta2, eps, .. } => Rule::Adamax { beta1, beta2, eps, rate: lr / correction(beta1) },
            Self::Sgd { momentum, nesterov, .. } if momentum != 0.0 => Rule::Momentum { momentum, nesterov, rate: lr },
            Self::Sgd { .. } => Rule::Plain { rate: lr },
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if value >= low && value < high {
                return Ok(());
            }
            Err(Error::Config(format!(
                "the optimiser's `{name}` is {value}, but must be at least {low} and below {high}"
            )))
        };
        within("lr", self.lr(), 0.0, f64::INFINITY)?;
        match *self {
            Self::Adam { beta1, beta2, eps, .. }
            | Self::AdamW { beta1, beta2, eps, .. }
            | Self::Adamax { beta1, beta2, eps, .. } => {
                within("beta1", beta1, 0.0, 1.0)?;
                within("beta2", beta2, 0.0, 1.0)?;
                within("eps", eps, f64::MIN_POSITIVE, f64::INFINITY)?;
            }
            Self::Sgd { momentum, nesterov, .. } => {
                within("momentum", momentum, 0.0, 1.0)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::Config("the optimiser's `nesterov` needs a `momentum` above 0".into()));
                }
            }
        }
        match *self {
            Self::Adam { l2, .. } => within("l2", l2, 0.0, f64::INFINITY),
            Self::AdamW { weight_decay, .. } => within("weight_decay", weight_decay, 0.0, f64::INFINITY),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::{Init, Parameters};
    use crate::testing::difference;
    use crate::train::Optimizer;
    use candle_core::{DType, Device, Tensor, Var};

    #[test]
    fn l2_adds_a_penalty_to_the_loss() -> Result<()> {
        let loss = |p: &Tensor| Ok::<_, Error>(p.sin()?.sum_all()?);
        let penalty = |p: &Tensor| Ok::<_, Error>((p.sqr()?.sum_all()? * 0.15)?);
        let run = |config: OptimizerConfig, penalised: bool| -> Result<Tensor> {
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let bias = parameters.scope().weight("bias", 3, Init::Normal(1.0))?;
            let mut optimizer = Optimizer::new(config, &parameters)?;
            for _ in 0..5 {
                let loss = if penalised { (loss(&bias)? + penalty(&bias)?)? } else { loss(&bias)? };
                optimizer.step(&loss.backward()?, 0.1)?;
            }
            Ok(bias.detach().copy()?)
        };
        let adam: OptimizerConfig = toml::from_str("kind = 'adam'\nl2 = 0.3").unwrap();
        let want = run(OptimizerConfig::adam(1e-3), true)?;
        assert!(difference(&want, &run(adam.clone(), false)?)? < 1e-14);
        assert!(difference(&want, &run(OptimizerConfig::adam(1e-3), false)?)? > 1e-3);
        // The fused and the composed update.
        for dtype in [DType::F32, DType::F64] {
            let start = Rng::seed(1).normal_tensor(7, dtype, &Device::Cpu)?;
            let grad = Rng::seed(2).normal_tensor(7, dtype, &Device::Cpu)?;
            let step = |fused: bool| -> Result<Tensor> {
                let (var, m, v) = (Var::from_tensor(&start)?, start.zeros_like()?, start.zeros_like()?);
                let rule = adam.rule(0.1, 1, 0.0);
                if fused {
                    rule.apply(&var, &grad, &[m, v])?
                } else {
                    rule.composed(&var, &grad, &[m, v])?
                };
                Ok(var.as_detached_tensor())
            };
            // With the feature `mkl`, candle's square roots round differently.
            let limit = if cfg!(feature = "mkl") { 1e-7 } else { 0.0 };
            assert!(difference(&step(true)?, &step(false)?)? <= limit);
        }
        let negative: OptimizerConfig = toml::from_str("kind = 'adam'\nl2 = -1.0").unwrap();
        assert!(negative.validate().is_err() && toml::from_str::<OptimizerConfig>("kind = 'sgd'\nl2 = 1.0").is_err());
        Ok(())
    }
}
