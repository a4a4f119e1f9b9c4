//! Decoding of image files.

use super::Images;
use super::fit::{Fit, planes};
use crate::{Error, Result};
use image::{DynamicImage, ImageError, ImageReader, Rgb, RgbImage};
use std::io::{BufRead, Seek};
use std::path::Path;

/// The shape (C, H, W) and the pixel values of one image.
pub(super) type Decoded = ([usize; 3], Vec<u8>);

/// Reads an image file as pixel values (C, H, W), where C is 1 for greyscale files and 3 otherwise. 16 bits are reduced
/// to 8, and transparent pixels are blended with white.
///
/// # Errors
/// When the file is missing, not an image, damaged, or would take more than 512 MiB.
pub fn read_image(path: &Path) -> Result<Decoded> {
    decode(path, ImageReader::open(path).map_err(|e| unreadable(path, e.into()))?)
}

/// Decodes an image as [`read_image`] does; errors name `path`.
pub(super) fn decode(path: &Path, reader: ImageReader<impl BufRead + Seek>) -> Result<Decoded> {
    // By its content: the extension may be wrong.
    let reader = reader.with_guessed_format().map_err(|e| unreadable(path, e.into()))?;
    let image = reader.decode().map_err(|e| unreadable(path, e))?;
    let size = [image.height() as usize, image.width() as usize];
    if size.contains(&0) {
        return Err(Error::file(path, "is an image without pixels; restore or remove it"));
    }
    let image = if image.color().has_alpha() { DynamicImage::ImageRgb8(on_white(&image)) } else { image };
    if image.color().has_color() {
        return Ok(([3, size[0], size[1]], planes(&image.to_rgb8())));
    }
    Ok(([1, size[0], size[1]], image.to_luma8().into_raw()))
}

fn unreadable(path: &Path, error: ImageError) -> Error {
    match error {
        ImageError::Limits(e) => Error::file(path, format!("is too large an image ({e}); scale it down or remove it")),
        e => Error::file(path, format!("cannot be read as an image ({e}); restore or remove it")),
    }
}

fn on_white(image: &DynamicImage) -> RgbImage {
    let image = image.to_rgba8();
    let pixel = |x: u32, y: u32| {
        let [r, g, b, alpha] = image.get_pixel(x, y).0.map(u32::from);
        Rgb([r, g, b].map(|colour| ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    };
    RgbImage::from_fn(image.width(), image.height(), pixel)
}

/// One encoded image of a collection.
pub(super) struct Item {
    /// Its file, or another name for messages.
    pub name: String,
    /// Its class, if it is known.
    pub label: Option<u32>,
    pub image: Result<Decoded>,
}

/// Decodes images, which must have one shape after `fit`, with their names, and with their classes if all are known.
///
/// An image that cannot be read is an error; if `skip` is given, the error is passed to it and the image is skipped.
pub(super) fn collect(
    items: impl Iterator<Item = Result<Item>>,
    fit: &Fit,
    mut skip: Option<&mut dyn FnMut(Error)>,
) -> Result<(Images, Option<Vec<u32>>)> {
    let mut shape: Option<([usize; 3], String)> = None;
    let (mut values, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        let Item { name, label, image } = item?;
        let image = image.and_then(|(shape, values)| fit.apply(shape, values).map_err(|e| Error::file(&name, e)));
        let (mut own, mut colours) = match (image, &mut skip) {
            (Ok(image), _) => image,
            (Err(error), Some(skip)) => {
                skip(error);
                continue;
            }
            (Err(error), None) => {
                return Err(Error::Data(format!("{error}, or skip such files with --skip-bad")));
            }
        };
        let (first, of) = shape.get_or_insert_with(|| (own, name.clone()));
        if own[0] == 1 && first[0] == 3 {
            // A greyscale image among colour images.
            colours = colours.repeat(3);
            own[0] = 3;
        }
        if own != *first {
            return Err(Error::Data(format!(
                "{name} has shape {own:?}, but {of} has {first:?}: set a common shape by --size H,W, and --grey if \
                 only some have colours"
            )));
        }
        values.append(&mut colours);
        labels.push(label);
        names.push(name);
    }
    let Some((shape, _)) = shape else {
        return Err(Error::Data("none of the images can be read".into()));
    };
    Ok((Images { names: Some(names), ..Images::new(shape, values)? }, labels.into_iter().collect()))
}
