//! What is odd in a table, in sentences for its owner.

use super::hash::Hash;
use super::parts::Frames;
use super::{Cells, Frame, Schema};
use crate::Result;
use crate::text::{count, plural, some_of};
use candle_core::{Device, Tensor};

/// The most rows that are looked at for columns that determine each other.
const SAMPLE: usize = 10_000;

/// The most columns of which this is asked.
const MOST: usize = 500;

/// How far an end of a column lies from its other values.
struct End {
    value: f64,
    /// How many cells have it.
    count: usize,
    /// The distance to the nearest other value, over the range of all but both ends.
    gap: f64,
}

/// The ends of finite numbers; none where the others have no range.
fn ends(values: impl Iterator<Item = f64> + Clone) -> Option<[End; 2]> {
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (first, last) = range(&mut values.clone());
    let (least, greatest) = range(&mut values.clone().filter(|value| *value != first && *value != last));
    let count = |end: f64| values.clone().filter(|value| *value == end).count();
    let end = |value, gap: f64| End { value, count: count(value), gap: gap / (greatest - least) };
    (least < greatest).then(|| [end(first, least - first), end(last, last - greatest)])
}

/// A value at an end of a column that repeats far from all others, as those do that stand for missing cells: it, and in
/// how many cells.
pub(super) fn fill_value(values: &[f64]) -> Option<[f64; 2]> {
    let is_fill = |end: &End| match is_customary(end.value) {
        true => end.count >= 2 && end.gap > 0.3,
        false => end.count >= 3 && end.gap > 3.0,
    };
    let fill = ends(finite(values))?.into_iter().filter(is_fill).max_by_key(|end| end.count)?;
    Some([fill.value, fill.count as f64])
}

fn finite(values: &[f64]) -> impl Iterator<Item = f64> + Clone {
    values.iter().copied().filter(|value| value.is_finite())
}

/// Whether a number is one that people and programs fill in for missing ones.
fn is_customary(value: f64) -> bool {
    const OTHERS: [f64; 7] =
        [999.25, 32_767.0, 32_768.0, 65_535.0, 2_147_483_647.0, 2_147_483_648.0, 9.969_209_968_386_869e36];
    let size = value.abs();
    let digits = format!("{size}").replace('.', "");
    let nines = digits.len() >= 2 && digits.bytes().all(|digit| digit == b'9');
    let power = size >= 1e9 && size.log10().fract().abs() < 1e-12;
    nines || power || OTHERS.contains(&size) || size == f64::from(f32::MAX) || size == f64::MAX
}

/// What is odd in the columns that a schema uses: numbers that lie far from all others or that single precision cannot
/// tell apart, columns that determine each other, rows that repeat, and too few of them.
pub(super) fn notes(schema: &Schema, frames: &Frames) -> Result<Vec<String>> {
    let mut notes = far(schema, frames);
    // A model of codes takes numbers in double precision, and a column that another determines is one of probabilities.
    if !schema.coded {
        notes.extend(merged(schema, &frames.train));
        notes.extend(determined(schema, &frames.train)?);
    }
    notes.extend(repeated(schema, frames));
    notes.extend(few(schema, &frames.train));
    Ok(notes)
}

/// The columns of numbers that are used, with their indices in the schema.
fn numbers<'a>(schema: &'a Schema, frame: &'a Frame) -> impl Iterator<Item = (usize, &'a [f64])> {
    let used = schema.columns.iter().enumerate().filter(|(_, column)| column.used);
    used.filter_map(|(i, _)| match &schema.find(frame, i).ok()?.cells {
        Cells::Numbers(values) => Some((i, values.as_slice())),
        Cells::Words { .. } => None,
    })
}

/// A number, to six digits if it is not whole.
pub(crate) fn short(value: f64) -> String {
    let rounded = if value.fract() == 0.0 && value.abs() < 1e15 { value } else { rounded(value, 6) };
    match rounded.abs() {
        0.0 | 1e-4..1e15 => rounded.to_string(),
        _ => format!("{rounded:e}"),
    }
}

/// A number to this many digits.
fn rounded(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits - 1).parse().unwrap_or(value)
}

