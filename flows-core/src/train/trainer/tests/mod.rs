//! Early stopping, divergence, accumulation, bad setups; and a model to train.

use super::super::{EmaConfig, OptimizerConfig, Schedule};
use super::*;
use crate::nn::{Buffer, Init};
use candle_core::{DType, Device};
use std::ops::ControlFlow;
use std::path::Path;

mod resume;

/// A regression with one hidden layer and a running mean, in f32.
struct Model {
    parameters: Parameters,
    layers: [Tensor; 4],
    seen: Buffer,
}

impl Model {
    fn new() -> Self {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(1));
        let scope = parameters.scope();
        let weight = |layer: &str, name: &str, shape: &[usize]| {
            scope.enter(layer).weight(name, shape, Init::Normal(0.4)).unwrap()
        };
        let layers = [
            weight("first", "weight", &[2, 16]),
            weight("first", "bias", &[16]),
            weight("second", "weight", &[16, 1]),
            weight("second", "bias", &[1]),
        ];
        let seen = scope.buffer("seen", &Tensor::zeros((), DType::F32, &Device::Cpu).unwrap()).unwrap();
        Self { parameters, layers, seen }
    }

    fn loss(&self, rng: &mut Rng) -> Result<Tensor> {
        let x = rng.normal_tensor((8, 2), DType::F32, &Device::Cpu)?;
        let y = x.narrow(1, 0, 1)?.sin()?.add(&x.narrow(1, 1, 1)?.sqr()?)?;
        let [w1, b1, w2, b2] = &self.layers;
        let out = x.matmul(w1)?.broadcast_add(b1)?.tanh()?.matmul(w2)?.broadcast_add(b2)?;
        let loss = (out - y)?.sqr()?.mean_all()?;
        self.seen.set(&(self.seen.get() + &loss.detach())?)?;
        Ok(loss)
    }

    fn bits(&self) -> Vec<(String, Vec<u32>)> {
        let bits =
            |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
        self.parameters.tensors().into_iter().map(|(name, t)| (name, bits(t))).collect()
    }
}

struct StopAt(u64);

