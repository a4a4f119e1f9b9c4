//! Loss curves.

use super::{
    Colour, Panel,
    axis::{Range, drawable, join, widen},
};

/// A panel of loss curves: each series is a label and its (step, value) pairs, and `unit` labels the vertical axis.
///
/// The vertical range excludes outliers, such as the values of the first steps. A long series is drawn faintly, with
/// its running median on top.
pub fn loss_curve(series: &[(&str, Vec<(f64, f64)>)], unit: &str) -> Panel {
    const LONG: usize = 200;
    let mut panel = Panel::new("").labels("step", unit);
    for (i, (_, values)) in series.iter().enumerate().filter(|(_, s)| s.1.len() >= LONG) {
        panel = panel.stroke(values, Colour::series(i), 0.25, 0.7, "");
    }
    for (i, (label, values)) in series.iter().enumerate() {
        let smooth = if values.len() < LONG { values.clone() } else { running_median(values) };
        panel = panel.stroke(&smooth, Colour::series(i), 1., 1.6, *label);
    }
    if let Some(range) = series.iter().filter_map(|(_, values)| usual_range(values)).reduce(join) {
        let (low, high) = widen(range, 0.05);
        panel = panel.y_range(low, high);
    }
    panel
}

/// The median over a centred window of a fiftieth of the series, at 400 points; a mean would follow every spike.
fn running_median(values: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let values: Vec<_> = values.iter().copied().filter(|v| drawable(v.1)).collect();
    let half = values.len() / 100;
    let median = |i: usize| {
        let mut window: Vec<f64> =
            values[i.saturating_sub(half)..(i + half + 1).min(values.len())].iter().map(|v| v.1).collect();
        window.sort_by(f64::total_cmp);
        (values[i].0, window[window.len() / 2])
    };
    (0..values.len()).step_by((values.len() / 400).max(1)).map(median).collect()
}

/// The range of the values without the highest hundredth, and at most ten interquartile distances from the quartiles.
fn usual_range(values: &[(f64, f64)]) -> Option<Range> {
    let mut sorted: Vec<f64> = values.iter().map(|v| v.1).filter(|v| drawable(*v)).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let (low, high) = (sorted[0], sorted[last - last / 100]);
    let (lower, upper) = (sorted[last / 4], sorted[last - last / 4]);
    let reach = 10. * (upper - lower);
    // Equal quartiles give no scale for outliers.
    Some(if reach > 0. { (low.max(lower - reach), high.min(upper + reach)) } else { (low, high) })
}
