//! Pictures of sound.

use candle_core::{Device, Tensor};
use flows_core::Result;
use flows_core::plot::{Colour, write_image};
use std::path::Path;

/// Pixels between spectrograms.
const GAP: usize = 6;

/// The largest width of a picture in pixels.
const WIDEST: usize = 1600;

/// Writes log-mel spectrograms, each row-major (bands, frames), one below the other with low bands at the bottom and on
/// one scale of colours.
pub fn draw(spectrograms: &[Vec<f32>], bands: usize, path: &Path) -> Result<()> {
    let frames = spectrograms.iter().map(|mel| mel.len() / bands).max().unwrap_or(1).max(1);
    let zoom = (WIDEST / frames).clamp(1, 4);
    let frames = frames.min(WIDEST);
    let (width, each) = (frames * zoom, bands * 2);
    let height = spectrograms.len() * (each + GAP) - GAP;
    let (low, high) = spectrograms.iter().flatten().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let mut pixels = vec![1f32; 3 * width * height];
    for (i, mel) in spectrograms.iter().enumerate() {
        let columns = mel.len() / bands;
        for y in 0..each {
            for x in 0..width.min(columns * zoom) {
                let value = mel[(bands - 1 - y / 2) * columns + x / zoom];
                let Colour(r, g, b) = Colour::viridis(f64::from((value - low) / (high - low).max(1e-6)));
                let at = (i * (each + GAP) + y) * width + x;
                for (c, level) in [r, g, b].into_iter().enumerate() {
                    pixels[c * width * height + at] = f32::from(level) / 255.0;
                }
            }
        }
    }
    write_image(&Tensor::from_vec(pixels, (1, 3, height, width), &Device::Cpu)?, path)
}
