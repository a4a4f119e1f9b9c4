//! The embedded font: the widths of texts and the outlines of their glyphs.

use std::sync::OnceLock;
use tiny_skia::{Path, PathBuilder};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

/// DejaVu Sans, embedded so that a figure looks the same on every machine.
fn face() -> Option<&'static Face<'static>> {
    static FACE: OnceLock<Option<Face>> = OnceLock::new();
    FACE.get_or_init(|| Face::parse(dejavu::sans::regular(), 0).ok()).as_ref()
}

/// The glyphs of `text` with their start positions, and the end of the last one, in font units.
fn layout(face: &Face, text: &str) -> (Vec<(GlyphId, f32)>, f32) {
    let kerning = |pair: (GlyphId, GlyphId)| {
        let tables = face.tables().kern.into_iter().flat_map(|kern| kern.subtables);
        let tables = tables.filter(|table| table.horizontal && !table.has_cross_stream && !table.has_state_machine);
        f32::from(tables.filter_map(|table| table.glyphs_kerning(pair.0, pair.1)).sum::<i16>())
    };
    let (mut glyphs, mut end) = (Vec::new(), 0.);
    for glyph in text.chars().map(|c| face.glyph_index(c).unwrap_or_default()) {
        if let Some((previous, _)) = glyphs.last() {
            end += kerning((*previous, glyph));
        }
        glyphs.push((glyph, end));
        end += f32::from(face.glyph_hor_advance(glyph).unwrap_or(0));
    }
    (glyphs, end)
}

/// The width of `text` of this size.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    face().map_or(0., |face| f64::from(layout(face, text).1) * size / f64::from(face.units_per_em()))
}

/// The outlines of `text` of this size, starting at the origin with the baseline to the right; none if it is blank.
pub(super) fn text_outline(text: &str, size: f32) -> Option<Path> {
    let face = face()?;
    let scale = size / f32::from(face.units_per_em());
    let mut outline = Outline { path: PathBuilder::new(), scale, x: 0. };
    for (glyph, at) in layout(face, text).0 {
        outline.x = at;
        face.outline_glyph(glyph, &mut outline);
    }
    outline.path.finish()
}

/// Collects the outline of a glyph that starts at `x`; the font's vertical axis points up, the page's down.
struct Outline {
    path: PathBuilder,
    scale: f32,
    x: f32,
}

impl Outline {
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        ((self.x + x) * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.place(x1, y1), self.place(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.place(x1, y1), self.place(x2, y2), self.place(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
