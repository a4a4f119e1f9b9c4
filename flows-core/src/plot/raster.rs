//! Rendering of a page to pixels.

use super::{
    Colour,
    canvas::{Anchor, Canvas, Mark, Place, Shape, UNITS},
    font::{text_outline, text_width},
};
use crate::{Error, Result};
use image::RgbImage;
use std::collections::HashMap;
use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, Transform};

impl Canvas {
    /// Renders the page to pixels, `scale` times as large.
    ///
    /// # Errors
    /// When the picture would be empty or too large.
    pub(super) fn pixels(&self, scale: f64) -> Result<RgbImage> {
        let (width, height) = (f64::from(self.size.0) * scale, f64::from(self.size.1) * scale);
        let pixels = (scale.is_finite() && scale > 0. && width.max(height) <= 20_000.)
            .then(|| Pixmap::new(width.round().max(1.) as u32, height.round().max(1.) as u32))
            .flatten();
        let mut pixels = pixels.ok_or_else(|| {
            Error::Config(format!(
                "a picture of {width} x {height} pixels cannot be drawn; give another scale than {scale}"
            ))
        })?;
        pixels.fill(Color::WHITE);
        let scale = (scale / UNITS) as f32;
        for mark in &self.marks {
            draw(mark, &mut pixels, Transform::from_scale(scale, scale));
        }
        // The page is opaque, so the premultiplied colours are the colours.
        let rgb = pixels.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        let mut image = RgbImage::from_raw(pixels.width(), pixels.height(), rgb)
            .ok_or_else(|| Error::Config("the picture does not fit into memory; give a smaller scale".into()))?;
        round_rare_colours(&mut image);
        Ok(image)
    }
}

fn draw(Mark { shape, colour: Colour(r, g, b), alpha }: &Mark, pixels: &mut Pixmap, transform: Transform) {
    let mut paint = Paint::default();
    paint.set_color_rgba8(*r, *g, *b, (alpha * 255.).round() as u8);
    let mut fill = |path: Option<Path>, transform: Transform| {
        if let Some(path) = path {
            pixels.fill_path(&path, &paint, FillRule::Winding, transform, None);
        }
    };
    match shape {
        Shape::Area(rings) => {
            let mut path = PathBuilder::new();
            for ring in rings {
                add_points(&mut path, ring);
                path.close();
            }
            fill(path.finish(), transform);
        }
        Shape::Disc { centre, radius } => {
            fill(PathBuilder::from_circle(centre.0 as f32, centre.1 as f32, *radius as f32), transform);
        }
        Shape::Text { text, at, size, anchor } => {
            let share = match anchor {
                Anchor::Start => 0.,
                Anchor::Middle | Anchor::Upwards => 0.5,
                Anchor::End => 1.,
            };
            let before = -share * text_width(text, f64::from(*size)) as f32;
            let transform = transform.pre_translate(at.0 as f32, at.1 as f32);
            let turn = if matches!(anchor, Anchor::Upwards) { -90. } else { 0. };
            let transform = transform.pre_concat(Transform::from_rotate(turn)).pre_translate(before, 0.);
            fill(text_outline(text, *size as f32), transform);
        }
        Shape::Stroke { points, width } => {
            let mut path = PathBuilder::new();
            add_points(&mut path, points);
            let (line_cap, line_join) = (LineCap::Round, LineJoin::Round);
            let stroke = Stroke { width: *width as f32, line_cap, line_join, ..Stroke::default() };
            if let Some(path) = path.finish() {
                pixels.stroke_path(&path, &paint, &stroke, transform, None);
            }
        }
    }
}

/// Moves to the first of `points` and draws lines through the others.
fn add_points(path: &mut PathBuilder, points: &[Place]) {
    for (i, (x, y)) in points.iter().map(|p| (p.0 as f32, p.1 as f32)).enumerate() {
        if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
}

/// Rounds the thousands of blended colours at antialiased edges to 16 levels per channel, which is invisible and halves
/// the file. Flat colours are kept.
fn round_rare_colours(image: &mut RgbImage) {
    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    for p in image.pixels() {
        *counts.entry(p.0).or_default() += 1;
    }
    let rare = image.width() as usize * image.height() as usize / 2000;
    let round = |v: u8| ((u16::from(v) + 8) / 17 * 17) as u8;
    for p in image.pixels_mut().filter(|p| counts.get(&p.0).is_some_and(|n| *n < rare)) {
        p.0 = p.0.map(round);
    }
}
