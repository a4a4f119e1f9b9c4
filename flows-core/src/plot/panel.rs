//! One set of axes.

use super::{
    Colour, Field,
    axis::{Range, drawable, join, ticks, widen},
    canvas::{Anchor, Canvas},
    font::text_width,
    frame::{Frame, Point},
    layer::Layer,
};
use crate::{Error, Result};

pub(super) const INK: Colour = Colour(0x33, 0x33, 0x33);
const AXIS: Colour = Colour(0x70, 0x70, 0x70);
const GUIDE: Colour = Colour(0xea, 0xea, 0xea);
const TITLE: f64 = 12.5;
const LABEL: f64 = 11.;
pub(super) const TICK: f64 = 10.;

/// A set of axes and its layers, drawn in the order in which they were added.
///
/// NaN and infinities in the data are skipped; a panel without data shows its axes.
#[derive(Clone, Debug)]
pub struct Panel {
    pub(super) title: String,
    pub(super) labels: (String, String),
    pub(super) x: Option<Range>,
    pub(super) y: Option<Range>,
    pub(super) equal: bool,
    pub(super) ticks: bool,
    pub(super) layers: Vec<Layer>,
}

impl Panel {
    /// An empty panel; an empty title takes no space.
    pub fn new(title: impl Into<String>) -> Self {
        let labels = Default::default();
        Self { title: title.into(), labels, x: None, y: None, equal: false, ticks: true, layers: Vec::new() }
    }

    /// Labels the axes.
    pub fn labels(mut self, x: impl Into<String>, y: impl Into<String>) -> Self {
        self.labels = (x.into(), y.into());
        self
    }

    /// Shows `low` to `high` on the horizontal axis instead of the range of the data.
    pub fn x_range(mut self, low: f64, high: f64) -> Self {
        self.x = Some((low, high));
        self
    }

    /// Shows `low` to `high` on the vertical axis instead of the range of the data.
    pub fn y_range(mut self, low: f64, high: f64) -> Self {
        self.y = Some((low, high));
        self
    }

    /// Gives a unit the same length on both axes.
    pub fn equal_aspect(mut self) -> Self {
        self.equal = true;
        self
    }

    /// Omits ticks and their labels.
    pub fn without_ticks(mut self) -> Self {
        self.ticks = false;
        self
    }

    /// Adds filled contours of `field`, from dark (0) to bright.
    pub fn density(self, field: Field) -> Self {
        self.with(Layer::Density(field))
    }

    /// Adds discs of `radius` pixels and opacity `alpha` at `points`.
    pub fn scatter(self, points: &[(f64, f64)], colour: Colour, radius: f64, alpha: f64) -> Self {
        self.with(Layer::Scatter { points: points.to_vec(), colour, radius, alpha })
    }

    /// Adds a line through `points`, broken at points that cannot be drawn; a non-empty label puts it in the legend.
    pub fn line(self, points: &[(f64, f64)], colour: Colour, label: impl Into<String>) -> Self {
        self.stroke(points, colour, 1., 1.6, label)
    }

    /// [`Panel::line`] with opacity `alpha` and `width` pixels.
    pub fn stroke(
        self,
        points: &[(f64, f64)],
        colour: Colour,
        alpha: f64,
        width: f64,
        label: impl Into<String>,
    ) -> Self {
        self.with(Layer::Line { points: points.to_vec(), colour, alpha, width, label: label.into() })
    }

    /// Adds the histogram of `samples` in `bins` bins over the horizontal range, of area 1 (less, if the range excludes
    /// some); a non-empty label puts it in the legend.
    pub fn histogram(self, samples: &[f64], bins: usize, colour: Colour, label: impl Into<String>) -> Self {
        let samples = samples.iter().copied().filter(|v| drawable(*v)).collect();
        self.with(Layer::Histogram { samples, bins: bins.clamp(1, 10_000), colour, label: label.into() })
    }

    /// Adds a bar for each name and its length, from top to bottom; the vertical axis has no numbers then.
    pub fn bars(self, bars: &[(String, f64)], colour: Colour) -> Self {
        self.with(Layer::Bars { bars: bars.to_vec(), colour })
    }

    fn with(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        for (axis, range) in [("horizontal", self.x), ("vertical", self.y)] {
            if let Some((low, high)) = range.filter(|r| !(drawable(r.0) && drawable(r.1) && r.0 < r.1)) {
                let message =
                    format!("the {axis} range {low} to {high} of a panel is empty; give a low and a high end");
                return Err(Error::Config(message));
            }
        }
        Ok(())
    }

    fn has_bars(&self) -> bool {
        self.layers.iter().any(|l| matches!(l, Layer::Bars { .. }))
    }

    /// The ticks of the vertical axis of `height` pixels.
    pub(super) fn y_ticks(&self, range: Range, height: f64) -> Vec<(f64, String)> {
        if self.has_bars() { Vec::new() } else { ticks(range, height / 60.) }
    }

    fn has_density(&self) -> bool {
        self.layers.iter().any(|l| matches!(l, Layer::Density(_)))
    }

