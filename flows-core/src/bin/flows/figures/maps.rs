//! The standard normal pushed through single maps.

use super::Detail;
use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::univariate::Affine;
use flows_core::bijectors::{Autoregressive, Bijector, Coupling, Direction, FixedAffine, Mask, Mode, Planar, Radial};
use flows_core::nn::{Activation, NetworkConfig, Parameters, Scope};
use flows_core::plot::{Panel, line_map, plane_map};
use flows_core::{Error, Result, Rng, Structure};
use std::sync::Arc;

/// All figures with their file names.
pub(super) fn panels(detail: &Detail, rng: &mut Rng) -> Result<Vec<(&'static str, Panel)>> {
    let turned = FixedAffine::scale(&[2.0, 2.0])?.then(&FixedAffine::rotation2d(45f64.to_radians())?)?;
    let plane: [(_, _, Box<dyn Bijector>); 6] = [
        ("normal", "standard normal z", Box::new(FixedAffine::scale(&[1.0, 1.0])?)),
        ("scale-rotate", "scaled by 2, turned by 45°", Box::new(turned)),
        ("planar", "planar: x = z + u tanh(w·z + b)", Box::new(planar()?)),
        ("radial", "radial: x = z + β(z − z₀)/(α + |z − z₀|)", Box::new(radial()?)),
        ("coupling", "coupling: x₁ = z₁, x₂ = z₂ exp s(z₁) + t(z₁)", Box::new(coupling()?)),
        ("autoregressive", "autoregressive: x₂ = z₂ exp s(x₁) + t(x₁)", Box::new(autoregressive()?)),
    ];
    let line: [(_, _, Box<dyn Bijector>, _); 2] = [
        ("shift-1d", "y = x + 2", Box::new(FixedAffine::shift(&[2.0])?), (-4.0, 7.0)),
        ("exp-1d", "y = exp x", Box::new(Exponential), (-4.0, 7.0)),
    ];
    let mut panels = Vec::new();
    for (name, title, map) in plane {
        panels.push((name, plane_map(title, map, detail.grid, rng)?));
    }
    for (name, title, map, range) in line {
        panels.push((name, line_map(title, map, range, detail.draws, rng)?));
    }
    Ok(panels)
}

/// The bijector built by `make`, with these weights by name, in row-major order.
fn with_weights<B>(make: impl FnOnce(&Scope) -> Result<B>, weights: &[(&str, &[f64])]) -> Result<B> {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let bijector = make(&parameters.scope())?;
    let tensor = |(name, weight): (String, Tensor)| {
        let values = weights.iter().find(|(n, _)| *n == name).map(|(_, values)| values.to_vec());
        let values = values.ok_or_else(|| Error::Config(format!("`{name}` has no value")))?;
        Ok((name, Tensor::from_vec(values, weight.shape(), &Device::Cpu)?))
    };
    parameters.load(&parameters.tensors().into_iter().map(tensor).collect::<Result<_>>()?)?;
    Ok(bijector)
}

/// Tears the plane along the diagonal.
fn planar() -> Result<Planar> {
    with_weights(|s| Planar::new(2, None, s), &[("w", &[2.0, 2.0]), ("u", &[1.2, 1.2]), ("b", &[0.0])])
}

/// Pushes away from (1, 1): `|x - z0| = r (1 + 4 / (1 + r))`.
fn radial() -> Result<Radial> {
    // softplus(beta) = 1 + 4.
    let beta = 5f64.exp_m1().ln();
    with_weights(|s| Radial::new(2, None, s), &[("z0", &[1.0, 1.0]), ("alpha", &[1.0]), ("beta", &[beta])])
}

/// A wave: the shift is near `2 sin 1.4 x1`, and the scale grows from left to right.
fn coupling() -> Result<Coupling> {
    let network = NetworkConfig::Mlp { hidden: vec![3], activation: Activation::Tanh };
    with_weights(
        |s| Coupling::new(&[2], &Mask::Halves { swap: false }, Arc::new(Affine::default()), None, &network, s),
        &[
            ("conditioner.layer0.weight", &[1.6, 1.6, 1.6]),
            ("conditioner.layer0.bias", &[3.6, 0.0, -3.6]),
            ("conditioner.layer1.weight", &[-2.4, 2.4, -2.4, 0.0, 0.2, 0.0]),
            ("conditioner.layer1.bias", &[0.0, -0.8]),
        ],
    )
}

/// A banana: x1 is spread, and x2 is shifted up along a hyperbola of x1.
fn autoregressive() -> Result<Autoregressive> {
    let network = NetworkConfig::Mlp { hidden: vec![2], activation: Activation::Softplus };
    with_weights(
        |s| Autoregressive::new(2, Arc::new(Affine::default()), None, None, &network, s),
        &[
            ("conditioner.first.weight", &[1.0, 0.0, -1.0, 0.0]),
            ("conditioner.first.bias", &[0.0, 0.0]),
            ("conditioner.last.weight", &[0.0, 0.0, 0.0, 0.0, 1.6, 1.6, -0.2, 0.2]),
            ("conditioner.last.bias", &[0.0, 0.4, -5.0, -0.6]),
        ],
    )
}

/// `y = e^x`, `ln|dy/dx| = x`.
#[derive(Debug)]
struct Exponential;

impl Bijector for Exponential {
    fn latent_shape(&self) -> &[usize] {
        &[1]
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        _: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match direction {
            Direction::Forward => Ok((input.exp()?, input.squeeze(1)?)),
            Direction::Inverse => {
                // ln 0, a density of zero, where the input is not positive.
                let x = input.relu()?.log()?;
                let log_det = x.neg()?.squeeze(1)?;
                Ok((x, log_det))
            }
        }
    }

    fn structure(&self) -> Structure {
        Structure::new("Exponential", "1")
    }
}
