//! Pictures of the columns of a table.

use crate::data::{Cells, Column, ColumnKind, ColumnSchema, Frame, Schema};
use crate::plot::{Colour, Figure, Panel};
use crate::text::count;

/// Panels in a row.
const COLUMNS: usize = 4;
/// The most panels.
const MOST: usize = 100;
/// The size of a panel in pixels.
const PANEL: (u32, u32) = (240, 180);
/// The most bars of a panel.
const BARS: usize = 8;
/// The most bins of a histogram.
const BINS: usize = 40;

/// A figure of the columns of a table, one panel each: histograms of numbers, and bars of the most frequent words. A
/// histogram leaves out numbers far from nearly all others, and says how many. Of more than a hundred columns the first
/// are shown.
pub fn margins_figure(frame: &Frame, schema: &Schema) -> Figure {
    let columns = frame.columns.iter().zip(&schema.columns).enumerate().take(MOST);
    columns.map(|(i, (column, of))| panel(i, column, of)).fold(Figure::new(COLUMNS, PANEL), Figure::panel)
}

fn panel(i: usize, column: &Column, of: &ColumnSchema) -> Panel {
    let title = of.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| format!("column {}", i + 1));
    match &column.cells {
        Cells::Numbers(values) if !matches!(of.kind, ColumnKind::Binary(_)) => histogram(title, values, of),
        cells => bars(title, cells, of),
    }
}

fn histogram(title: String, values: &[f64], of: &ColumnSchema) -> Panel {
    let fill = of.fill.map(|[value, _]| value);
    let known = || values.iter().copied().filter(|value| value.is_finite());
    let mut sorted: Vec<f64> = known().filter(|value| Some(*value) != fill).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (Some(&least), Some(&greatest)) = (sorted.first(), sorted.last()) else {
        return Panel::new(format!("{title} (missing)"));
    };
    let (last, out) = (sorted.len() - 1, if sorted.len() < 20 { 0 } else { sorted.len().div_ceil(200) });
    let (mut low, mut high) = (sorted[out], sorted[last - out]);
    // All are shown but those that would leave the others a sliver.
    let reach = high - low;
    if reach > 0.0 {
        let shown = |value: &&f64| **value >= low - reach && **value <= high + reach;
        (low, high) = (*sorted.iter().find(shown).unwrap_or(&low), *sorted.iter().rfind(shown).unwrap_or(&high));
    } else {
        (low, high) = (least, greatest);
    }
    let hidden = known().filter(|value| !(low..=high).contains(value)).count();
    // The bins are of those that are shown.
    sorted.retain(|value| (low..=high).contains(value));
    let title = if hidden > 0 { format!("{title} ({} farther out)", count(hidden)) } else { title };
    // Whole numbers have a bin each, if these are not too many.
    let panel = match of.kind {
        ColumnKind::Integer if high - low < BINS as f64 => {
            let bins = (high - low) as usize + 1;
            Panel::new(title).x_range(low - 0.5, high + 0.5).histogram(&sorted, bins, Colour::BLUE, "")
        }
        _ => {
            let bins = ((sorted.len() as f64).sqrt() as usize).clamp(5, BINS);
            let panel = if high > low { Panel::new(title).x_range(low, high) } else { Panel::new(title) };
            panel.histogram(&sorted, bins, Colour::BLUE, "")
        }
    };
    if of.used { panel } else { panel.labels("left out", "") }
}

fn bars(title: String, cells: &Cells, of: &ColumnSchema) -> Panel {
    let mut counts: Vec<(String, f64)> = match cells {
        Cells::Words { words, codes, .. } => {
            let mut counts: Vec<(String, f64)> = words.iter().map(|word| (word.clone(), 0.0)).collect();
            codes.iter().flatten().for_each(|&code| counts[code as usize].1 += 1.0);
            counts
        }
        Cells::Numbers(values) => {
            let count = |value: &String| values.iter().filter(|of| value.parse() == Ok(**of)).count() as f64;
            of.kind.values().iter().map(|value| (value.clone(), count(value))).collect()
        }
    };
    counts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let title = match counts.len() {
        more if more > BARS => format!("{title} (the first {BARS} of {})", count(more)),
        _ => title,
    };
    counts.truncate(BARS);
    Panel::new(title).bars(&counts, if of.used { Colour::GREEN } else { Colour::GREY })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;

    #[test]
    fn every_column_has_a_panel() -> Result<()> {
        let column = |name: &str, cells| Column { name: Some(name.into()), cells };
        let codes = (0..50).map(|i| (i % 7 > 0).then_some(i % 3)).collect();
        let words = ["<a>", "b", "c"].map(String::from).to_vec();
        let number = |of: fn(f64) -> f64| Cells::Numbers((0..50).map(|i| of(f64::from(i))).collect());
        let columns = vec![
            column("x", number(f64::sin)),
            column("far", number(|i| if i == 7.0 { 1e12 } else { i / 9.0 })),
            column("k", number(|i| i % 5.0)),
            column("yes", number(|i| i % 2.0)),
            column("none", number(|_| f64::NAN)),
            column("same", number(|_| 3.0)),
            column("word", Cells::Words { words, codes, numbers: 0, first_word: (0, "b".into()) }),
        ];
        let frame = Frame { columns, ..Frame::default() };
        let svg = margins_figure(&frame, &Schema::of(&frame)).svg()?;
        for part in ["far (1 farther out)", "none (missing)", "&lt;a&gt;", "word"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        Ok(())
    }
}
