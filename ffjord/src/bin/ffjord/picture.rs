//! A model over the plane beside its data.

use candle_core::{DType, Device, Tensor};
use ffjord::ContinuousFlow;
use flows_core::cli::log_likelihoods;
use flows_core::data::{Dataset, Examples, Source, Toy};
use flows_core::distributions::draw;
use flows_core::plot::{Colour, Field, Figure, Grid, Panel, Window, points, window};
use flows_core::{Result, Rng};

/// Points in a scatter plot.
const POINTS: usize = 4000;
/// Points of a density on each side.
const SIDE: usize = 160;
/// The side of a panel in pixels.
const PANEL: u32 = 300;

/// Data, the exact density if it is known, the model's density and samples of it; nothing unless the
/// data is in the plane.
pub fn figure(model: &ContinuousFlow, source: &Source, data: &Dataset, rng: &mut Rng) -> Result<Option<Figure>> {
    if model.config().features != 2 {
        return Ok(None);
    }
    let toy = if let Source::Toy(toy) = source { Some(*toy) } else { None };
    let seen = data.test.rows(0..POINTS.min(data.test.len()))?;
    let drawn = points(&draw(model, seen.len(), None, rng)?)?;
    let seen = points(&seen.x)?;
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

fn density(model: &ContinuousFlow, window: Window) -> Result<Field> {
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