    /// The ranges that the axes show; if there are densities, they alone determine the ranges and fill the panel.
    pub(super) fn ranges(&self) -> (Range, Range) {
        let dense = self.has_density();
        let deciding = || self.layers.iter().filter(|l| !dense || matches!(l, Layer::Density(_)));
        let air = if dense { 0. } else { 0.04 };
        let range = |widest: Option<Range>| widest.map_or((0., 1.), |r| widen(r, air));
        let named = self.has_bars();
        let from_0 = |(low, high)| (if named { 0. } else { low }, high);
        let x = self.x.unwrap_or_else(|| from_0(range(deciding().filter_map(Layer::x_extent).reduce(join))));
        let y = self.y.unwrap_or_else(|| {
            let widest = deciding().filter_map(|l| l.y_extent(x)).reduce(join);
            let (low, high) = range(widest);
            // Bars start at the axis.
            let bars = self.layers.iter().any(|l| matches!(l, Layer::Histogram { .. } | Layer::Bars { .. }));
            (if bars && widest.is_some_and(|w| w.0 == 0.) { 0. } else { low }, high)
        });
        (x, y)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, frame: &Frame) {
        let (left, right) = (frame.left, frame.left + frame.width);
        let (top, bottom) = (frame.top, frame.top + frame.height);
        let (x_ticks, y_ticks) = (ticks(frame.x, frame.width / 70.), self.y_ticks(frame.y, frame.height));
        let boxed = self.equal || self.has_density();
        if self.ticks && !boxed {
            for (v, _) in &y_ticks {
                let y = frame.at((0., *v)).1;
                canvas.path([(left, y), (right, y)], GUIDE, 1., 0.8);
            }
        }
        for layer in &self.layers {
            layer.draw(canvas, frame);
        }
        self.legend(canvas, frame);
        let edge: &[Point] = &[(left, top), (left, bottom), (right, bottom), (right, top), (left, top)];
        canvas.path(edge[..if boxed { 5 } else { 3 }].iter().copied(), AXIS, 1., 0.8);
        if self.ticks {
            for (v, label) in &x_ticks {
                let x = frame.at((*v, 0.)).0;
                canvas.path([(x, bottom), (x, bottom + 4.)], AXIS, 1., 0.8);
                canvas.text(label, (x, bottom + 7. + 0.76 * TICK), TICK, INK, Anchor::Middle);
            }
            for (v, label) in &y_ticks {
                let y = frame.at((0., *v)).1;
                canvas.path([(left - 4., y), (left, y)], AXIS, 1., 0.8);
                canvas.text(label, (left - 7., y + 0.365 * TICK), TICK, INK, Anchor::End);
            }
        }
        let centre = (left + frame.width / 2., top + frame.height / 2.);
        let title = TITLE * (frame.room / text_width(&self.title, TITLE)).min(1.);
        canvas.text(&self.title, (centre.0, top - 8.), title, INK, Anchor::Middle);
        let below = bottom + if self.ticks { 33. } else { 17. };
        canvas.text(&self.labels.0, (centre.0, below), LABEL, INK, Anchor::Middle);
        let beside = left - 9. - if self.ticks { widest_label(&y_ticks) + 7. } else { 0. };
        canvas.text(&self.labels.1, (beside, centre.1), LABEL, INK, Anchor::Upwards);
    }

    /// Draws the legend in the corner with the fewest points of lines.
    fn legend(&self, canvas: &mut Canvas, frame: &Frame) {
        const ROW: f64 = 16.;
        let entries: Vec<(&str, Colour, bool)> = self
            .layers
            .iter()
            .filter_map(|layer| match layer {
                Layer::Line { label, colour, .. } => Some((label.as_str(), *colour, false)),
                Layer::Histogram { label, colour, .. } => Some((label.as_str(), *colour, true)),
                _ => None,
            })
            .filter(|(label, ..)| !label.is_empty())
            .collect();
        if entries.is_empty() {
            return;
        }
        let widest = entries.iter().map(|(label, ..)| text_width(label, TICK)).fold(0., f64::max);
        let (width, height) = (widest + 46., ROW * entries.len() as f64 + 12.);
        let (right, bottom) = (frame.left + frame.width - width, frame.top + frame.height - height);
        let covered = |corner: &Point| -> usize {
            let inside =
                |(x, y): Point| (corner.0..corner.0 + width).contains(&x) && (corner.1..corner.1 + height).contains(&y);
            self.layers.iter().map(|l| l.outline(frame).into_iter().filter(|p| inside(*p)).count()).sum()
        };
        // The first among equally free corners.
        let corners = [(right, frame.top), (frame.left, frame.top), (right, bottom), (frame.left, bottom)];
        let (x, y) = corners.into_iter().min_by_key(covered).unwrap_or(corners[0]);
        canvas.rectangle((x, y), (x + width, y + height), Colour::WHITE, 0.8);
        for (i, (label, colour, bar)) in entries.into_iter().enumerate() {
            let middle = y + 6. + ROW * (i as f64 + 0.5);
            if bar {
                canvas.rectangle((x + 8., middle - 4.), (x + 28., middle + 4.), colour, 0.4);
            } else {
                canvas.path([(x + 8., middle), (x + 28., middle)], colour, 1., 1.8);
            }
            canvas.text(label, (x + 34., middle + 0.365 * TICK), TICK, INK, Anchor::Start);
        }
    }
}

/// The width of the widest label, in pixels.
pub(super) fn widest_label(ticks: &[(f64, String)]) -> f64 {
    ticks.iter().map(|(_, label)| text_width(label, TICK)).fold(0., f64::max)
}
