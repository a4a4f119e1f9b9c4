//! A page to draw on: SVG by plotters, in tenths of a pixel, and its picture as PNG.

use super::Colour;
use crate::{Error, Result};
use image::RgbImage;
use plotters::{
    backend::{DrawingBackend, SVGBackend},
    style::{
        Color, FontTransform, RGBAColor, RGBColor, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};
use resvg::{tiny_skia, usvg};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// Where the given point of a text stands in it.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
    /// The middle of a text that runs upwards.
    Upwards,
}

type Point = (f64, f64);

/// The backend places things at whole units; ten to a pixel make its curves smooth.
const UNITS: f64 = 10.;
/// Verdana has the same widths, where a browser has no DejaVu.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

fn units(v: f64) -> i32 {
    (v * UNITS).round() as i32
}

fn place((x, y): Point) -> (i32, i32) {
    (units(x), units(y))
}

fn rgba(Colour(r, g, b): Colour, alpha: f64) -> RGBAColor {
    RGBColor(r, g, b).mix(alpha)
}

/// The points in whole units, without those that a straight line through their neighbours makes needless.
fn outline(points: impl IntoIterator<Item = Point>) -> Vec<(i32, i32)> {
    let mut kept: Vec<(i32, i32)> = Vec::new();
    for p in points.into_iter().map(place) {
        if let [.., a, b] = kept[..] {
            let step = |from: (i32, i32), to: (i32, i32)| {
                (i64::from(to.0) - i64::from(from.0), i64::from(to.1) - i64::from(from.1))
            };
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

/// Where the marks go. The backend writes into a string, which cannot fail, so its results are passed over.
pub(super) struct Canvas<'a>(SVGBackend<'a>);

impl Canvas<'_> {
    /// The SVG of `draw` on a page of `size` pixels.
    pub(super) fn svg(size: (u32, u32), draw: impl FnOnce(&mut Canvas)) -> String {
        let mut body = String::new();
        let (width, height) = (size.0 * UNITS as u32, size.1 * UNITS as u32);
        let mut canvas = Canvas(SVGBackend::with_string(&mut body, (width, height)));
        draw(&mut canvas);
        let _ = canvas.0.present();
        drop(canvas);
        // The page's size is in pixels, and joints are round.
        let head = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {width} {height}\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\">",
            size.0, size.1
        );
        body.split_once('>').map_or_else(String::new, |(_, rest)| head + rest)
    }

    /// A filled rectangle between two opposite corners, the upper left one first.
    pub(super) fn rectangle(&mut self, from: Point, to: Point, colour: Colour, alpha: f64) {
        let style = ShapeStyle::from(rgba(colour, alpha)).filled();
        let _ = self.0.draw_rect(place(from), place(to), &style, true);
    }

    /// A stroke through `points`.
    pub(super) fn path(&mut self, points: impl IntoIterator<Item = Point>, colour: Colour, alpha: f64, width: f64) {
        let style = ShapeStyle::from(rgba(colour, alpha)).stroke_width(units(width) as u32);
        let _ = self.0.draw_path(outline(points), &style);
    }

    /// The area inside `rings`; a ring of the other sense inside one is a hole.
    pub(super) fn area(&mut self, rings: impl IntoIterator<Item = Vec<Point>>, colour: Colour, alpha: f64) {
        // The backend fills one ring only: all are strung on one, by bridges that are walked both ways and so have
        // no area.
        let mut all = Vec::new();
        let mut home = None;
        for ring in rings {
            let ring = outline(ring);
            let Some(first) = ring.first().copied().filter(|_| ring.len() > 2) else { continue };
            all.extend(ring);
            all.push(first);
            all.push(*home.get_or_insert(first));
        }
        if !all.is_empty() {
            let _ = self.0.fill_polygon(all, &ShapeStyle::from(rgba(colour, alpha)));
        }
    }

    /// A filled disc.
    pub(super) fn disc(&mut self, centre: Point, radius: f64, colour: Colour, alpha: f64) {
        let style = ShapeStyle::from(rgba(colour, alpha)).filled();
        let _ = self.0.draw_circle(place(centre), units(radius).max(1) as u32, &style, true);
    }

    /// A text whose baseline goes through `at`.
    pub(super) fn text(&mut self, text: &str, at: Point, size: f64, colour: Colour, anchor: Anchor) {
        if text.is_empty() {
            return;
        }
        let (horizontal, turn) = match anchor {
            Anchor::Start => (HPos::Left, FontTransform::None),
            Anchor::Middle => (HPos::Center, FontTransform::None),
            Anchor::End => (HPos::Right, FontTransform::None),
            Anchor::Upwards => (HPos::Center, FontTransform::Rotate270),
        };
        // What the backend does to sizes (1.24) and to the vertical position (0.76 of the size) is undone here.
        let lift = 0.76 * size;
        let at = if matches!(anchor, Anchor::Upwards) { (at.0 - lift, at.1) } else { (at.0, at.1 - lift) };
        let colour = rgba(colour, 1.);
        let style = TextStyle::from((FAMILY, size * UNITS * 1.24))
            .color(&colour)
            .transform(turn)
            .pos(Pos::new(horizontal, VPos::Top));
        let _ = self.0.draw_text(&printable(text), &style, place(at));
    }
}

/// `text` without the characters that XML does not allow.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect()
}

fn parse(svg: &str) -> Result<usvg::Tree> {
    static FONTS: OnceLock<Arc<usvg::fontdb::Database>> = OnceLock::new();
    let fontdb = FONTS.get_or_init(|| {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_source(usvg::fontdb::Source::Binary(Arc::new(dejavu::sans::regular())));
        Arc::new(fonts)
    });
    let options = usvg::Options { fontdb: fontdb.clone(), font_family: "DejaVu Sans".into(), ..Default::default() };
    usvg::Tree::from_str(svg, &options).map_err(|e| Error::Data(format!("the figure is no valid SVG: {e}")))
}

/// The width of `text`, in pixels.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let page = (8 * (text.chars().count() as u32).clamp(1, 1000), 40);
    let svg = Canvas::svg(page, |c| c.text(text, (0., 20.), size, Colour::BLACK, Anchor::Start));
    parse(&svg).map_or(0., |tree| f64::from(tree.root().abs_bounding_box().right()))
}

/// The picture of `svg`, `scale` times as large.
pub(super) fn render(svg: &str, scale: f64) -> Result<RgbImage> {
    let tree = parse(svg)?;
    let (width, height) = (f64::from(tree.size().width()) * scale, f64::from(tree.size().height()) * scale);
    let pixels = (scale.is_finite() && scale > 0. && width.max(height) <= 20_000.)
        .then(|| tiny_skia::Pixmap::new(width.round().max(1.) as u32, height.round().max(1.) as u32))
        .flatten();
    let mut pixels = pixels.ok_or_else(|| {
        Error::Config(format!(
            "a picture of {width} x {height} pixels cannot be drawn; give another scale than {scale}"
        ))
    })?;
    pixels.fill(tiny_skia::Color::WHITE);
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale as f32, scale as f32), &mut pixels.as_mut());
    // The page is opaque, so the premultiplied colours are the colours.
    let rgb = pixels.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let mut image = RgbImage::from_raw(pixels.width(), pixels.height(), rgb)
        .ok_or_else(|| Error::Config("the picture does not fit into memory; give a smaller scale".into()))?;
    round_rare_colours(&mut image);
    Ok(image)
}

/// Rounds the colours of edges, which blend two others and are thousands, to 16 levels a channel: no eye sees it, and
/// the file is half as large. The flat colours stay as they are.
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