/// Single cells far from all others.
fn far(schema: &Schema, frames: &Frames) -> Vec<String> {
    const FAR: f64 = 10.0;
    let mut notes = Vec::new();
    for (i, values) in numbers(schema, &frames.train) {
        let label = schema.columns[i].label(i);
        let far = |end: &End| end.count == 1 && end.gap > FAR && values.len() >= 10;
        for end in ends(finite(values)).into_iter().flatten().filter(far) {
            let row = values.iter().position(|value| *value == end.value).unwrap_or(0);
            let (row, value, gap) = (frames.train.row_name(row), short(end.value), short(rounded(end.gap, 2)));
            notes.push(format!(
                "row {row}, {label} is {value}, beyond all others by {gap} times their range: it alone sets the scale of the \
                 column: correct it, or remove the row"
            ));
        }
        let Some([least, greatest]) = schema.columns[i].range else { continue };
        for (part, frame) in frames.named().skip(1) {
            let Ok(Cells::Numbers(values)) = schema.find(frame, i).map(|column| &column.cells) else { continue };
            let out = |value: &f64| (least - value).max(value - greatest) > FAR * (greatest - least);
            let count = values.iter().filter(|value| out(value)).count();
            if let Some(row) = values.iter().position(out).filter(|_| greatest > least) {
                let (name, value) = (frame.row_name(row), short(values[row]));
                let more = if count > 1 { format!(" (and {})", plural(count - 1, "more row")) } else { String::new() };
                let range = format!("{} to {}", short(least), short(greatest));
                notes.push(format!(
                    "{part} row {name}{more}, {label} is {value}, far from the {range} of the training rows: correct it, or \
                     remove the row"
                ));
            }
        }
    }
    notes
}

/// Columns whose numbers single precision cannot tell apart.
fn merged(schema: &Schema, frame: &Frame) -> Vec<String> {
    let note = |(i, values): (usize, &[f64])| {
        let [least, greatest] = schema.columns[i].range?;
        let size = least.abs().max(greatest.abs());
        // Only far from 0 is single precision coarse beside the range.
        if !(size.is_finite() && size > 1e3 * (greatest - least) && greatest > least) {
            return None;
        }
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.dedup();
        let different = sorted.len();
        let mut single: Vec<f32> = sorted.iter().map(|value| *value as f32).collect();
        single.dedup();
        let (kept, step) = (single.len(), f64::from((size as f32).next_up() - size as f32));
        (10 * kept < 9 * different).then(|| {
            format!(
                "{} has {} different numbers, of which single precision, in steps of {} here, keeps {}: subtract an \
                 offset, such as {}",
                schema.columns[i].label(i),
                count(different),
                short(step),
                count(kept),
                short(least.floor())
            )
        })
    };
    numbers(schema, frame).filter_map(note).collect()
}

/// Columns that are linear functions of others.
fn determined(schema: &Schema, frame: &Frame) -> Result<Vec<String>> {
    // Of columns of few values it is said anyway that they have no density.
    let columns: Vec<(usize, &[f64])> =
        numbers(schema, frame).filter(|(i, _)| schema.columns[*i].distinct >= 20).collect();
    let complete: Vec<usize> =
        (0..frame.rows()).filter(|&row| columns.iter().all(|(_, values)| values[row].is_finite())).collect();
    let step = complete.len().div_ceil(SAMPLE).max(1);
    let rows: Vec<usize> = complete.into_iter().step_by(step).collect();
    let n = rows.len();
    // With mean 0 and length 1, in the order of the columns.
    let unit = |values: &[f64]| {
        let sampled: Vec<f64> = rows.iter().map(|&row| values[row]).collect();
        let mean = sampled.iter().sum::<f64>() / n as f64;
        let centred: Vec<f64> = sampled.iter().map(|value| value - mean).collect();
        let length = centred.iter().map(|value| value * value).sum::<f64>().sqrt();
        centred.into_iter().map(|value| value / length).collect::<Vec<f64>>()
    };
    let units: Vec<(usize, Vec<f64>)> = columns.iter().map(|&(i, values)| (i, unit(values))).collect();
    let units: Vec<(usize, Vec<f64>)> =
        units.into_iter().filter(|(_, unit)| unit.iter().all(|v| v.is_finite())).collect();
    let d = units.len();
    if !(2..=MOST).contains(&d) || n < 2 * d + 10 {
        return Ok(Vec::new());
    }
    let matrix =
        Tensor::from_vec(units.iter().flat_map(|(_, unit)| unit.iter().copied()).collect(), (d, n), &Device::Cpu)?;
    let products = matrix.matmul(&matrix.t()?)?.to_vec2::<f64>()?;
    // The factor of Cholesky for the columns that those before them do not determine.
    let (mut kept, mut factor, mut notes): (Vec<usize>, Vec<Vec<f64>>, _) = (Vec::new(), Vec::new(), Vec::new());
    for j in 0..d {
        let mut row: Vec<f64> = Vec::with_capacity(kept.len());
        for (k, &column) in kept.iter().enumerate() {
            let known: f64 = (0..k).map(|m| row[m] * factor[k][m]).sum();
            row.push((products[j][column] - known) / factor[k][k]);
        }
        let left = products[j][j] - row.iter().map(|value| value * value).sum::<f64>();
        if left < 1e-8 {
            let mut coefficients = row.clone();
            for k in (0..kept.len()).rev() {
                let known: f64 = (k + 1..kept.len()).map(|m| coefficients[m] * factor[m][k]).sum();
                coefficients[k] = (coefficients[k] - known) / factor[k][k];
            }
            let predicted = |at: usize| kept.iter().zip(&coefficients).map(|(&k, c)| c * units[k].1[at]).sum::<f64>();
            let error = (0..n).map(|at| (units[j].1[at] - predicted(at)).powi(2)).sum::<f64>().sqrt();
            if error < 1e-5 {
                let used: Vec<usize> =
                    (0..kept.len()).filter(|&k| coefficients[k].abs() > 1e-3).map(|k| units[kept[k]].0).collect();
                notes.push(determined_by(schema, units[j].0, &used));
                continue;
            }
        }
        // A column that is nearly determined stands for itself, without a division by 0.
        row.push(left.max(1e-12).sqrt());
        factor.push(row);
        kept.push(j);
    }
    Ok(notes)
}

