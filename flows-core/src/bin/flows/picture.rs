//! A model over the plane beside its data.

use candle_core::{DType, Device, Tensor};
use flows_core::cli::log_likelihoods;
use flows_core::data::{Dataset, Examples, Source, Toy};
use flows_core::distributions::Distribution;
use flows_core::flows::Flow;
use flows_core::plot::{Colour, Field, Figure, Grid, Panel, Window, points, window};
use flows_core::{Result, Rng};

/// Points in a scatter plot.
const POINTS: usize = 4000;
/// Points of a density on each side.
const SIDE: usize = 200;
/// The side of a panel in pixels.
const PANEL: u32 = 300;

/// Data, the exact density if it is known, the model's density and samples of it; nothing unless the
/// data is in the plane.
pub fn figure(flow: &Flow, source: &Source, data: &Dataset, rng: &mut Rng) -> Result<Option<Figure>> {
    if flow.config().features != 2 {
        return Ok(None);
    }
    let toy = if let Source::Toy(toy) = source { Some(*toy) } else { None };
    let seen = data.test.rows(0..POINTS.min(data.test.len()))?;
    let drawn = flow.sample(seen.len(), seen.context.as_ref(), rng)?;
    let (seen, drawn) = (points(&seen.x)?, points(&drawn)?);
    let window = window(&seen, toy.is_some());
    let name = |i: usize, default: &str| {
        data.columns.as_ref().and_then(|names| names.get(i)).map_or(default.to_string(), Clone::clone)
    };
    let panel = |title: &str| {
        let [x, y] = window;
        let panel = Panel::new(title).x_range(x.0, x.1).y_range(y.0, y.1);
        if toy.is_some() { panel.equal_aspect() } else { panel.labels(name(0, ""), name(1, "")) }
    };
    let scatter = |title: &str, points: &[(f64, f64)], colour| panel(title).scatter(points, colour, 0.9, 0.5);
    let mut panels = vec![scatter("data", &seen, Colour::BLUE)];
    if let Some(toy) = toy {
        panels.push(panel("exact density").density(exact(toy, window)?));
    }
    // A conditional model has a density for each context, and its samples follow those of the data.
    if flow.config().context.is_none() {
        panels.push(panel("density of the model").density(density(flow, window, None)?));
    }
    panels.push(scatter("samples of the model", &drawn, Colour::ORANGE));
    if toy.is_some() {
        // Row by row: what is learnt from above what is learnt.
        panels.swap(2, 3);
    }
    let columns = if panels.len() == 4 { 2 } else { panels.len() };
    Ok(Some(panels.into_iter().fold(Figure::new(columns, (PANEL, PANEL)), Figure::panel)))
}

/// The density of a model over a window, under a context (1, columns) if it is conditional.
pub fn density(flow: &Flow, window: Window, context: Option<&Tensor>) -> Result<Field> {
    let grid = Grid::new(window[0], window[1], SIDE)?;
    let x = grid.points(DType::F32, flow.parameters().device())?;
    let context = context.map(|c| c.broadcast_as((x.dim(0)?, c.dim(1)?))?.contiguous()).transpose()?;
    let values = log_likelihoods(flow, &Examples { x, context }, true)?;
    grid.density(&Tensor::new(values, &Device::Cpu)?)
}

fn exact(toy: Toy, window: Window) -> Result<Field> {
    let grid = Grid::new(window[0], window[1], SIDE)?;
    grid.density(&toy.log_density(&grid.points(DType::F64, &Device::Cpu)?)?)
}
