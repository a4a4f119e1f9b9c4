//! Ranks among reference values.

/// The percentage of the reference that is below each value; what equals it counts half.
///
/// ```
/// let found = flows_core::evaluate::percentiles(&[2.0, 0.0, 9.0], vec![3.0, 2.0, 1.0, 2.0]);
/// assert_eq!(found, [50.0, 0.0, 100.0]);
/// ```
pub fn percentiles(values: &[f64], mut reference: Vec<f64>) -> Vec<f64> {
    reference.sort_unstable_by(f64::total_cmp);
    let of = |value: &f64| {
        let below = reference.partition_point(|known| known < value);
        let equal = reference.partition_point(|known| known <= value) - below;
        100.0 * (below as f64 + 0.5 * equal as f64) / reference.len() as f64
    };
    values.iter().map(of).collect()
}
