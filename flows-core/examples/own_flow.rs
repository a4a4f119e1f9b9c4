//! A whole flow of your own: a conditioner, a bijector and a config, trained given a context, saved, loaded and used.

use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::candle_core::{DType, Device, Tensor};
use flows_core::distributions::{StandardNormal, Transformed, draw, score};
use flows_core::nn::{Linear, Network, Scope};
use flows_core::train::{OptimizerConfig, TrainConfig, Trainer, forward_kl};
use flows_core::{Config, Model, Result, Rng, Structure, shape::check_context};
use serde::{Deserialize, Serialize};

/// The conditioner: a linear map of sines of linear maps.
#[derive(Debug)]
struct Sines(Linear, Linear);

impl Network for Sines {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        self.1.forward(&self.0.forward(x)?.sin()?)
    }

    fn structure(&self) -> Structure {
        Structure::new("Sines", "").parts([self.0.structure(), self.1.structure()])
    }
}

/// The bijector: `x = e^s z + t` where the conditioner gives (s, t) of the context; `log|det dx/dz| = sum s`.
#[derive(Debug)]
struct Moved(Sines);

impl Bijector for Moved {
    fn latent_shape(&self) -> &[usize] {
        &[2]
    }

    fn map(&self, to: Direction, v: &Tensor, c: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let raw = self.0.forward(check_context(c, 1, v.dim(0)?)?, None, mode)?;
        let (s, t) = (raw.narrow(1, 0, 2)?, raw.narrow(1, 2, 2)?);
        Ok(match to {
            Direction::Forward => (((v * s.exp()?)? + t)?, s.sum(1)?),
            Direction::Inverse => (((v - t)? * s.neg()?.exp()?)?, s.sum(1)?.neg()?),
        })
    }

    fn structure(&self) -> Structure {
        Structure::new("Moved", "").part(self.0.structure())
    }
}

/// The config, with the width of the conditioner: what the model's file says beside the weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waves(usize);

impl Config for Waves {
    const KIND: &'static str = "waves";
    type Built = Transformed;

    fn build(&self, scope: &Scope) -> Result<Transformed> {
        let layer = |inputs, outputs, name| Linear::new(inputs, outputs, &scope.enter(name));
        let conditioner = Sines(layer(1, self.0, "first")?, layer(self.0, 4, "last")?);
        Transformed::new(StandardNormal::new([2], scope.dtype(), scope.device())?, Moved(conditioner))
    }
}

/// Learns points about (sin c, cos c) given c, whose exact log-density is 1.767 nats on average.
pub fn main() -> Result<()> {
    let (mut rng, path) = (Rng::seed(0), std::env::temp_dir().join("waves.safetensors"));
    let c = rng.normal_tensor((2_000, 1), DType::F32, &Device::Cpu)?;
    let x =
        (Tensor::cat(&[c.sin()?, c.cos()?], 1)? + (rng.normal_tensor((2_000, 2), DType::F32, &Device::Cpu)? * 0.1)?)?;

    let model = Model::new(Waves(32), &mut rng)?;
    let config = TrainConfig { steps: 600, optimizer: OptimizerConfig::adam(5e-3), ..TrainConfig::default() };
    let loss = |_, rng: &mut Rng| forward_kl(&model, &x, Some(&c), rng);
    Trainer::new(model.parameters(), config, rng.fork())?.run(loss, None, &mut ())?;
    model.save(&path)?;

    let model = Model::<Waves>::load(&path, &Device::Cpu)?;
    let nats = |x: &Tensor| Ok::<_, flows_core::Error>(score(&model, x, Some(&c))?.mean_all()?.to_scalar::<f32>()?);
    let drawn = draw(&model, 2_000, Some(&c), &mut rng)?;
    println!("{:.3} nats on the data, {:.3} on its own samples", nats(&x)?, nats(&drawn)?);
    assert!(nats(&x)? > 1.6 && nats(&drawn)? > 1.6);
    Ok(())
}
