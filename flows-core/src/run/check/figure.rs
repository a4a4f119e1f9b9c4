//! The picture of a check.

use crate::evaluate::{Coverage, Margin, TransformedColumn, Variable, VariableKind};
use crate::flows::TableCheck;
use crate::plot::{Colour, Figure, Panel, window};

/// The most columns that are shown.
const COLUMNS: usize = 5;
/// The most points of a panel.
const POINTS: usize = 2000;
/// The sizes of panels in pixels.
const LARGE: (u32, u32) = (300, 270);
const SMALL: (u32, u32) = (220, 200);

/// A figure of the most different columns, at most five, in their order: pairs of the data below the diagonal, and of draws
/// above; margins on it; and, below, histograms of transforms and the shares of values in central intervals.
pub fn check_figure(of: &TableCheck) -> Figure {
    let shown = shown(of);
    let side = shown.len().max(2);
    let mut figure = Figure::new(side, if side > 3 { SMALL } else { LARGE });
    if shown.len() == 1 {
        figure = figure.panel(margin(shown[0]));
    } else {
        for (i, row) in shown.iter().enumerate() {
            for (j, column) in shown.iter().enumerate() {
                figure = figure.panel(match i.cmp(&j) {
                    std::cmp::Ordering::Equal => margin(row),
                    std::cmp::Ordering::Greater => pair(column, row, false),
                    std::cmp::Ordering::Less => pair(row, column, true),
                });
            }
        }
    }
    let Some(transforms) = &of.transforms else { return figure };
    // A column whose rows all lack a transform has no calibration.
    let p = |column: &TransformedColumn| {
        let found = of.check.calibrations.iter().find(|found| found.column == column.name);
        found.map(|found| found.uniform.p_value)
    };
    let columns = transforms.columns.iter().enumerate();
    let mut order: Vec<(usize, f64)> = columns.filter_map(|(i, column)| Some((i, p(column)?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let has_intervals = !of.check.intervals.is_empty();
    order.truncate(if shown.len() == 1 { 2 } else { side } - usize::from(has_intervals));
    order.sort_by_key(|(i, _)| *i);
    for (i, _) in order {
        let column = &transforms.columns[i];
        let bins = ((column.values.len() as f64).sqrt() as usize).clamp(4, 20);
        let panel = Panel::new(format!("transform of {}", column.name)).x_range(0.0, 1.0);
        let panel = panel.histogram(&column.values, bins, Colour::GREEN, "");
        figure = figure.panel(panel.line(&[(0.0, 1.0), (1.0, 1.0)], Colour::BLACK, ""));
    }
    if has_intervals { figure.panel(intervals(of)) } else { figure }
}

/// The columns that differ most, in their order, but those of the context if there are others enough.
fn shown(of: &TableCheck) -> Vec<&Variable> {
    let p = |name: &str| {
        let margin = of.check.margins.iter().find(|margin| margin.column == name);
        margin.map_or(1.0, Margin::p_value)
    };
    let mut order: Vec<(usize, &Variable)> = of.variables.iter().enumerate().collect();
    order.sort_by(|a, b| a.1.given.cmp(&b.1.given).then(p(&a.1.name).total_cmp(&p(&b.1.name))));
    order.truncate(COLUMNS);
    order.sort_by_key(|(i, _)| *i);
    order.into_iter().map(|(_, variable)| variable).collect()
}

/// The name of a column, with the values of its codes.
fn label(variable: &Variable) -> String {
    match &variable.kind {
        VariableKind::Number(_) => variable.name.clone(),
        VariableKind::Category(names) => {
            let values = format!("{}: {}", variable.name, names.join(", "));
            match values.chars().count() > 34 {
                true => format!("{}...", values.chars().take(31).collect::<String>()),
                false => values,
            }
        }
    }
}

/// The range of the column that is shown: that of the data but for outliers.
fn range(variable: &Variable) -> (f64, f64) {
    match &variable.kind {
        VariableKind::Category(names) => (-0.5, names.len() as f64 - 0.5),
        VariableKind::Number(_) => window(&variable.data.iter().map(|&x| (x, 0.0)).collect::<Vec<_>>(), false)[0],
    }
}

fn margin(variable: &Variable) -> Panel {
    let (low, high) = range(variable);
    let panel = Panel::new("").labels(label(variable), "").x_range(low, high);
    let bins = match &variable.kind {
        VariableKind::Category(names) => 5 * names.len(),
        VariableKind::Number(_) => ((variable.data.len() as f64).sqrt() as usize).clamp(5, 40),
    };
    // Bars of codes are as wide as a part of their distance.
    let place = |cells: &[f64]| -> Vec<f64> { cells.iter().copied().filter(|x| (low..=high).contains(x)).collect() };
    panel.histogram(&place(&variable.data), bins, Colour::BLUE, "data").histogram(
        &place(&variable.drawn),
        bins,
        Colour::ORANGE,
        "model",
    )
}

/// Two columns of the data or of the draws; codes are moved a little, so that points do not lie on each other.
fn pair(x: &Variable, y: &Variable, drawn: bool) -> Panel {
    let ([left, right], [bottom, top]) = (<[f64; 2]>::from(range(x)), <[f64; 2]>::from(range(y)));
    let cells = |variable: &Variable, step: f64| -> Vec<f64> {
        let cells = if drawn { &variable.drawn } else { &variable.data };
        let spread = matches!(variable.kind, VariableKind::Category(_));
        let moved = |(i, &cell): (usize, &f64)| cell + 0.5 * ((i as f64 * step).fract() - 0.5);
        let every = cells.len().div_ceil(POINTS).max(1);
        match spread {
            true => cells.iter().enumerate().step_by(every).map(moved).collect(),
            false => cells.iter().copied().step_by(every).collect(),
        }
    };
    // The multiples of these two numbers fill a square evenly.
    let points: Vec<(f64, f64)> = cells(x, 0.754_877_67).into_iter().zip(cells(y, 0.569_840_29)).collect();
    let colour = if drawn { Colour::ORANGE } else { Colour::BLUE };
    let title = if drawn { "model" } else { "data" };
    let panel = Panel::new(title).labels(label(x), label(y)).x_range(left, right).y_range(bottom, top);
    panel.scatter(&points, colour, 1.0, 0.5)
}

/// The shares of values in central intervals, with two standard errors where the model is right.
fn intervals(of: &TableCheck) -> Panel {
    let nominal = (1..40).map(|i| f64::from(i) / 40.0);
    let found: Vec<Coverage> = nominal.filter_map(|nominal| of.transforms.as_ref()?.coverage(nominal)).collect();
    let line =
        |at: &dyn Fn(&Coverage) -> f64| -> Vec<(f64, f64)> { found.iter().map(|c| (c.nominal, at(c))).collect() };
    Panel::new("values in central intervals")
        .labels("share that they should hold", "")
        .x_range(0.0, 1.0)
        .y_range(0.0, 1.0)
        .stroke(&line(&|c| c.nominal + 2.0 * c.standard_error), Colour::GREY, 0.7, 0.8, "")
        .stroke(&line(&|c| c.nominal - 2.0 * c.standard_error), Colour::GREY, 0.7, 0.8, "")
        .line(&line(&|c| c.found), Colour::GREEN, "")
}
