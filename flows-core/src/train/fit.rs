//! Maximum likelihood in one call.

use super::{LossGradients, Memory, OptimizerConfig, Outcome, TrainConfig, Trainer, forward_kl};
use crate::data::{Examples, Shuffle};
use crate::distributions::{Distribution, score};
use crate::{Config, Error, Model, Result, Rng};
use candle_core::DType;
use serde::{Deserialize, Serialize};

/// How [`fit`] trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitConfig {
    /// Examples per step; all of them if there are fewer.
    pub batch: usize,
    /// Share of the examples held out to choose the weights to keep; 0 for none.
    pub validation: f64,
    /// Pieces that a batch is cut into, each with its own thread and graph, where the model allows it.
    pub pieces: usize,
    /// The optimiser, its steps, and when to stop.
    pub train: TrainConfig,
}

impl Default for FitConfig {
    /// At most 5,000 steps of Adam with batches of 256, evaluated every 100 steps, stopping after ten evaluations in a
    /// row without a new best.
    fn default() -> Self {
        let train = TrainConfig {
            steps: 5000,
            optimizer: OptimizerConfig::adam(1e-3),
            evaluate_every: Some(100),
            patience: Some(10),
            ..TrainConfig::default()
        };
        Self { batch: 256, validation: 0.1, pieces: 2, train }
    }
}

impl FitConfig {
    /// The same settings with at most this many steps.
    #[must_use]
    pub fn with_steps(self, steps: u64) -> Self {
        Self { train: TrainConfig { steps, ..self.train }, ..self }
    }
}

/// The result of [`fit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Whether all steps were done or training stopped early.
    pub outcome: Outcome,
    /// Steps done.
    pub steps: u64,
    /// Mean negative log-likelihood of the validation rows in nats, under the weights that were kept.
    pub validation: Option<f64>,
}

/// Trains a model on examples by maximum likelihood: runs the data-dependent initialisation
/// ([`Distribution::initialize`]), holds out rows for validation, and keeps the weights with the best validation
/// likelihood.
///
/// The examples are a tensor (N, event...), or a pair of that tensor and its contexts (N, ...). For checkpoints or
/// another loss, use a [`Trainer`].
///
/// ```
/// use flows_core::data::Toy;
/// use flows_core::flows::{Flow, FlowConfig, Nsf};
/// use flows_core::train::{FitConfig, fit};
/// let mut rng = flows_core::Rng::seed(0);
/// let x = Toy::TwoMoons.sample(2000, &mut rng)?;
/// let flow = Flow::new(FlowConfig::new(2, Nsf::default()), &mut rng)?;
/// let fitted = fit(&flow, &x, FitConfig::default().with_steps(10), &mut rng)?;
/// assert_eq!(fitted.steps, 10);
/// # Ok::<(), flows_core::Error>(())
/// ```
///
/// # Errors
/// When a setting or a shape is wrong, fewer than two examples are given, or training diverges.
pub fn fit<C: Config>(
    model: &Model<C>,
    examples: impl Into<Examples>,
    config: FitConfig,
    rng: &mut Rng,
) -> Result<Fit> {
    let FitConfig { batch, validation, pieces, train: settings } = config;
    if batch == 0 || pieces == 0 {
        return Err(Error::Config("`batch` and `pieces` must be at least 1".into()));
    }
    if settings.memory != Memory::Store {
        let message = "`fit` stores activations: for `memory = \"recompute\"` use `Trainer` and `Memory::forward_kl`";
        return Err(Error::Config(message.into()));
    }
    let (train, held_out) = split(&examples.into(), validation, rng)?;
    model.initialize(&train.x, train.context.as_ref())?;
    let batch = batch.min(train.len());
    let mut shuffle = Shuffle::new(train.len(), batch, rng.fork().draw(&rand_distr::StandardUniform))?;
    let pieces = if model.config().splits_batches() && model.device().is_cpu() { pieces } else { 1 };
    let loss = |number: u64, rng: &mut Rng| {
        let batch = train.select(&shuffle.batch(number))?;
        LossGradients::of_pieces(batch.len(), pieces, rng, |rows, rng| {
            let part = batch.rows(rows)?;
            forward_kl(model, &part.x, part.context.as_ref(), rng)
        })
    };
    let mut validate = |_: &mut Rng| {
        let log_prob = score(model, &held_out.x, held_out.context.as_ref())?;
        Ok(-log_prob.to_dtype(DType::F64)?.mean_all()?.to_scalar::<f64>()?)
    };
    let mut trainer = Trainer::new(model.parameters(), settings, rng.fork())?;
    let evaluate: Option<super::Evaluate<'_>> = if held_out.is_empty() { None } else { Some(&mut validate) };
    let outcome = trainer.run(loss, evaluate, &mut ())?;
    Ok(Fit { outcome, steps: trainer.step(), validation: trainer.kept() })
}

/// The examples to train on and those held out, chosen at random.
fn split(examples: &Examples, share: f64, rng: &mut Rng) -> Result<(Examples, Examples)> {
    let rows = examples.len();
    if !(0.0..1.0).contains(&share) {
        return Err(Error::Config(format!(
            "`validation` is a share of the examples, 0 or more and below 1, not {share}"
        )));
    }
    if let Some(context) = &examples.context
        && context.dims().first() != Some(&rows)
    {
        return Err(Error::shape("the contexts", context.dims(), format!("({rows}, ..)")));
    }
    let held_out = if share > 0.0 { ((rows as f64 * share).round() as usize).max(1) } else { 0 };
    if rows <= held_out {
        return Err(Error::Data(format!("{rows} examples are too few to train on: give at least {}", held_out + 1)));
    }
    let order = rng.permutation(rows);
    Ok((examples.select(&order[held_out..])?, examples.select(&order[..held_out])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::{Flow, FlowConfig, Maf};
    use candle_core::{Device, Tensor};

    #[test]
    fn a_conditional_normal_is_learned() -> Result<()> {
        let mut rng = Rng::seed(0);
        let context = rng.normal_tensor((2000, 1), DType::F32, &Device::Cpu)?;
        // x | c ~ N((3 c, 100 - c), 0.5^2).
        let mean = Tensor::cat(&[(&context * 3.0)?, context.affine(-1.0, 100.0)?], 1)?;
        let x = (mean + (rng.normal_tensor((2000, 2), DType::F32, &Device::Cpu)? * 0.5)?)?;
        let flow = Flow::new(FlowConfig::new(2, Maf::default()).with_context(1), &mut rng)?;
        let config = FitConfig::default().with_steps(600);
        let fitted = fit(&flow, (&x, &context), config.clone(), &mut rng)?;
        let entropy = 2.0 * (0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E).ln() + 0.5f64.ln());
        let validation = fitted.validation.unwrap();
        assert!((validation - entropy).abs() < 0.15, "{validation} where {entropy} is the entropy: {fitted:?}");
        // Examples that cannot be trained on are an error that says why.
        assert!(fit(&flow, &x, config.clone(), &mut rng).unwrap_err().to_string().contains("context"));
        let one = x.narrow(0, 0, 1)?;
        let none = fit(&flow, (&one, &context.narrow(0, 0, 1)?), config.clone(), &mut rng).unwrap_err();
        assert!(none.to_string().contains("too few"), "{none}");
        assert!(fit(&flow, (&x, &one), config, &mut rng).is_err());
        Ok(())
    }
}
