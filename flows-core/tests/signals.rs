//! Flows over signals that are trained at one length and used at others.

use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::univariate::Affine;
use flows_core::bijectors::{ActNorm, Bijector, Chain, Conv1x1, Coupling, Level, Mask, MultiScale, Squeeze, Start};
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::nn::{ConvNetConfig, Scope};
use flows_core::testing::difference;
use flows_core::train::{OptimizerConfig, TrainConfig, Trainer, forward_kl};
use flows_core::{Config, Model, Result, Rng};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A flow of two levels over single-channel signals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Signals {
    length: usize,
    steps: usize,
    hidden: usize,
}

impl Signals {
    fn level(&self, index: usize, scope: &Scope) -> Result<Level> {
        let squeeze = Squeeze::new(&[1, self.length >> index], 2)?;
        let shape = squeeze.latent_shape().to_vec();
        let mut steps: Vec<Box<dyn Bijector>> = vec![Box::new(squeeze)];
        for k in 0..self.steps {
            let (scope, mask, affine) =
                (scope.enter(k), Mask::Halves { swap: k % 2 == 1 }, Arc::new(Affine::default()));
            let network = ConvNetConfig { hidden: vec![self.hidden], kernels: vec![3, 1], ..Default::default() };
            steps.push(Box::new(ActNorm::new(&shape, &scope.enter("norm"))?));
            steps.push(Box::new(Conv1x1::lu(&shape, Start::Identity, &scope.enter("mix"))?));
            steps.push(Box::new(Coupling::convolutional(&shape, &mask, affine, None, &network, &scope)?));
        }
        steps.reverse();
        Ok(Level { flow: Box::new(Chain::new(steps)?), prior: None })
    }
}

impl Config for Signals {
    const KIND: &'static str = "signals";
    type Built = Transformed;

    fn build(&self, scope: &Scope) -> Result<Transformed> {
        let levels = (0..2).map(|i| self.level(i, &scope.enter("levels").enter(i))).collect::<Result<_>>()?;
        Transformed::new(StandardNormal::new([self.length], scope.dtype(), scope.device())?, MultiScale::new(levels)?)
    }
}

/// The autoregressive coefficient.
const KEPT: f64 = 0.9;

/// Stationary autoregressive signals of variance 1: `x_t = 0.9 x_(t-1) + sqrt(0.19) noise`.
fn signals(count: usize, length: usize, rng: &mut Rng) -> Result<Tensor> {
    let mut values = Vec::with_capacity(count * length);
    for _ in 0..count {
        let mut x = rng.normal();
        for _ in 0..length {
            values.push(x);
            x = KEPT * x + (1.0 - KEPT * KEPT).sqrt() * rng.normal();
        }
    }
    Ok(Tensor::from_vec(values, (count, 1, length), &Device::Cpu)?.to_dtype(DType::F32)?)
}

/// The gap in nats per sample between the model's log-likelihood and the exact one.
fn short(model: &Model<Signals>, rng: &mut Rng) -> Result<f64> {
    let length = model.config().length as f64;
    let given = 0.5 * (std::f64::consts::TAU * std::f64::consts::E).ln();
    let entropy = length * given + 0.5 * (length - 1.0) * (1.0 - KEPT * KEPT).ln();
    let x = signals(500, model.config().length, rng)?;
    let score: f64 = model.detached().log_prob(&x, None)?.to_dtype(DType::F64)?.mean_all()?.to_scalar()?;
    Ok((-score - entropy) / length)
}

fn settings(steps: u64, lr: f64) -> TrainConfig {
    let optimizer: OptimizerConfig = serde_json::from_value(serde_json::json!({ "kind": "adam", "lr": lr })).unwrap();
    TrainConfig { steps, optimizer, ..Default::default() }
}

fn trained(rng: &mut Rng) -> Result<Model<Signals>> {
    let model = Model::new(Signals { length: 32, steps: 2, hidden: 16 }, rng)?;
    model.initialize(&signals(200, 32, rng)?, None)?;
    let mut trainer = Trainer::new(model.parameters(), settings(400, 5e-3), rng.fork())?;
    trainer.run(|_, rng| forward_kl(&model, &signals(64, 32, rng)?, None, rng), None, &mut ())?;
    Ok(model)
}

