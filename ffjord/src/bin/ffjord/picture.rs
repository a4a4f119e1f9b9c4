//! A model over the plane beside its data.

use candle_core::{DType, Device, Tensor};
use ffjord::Model;
use flows_core::cli::log_likelihoods;
use flows_core::data::{Dataset, Examples, Source, Toy};
use flows_core::distributions::draw;
use flows_core::plot::{Colour, Field, Figure, Grid, Panel, points};
use flows_core::{Result, Rng};

/// Points in a scatter plot.
const POINTS: usize = 4000;
/// Points of a density on each side.
const SIDE: usize = 160;
/// The side of a panel in pixels.
const PANEL: u32 = 300;

/// A rectangle of the plane: left and right, bottom and top.
pub type Window = [(f64, f64); 2];

/// Data, the exact density if it is known, the model's density and samples of it; nothing unless the
/// data is in the plane.
pub fn figure(model: &Model, source: &Source, data: &Dataset, rng: &mut Rng) -> Result<Option<Figure>> {
    if model.config().features != 2 {
        return Ok(None);
    }
    let toy = if let Source::Toy(toy) = source { Some(*toy) } else { None };
    let seen = data.test.rows(0..POINTS.min(data.test.len()))?;
    let drawn = on_cpu(&draw(model, seen.len(), None, rng)?)?;
    let seen = on_cpu(&seen.x)?;
    let window = window(&seen, toy.is_some());
    let panel = |title: &str| {
        let [x, y] = window;
        let panel = Panel::new(title).x_range(x.0, x.1).y_range(y.0, y.1);
        match &model.config().columns {
            Some(names) if toy.is_none() => panel.labels(&names[0], &names[1]),
            _ => panel.equal_aspect(),
        }
    };
    let scatter = |title: &str, points: &[(f64, f64)], colour| panel(title).scatter(points, colour, 0.9, 0.5);
    let mut figure = Figure::new(2, (PANEL, PANEL)).panel(scatter("data", &seen, Colour::BLUE));
    if let Some(toy) = toy {
        figure = figure.panel(panel("exact density").density(exact(toy, window)?));
    }
    let figure = figure.panel(scatter("samples of the model", &drawn, Colour::ORANGE));
    Ok(Some(figure.panel(panel("density of the model").density(density(model, window)?))))
}

fn density(model: &Model, window: Window) -> Result<Field> {
    let grid = Grid::new(window[0], window[1], SIDE)?;
    let values = log_likelihoods(
        model,
        &Examples { x: grid.points(DType::F32, model.parameters().device())?, context: None },
        true,
    )?;
    grid.density(&Tensor::new(values, &Device::Cpu)?)
}

fn exact(toy: Toy, window: Window) -> Result<Field> {
    let grid = Grid::new(window[0], window[1], SIDE)?;
    grid.density(&toy.log_density(&grid.points(DType::F64, &Device::Cpu)?)?)
}

/// The window that shows all points but stray ones; of the same scale on both axes where `square`.
pub fn window(points: &[(f64, f64)], square: bool) -> Window {
    let range = |coordinate: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = points.iter().map(coordinate).filter(|v| v.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else { return (-1.0, 1.0) };
        let (low, high) = (values[last / 500], values[last - last / 500]);
        let margin = 0.1 * (high - low);
        // A column that never varies has a window about its value.
        let margin = if margin > 0.0 { margin } else { low.abs().max(1.0) };
        (low - margin, high + margin)
    };
    let [x, y] = [range(|p| p.0), range(|p| p.1)];
    if !square {
        return [x, y];
    }
    let half = (x.1 - x.0).max(y.1 - y.0) / 2.0;
    [x, y].map(|(low, high)| ((low + high) / 2.0 - half, (low + high) / 2.0 + half))
}

/// The rows of `x` as points.
pub fn on_cpu(x: &Tensor) -> Result<Vec<(f64, f64)>> {
    points(&x.detach().to_device(&Device::Cpu)?)
}
