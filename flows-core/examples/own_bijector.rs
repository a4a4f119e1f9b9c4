//! A bijector of your own: its shape, its map in both directions, its structure.

use flows_core::nn::Init;
use flows_core::prelude::*;
use flows_core::testing::{measure, perturb};

/// `x = (z1, e^(s z1) z2 + a z1^2)`, a banana that widens along its length: `log|det dx/dz| = s z1`.
#[derive(Debug)]
struct Banana {
    a: Tensor,
    s: Tensor,
}

impl Bijector for Banana {
    fn latent_shape(&self) -> &[usize] {
        &[2]
    }

    fn map(&self, to: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        self.check_input(to, v)?;
        let (first, second) = (v.narrow(1, 0, 1)?, v.narrow(1, 1, 1)?);
        let (log, bend) = (first.broadcast_mul(&self.s)?, first.sqr()?.broadcast_mul(&self.a)?);
        let (second, log) = match to {
            Direction::Forward => (((second * log.exp()?)? + bend)?, log),
            Direction::Inverse => (((second - bend)? * log.neg()?.exp()?)?, log.neg()?),
        };
        Ok((Tensor::cat(&[first, second], 1)?, log.squeeze(1)?))
    }

    fn structure(&self) -> Structure {
        Structure::new("Banana", "").weights([&self.a, &self.s])
    }
}

/// Compares it with autograd's Jacobian, its directions with each other, and its gradients with differences.
pub fn main() -> Result<()> {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let weight = |name| parameters.scope().weight(name, 1, Init::Zeros);
    let banana = Banana { a: weight("a")?, s: weight("s")? };
    perturb(&parameters, 0.5, &mut Rng::seed(1))?;
    let z = Rng::seed(2).normal_tensor((20, 2), DType::F64, &Device::Cpu)?;
    let worst = measure(&banana, &parameters, &z, None, &mut Rng::seed(3))?.worst();
    println!("off by at most {worst:.0e}");
    assert!(worst < 1e-8);
    Ok(())
}
