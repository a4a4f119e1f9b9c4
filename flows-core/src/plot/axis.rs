//! Ranges and ticks.

/// The low and the high end.
pub(super) type Range = (f64, f64);

/// Whether `v` can be drawn: finite, and small enough that differences are finite too.
pub(super) fn drawable(v: f64) -> bool {
    v.abs() < 1e100
}

/// The range of the values that can be drawn.
pub(super) fn extent(values: impl IntoIterator<Item = f64>) -> Option<Range> {
    values.into_iter().filter(|v| drawable(*v)).map(|v| (v, v)).reduce(join)
}

/// The range that covers both.
pub(super) fn join(a: Range, b: Range) -> Range {
    (a.0.min(b.0), a.1.max(b.1))
}

/// `range` extended by `share` of its length at each end; an empty range is given some length.
pub(super) fn widen((low, high): Range, share: f64) -> Range {
    let size = low.abs().max(high.abs());
    let margin = match high - low {
        length if length > 1e-9 * size && length > 1e-90 => share * length,
        _ if size > 1e-80 => 0.5 * size,
        _ => 0.5,
    };
    (low - margin, high + margin)
}

/// About `count` round numbers in `range`, each with its label.
pub(super) fn ticks((low, high): Range, count: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / count.max(3.);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1., 2., 5.].into_iter().find(|m| m * power >= 0.7 * rough).unwrap_or(10.) * power;
    // A tolerance of a thousandth of a step keeps the ends despite rounding.
    let (first, last) = ((low / step - 1e-3).ceil(), (high / step + 1e-3).floor());
    let largest = step * first.abs().max(last.abs());
    let number = |v: f64| -> String {
        let scientific = largest >= 1e6 || step < 0.99e-4;
        if v == 0. && (scientific || largest >= 1e4) {
            "0".into()
        } else if scientific {
            // Enough digits to distinguish neighbours.
            let digits = (largest / step).log10().ceil().clamp(0., 15.) as usize;
            format!("{v:.digits$e}")
        } else if largest >= 1e4 && step >= 999. {
            format!("{}k", v / 1e3)
        } else {
            let decimals = (-(step * 1.001).log10().floor()).max(0.) as usize;
            format!("{v:.decimals$}")
        }
    };
    let count = (last - first).clamp(-1., 100.) as i64;
    (0..=count)
        .map(|i| (first + i as f64) * step)
        .map(|v| if v.abs() < 1e-9 * step { 0. } else { v })
        .map(|v| (v, number(v).replace('-', "\u{2212}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(range: Range, count: f64) -> Vec<String> {
        ticks(range, count).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels((-3., 3.), 6.), ["−3", "−2", "−1", "0", "1", "2", "3"]);
        assert_eq!(labels((0., 0.45), 5.), ["0.0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels((0., 20_000.), 4.), ["0", "5k", "10k", "15k", "20k"]);
        assert_eq!(labels((2.9e7, 3.1e7), 4.), ["2.90e7", "2.95e7", "3.00e7", "3.05e7", "3.10e7"]);
        assert_eq!(labels((0., 4e-6), 4.), ["0", "1.0e−6", "2.0e−6", "3.0e−6", "4.0e−6"]);
    }

    #[test]
    fn any_range_has_few_ticks() {
        for v in [0f64, 1., -7e-12, 1e-99, 1e12, -9e99] {
            for w in [v, v * (1. + 1e-12), 2. * v, -v, v + 1.] {
                let range = widen((v.min(w), v.max(w)), 0.04);
                assert!(range.0 < range.1, "{v} {w}");
                assert!((1..=12).contains(&ticks(range, 5.).len()), "{v} {w}: {:?}", ticks(range, 5.));
            }
        }
        assert_eq!(extent([f64::NAN, 2., f64::INFINITY, -1., 1e200]), Some((-1., 2.)));
    }
}
