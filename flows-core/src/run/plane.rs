//! Plots of two-dimensional models and their data.

use crate::Result;
use crate::data::{Dataset, Examples, Toy};
use crate::distributions::Distribution;
use crate::evaluate::log_likelihoods;
use crate::plot::{Colour, Field, Figure, Grid, Panel, Window, points, window};
use crate::train::Ranks;
use candle_core::{DType, Device, Tensor};

/// Points in a scatter plot.
const POINTS: usize = 4000;
/// Grid points of a density per side.
const SIDE: usize = 200;
/// The side of a panel in pixels.
const PANEL: u32 = 300;

/// A figure of two-dimensional data, the exact density of `toy` if given, the density of the model, and its samples.
/// `sample` takes a number of rows and their contexts.
///
/// # Errors
/// Any error from the model, and when the data are not two-dimensional.
pub fn plane_figure(
    model: &dyn Distribution,
    toy: Option<Toy>,
    data: &Dataset,
    sample: impl FnOnce(usize, Option<&Tensor>) -> Result<Tensor>,
) -> Result<Figure> {
    let seen = data.test.rows(0..POINTS.min(data.test.len()))?;
    let drawn = points(&sample(seen.len(), seen.context.as_ref())?)?;
    let (device, conditional) = (seen.x.device(), seen.context.is_some());
    let shown = points(&seen.x)?;
    let window = window(&shown, toy.is_some());
    let name = |i: usize| data.columns.as_ref().and_then(|names| names.get(i)).cloned().unwrap_or_default();
    let panel = |title: &str| {
        let [x, y] = window;
        let panel = Panel::new(title).x_range(x.0, x.1).y_range(y.0, y.1);
        if toy.is_some() { panel.equal_aspect() } else { panel.labels(name(0), name(1)) }
    };
    let scatter = |title: &str, points: &[(f64, f64)], colour| panel(title).scatter(points, colour, 0.9, 0.5);
    let data = scatter("data", &shown, Colour::BLUE);
    let samples = scatter("samples of the model", &drawn, Colour::ORANGE);
    // A conditional model has a density for each context, so only samples are shown, under the contexts of the data.
    let learnt = (!conditional).then(|| density(model, window, None, device)).transpose()?;
    let learnt = learnt.map(|field| panel("density of the model").density(field));
    let panels = match toy {
        // Row by row: the data above the model.
        Some(toy) => {
            let exact = panel("exact density").density(exact(toy, window)?);
            [Some(data), Some(exact), Some(samples), learnt]
        }
        None => [Some(data), learnt, Some(samples), None],
    };
    let panels: Vec<Panel> = panels.into_iter().flatten().collect();
    let columns = if panels.len() == 4 { 2 } else { panels.len() };
    Ok(panels.into_iter().fold(Figure::new(columns, (PANEL, PANEL)), Figure::panel))
}

/// The density of a two-dimensional model over a window, given a context (1, columns) if it is conditional.
///
/// # Errors
/// Any error from the model, and when it is not two-dimensional.
pub fn density(model: &dyn Distribution, window: Window, context: Option<&Tensor>, device: &Device) -> Result<Field> {
    let grid = Grid::new(window[0], window[1], SIDE)?;
    let x = grid.points(DType::F32, device)?;
    let context = context.map(|c| c.broadcast_as((x.dim(0)?, c.dim(1)?))?.contiguous()).transpose()?;
    let values = log_likelihoods(model, &Examples { x, context }, &Ranks::alone(), |_| ())?;
    grid.density(&Tensor::new(values, &Device::Cpu)?)
}

fn exact(toy: Toy, window: Window) -> Result<Field> {
    let grid = Grid::new(window[0], window[1], SIDE)?;
    grid.density(&toy.log_density(&grid.points(DType::F64, &Device::Cpu)?)?)
}
