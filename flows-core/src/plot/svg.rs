//! Rendering of a page to SVG.

use super::{
    Colour,
    canvas::{Anchor, Canvas, Mark, Place, Shape, UNITS},
};
use std::fmt::{self, Write};

/// Verdana has the same widths, for browsers without DejaVu.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

impl Canvas {
    /// The page as SVG, whose numbers are tenths of a pixel.
    pub(super) fn svg(&self) -> String {
        let mut svg = String::new();
        // Writing to a string cannot fail.
        let _ = write(self, &mut svg);
        svg
    }
}

fn write(canvas: &Canvas, svg: &mut String) -> fmt::Result {
    let (width, height) = canvas.size;
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\" \
         stroke-linejoin=\"round\" stroke-linecap=\"round\" font-family=\"{FAMILY}\">",
        f64::from(width) * UNITS,
        f64::from(height) * UNITS
    )?;
    for Mark { shape, colour: Colour(r, g, b), alpha } in &canvas.marks {
        let colour = format!("#{r:02x}{g:02x}{b:02x}");
        let opacity = |name: &str| if *alpha < 1. { format!(" {name}-opacity=\"{alpha}\"") } else { String::new() };
        match shape {
            Shape::Area(rings) => {
                write!(svg, "<path fill=\"{colour}\"{} d=\"", opacity("fill"))?;
                for ring in rings {
                    write_points(svg, ring)?;
                    svg.push('Z');
                }
                writeln!(svg, "\"/>")?;
            }
            Shape::Stroke { points, width } => {
                write!(svg, "<path fill=\"none\" stroke=\"{colour}\"{}", opacity("stroke"))?;
                write!(svg, " stroke-width=\"{width}\" d=\"")?;
                write_points(svg, points)?;
                writeln!(svg, "\"/>")?;
            }
            Shape::Disc { centre: (x, y), radius } => {
                writeln!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{colour}\"{}/>", opacity("fill"))?;
            }
            Shape::Text { text, at: (x, y), size, anchor } => {
                let (align, turn) = match anchor {
                    Anchor::Start => ("start", String::new()),
                    Anchor::Middle => ("middle", String::new()),
                    Anchor::End => ("end", String::new()),
                    Anchor::Upwards => ("middle", format!(" transform=\"rotate(-90 {x} {y})\"")),
                };
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                writeln!(
                    svg,
                    "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{align}\" fill=\"{colour}\"{turn}>\
                     {text}</text>"
                )?;
            }
        }
    }
    writeln!(svg, "</svg>")
}

/// Moves to the first of `points` and draws lines through the others.
fn write_points(svg: &mut String, points: &[Place]) -> fmt::Result {
    points.iter().enumerate().try_for_each(|(i, (x, y))| write!(svg, "{}{x} {y}", if i == 0 { 'M' } else { 'L' }))
}
