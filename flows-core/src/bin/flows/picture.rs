//! A model over the plane beside its data.

use candle_core::{DType, Device, Tensor};
use flows_core::cli::log_likelihoods;
use flows_core::data::{Dataset, Examples, Source, Toy};
use flows_core::distributions::Distribution;
use flows_core::flows::Flow;
use flows_core::plot::{Colour, Field, Figure, Grid, Panel, points};
use flows_core::{Result, Rng};

/// Points in a scatter plot.
const POINTS: usize = 4000;
/// Points of a density on each side.
const SIDE: usize = 200;
/// The side of a panel in pixels.
const PANEL: u32 = 300;

/// A rectangle of the plane: left and right, bottom and top.
pub type Window = [(f64, f64); 2];

/// Data, the exact density if it is known, the model's density and samples of it; nothing unless the
/// data is in the plane.
pub fn figure(flow: &Flow, source: &Source, data: &Dataset, rng: &mut Rng) -> Result<Option<Figure>> {
    if flow.config().features != 2 {
        return Ok(None);
    }
    let toy = if let Source::Toy(toy) = source { Some(*toy) } else { None };
    let seen = data.test.rows(0..POINTS.min(data.test.len()))?;
    let drawn = flow.sample(seen.len(), seen.context.as_ref(), rng)?;
    let (seen, drawn) = (on_cpu(&seen.x)?, on_cpu(&drawn)?);
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
