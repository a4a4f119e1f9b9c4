//! The map from data to the page.

use super::axis::{Range, drawable};

pub(super) type Point = (f64, f64);

/// The rectangle inside the axes, in pixels, and the ranges that it shows.
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// The width available to a title.
    pub(super) room: f64,
    pub(super) x: Range,
    pub(super) y: Range,
}

impl Frame {
    pub(super) fn at(&self, (x, y): Point) -> Point {
        let part = |v: f64, (low, high): Range| (v - low) / (high - low);
        (self.left + self.width * part(x, self.x), self.top + self.height * (1. - part(y, self.y)))
    }

    pub(super) fn clamp(&self, (x, y): Point) -> Point {
        (x.clamp(self.left, self.left + self.width), y.clamp(self.top, self.top + self.height))
    }

    pub(super) fn contains(&self, p: Point) -> bool {
        self.clamp(p) == p
    }

    /// The parts of the line through `points` that lie in the frame.
    pub(super) fn visible(&self, points: &[Point]) -> Vec<Vec<Point>> {
        let mut pieces: Vec<Vec<Point>> = Vec::new();
        for (a, b) in points.windows(2).filter_map(|pair| self.clip(pair[0], pair[1])) {
            match pieces.last_mut() {
                Some(piece) if piece.last() == Some(&a) => piece.push(b),
                _ => pieces.push(vec![a, b]),
            }
        }
        pieces
    }

    /// The part of the segment from `a` to `b` that lies in the frame (Liang and Barsky).
    fn clip(&self, a: Point, b: Point) -> Option<(Point, Point)> {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        if ![dx, dy].into_iter().all(drawable) {
            return None;
        }
        let (mut enter, mut leave) = (0f64, 1f64);
        let gaps = [
            (-dx, a.0 - self.left),
            (dx, self.left + self.width - a.0),
            (-dy, a.1 - self.top),
            (dy, self.top + self.height - a.1),
        ];
        for (speed, gap) in gaps {
            if speed < 0. {
                enter = enter.max(gap / speed);
            } else if speed > 0. {
                leave = leave.min(gap / speed);
            } else if gap < 0. {
                return None;
            }
        }
        let at = |t: f64, end: Point| if t == 0. || t == 1. { end } else { (a.0 + t * dx, a.1 + t * dy) };
        (enter <= leave).then(|| (at(enter, a), at(leave, b)))
    }
}
