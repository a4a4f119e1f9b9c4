//! A conditioner of your own, over signals of any length: the density of stereo sound (2, T) given a control (2, T).

use flows_core::bijectors::{Coupling, Mask, univariate::Affine};
use flows_core::{nn::Conv1d, prelude::*};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// From the channel that a coupling keeps, and the control, to what the affine family takes: a shift and a log-scale.
#[derive(Debug)]
struct Conditioner(Conv1d, Conv1d);
impl Network for Conditioner {
    fn forward(&self, kept: &Tensor, control: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        let control = control.ok_or_else(|| Error::Config("give a control of shape (B, 2, T)".into()))?;
        self.1.forward(&self.0.forward(&Tensor::cat(&[kept, control], 1)?)?.tanh()?)
    }
}

/// Couplings that move one channel given the other, in turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stereo(usize);
impl Config for Stereo {
    const KIND: &'static str = "stereo";
    type Built = Transformed;
    fn build(&self, scope: &Scope) -> Result<Transformed> {
        let (shape, affine) = ([2, self.0], Arc::new(Affine::default()));
        let layer = |k: usize| -> Result<Box<dyn Bijector>> {
            let (scope, mask) = (scope.enter(k), Mask::Halves { swap: k % 2 == 1 });
            let last = Conv1d::output(16, Output::near(vec![0.0; 2]), 3, &scope.enter("last"))?;
            let network = Conditioner(Conv1d::new(1 + 2, 16, 3, &scope.enter("first"))?, last);
            Ok(Box::new(Coupling::over_channels(&shape, &mask, affine.clone(), Box::new(network), &scope)?))
        };
        let chain = Chain::new((0..4).map(layer).collect::<Result<_>>()?)?;
        Transformed::new(StandardNormal::new(shape, scope.dtype(), scope.device())?, chain)
    }
}

/// Trains on 32 samples at a time, then scores and draws 500, of the control and noise of deviation 0.1.
pub fn main() -> Result<()> {
    let (mut rng, short) = (Rng::seed(0), Model::new(Stereo(32), &mut Rng::seed(1))?);
    let mut normal = |shape| rng.normal_tensor(shape, DType::F32, &Device::Cpu);
    let [control, new_control] = [normal((1_000, 2, 32))?, normal((20, 2, 500))?];
    let [x, new_x] = [(&control + (normal((1_000, 2, 32))? * 0.1)?)?, (&new_control + (normal((20, 2, 500))? * 0.1)?)?];
    let train = TrainConfig { steps: 400, optimizer: OptimizerConfig::adam(1e-2), ..TrainConfig::default() };
    fit(&short, (&x, &control), FitConfig { train, batch: 64, ..FitConfig::default() }, &mut rng)?;
    let long = short.with_config(Stereo(500))?;
    let nats = score(&long, &new_x, Some(&new_control))?.mean_all()?.to_scalar::<f32>()? / 1_000.0;
    println!(
        "{nats:.3} nats a sample, exactly 0.884; draws {:?}",
        draw(&long, 20, Some(&new_control), &mut rng)?.dims()
    );
    assert!(nats > 0.75);
    Ok(())
}
