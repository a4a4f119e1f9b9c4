//! The standard normal through one map at a time.

use super::Detail;
use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::univariate::Affine;
use flows_core::bijectors::{Autoregressive, Bijector, Coupling, Direction, FixedAffine, Mask, Mode, Planar, Radial};
use flows_core::distributions::{Distribution, StandardNormal, Transformed};
use flows_core::nn::{Activation, NetworkConfig, Parameters, Scope};
use flows_core::plot::{Colour, Grid, Panel, points};
use flows_core::{Error, Result, Rng, Structure};
use std::sync::Arc;

/// All figures, by the names of their files.
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
        panels.push((name, over_plane(title, map, detail, rng)?));
    }
    for (name, title, map, range) in line {
        panels.push((name, over_line(title, map, range, detail, rng)?));
    }
    Ok(panels)
}

fn pushed(map: Box<dyn Bijector>) -> Result<Transformed> {
    let base = StandardNormal::new(map.latent_shape(), DType::F64, &Device::Cpu)?;
    Transformed::new(Box::new(base), map)
}

/// The density in the plane, with samples and the images of the lines on which a coordinate of z is whole.
fn over_plane(title: &str, map: Box<dyn Bijector>, detail: &Detail, rng: &mut Rng) -> Result<Panel> {
    const END: f64 = 5.0;
    let density = pushed(map)?;
    let grid = Grid::new((-END, END), (-END, END), detail.grid)?;
    let field = grid.density(&density.log_prob(&grid.points(DType::F64, &Device::Cpu)?, None)?)?;
    let mut panel = Panel::new(title).equal_aspect().density(field);
    for at in -3..=3 {
        for turned in [false, true] {
            let line = (-120..=120).map(|i| f64::from(i) / 40.0).flat_map(|t| {
                let at = f64::from(at);
                if turned { [t, at] } else { [at, t] }
            });
            let z = Tensor::from_iter(line, &Device::Cpu)?.reshape(((), 2))?;
            let image = points(&density.bijector().forward(&z, None)?.0)?;
            panel = panel.stroke(&image, Colour::WHITE, 0.3, 0.6, "");
        }
    }
    let samples = points(&density.sample(500, None, rng)?)?;
    Ok(panel.scatter(&samples, Colour::WHITE, 1.1, 0.55))
}

/// The densities of x and of y on one line, each over the histogram of its samples.
fn over_line(title: &str, map: Box<dyn Bijector>, range: (f64, f64), detail: &Detail, rng: &mut Rng) -> Result<Panel> {
    const BINS: usize = 88;
    let mut panel = Panel::new(title).labels("", "density").x_range(range.0, range.1);
    let nothing = pushed(Box::new(FixedAffine::shift(&[0.0])?))?;
    let shown = [("x", Colour::BLUE, nothing), ("y", Colour::ORANGE, pushed(map)?)];
    for (name, colour, density) in &shown {
        let samples = density.sample(detail.draws, None, rng)?.flatten_all()?.to_vec1::<f64>()?;
        panel = panel.histogram(&samples, BINS, *colour, format!("samples of {name}"));
    }
    for (name, colour, density) in &shown {
        let at: Vec<f64> = (0..=800).map(|i| range.0 + (range.1 - range.0) * f64::from(i) / 800.0).collect();
        let x = Tensor::new(at.as_slice(), &Device::Cpu)?.unsqueeze(1)?;
        let curve = density.log_prob(&x, None)?.exp()?.to_vec1::<f64>()?;
        let curve: Vec<_> = at.into_iter().zip(curve).collect();
        panel = panel.line(&curve, *colour, format!("density of {name}"));
    }
    Ok(panel)
}

/// The bijector that `make` makes, with these weights: names and values in row-major order.
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
                // Where input is not positive, ln 0: a density of zero.
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
