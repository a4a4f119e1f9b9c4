//! The part of the plane that a figure shows.

/// A rectangle in the plane: (left, right) and (bottom, top).
pub type Window = [(f64, f64); 2];

/// The window that shows all points except outliers, with the same scale on both axes if `square`.
pub fn window(points: &[(f64, f64)], square: bool) -> Window {
    let range = |coordinate: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = points.iter().map(coordinate).filter(|v| v.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else { return (-1.0, 1.0) };
        let (low, high) = (values[last / 500], values[last - last / 500]);
        let margin = 0.1 * (high - low);
        // A constant column gets a window around its value.
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
