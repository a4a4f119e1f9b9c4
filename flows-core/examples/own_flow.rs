//! A whole flow of your own: a conditioner, a bijector and a config, trained given a context, saved, loaded and used.

use flows_core::{nn::Linear, prelude::*, shape::check_context};
use serde::{Deserialize, Serialize};

/// The conditioner: a linear map of the sine and the cosine of the context.
#[derive(Debug)]
struct Waves(Linear);
impl Network for Waves {
    fn forward(&self, c: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        self.0.forward(&Tensor::cat(&[c.sin()?, c.cos()?], 1)?)
    }
}

/// The bijector: `x = e^s z + t` where the conditioner gives (s, t) of the context; `log|det dx/dz| = sum s`.
#[derive(Debug)]
struct Moved(Waves);
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
}

/// The config: what the model's file says beside the weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Circle {}
impl Config for Circle {
    const KIND: &'static str = "circle";
    type Built = Transformed;
    fn build(&self, scope: &Scope) -> Result<Transformed> {
        let conditioner = Waves(Linear::new(2, 4, scope)?);
        Transformed::new(StandardNormal::new([2], scope.dtype(), scope.device())?, Moved(conditioner))
    }
}

/// Learns points about (sin c, cos c) given c, whose exact log-density is 1.767 nats on average.
pub fn main() -> Result<()> {
    let (mut rng, path) = (Rng::seed(0), std::env::temp_dir().join("circle.safetensors"));
    let c = rng.normal_tensor((2_000, 1), DType::F32, &Device::Cpu)?;
    let noise = (rng.normal_tensor((2_000, 2), DType::F32, &Device::Cpu)? * 0.1)?;
    let x = (Tensor::cat(&[c.sin()?, c.cos()?], 1)? + noise)?;
    let model = Model::new(Circle {}, &mut rng)?;
    fit(&model, (&x, &c), FitConfig::default(), &mut rng)?;
    model.save(&path)?;

    let model = Model::<Circle>::load(&path, &Device::Cpu)?;
    let drawn = draw(&model.given(&Tensor::new(&[0f32], &Device::Cpu)?)?, 2_000, None, &mut rng)?;
    let nats = score(&model, &x, Some(&c))?.mean_all()?.to_scalar::<f32>()?;
    println!("{nats:.3} nats, draws about {:.2?} at 0", drawn.mean(0)?.to_vec1::<f32>()?);
    assert!(nats > 1.6);
    Ok(())
}
