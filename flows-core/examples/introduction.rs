//! Draws the pictures of the introduction into the folder that is named, `docs/introduction` if none is.

use flows_core::bijectors::univariate::{Affine, Fixed, RqSpline};
use flows_core::bijectors::{Autoregressive, Bijector, Coupling, Elementwise, FixedAffine, Mask, Planar, Radial};
use flows_core::candle_core::{DType, Device, Tensor};
use flows_core::nn::{Activation::Tanh, NetworkConfig, Parameters, Scope};
use flows_core::plot::{Figure, line_map, plane_map};
use flows_core::{Result, Rng};
use std::{path::Path, sync::Arc};

/// The bijector that `make` makes, with these weights in the order of their making.
fn with<B: Bijector + 'static>(make: impl Fn(&Scope) -> Result<B>, weights: &[&[f64]]) -> Result<Box<dyn Bijector>> {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let bijector = make(&parameters.scope())?;
    for ((_, weight), values) in parameters.trainable().iter().zip(weights) {
        weight.set(&Tensor::from_slice(values, weight.shape(), &Device::Cpu)?)?;
    }
    Ok(Box::new(bijector))
}

/// Draws them.
pub fn draw(folder: &Path) -> Result<()> {
    let (mut rng, affine) = (Rng::seed(0), Arc::new(Affine::default()));
    let exp = with(|s| Elementwise::new(&[1], Arc::new(Fixed::Exp), s), &[])?;
    let lines: [(_, Box<dyn Bijector>); 2] = [("y = x + 2", Box::new(FixedAffine::shift(&[2.0])?)), ("y = exp x", exp)];
    let figure = lines.into_iter().try_fold(Figure::new(2, (420, 300)), |figure, (title, map)| {
        Ok::<_, flows_core::Error>(figure.panel(line_map(title, map, (-4.0, 7.0), 20_000, &mut rng)?))
    })?;
    figure.write_png(folder.join("change.png"), 1.5)?;

    let network = |width| NetworkConfig::Mlp { hidden: vec![width], activation: Tanh };
    let turned = FixedAffine::scale(&[2.0, 0.5])?.then(&FixedAffine::rotation2d(45f64.to_radians())?)?;
    let halves = Mask::Halves { swap: false };
    let maps: [(_, Box<dyn Bijector>); 6] = [
        ("affine", Box::new(turned)),
        ("planar", with(|s| Planar::new(2, None, s), &[&[2.0, 2.0], &[1.2, 1.2], &[0.0]])?),
        ("radial", with(|s| Radial::new(2, None, s), &[&[1.0, 1.0], &[1.0], &[5f64.exp_m1().ln()]])?),
        (
            "coupling",
            with(
                |s| Coupling::new(&[2], &halves, affine.clone(), None, &network(3), s),
                &[&[1.6, 1.6, 1.6], &[3.6, 0.0, -3.6], &[-2.4, 2.4, -2.4, 0.0, 0.2, 0.0], &[0.0, -0.8]],
            )?,
        ),
        ("autoregressive", with(|s| Autoregressive::new(2, affine.clone(), None, None, &network(2), s), &[])?),
        (
            "spline, in each dimension",
            with(|s| Elementwise::new(&[2], Arc::new(RqSpline::linear_tails(4, 4.0)?), s), &[&[0.0; 22]])?,
        ),
    ];
    let figure = maps.into_iter().try_fold(Figure::new(3, (280, 280)), |figure, (title, map)| {
        Ok::<_, flows_core::Error>(figure.panel(plane_map(title, map, 120, &mut rng)?))
    })?;
    figure.write_png(folder.join("maps.png"), 1.25)
}

/// Draws them.
pub fn main() -> Result<()> {
    draw(Path::new(&std::env::args().nth(1).unwrap_or("docs/introduction".into())))
}