fn determined_by(schema: &Schema, i: usize, by: &[usize]) -> String {
    let label = |i: usize| schema.columns[i].label(i);
    let shown: Vec<String> = by.iter().take(4).map(|&i| label(i)).collect();
    let more = if by.len() > shown.len() { format!(" and {} more", by.len() - shown.len()) } else { String::new() };
    let kind = if by.len() == 1 { "a linear function" } else { "a linear combination" };
    let name = schema.columns[i].name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| i.to_string());
    format!(
        "{} is {kind} of {}{more}, so the density has no bound: leave it out by --drop {name}",
        label(i),
        shown.join(", ")
    )
}

/// Rows that occur more than once, in one part or in two.
fn repeated(schema: &Schema, frames: &Frames) -> Vec<String> {
    let rows = frames.train.rows();
    // Where there are few different rows, that they repeat says nothing.
    let used = schema.columns.iter().filter(|column| column.used);
    let different: f64 = used.map(|column| (column.distinct.max(1) as f64).ln()).sum();
    if different < (100.0 * rows as f64).ln() {
        return Vec::new();
    }
    let mut known = hashes(schema, &frames.train);
    known.sort_unstable();
    let mut notes = Vec::new();
    let repeats = known.windows(2).filter(|pair| pair[0] == pair[1]).count();
    if 20 * repeats > rows {
        let remedy = "keep one of each, as by pandas: frame.drop_duplicates()";
        let share = 100.0 * repeats as f64 / rows as f64;
        let same = "the same rows are then trained on and tested with";
        let same = if frames.test.is_none() { format!(", and {same}") } else { String::new() };
        notes.push(format!(
            "{} another ({share:.0}%){same}: {remedy}",
            some_of(repeats, rows, "row", ["repeats", "repeat"])
        ));
    }
    for (part, frame) in frames.named().skip(1) {
        let seen = hashes(schema, frame).iter().filter(|hash| known.binary_search(hash).is_ok()).count();
        if 100 * seen > frame.rows() {
            notes.push(format!(
                "{} as well, so its likelihood is too high: remove them from one of the two",
                some_of(seen, frame.rows(), &format!("{part} row"), ["is a training row", "are training rows"])
            ));
        }
    }
    notes
}

/// A hash of each row's cells in the columns that are used.
fn hashes(schema: &Schema, frame: &Frame) -> Vec<u64> {
    let mut hashes = vec![Hash::NEW; frame.rows()];
    let used = (0..schema.columns.len()).filter(|&i| schema.columns[i].used);
    for column in used.filter_map(|i| schema.find(frame, i).ok()) {
        match &column.cells {
            Cells::Numbers(values) => hashes.iter_mut().zip(values).for_each(|(hash, value)| hash.number(*value)),
            Cells::Words { words, codes, .. } => {
                let of = |word: &String| {
                    let mut hash = Hash::NEW;
                    hash.text(word);
                    hash.value()
                };
                let words: Vec<u64> = words.iter().map(of).collect();
                let code = |code: &Option<u32>| code.map_or(0, |code| words[code as usize]);
                hashes.iter_mut().zip(codes).for_each(|(hash, word)| hash.bits(code(word)));
            }
        }
    }
    hashes.into_iter().map(Hash::value).collect()
}

