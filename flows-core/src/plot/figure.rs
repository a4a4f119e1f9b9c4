//! Panels in a grid, and their files.

use super::{Colour, Panel, canvas::Canvas, frame::Frame, images::write_filtered, panel::widest_label};
use crate::files::write_atomically;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use image::{RgbImage, codecs::png::FilterType};
use std::io::Write;
use std::path::Path;

/// Panels of equal size, arranged in rows.
#[derive(Clone, Debug)]
pub struct Figure {
    columns: usize,
    size: (u32, u32),
    panels: Vec<Panel>,
}

impl Figure {
    /// A figure with `columns` panels per row, each of `size` (width, height) pixels including its labels.
    pub fn new(columns: usize, size: (u32, u32)) -> Self {
        Self { columns: columns.max(1), size, panels: Vec::new() }
    }

    /// Adds a panel; panels fill the rows from left to right.
    pub fn panel(mut self, panel: Panel) -> Self {
        self.panels.push(panel);
        self
    }

    /// The figure as SVG.
    ///
    /// # Errors
    /// When a range is empty, or a panel is too small or the figure too large to be drawn.
    pub fn svg(&self) -> Result<String> {
        Ok(self.draw()?.svg())
    }

    /// All panels on one page.
    fn draw(&self) -> Result<Canvas> {
        const SIDE: u32 = 20_000;
        self.panels.iter().try_for_each(Panel::check)?;
        let (columns, rows) =
            (self.columns.min(self.panels.len()).max(1), self.panels.len().div_ceil(self.columns).max(1));
        let (width, height) = self.size;
        let total = (width.saturating_mul(columns as u32), height.saturating_mul(rows as u32));
        if width.min(height) < 100 || total.0.max(total.1) > SIDE {
            let message = format!(
                "a figure of {columns} x {rows} panels of {width} x {height} pixels cannot be drawn; \
                 give a panel at least 100 pixels per side, and the figure at most {SIDE}"
            );
            return Err(Error::Config(message));
        }
        let frames = self.frames((f64::from(width), f64::from(height)));
        let mut canvas = Canvas::new(total);
        canvas.rectangle((0., 0.), (f64::from(total.0), f64::from(total.1)), Colour::WHITE, 1.);
        for (panel, frame) in self.panels.iter().zip(&frames) {
            panel.draw(&mut canvas, frame);
        }
        Ok(canvas)
    }

    /// The frames of the panels, with equal margins so that the axes are aligned.
    fn frames(&self, (width, height): (f64, f64)) -> Vec<Frame> {
        let any = |f: &dyn Fn(&Panel) -> bool| self.panels.iter().any(f);
        let room = |wanted: bool, pixels: f64| if wanted { pixels } else { 0. };
        let right = if any(&|p| p.ticks) { 16. } else { 10. };
        let top = 10. + room(any(&|p| !p.title.is_empty()), 20.);
        let bottom = 8. + room(any(&|p| p.ticks), 16.) + room(any(&|p| !p.labels.0.is_empty()), 17.);
        let inner_height = (height - top - bottom).max(20.);
        let tick_width = |p: &Panel| room(p.ticks, widest_label(&p.y_ticks(p.ranges().1, inner_height)) + 7.);
        let labels = self.panels.iter().map(tick_width).fold(0., f64::max);
        let left = 10. + labels + room(any(&|p| !p.labels.1.is_empty()), 18.);
        let inner = ((width - left - right).max(20.), inner_height);
        let frame = |(i, panel): (usize, &Panel)| {
            let (x, y) = panel.ranges();
            let (mut w, mut h) = inner;
            if panel.equal {
                let unit = (w / (x.1 - x.0)).min(h / (y.1 - y.0));
                (w, h) = (unit * (x.1 - x.0), unit * (y.1 - y.0));
            }
            let corner = (width * (i % self.columns) as f64 + left, height * (i / self.columns) as f64 + top);
            let (left, top) = (corner.0 + (inner.0 - w) / 2., corner.1 + (inner.1 - h) / 2.);
            Frame { left, top, width: w, height: h, room: inner.0, x, y }
        };
        self.panels.iter().enumerate().map(frame).collect()
    }

    /// Writes the figure as SVG, atomically.
    ///
    /// # Errors
    /// Same as [`Figure::svg`], and when the file cannot be written.
    pub fn write_svg(&self, path: impl AsRef<Path>) -> Result<()> {
        let (path, svg) = (path.as_ref(), self.svg()?);
        write_atomically(path, |file| file.write_all(svg.as_bytes()).map_err(|e| Error::unwritten(path, e)))
    }

    /// Renders the figure to pixels, `scale` times as large.
    ///
    /// # Errors
    /// Same as [`Figure::svg`], and when the scale is not a positive number.
    pub fn image(&self, scale: f64) -> Result<RgbImage> {
        self.draw()?.pixels(scale)
    }

    /// Writes the figure as PNG, `scale` times its size in pixels, atomically.
    ///
    /// # Errors
    /// Same as [`Figure::svg`], when the file cannot be written, or when the picture would be empty or too large.
    pub fn write_png(&self, path: impl AsRef<Path>, scale: f64) -> Result<()> {
        write_filtered(&self.image(scale)?, path.as_ref(), FilterType::NoFilter)
    }

    /// Writes the figure in the format of `path`'s extension: `svg`, or `png` at twice its size.
    ///
    /// # Errors
    /// Same as [`Figure::svg`], when the file cannot be written, or for another extension.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => self.write_svg(path),
            Some("png") => self.write_png(path, 2.),
            _ => Err(Error::file(
                path,
                "is not a .svg or .png file, the formats of figures; use one of these extensions",
            )),
        }
    }
}

/// The rows of a tensor (N, 2), on any device, as points.
///
/// # Errors
/// When the shape is wrong.
pub fn points(tensor: &Tensor) -> Result<Vec<(f64, f64)>> {
    match tensor.dims() {
        [_, 2] => {
            let rows = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
            Ok(rows.into_iter().map(|p| (p[0], p[1])).collect())
        }
        dims => Err(Error::shape("points", dims, "(N, 2)")),
    }
}
