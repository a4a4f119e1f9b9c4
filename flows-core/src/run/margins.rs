//! Pictures of the columns of a table.

use crate::data::{Cells, Column, ColumnKind, ColumnSchema, Frame, Schema, days};
use crate::plot::{Colour, Figure, Panel};
use crate::text::count;
use std::collections::HashMap;

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
    columns.map(|(i, (column, of))| panel(i, column, of, None)).fold(Figure::new(COLUMNS, PANEL), Figure::panel)
}

/// The figure of [`margins_figure`] with those of a model's draws beside the data: both have these columns of the schema.
pub fn margins_compared(data: &Frame, drawn: &Frame, schema: &Schema, columns: &[usize]) -> Figure {
    let pairs = columns.iter().zip(data.columns.iter().zip(&drawn.columns)).take(MOST);
    let panels = pairs.map(|(&i, (column, drawn))| panel(i, column, &schema.columns[i], Some(&drawn.cells)));
    panels.fold(Figure::new(COLUMNS, PANEL), Figure::panel)
}

fn panel(i: usize, column: &Column, of: &ColumnSchema, drawn: Option<&Cells>) -> Panel {
    let title = of.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| format!("column {}", i + 1));
    match &column.cells {
        Cells::Numbers(values) if !matches!(of.kind, ColumnKind::Binary(_)) => {
            let drawn = if let Some(Cells::Numbers(drawn)) = drawn { Some(&drawn[..]) } else { None };
            histogram(title, values, of, drawn)
        }
        cells if of.kind == ColumnKind::Date => {
            let number = ColumnSchema { kind: ColumnKind::Number, ..of.clone() };
            histogram(format!("{title} (year)"), &years(cells), &number, drawn.map(years).as_deref())
        }
        cells => bars(title, cells, of, drawn),
    }
}

/// Dates as years with decimals.
fn years(cells: &Cells) -> Vec<f64> {
    let Cells::Words { words, codes, .. } = cells else { return Vec::new() };
    let years: Vec<f64> =
        words.iter().map(|word| days(word).map_or(f64::NAN, |days| 1970.0 + days / 365.2425)).collect();
    codes.iter().map(|code| code.map_or(f64::NAN, |code| years[code as usize])).collect()
}

fn histogram(title: String, values: &[f64], of: &ColumnSchema, drawn: Option<&[f64]>) -> Panel {
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
    let (panel, bins) = match of.kind {
        ColumnKind::Integer if high - low < BINS as f64 => {
            (Panel::new(title).x_range(low - 0.5, high + 0.5), (high - low) as usize + 1)
        }
        _ => {
            let bins = ((sorted.len() as f64).sqrt() as usize).clamp(5, BINS);
            let panel = if high > low { Panel::new(title).x_range(low, high) } else { Panel::new(title) };
            (panel, bins)
        }
    };
    let panel = panel.histogram(&sorted, bins, Colour::BLUE, if drawn.is_some() { "data" } else { "" });
    let panel = match drawn {
        Some(drawn) => {
            let drawn: Vec<f64> = drawn.iter().copied().filter(|value| (low..=high).contains(value)).collect();
            panel.histogram(&drawn, bins, Colour::ORANGE, "model")
        }
        None => panel,
    };
    if of.used { panel } else { panel.labels("left out", "") }
}

fn bars(title: String, cells: &Cells, of: &ColumnSchema, drawn: Option<&Cells>) -> Panel {
    let mut counts = counts(cells, of);
    counts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let title = match counts.len() {
        more if more > BARS => format!("{title} (the first {BARS} of {})", count(more)),
        _ => title,
    };
    counts.truncate(BARS);
    if let Some(drawn) = drawn {
        let of_model: HashMap<String, f64> = self::counts(drawn, of).into_iter().collect();
        let scale = cells.len() as f64 / drawn.len() as f64;
        let pair = |(word, data): (String, f64)| {
            let model = of_model.get(&word).copied().unwrap_or(0.0) * scale;
            [(word, data), ("model".into(), model)]
        };
        counts = counts.into_iter().flat_map(pair).collect();
    }
    Panel::new(title).bars(&counts, if of.used { Colour::GREEN } else { Colour::GREY })
}

/// How many cells have each value.
fn counts(cells: &Cells, of: &ColumnSchema) -> Vec<(String, f64)> {
    match cells {
        Cells::Words { words, codes, .. } => {
            let mut counts: Vec<(String, f64)> = words.iter().map(|word| (word.clone(), 0.0)).collect();
            codes.iter().flatten().for_each(|&code| counts[code as usize].1 += 1.0);
            counts
        }
        Cells::Numbers(values) => {
            let count = |value: &String| values.iter().filter(|of| value.parse() == Ok(**of)).count() as f64;
            of.kind.values().iter().map(|value| (value.clone(), count(value))).collect()
        }
    }
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