/// Too few rows to learn a density from.
fn few(schema: &Schema, frame: &Frame) -> Option<String> {
    const EACH: usize = 20;
    let columns = schema.columns.iter().filter(|column| column.used).count();
    let (rows, wanted) = (frame.rows(), (EACH * columns).max(100));
    (rows < wanted).then(|| {
        format!(
            "{} to learn the density of {} from: a flow learns so few by heart; give {} or more, or fewer columns by \
             --columns",
            plural(rows, "row"),
            plural(columns, "column"),
            count(wanted)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::data::Column;

    fn frame(columns: &[(&str, Vec<f64>)]) -> Frame {
        let column = |(name, values): &(&str, Vec<f64>)| Column {
            name: Some(name.to_string()),
            cells: Cells::Numbers(values.clone()),
        };
        Frame { columns: columns.iter().map(column).collect(), ..Frame::default() }
    }

    fn normals(count: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::seed(seed);
        (0..count).map(|_| rng.normal()).collect()
    }

    /// Asserts that the notes on a table are these, by their words.
    fn assert_notes(frames: impl Into<Frames>, words: &[&[&str]]) {
        let frames = frames.into();
        let notes = Schema::of(&frames.train).notes(&frames).unwrap();
        let fit = notes.len() == words.len();
        let fit = fit && notes.iter().zip(words).all(|(note, words)| words.iter().all(|word| note.contains(word)));
        assert!(fit, "{words:?} in {notes:#?}");
    }

    #[test]
    fn plain_tables_are_not_odd() {
        let (x, y) = (normals(1000, 1), normals(1000, 2));
        let skewed: Vec<f64> = x.iter().map(|v| (3.0 * v).exp()).collect();
        let counts: Vec<f64> = y.iter().map(|v| (50.0 * v.abs()).floor()).collect();
        assert_notes(frame(&[("x", x), ("skewed", skewed), ("counts", counts), ("y", y)]), &[]);
    }

    #[test]
    fn numbers_far_from_all_others() {
        let with = |value: f64, count: usize| {
            let mut x = normals(500, 3);
            x[..count].fill(value);
            frame(&[("x", x), ("y", normals(500, 4))])
        };
        for (value, count) in [(-999.0, 5), (9999.0, 2), (1e9, 3), (-99.99, 2), (123.0, 3)] {
            assert_notes(with(value, count), &[&["`x`", &format!("in {count} rows"), "leave these empty"]]);
        }
        assert_notes(with(123.0, 1), &[&["row 1, `x` is 123", "times their range", "remove the row"]]);
        assert_notes(with(12.0, 1), &[]);
        let mut frames = Frames::from(with(0.5, 1));
        let mut far = normals(200, 12);
        far[..2].fill(-1e6);
        frames.validation = Some(frame(&[("x", far), ("y", normals(200, 13))]));
        assert_notes(frames, &[&["validation row 1 (and 1 more row)", "-1000000"]]);
    }

    #[test]
    fn columns_that_single_precision_merges() {
        let times: Vec<f64> = (0..500).map(|i| 1.7e9 + 10.0 * f64::from(i)).collect();
        assert_notes(
            frame(&[("t", times), ("y", normals(500, 4))]),
            &[&["`t`", "500 different", "steps of 128", "offset, such as 1700000000"]],
        );
    }

    #[test]
    fn columns_that_determine_each_other() {
        let (x, y) = (normals(500, 5), normals(500, 6));
        let of = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(&y).map(|(x, y)| f(*x, *y)).collect::<Vec<f64>>();
        let (double, sum, near) = (of(&|x, _| 3.0 - 2.0 * x), of(&|x, y| x - y), of(&|x, y| x + 0.001 * y * y));
        let table = frame(&[("x", x.clone()), ("double", double), ("y", y.clone()), ("sum", sum), ("near", near)]);
        assert_notes(
            table,
            &[
                &["`double` is a linear function of `x`", "--drop double"],
                &["`sum` is a linear combination of `x`, `y`,"],
            ],
        );
    }

    #[test]
    fn rows_that_repeat_and_too_few() {
        let (x, y) = (normals(300, 7), normals(300, 8));
        let twice = |v: &[f64]| [v, &v[..100]].concat();
        assert_notes(
            frame(&[("x", twice(&x)), ("y", twice(&y))]),
            &[&["100 of 400 rows repeat another (25%)", "drop_duplicates"]],
        );
        let mut frames = Frames::from(frame(&[("x", x.clone()), ("y", y.clone())]));
        frames.test = Some(frame(&[("y", y[290..].to_vec()), ("x", x[290..].to_vec())]));
        assert_notes(frames, &[&["10 of 10 test rows are training rows"]]);
        assert_notes(
            frame(&[("x", normals(30, 9)), ("y", normals(30, 10))]),
            &[&["30 rows", "2 columns", "100 or more"]],
        );
    }
}
