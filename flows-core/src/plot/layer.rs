//! The layers of a panel.

use super::{
    Colour, Field,
    axis::{Range, extent},
    canvas::{Anchor, Canvas},
    font::text_width,
    frame::{Frame, Point},
    panel::{INK, TICK},
};

#[derive(Clone, Debug)]
pub(super) enum Layer {
    Density(Field),
    Scatter {
        points: Vec<Point>,
        colour: Colour,
        radius: f64,
        alpha: f64,
    },
    Line {
        points: Vec<Point>,
        colour: Colour,
        alpha: f64,
        width: f64,
        label: String,
    },
    Histogram {
        samples: Vec<f64>,
        bins: usize,
        colour: Colour,
        label: String,
    },
    /// Lengths with their names, from top to bottom.
    Bars {
        bars: Vec<(String, f64)>,
        colour: Colour,
    },
}

/// The density of the samples in each of `bins` equal bins of `range`; empty without samples.
fn bars(samples: &[f64], bins: usize, (low, high): Range) -> Vec<f64> {
    if samples.is_empty() {
        return Vec::new();
    }
    let width = (high - low) / bins as f64;
    let mut heights = vec![0.; bins];
    for v in samples.iter().filter(|v| (low..=high).contains(*v)) {
        heights[(((v - low) / width) as usize).min(bins - 1)] += 1. / (samples.len() as f64 * width);
    }
    heights
}

impl Layer {
    pub(super) fn draw(&self, canvas: &mut Canvas, frame: &Frame) {
        match self {
            Self::Density(field) => {
                const BANDS: usize = 32;
                let shade = |i: usize| Colour::viridis(i as f64 / (BANDS - 1) as f64);
                let corner = |x, y| frame.clamp(frame.at((x, y)));
                let (from, to) = (corner(field.grid.x.0, field.grid.y.1), corner(field.grid.x.1, field.grid.y.0));
                canvas.rectangle(from, to, shade(0), 1.);
                // Each band covers everything above its level, so that no seams show between bands.
                for (i, rings) in field.contours(BANDS).into_iter().enumerate() {
                    let place = |ring: Vec<Point>| ring.into_iter().map(|p| frame.clamp(frame.at(p))).collect();
                    canvas.area(rings.into_iter().map(place), shade(i + 1), 1.);
                }
            }
            Self::Scatter { points, colour, radius, alpha } => {
                for p in points.iter().map(|p| frame.at(*p)).filter(|p| frame.contains(*p)) {
                    canvas.disc(p, *radius, *colour, *alpha);
                }
            }
            Self::Line { points, colour, alpha, width, .. } => {
                let points: Vec<Point> = points.iter().map(|p| frame.at(*p)).collect();
                if let [p] = points[..]
                    && frame.contains(p)
                {
                    canvas.disc(p, 1.5 * width, *colour, *alpha);
                }
                for piece in frame.visible(&thin(&points)) {
                    canvas.path(piece, *colour, *alpha, *width);
                }
            }
            Self::Histogram { colour, .. } => {
                let steps = self.outline(frame);
                canvas.area([steps.clone()], *colour, 0.4);
                for piece in frame.visible(&steps) {
                    canvas.path(piece, *colour, 0.9, 0.8);
                }
            }
            Self::Bars { bars, colour } => {
                for (i, (name, length)) in bars.iter().enumerate() {
                    let y = |share: f64| (bars.len() - i) as f64 - share;
                    let (from, to) = (frame.clamp(frame.at((0., y(0.12)))), frame.clamp(frame.at((*length, y(0.88)))));
                    canvas.rectangle(from, to, *colour, 0.4);
                    let size = (0.6 * (to.1 - from.1)).clamp(4., TICK);
                    let room = frame.width - 8.;
                    let middle = (from.1 + to.1) / 2. + 0.365 * size;
                    canvas.text(&fitting(name, size, room), (frame.left + 4., middle), size, INK, Anchor::Start);
                }
            }
        }
    }

    /// The horizontal range of the data.
    pub(super) fn x_extent(&self) -> Option<Range> {
        match self {
            Self::Density(field) => Some(field.grid.x),
            Self::Scatter { points, .. } | Self::Line { points, .. } => extent(points.iter().map(|p| p.0)),
            Self::Histogram { samples, .. } => extent(samples.iter().copied()),
            Self::Bars { bars, .. } => extent(bars.iter().map(|bar| bar.1)).map(|(_, longest)| (0., longest)),
        }
    }

    /// The vertical range of the data, over the horizontal range `x`.
    pub(super) fn y_extent(&self, x: Range) -> Option<Range> {
        match self {
            Self::Density(field) => Some(field.grid.y),
            Self::Scatter { points, .. } | Self::Line { points, .. } => extent(points.iter().map(|p| p.1)),
            Self::Histogram { samples, bins, .. } => extent(bars(samples, *bins, x)).map(|(_, top)| (0., top)),
            Self::Bars { bars, .. } => Some((0., bars.len() as f64)),
        }
    }

    /// The layer's points or line on the page, which a legend should not cover.
    pub(super) fn outline(&self, frame: &Frame) -> Vec<Point> {
        match self {
            Self::Density(_) | Self::Bars { .. } => Vec::new(),
            Self::Scatter { points, .. } => points.iter().map(|p| frame.at(*p)).collect(),
            Self::Line { points, .. } => {
                let points: Vec<Point> = points.iter().map(|p| frame.at(*p)).collect();
                let between = points.windows(2).flat_map(|pair| between(pair[0], pair[1])).collect();
                [points, between].concat()
            }
            Self::Histogram { samples, bins, .. } => {
                let (low, high) = frame.x;
                let edge = |i: usize| low + (high - low) * i as f64 / *bins as f64;
                let bars = bars(samples, *bins, frame.x);
                let tops = bars.iter().enumerate().flat_map(|(i, h)| [(edge(i), *h), (edge(i + 1), *h)]);
                [(low, 0.)].into_iter().chain(tops).chain([(high, 0.)]).map(|p| frame.clamp(frame.at(p))).collect()
            }
        }
    }
}

/// The text, or as much of it as fits into this many pixels.
fn fitting(text: &str, size: f64, pixels: f64) -> String {
    if text_width(text, size) <= pixels {
        return text.to_string();
    }
    let mut short: String = text.chars().take(100).collect();
    while !short.is_empty() && text_width(&short, size) + text_width("...", size) > pixels {
        short.pop();
    }
    short + "..."
}

/// Points on the line from `a` to `b`, about 8 pixels apart, without the ends.
fn between(a: Point, b: Point) -> impl Iterator<Item = Point> {
    let steps = ((b.0 - a.0).hypot(b.1 - a.1) / 8.).min(1000.) as usize;
    (1..steps).map(move |i| i as f64 / steps as f64).map(move |t| (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1)))
}

/// Thins a line to at most four points per run through a column half a pixel wide: the first, lowest, highest and last,
/// which look the same.
fn thin(points: &[Point]) -> Vec<Point> {
    let column = |p: &Point| (2. * p.0).floor();
    let mut kept = Vec::new();
    for run in points.chunk_by(|a, b| column(a) == column(b)) {
        let by = |a: &usize, b: &usize| run[*a].1.total_cmp(&run[*b].1);
        let (low, high) = ((0..run.len()).min_by(by).unwrap_or(0), (0..run.len()).max_by(by).unwrap_or(0));
        let mut order = [0, low, high, run.len() - 1];
        order.sort_unstable();
        kept.extend(order.map(|i| run[i]));
    }
    kept
}