#[test]
fn a_flow_trained_on_segments_models_recordings() -> Result<()> {
    let mut rng = Rng::seed(0);
    let segments = trained(&mut rng)?;
    let recordings = segments.with_config(Signals { length: 100, ..segments.config().clone() })?;
    for model in [&segments, &recordings] {
        // Independent normal samples would fall short by 0.8.
        let short = short(model, &mut rng)?;
        assert!((-0.02..0.1).contains(&short), "{short} nats a sample short at {}", model.config().length);
    }
    let x = segments.with_config(Signals { length: 200, ..segments.config().clone() })?.sample(200, None, &mut rng)?;
    assert_eq!(x.dims(), [200, 1, 200]);
    let product = (x.narrow(2, 0, 199)? * x.narrow(2, 1, 199)?)?.mean_all()?.to_scalar::<f32>()?;
    let correlation = product / x.sqr()?.mean_all()?.to_scalar::<f32>()?;
    // 0.84 when written; independent samples have 0.
    assert!((correlation - KEPT as f32).abs() < 0.1, "{correlation}");
    Ok(())
}

#[test]
fn models_of_other_lengths_are_one_model() -> Result<()> {
    let mut rng = Rng::seed(1);
    let config = Signals { length: 8, steps: 1, hidden: 4 };
    let model = Model::new(config.clone(), &mut rng)?;
    let longer = model.with_config(Signals { length: 12, ..config.clone() })?;
    assert_eq!(model.parameters().names(), longer.parameters().names());
    let (x, y) = (signals(16, 8, &mut rng)?, signals(16, 12, &mut rng)?);
    // Initialising either model initialises both.
    longer.initialize(&(&y * 3.0)?, None)?;
    let before = model.log_prob(&x, None)?;
    model.initialize(&x, None)?;
    assert_eq!(difference(&before, &model.log_prob(&x, None)?)?, 0.0);
    // A step of either updates both, and their detached copies.
    for by in [&model, &longer] {
        let before = [model.log_prob(&x, None)?, longer.log_prob(&y, None)?];
        let batch = if by.config().length == 8 { &x } else { &y };
        let mut trainer = Trainer::new(by.parameters(), settings(1, 0.01), rng.fork())?;
        trainer.run(|_, rng| forward_kl(by, batch, None, rng), None, &mut ())?;
        for ((of, signals), before) in [(&model, &x), (&longer, &y)].into_iter().zip(before) {
            let after = of.log_prob(signals, None)?;
            assert!(difference(&before, &after)? > 0.0);
            assert_eq!(difference(&after, &of.detached().log_prob(signals, None)?)?, 0.0);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    longer.save(&path)?;
    let loaded = Model::<Signals>::load(&path, &Device::Cpu)?;
    assert_eq!(loaded.config(), longer.config());
    assert_eq!(difference(&loaded.log_prob(&y, None)?, &longer.log_prob(&y, None)?)?, 0.0);
    Ok(())
}

#[test]
fn mismatched_parameters_are_named() -> Result<()> {
    let config = Signals { length: 8, steps: 2, hidden: 4 };
    let model = Model::new(config.clone(), &mut Rng::seed(2))?;
    let message = |other: Signals| model.with_config(other).unwrap_err().to_string();
    let wider = message(Signals { hidden: 5, ..config.clone() });
    assert!(
        wider.contains("`levels.0.0.conditioner.0.weight` has shape [4, 1, 3]") && wider.contains("[5, 1, 3]"),
        "{wider}"
    );
    let deeper = message(Signals { steps: 3, ..config.clone() });
    assert!(deeper.contains("`levels.0.2.norm.log_scale` is missing"), "{deeper}");
    let flatter = message(Signals { steps: 1, ..config.clone() });
    assert!(flatter.contains("`levels.0.1.norm.log_scale` has no place"), "{flatter}");
    for text in [wider, deeper, flatter] {
        assert!(text.contains("the length of a signal"), "{text}");
    }
    let odd = message(Signals { length: 10, ..config.clone() });
    assert!(odd.contains("[5] cannot be squeezed by 2"), "{odd}");
    let longer = model.with_config(Signals { length: 12, ..config })?;
    let text = longer.log_prob(&signals(1, 8, &mut Rng::seed(0))?, None).unwrap_err().to_string();
    assert!(text.contains("has shape [1, 1, 8], but (B, 1, 12)"), "{text}");
    Ok(())
}
