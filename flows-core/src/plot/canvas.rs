//! A page of marks, in drawing order.

use super::Colour;

/// The point of a text that is placed at its position.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
    /// The middle of a text that is rotated to run upwards.
    Upwards,
}

type Point = (f64, f64);

/// Marks are placed at tenths of a pixel: fine enough for smooth curves, and short numbers in the SVG.
pub(super) const UNITS: f64 = 10.;

/// A point in tenths of a pixel.
pub(super) type Place = (i32, i32);

fn units(v: f64) -> i32 {
    (v * UNITS).round() as i32
}

fn place((x, y): Point) -> Place {
    (units(x), units(y))
}

/// A shape; lengths are in tenths of a pixel.
pub(super) enum Shape {
    /// The area inside rings, by the non-zero winding rule.
    Area(Vec<Vec<Place>>),
    /// A stroke with round joints and ends.
    Stroke { points: Vec<Place>, width: i32 },
    /// A filled disc.
    Disc { centre: Place, radius: i32 },
    /// A text with its baseline at `at`.
    Text { text: String, at: Place, size: i32, anchor: Anchor },
}

/// A shape in a colour.
pub(super) struct Mark {
    pub(super) shape: Shape,
    pub(super) colour: Colour,
    /// The opacity, in [0, 1].
    pub(super) alpha: f64,
}

/// A page and the marks on it.
pub(super) struct Canvas {
    /// Width and height in pixels.
    pub(super) size: (u32, u32),
    pub(super) marks: Vec<Mark>,
}

impl Canvas {
    /// An empty page of `size` pixels.
    pub(super) fn new(size: (u32, u32)) -> Self {
        Self { size, marks: Vec::new() }
    }

    fn add(&mut self, shape: Shape, colour: Colour, alpha: f64) {
        // `clamp` would keep a NaN, which makes the mark invisible.
        let alpha = if alpha.is_nan() { 0.0 } else { alpha.clamp(0.0, 1.0) };
        self.marks.push(Mark { shape, colour, alpha });
    }

    /// A filled rectangle between two opposite corners.
    pub(super) fn rectangle(&mut self, from: Point, to: Point, colour: Colour, alpha: f64) {
        self.area([vec![from, (to.0, from.1), to, (from.0, to.1)]], colour, alpha);
    }

    /// A stroke through `points`.
    pub(super) fn path(&mut self, points: impl IntoIterator<Item = Point>, colour: Colour, alpha: f64, width: f64) {
        let points = outline(points);
        if points.len() > 1 {
            self.add(Shape::Stroke { points, width: units(width) }, colour, alpha);
        }
    }

    /// The area inside `rings`; a nested ring of opposite orientation is a hole.
    pub(super) fn area(&mut self, rings: impl IntoIterator<Item = Vec<Point>>, colour: Colour, alpha: f64) {
        let rings: Vec<_> = rings.into_iter().map(outline).filter(|ring| ring.len() > 2).collect();
        if !rings.is_empty() {
            self.add(Shape::Area(rings), colour, alpha);
        }
    }

    /// A filled disc.
    pub(super) fn disc(&mut self, centre: Point, radius: f64, colour: Colour, alpha: f64) {
        self.add(Shape::Disc { centre: place(centre), radius: units(radius).max(1) }, colour, alpha);
    }

    /// A text whose baseline goes through `at`.
    pub(super) fn text(&mut self, text: &str, at: Point, size: f64, colour: Colour, anchor: Anchor) {
        // XML does not allow every character.
        let text: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect();
        if !text.is_empty() {
            self.add(Shape::Text { text, at: place(at), size: units(size), anchor }, colour, 1.);
        }
    }
}

/// The points in tenths of a pixel, without those on the straight line between their neighbours.
fn outline(points: impl IntoIterator<Item = Point>) -> Vec<Place> {
    let mut kept: Vec<Place> = Vec::new();
    for p in points.into_iter().map(place) {
        if let [.., a, b] = kept[..] {
            let step =
                |from: Place, to: Place| (i64::from(to.0) - i64::from(from.0), i64::from(to.1) - i64::from(from.1));
            let (u, v) = (step(a, b), step(b, p));
            if u.0 * v.1 == u.1 * v.0 && u.0 * v.0 + u.1 * v.1 > 0 {
                kept.pop();
            }
        }
        if kept.last() != Some(&p) {
            kept.push(p);
        }
    }
    kept
}
