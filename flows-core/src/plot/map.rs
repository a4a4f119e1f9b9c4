//! Plots of the standard normal pushed through a bijector.

use super::{Colour, Grid, Panel, points};
use crate::bijectors::{Bijector, FixedAffine};
use crate::distributions::{Distribution, StandardNormal, Transformed};
use crate::{Result, Rng};
use candle_core::{DType, Device, Tensor};

/// The half width of the window.
const END: f64 = 5.0;
/// The number of samples shown.
const SAMPLES: usize = 500;
const BINS: usize = 88;

/// The density of `x = map(z)` in the plane for standard normal z, on a grid of `side` points per side, with samples
/// and the images of the integer grid lines of z. The map is in f64.
///
/// # Errors
/// When the map is not two-dimensional, or fails.
pub fn plane_map(title: &str, map: Box<dyn Bijector>, side: usize, rng: &mut Rng) -> Result<Panel> {
    let density = pushed(map)?;
    let grid = Grid::new((-END, END), (-END, END), side)?;
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
    let samples = points(&density.sample(SAMPLES, None, rng)?)?;
    Ok(panel.scatter(&samples, Colour::WHITE, 1.1, 0.55))
}

/// The densities of x and `y = map(x)` over this range for standard normal x in one dimension, each over a histogram of
/// `samples` samples. The map is in f64.
///
/// # Errors
/// When the map is not one-dimensional, or fails.
pub fn line_map(
    title: &str,
    map: Box<dyn Bijector>,
    range: (f64, f64),
    samples: usize,
    rng: &mut Rng,
) -> Result<Panel> {
    let mut panel = Panel::new(title).labels("", "density").x_range(range.0, range.1);
    let nothing = pushed(Box::new(FixedAffine::shift(&[0.0])?))?;
    let shown = [("x", Colour::BLUE, nothing), ("y", Colour::ORANGE, pushed(map)?)];
    for (name, colour, density) in &shown {
        let samples = density.sample(samples, None, rng)?.flatten_all()?.to_vec1::<f64>()?;
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

fn pushed(map: Box<dyn Bijector>) -> Result<Transformed> {
    let base = StandardNormal::new(map.latent_shape(), DType::F64, &Device::Cpu)?;
    Transformed::new(Box::new(base), map)
}
