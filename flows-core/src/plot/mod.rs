//! Figures for papers and documentation: densities, samples, curves, histograms and grids of images.
//!
//! A [`Figure`] is rendered as SVG or, with an embedded font, as pixels, both from the same marks, so that it looks the
//! same on every machine, whatever fonts are installed.
//!
//! ```
//! use flows_core::plot::{Colour, Figure, Grid, Panel};
//! let grid = Grid::new((-3., 3.), (-3., 3.), 60)?;
//! let field = grid.map(|x, y| (-0.5 * (x * x + y * y)).exp());
//! let panel = Panel::new("A normal density").equal_aspect().density(field).scatter(&[(0.3, -1.)], Colour::WHITE, 1.5, 0.8);
//! let svg = Figure::new(1, (320, 320)).panel(panel).svg()?;
//! assert!(svg.contains("A normal density"));
//! # Ok::<(), flows_core::Error>(())
//! ```

mod animation;
mod axis;
mod canvas;
mod colour;
mod field;
mod figure;
mod font;
mod frame;
mod images;
mod layer;
mod loss;
mod map;
mod panel;
mod raster;
mod svg;
mod window;

pub use animation::write_gif;
pub use colour::Colour;
pub use field::{Field, Grid};
pub use figure::{Figure, points};
pub use images::{image_grid, write_image, write_png};
pub use loss::loss_curve;
pub use map::{line_map, plane_map};
pub use panel::Panel;
pub use window::{Window, window};

#[cfg(test)]
mod tests;
