//! Synthetic images of digits, drawn with strokes.

use super::Images;
use crate::{Result, Rng};

/// Strokes of a digit: corners of polylines in the unit square, x to the right and y down.
type Strokes = Vec<Vec<[f64; 2]>>;

/// Points on an arc of the ellipse around (x, y) with these radii, between two angles in turns; 0 points right and
/// 1/4 down.
fn arc([x, y]: [f64; 2], [rx, ry]: [f64; 2], from: f64, to: f64) -> Vec<[f64; 2]> {
    const POINTS: usize = 12;
    let angle = |i: usize| (from + (to - from) * i as f64 / POINTS as f64) * std::f64::consts::TAU;
    (0..=POINTS).map(|i| [x + rx * angle(i).cos(), y + ry * angle(i).sin()]).collect()
}

fn strokes(digit: u32, rng: &mut Rng) -> Strokes {
    // Handwriting varies.
    let mut about = |value: f64| value + 0.035 * rng.normal();
    match digit {
        0 => vec![arc([0.5, 0.5], [about(0.24), about(0.38)], 0.0, 1.0)],
        1 => {
            let top = [about(0.54), about(0.1)];
            vec![vec![[about(0.34), about(0.3)], top, [about(0.54), about(0.9)]]]
        }
        2 => {
            let mut line = arc([0.5, about(0.32)], [about(0.23), about(0.22)], 0.52, 1.08);
            line.extend([[about(0.27), about(0.88)], [about(0.78), about(0.88)]]);
            vec![line]
        }
        3 => {
            let mut line = arc([0.47, about(0.3)], [about(0.23), about(0.2)], 0.56, 1.22);
            line.extend(arc([0.47, about(0.68)], [about(0.26), about(0.22)], 0.8, 1.44));
            vec![line]
        }
        4 => {
            let corner = [about(0.2), about(0.62)];
            let cross = vec![[about(0.56), about(0.12)], corner, [about(0.84), corner[1]]];
            vec![cross, vec![[about(0.64), about(0.4)], [about(0.62), about(0.92)]]]
        }
        5 => {
            let left = about(0.32);
            let mut line = vec![[about(0.72), about(0.12)], [left, 0.14], [left - 0.02, about(0.46)]];
            line.extend(arc([0.46, about(0.66)], [about(0.26), about(0.23)], 0.66, 1.44));
            vec![line]
        }
        6 => {
            let mut line = vec![[about(0.62), about(0.1)], [about(0.4), about(0.32)]];
            line.extend(arc([0.5, about(0.68)], [about(0.23), about(0.21)], 0.52, 1.54));
            vec![line]
        }
        7 => vec![vec![[about(0.24), about(0.14)], [about(0.76), about(0.14)], [about(0.44), about(0.9)]]],
        8 => {
            let waist = about(0.47);
            let (up, down) = (about(0.18), about(0.21));
            let upper = arc([0.5, waist - up], [about(0.19), up], 0.25, 1.25);
            vec![upper, arc([0.5, waist + down], [about(0.23), down], -0.25, 0.75)]
        }
        _ => {
            let mut line = arc([0.48, about(0.33)], [about(0.22), about(0.21)], 1.0, 0.0);
            line.push([about(0.66), about(0.9)]);
            vec![line]
        }
    }
}

/// The distance from a point to the line segment between two others.
fn distance([x, y]: [f64; 2], [a, b]: [[f64; 2]; 2]) -> f64 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let along = ((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy).max(1e-12);
    let t = along.clamp(0.0, 1.0);
    (x - a[0] - t * dx).hypot(y - a[1] - t * dy)
}

/// `count` images of digits in light strokes on black, (1, `side`, `side`), each rotated, slanted, stretched and
/// thickened at random, in random order; the classes are 0 to 9.
///
/// # Errors
/// When `count` or `side` is 0.
pub fn drawn_digits(count: usize, side: usize, rng: &mut Rng) -> Result<Images> {
    let mut values = Vec::with_capacity(count * side * side);
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        let digit = rng.below(10) as u32;
        labels.push(digit);
        let lines = strokes(digit, rng);
        let turn = 0.1 * rng.normal();
        let (slant, stretch) = (0.12 * rng.normal(), [0.88 + 0.06 * rng.normal(), 0.92 + 0.05 * rng.normal()]);
        let centre = [0.5 + 0.02 * rng.normal(), 0.5 + 0.02 * rng.normal()];
        let thickness = 0.055 + 0.03 * rng.uniform();
        let place = |[x, y]: [f64; 2]| {
            let (x, y) = ((x - 0.5) * stretch[0] - slant * (y - 0.5), (y - 0.5) * stretch[1]);
            [centre[0] + x * turn.cos() - y * turn.sin(), centre[1] + x * turn.sin() + y * turn.cos()]
        };
        let lines: Strokes = lines.into_iter().map(|line| line.into_iter().map(place).collect()).collect();
        let pixel = 1.0 / side as f64;
        for i in 0..side * side {
            let at = [((i % side) as f64 + 0.5) * pixel, ((i / side) as f64 + 0.5) * pixel];
            let segments = lines.iter().flat_map(|line| line.windows(2));
            let nearest = segments.map(|ends| distance(at, [ends[0], ends[1]])).fold(f64::INFINITY, f64::min);
            // Full intensity within the stroke, fading to black over one pixel.
            let light = ((thickness - nearest) / pixel + 0.5).clamp(0.0, 1.0);
            values.push((light * 255.0).round() as u8);
        }
    }
    let images = Images::new([1, side, side], values)?;
    images.with_labels(labels, (0..10).map(|digit| digit.to_string()).collect())
}