impl Observer for StopAt {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        Ok(if event.step == self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

#[derive(Default)]
struct Record(Vec<StepEvent>);

impl Observer for Record {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        self.0.push(event.clone());
        Ok(ControlFlow::Continue(()))
    }
}

fn trainer(model: &Model, config: &TrainConfig, folder: &Path, seed: u64) -> Trainer {
    let checkpoint = Checkpoint::new(folder, "demo", &serde_json::json!({ "width": 16 })).unwrap();
    Trainer::new(&model.parameters, config.clone(), Rng::seed(seed)).unwrap().with_checkpoint(checkpoint)
}

fn train(model: &Model, trainer: &mut Trainer, observer: &mut dyn Observer) -> Result<Outcome> {
    let mut evaluate = |rng: &mut Rng| Ok(f64::from(model.loss(rng)?.to_scalar::<f32>()?));
    trainer.run(|_, rng| model.loss(rng), Some(&mut evaluate), observer)
}

fn configs() -> Vec<TrainConfig> {
    let plateau = Schedule::Plateau { warmup: 3, factor: 0.37, patience: 1, floor: 0.0 };
    let optimizers = [
        OptimizerConfig::adam(0.05),
        OptimizerConfig::adamw(0.05, 0.1),
        OptimizerConfig::adamax(0.05),
        OptimizerConfig::sgd(0.05),
        OptimizerConfig::Sgd { lr: 0.05, momentum: 0.9, nesterov: true },
    ];
    let config = |optimizer| TrainConfig {
        steps: 20,
        optimizer,
        schedule: plateau.clone(),
        clip_norm: Some(1.0),
        ema: Some(EmaConfig { decay: 0.9, warmup: true }),
        accumulate: 3,
        evaluate_every: Some(2),
        ..Default::default()
    };
    optimizers.into_iter().map(config).collect()
}

#[test]
fn closures_observe_a_run() {
    let model = Model::new();
    let mut trainer = Trainer::new(&model.parameters, TrainConfig::default(), Rng::seed(0)).unwrap();
    let mut seen = Vec::new();
    let mut observer = |event: &StepEvent| {
        seen.push(event.step);
        Ok(if event.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let outcome = trainer.run(|_, rng| model.loss(rng), None, &mut observer).unwrap();
    assert_eq!((outcome, seen), (Outcome::Interrupted, vec![1, 2, 3]));
}

#[test]
fn the_best_weights_are_restored_and_patience_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new();
    let config = TrainConfig { steps: 50, evaluate_every: Some(1), patience: Some(3), ..Default::default() };
    let mut trainer = trainer(&model, &config, folder.path(), 0);
    let mut figures = [5.0, 4.0, 3.0, f64::NAN, 3.5, 3.0].into_iter();
    let mut at_best = Vec::new();
    let mut evaluate = |_: &mut Rng| {
        let figure = figures.next().unwrap();
        if figures.len() == 3 {
            at_best = model.bits();
        }
        Ok(figure)
    };
    let outcome = trainer.run(|_, rng| model.loss(rng), Some(&mut evaluate), &mut ()).unwrap();
    assert_eq!((outcome, trainer.step(), trainer.best()), (Outcome::EarlyStopped, 6, Some(3.0)));
    assert_eq!(model.bits(), at_best);
    assert!(matches!(trainer.run(|_, rng| model.loss(rng), None, &mut ()), Err(Error::Config(_))));
    // A resumed run is still out of patience.
    trainer.resume().unwrap();
    let mut evaluate = |_: &mut Rng| Ok(0.0);
    let outcome = trainer.run(|_, rng| model.loss(rng), Some(&mut evaluate), &mut ()).unwrap();
    assert_eq!((outcome, model.bits()), (Outcome::EarlyStopped, at_best));
}

#[test]
fn the_reported_evaluation_is_of_the_kept_weights() {
    for keep_best in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let model = Model::new();
        let config = TrainConfig { steps: 3, evaluate_every: Some(1), keep_best, ..Default::default() };
        let mut trainer = trainer(&model, &config, folder.path(), 0);
        let mut figures = [5.0, 3.0, 4.0].into_iter();
        let mut evaluate = |_: &mut Rng| Ok(figures.next().unwrap());
        trainer.run(|_, rng| model.loss(rng), Some(&mut evaluate), &mut ()).unwrap();
        assert_eq!(trainer.kept(), Some(if keep_best { 3.0 } else { 4.0 }));
        trainer.resume().unwrap();
        assert_eq!(trainer.kept(), Some(if keep_best { 3.0 } else { 4.0 }));
    }
}

#[test]
fn non_finite_steps_are_skipped_and_then_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new();
    let config = TrainConfig { steps: 30, checkpoint_every: Some(1), ..Default::default() };
    let bad = [4, 10, 11, 12, 13];
    let mut before = Vec::new();
    let mut saved = Vec::new();
    let mut trainer = trainer(&model, &config, folder.path(), 0);
    let training = folder.path().join("training.safetensors");
    let loss = |batch: u64, rng: &mut Rng| {
        if batch == 10 {
            before = model.bits();
            saved = std::fs::read(&training).unwrap();
        }
        let loss = model.loss(rng)?;
        if !bad.contains(&batch) {
            return Ok(loss);
        }
        model.seen.set(&Tensor::new(f32::NAN, &Device::Cpu)?)?;
        // Alternately the gradient and the loss.
        if batch.is_multiple_of(2) {
            Ok((loss * f64::NAN)?)
        } else {
            Ok((model.layers[1].sqr()?.sum_all()? * f64::INFINITY)?)
        }
    };
    let mut events = Record::default();
    let error = trainer.run(loss, None, &mut events).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Diverged(_)), "{message}");
    for part in ["step 14", "learning rate 1e-3", "warm-up", "`clip_norm`", "after 3 steps"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(
        events.0.iter().map(|e| e.skipped).collect::<Vec<_>>(),
        [[0; 4].as_slice(), &[1; 6], &[2, 3, 4]].concat()
    );
    assert_eq!(model.bits(), before);
    assert_eq!(std::fs::read(&training).unwrap(), saved);
}

#[test]
fn a_step_with_a_non_finite_gradient_is_skipped() {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let w = parameters.scope().weight("w", 1, Init::Constant(0.0)).unwrap();
    let config = TrainConfig { max_skipped: 0, clip_norm: Some(1.0), ..Default::default() };
    let mut trainer = Trainer::new(&parameters, config, Rng::seed(0)).unwrap();
    // The square root is finite at 0, its derivative is not.
    let error = trainer.run(|_, _| Ok(w.sqrt()?.sum_all()?), None, &mut ()).unwrap_err();
    assert!(error.to_string().contains("the gradient is not finite at step 1"), "{error}");
    assert_eq!(w.to_vec1::<f64>().unwrap(), [0.0]);
}

