//! Encoded images: from their bytes to colours of one shape.

use super::Images;
use super::fit::{Fit, planes};
use crate::{Error, Result};
use image::{DynamicImage, ImageError, ImageReader, Rgb, RgbImage};
use std::io::{BufRead, Seek};
use std::path::Path;

/// The shape (C, H, W) and the colours of one image.
pub(super) type Decoded = ([usize; 3], Vec<u8>);

/// The colours of an image file, (C, H, W), C being 1 where the file has no colours and 3 elsewhere; 16 bits become 8,
/// and what is transparent white.
///
/// # Errors
/// When the file is missing, is no image or is damaged, or would take more than 512 MiB.
pub fn read_image(path: &Path) -> Result<Decoded> {
    decode(path, ImageReader::open(path).map_err(|e| unreadable(path, e.into()))?)
}

/// The colours of an image, likewise; `path` is what errors call it.
pub(super) fn decode(path: &Path, reader: ImageReader<impl BufRead + Seek>) -> Result<Decoded> {
    // By its content: the extension may lie.
    let reader = reader.with_guessed_format().map_err(|e| unreadable(path, e.into()))?;
    let image = reader.decode().map_err(|e| unreadable(path, e))?;
    let size = [image.height() as usize, image.width() as usize];
    if size.contains(&0) {
        return Err(Error::file(path, "is an image without a pixel; restore or remove it"));
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
        e => Error::file(path, format!("is no image that can be read ({e}); restore or remove it")),
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

/// An image among others.
pub(super) struct Item {
    /// Its file, or what else errors call it.
    pub name: String,
    /// Its class, if it is known.
    pub label: Option<u32>,
    pub image: Result<Decoded>,
}

/// Images of one shape once `fit` has changed them, under their names, and the classes of all, if all are known.
///
/// An image that cannot be read is an error or, if `skip` is given, handed to it and passed over.
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
                return Err(Error::Data(format!("{error}, or pass over such files by --skip-bad")));
            }
        };
        let (first, of) = shape.get_or_insert_with(|| (own, name.clone()));
        if own[0] == 1 && first[0] == 3 {
            // Grey among colours.
            colours = colours.repeat(3);
            own[0] = 3;
        }
        if own != *first {
            return Err(Error::Data(format!(
                "{name} has shape {own:?}, but {of} has {first:?}: say what all are to have by --size H,W, and --grey \
                 if only some have colours"
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
