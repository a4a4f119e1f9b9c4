//! Draws the pictures of the introduction into the folder that is named, `docs/introduction` if none is.

use flows_core::bijectors::univariate::{Affine, Fixed, RqSpline};
use flows_core::bijectors::{Autoregressive, Bijector, Coupling, Elementwise, FixedAffine, Mask, Planar, Radial};
use flows_core::candle_core::{DType, Device, Tensor};
use flows_core::nn::{Activation, NetworkConfig, Parameters, Scope};
use flows_core::plot::{Figure, line_map, plane_map};
use flows_core::{Result, Rng};
use std::{path::Path, sync::Arc};

type Map = Box<dyn Bijector>;

/// The bijector that `make` makes, with these weights in the order of their making.
fn with<B: Bijector + 'static>(make: impl Fn(&Scope) -> Result<B>, weights: &[&[f64]]) -> Result<Map> {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let bijector = make(&parameters.scope())?;
    for ((_, weight), values) in parameters.trainable().iter().zip(weights) {
        weight.set(&Tensor::from_slice(values, weight.shape(), &Device::Cpu)?)?;
    }
    Ok(Box::new(bijector))
}

/// The maps of the plane.
fn plane() -> Result<Vec<(&'static str, Map)>> {
    let turned = FixedAffine::scale(&[2.0, 0.7])?.then(&FixedAffine::rotation2d(45f64.to_radians())?)?;
    let planar = with(|s| Planar::new(2, None, s), &[&[2.0, 2.0], &[1.2, 1.2], &[0.0]])?;
    // softplus of the last number is alpha + beta = 5.
    let radial = with(|s| Radial::new(2, None, s), &[&[1.0, 1.0], &[1.0], &[5f64.exp_m1().ln()]])?;
    let (affine, halves) = (Arc::new(Affine::default()), Mask::Halves { swap: false });
    let tanh = NetworkConfig::Mlp { hidden: vec![3], activation: Activation::Tanh };
    let wave: [&[f64]; 4] = [&[1.6; 3], &[3.6, 0.0, -3.6], &[-2.4, 2.4, -2.4, 0.0, 0.2, 0.0], &[0.0, -0.8]];
    let coupling = with(|s| Coupling::new(&[2], &halves, affine.clone(), None, &tanh, s), &wave)?;
    let softplus = NetworkConfig::Mlp { hidden: vec![2], activation: Activation::Softplus };
    let banana: [&[f64]; 4] =
        [&[1.0, 0.0, -1.0, 0.0], &[0.0; 2], &[0.0, 0.0, 0.0, 0.0, 1.6, 1.6, -0.2, 0.2], &[0.0, 0.4, -5.0, -0.6]];
    let autoregressive = with(|s| Autoregressive::new(2, affine.clone(), None, None, &softplus, s), &banana)?;
    // A narrow bin in the middle becomes a wide one: three widths, three heights and two slopes a dimension.
    let gap = [0.0, -1.8, 0.0, 0.0, 0.6, 0.0, 0.5, 0.5, 0.0, -1.8, 0.5, 0.0, 0.6, 0.5, 0.5, 0.5];
    let spline = with(|s| Elementwise::new(&[2], Arc::new(RqSpline::linear_tails(3, 4.0)?), s), &[&gap])?;
    let maps = [("planar", planar), ("radial", radial), ("coupling", coupling), ("autoregressive", autoregressive)];
    Ok([("affine", Box::new(turned) as Map)].into_iter().chain(maps).chain([("spline", spline)]).collect())
}

/// Draws them.
pub fn draw(folder: &Path) -> Result<()> {
    let mut rng = Rng::seed(0);
    let exp = with(|s| Elementwise::new(&[1], Arc::new(Fixed::Exp), s), &[])?;
    let (mut change, mut maps) = (Figure::new(2, (420, 300)), Figure::new(3, (280, 280)));
    for (title, map) in [("y = x + 2", Box::new(FixedAffine::shift(&[2.0])?) as Map), ("y = exp x", exp)] {
        change = change.panel(line_map(title, map, (-4.0, 7.0), 20_000, &mut rng)?);
    }
    for (title, map) in plane()? {
        maps = maps.panel(plane_map(title, map, 150, &mut rng)?);
    }
    change.write_png(folder.join("change.png"), 1.5)?;
    maps.write_png(folder.join("maps.png"), 1.25)
}

/// Draws them into the folder.
pub fn main() -> Result<()> {
    draw(Path::new(&std::env::args().nth(1).unwrap_or("docs/introduction".into())))
}
