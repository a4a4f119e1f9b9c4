//! Grids of images, and PNG files.

use crate::files::write_atomically;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use image::{
    ExtendedColorType, ImageEncoder, Rgb, RgbImage,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use std::io::Write;
use std::path::Path;

/// The images (N, C, H, W) with values in [0, 1], C of 1 (grey) or 3 (RGB), in rows of `columns`, on white with two
/// pixels between them.
///
/// Small images are enlarged by an integer factor to at most 64 pixels. Values outside [0, 1] are clamped, and NaN is
/// black.
///
/// # Errors
/// When the shape is wrong.
pub fn image_grid(images: &Tensor, columns: usize) -> Result<RgbImage> {
    const GAP: usize = 2;
    let wrong = || Error::shape("images", images.dims(), "(N, 1, H, W) or (N, 3, H, W) with H and W of 1 to 16384");
    let &[n, channels, height, width] = images.dims() else { return Err(wrong()) };
    if !matches!(channels, 1 | 3) || !(1..=16384).contains(&height) || !(1..=16384).contains(&width) {
        return Err(wrong());
    }
    let columns = columns.clamp(1, n.max(1));
    let zoom = (64 / height.max(width)).max(1);
    let pitch = (width * zoom + GAP, height * zoom + GAP);
    let size = |count: usize, pitch: usize| u32::try_from(count * pitch + GAP).ok().filter(|s| *s <= 1 << 17);
    let (Some(w), Some(h)) = (size(columns, pitch.0), size(n.div_ceil(columns), pitch.1)) else {
        return Err(Error::Config(format!("the picture of {n} images in rows of {columns} is too large; show fewer")));
    };
    let values = images.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let mut page = RgbImage::from_pixel(w, h, Rgb([255; 3]));
    for (i, image) in values.chunks_exact(channels * height * width).enumerate() {
        let (left, top) = (GAP + i % columns * pitch.0, GAP + i / columns * pitch.1);
        for y in 0..height * zoom {
            for x in 0..width * zoom {
                let at = y / zoom * width + x / zoom;
                let level = |c: usize| (image[c % channels * height * width + at].clamp(0., 1.) * 255.).round() as u8;
                page.put_pixel((left + x) as u32, (top + y) as u32, Rgb([level(0), level(1), level(2)]));
            }
        }
    }
    Ok(page)
}

/// Writes `image` as a PNG file, atomically.
///
/// # Errors
/// When the file cannot be written.
pub fn write_png(image: &RgbImage, path: impl AsRef<Path>) -> Result<()> {
    write_filtered(image, path.as_ref(), FilterType::Adaptive)
}

/// Writes one image, (1, C, H, W) with values in [0, 1], as a PNG file of its own size.
///
/// # Errors
/// When the shape is wrong or the file cannot be written.
pub fn write_image(image: &Tensor, path: impl AsRef<Path>) -> Result<()> {
    let (count, channels, height, width) = image.dims4()?;
    if count != 1 || !matches!(channels, 1 | 3) {
        return Err(Error::shape("an image to be written", image.dims(), "(1, 1, H, W) or (1, 3, H, W)"));
    }
    let values = image.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let at = |x: u32, y: u32| {
        let place = y as usize * width + x as usize;
        let level = |c: usize| (values[c % channels * height * width + place] * 255.0).round() as u8;
        Rgb([level(0), level(1), level(2)])
    };
    write_png(&RgbImage::from_fn(width as u32, height as u32, at), path)
}

/// [`write_png`] with a given filter; flat colours compress best without one.
pub(super) fn write_filtered(image: &RgbImage, path: &Path, filter: FilterType) -> Result<()> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, filter)
        .write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)
        .map_err(|error| Error::file(path, format!("cannot be encoded: {error}")))?;
    write_atomically(path, |file| file.write_all(&bytes).map_err(|e| Error::unwritten(path, e)))
}