#[test]
fn divergence_by_nan_and_by_a_row_outside_the_support_differ() {
    use crate::bijectors::{Chain, Elementwise, univariate::Affine, univariate::Fixed};
    use crate::distributions::{StandardNormal, Transformed};
    use crate::train::forward_kl;
    let run = |weight: f32, x: f32| {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let scope = parameters.scope();
        let affine = Elementwise::new(&[1], std::sync::Arc::new(Affine::default()), &scope.enter("affine")).unwrap();
        let exp = Elementwise::new(&[1], std::sync::Arc::new(Fixed::Exp), &scope).unwrap();
        let chain = Chain::new(vec![Box::new(affine), Box::new(exp)]).unwrap();
        let flow = Transformed::new(StandardNormal::new([1], DType::F32, &Device::Cpu).unwrap(), chain).unwrap();
        let (_, var) = parameters.trainable().remove(0);
        var.set(&Tensor::new(&[[[0.0, weight]]], &Device::Cpu).unwrap()).unwrap();
        let x = Tensor::new(&[[1.0], [x]], &Device::Cpu).unwrap();
        let config = TrainConfig { max_skipped: 0, ..Default::default() };
        let mut trainer = Trainer::new(&parameters, config, Rng::seed(0)).unwrap();
        trainer.run(|_, rng| forward_kl(&flow, &x, None, rng), None, &mut ()).unwrap_err().to_string()
    };
    let message = run(0.0, -1.0);
    assert!(message.contains("the loss is infinite, as when a row lies outside"), "{message}");
    let message = run(f32::NAN, 2.0);
    assert!(message.contains("the tensor `affine.parameters` is not finite"), "{message}");
    let message = run(0.0, f32::NAN);
    assert!(message.contains("the loss is NaN"), "{message}");
}

#[test]
fn accumulated_batches_equal_one_large_batch() {
    let step = |accumulate: u64| {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let w = parameters.scope().weight("w", 1, Init::Constant(2.0)).unwrap();
        let idle = parameters.scope().weight("late", 1, Init::Constant(2.0)).unwrap();
        let config = TrainConfig { steps: 1, optimizer: OptimizerConfig::sgd(0.5), accumulate, ..Default::default() };
        let mut numbers = Vec::new();
        let loss = |batch: u64, _: &mut Rng| {
            numbers.push(batch);
            let x = w.affine(if accumulate == 1 { 2.5 } else { batch as f64 + 1.0 }, 0.0)?;
            // The second weight has a gradient in the last batches only.
            Ok(if batch >= 2 { (x + &idle)?.sum_all()? } else { x.sum_all()? })
        };
        Trainer::new(&parameters, config, Rng::seed(0)).unwrap().run(loss, None, &mut ()).unwrap();
        (numbers, w.to_vec1::<f64>().unwrap()[0], idle.to_vec1::<f64>().unwrap()[0])
    };
    assert_eq!(step(1), (vec![0], 0.75, 2.0));
    assert_eq!(step(4), (vec![0, 1, 2, 3], 0.75, 1.75));
}

#[test]
fn untrainable_setups_are_refused() {
    let model = Model::new();
    let run = |config: TrainConfig, loss: &dyn Fn(&mut Rng) -> Result<Tensor>| {
        let mut trainer = Trainer::new(&model.parameters, config, Rng::seed(0))?;
        trainer.run(|_, rng| loss(rng), None, &mut ())
    };
    let good = TrainConfig::default();
    let message = |result: Result<Outcome>| result.unwrap_err().to_string();
    assert!(message(run(good.clone(), &|_| Ok(model.layers[1].clone()))).contains("a scalar"));
    assert!(message(run(good.clone(), &|rng| Ok(model.loss(rng)?.detach()))).contains("no weight"));
    let patience = TrainConfig { patience: Some(1), ..good.clone() };
    assert!(message(run(patience.clone(), &|rng| model.loss(rng))).contains("`evaluate_every`"));
    let patience = TrainConfig { evaluate_every: Some(1), ..patience };
    assert!(message(run(patience, &|rng| model.loss(rng))).contains("data to evaluate on"));
    assert!(Trainer::new(&Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0)), good, Rng::seed(0)).is_err());
    assert!(toml::from_str::<TrainConfig>("step = 3").is_err());
    let config: TrainConfig = toml::from_str("steps = 3\noptimizer = { kind = 'adamw', lr = 0.1 }\nema = {}").unwrap();
    assert_eq!(config.optimizer.lr(), 0.1);
    assert_eq!(toml::from_str::<TrainConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
}
