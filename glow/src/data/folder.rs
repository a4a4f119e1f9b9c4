//! Folders of images.

use super::Images;
use super::fit::{Fit, planes};
use flows_core::{Error, Result};
use image::{DynamicImage, ImageError, ImageReader, Rgb, RgbImage};
use std::path::{Path, PathBuf};

const EXTENSIONS: [&str; 9] = ["png", "jpg", "jpeg", "bmp", "gif", "webp", "pgm", "ppm", "tga"];

/// Whether a file is one of images by its name.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// The colours of an image file, (C, H, W), C being 1 where the file has no colours and 3 elsewhere; 16 bits become 8,
/// and what is transparent white.
///
/// # Errors
/// When the file is missing, is no image or is damaged, or would take more than 512 MiB.
pub fn read_image(path: &Path) -> Result<([usize; 3], Vec<u8>)> {
    let bad = |e: ImageError| match e {
        ImageError::Limits(e) => Error::file(path, format!("is too large an image ({e}); scale it down or remove it")),
        e => Error::file(path, format!("is no image that can be read ({e}); restore or remove it")),
    };
    // By its content: the extension may lie.
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let image = reader.map_err(|e| bad(e.into()))?.decode().map_err(bad)?;
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

fn on_white(image: &DynamicImage) -> RgbImage {
    let image = image.to_rgba8();
    let pixel = |x: u32, y: u32| {
        let [r, g, b, alpha] = image.get_pixel(x, y).0.map(u32::from);
        Rgb([r, g, b].map(|colour| ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    };
    RgbImage::from_fn(image.width(), image.height(), pixel)
}

/// The images of a folder in the order of their names; each sub-folder is a class, of the images below it.
///
/// A file that cannot be read is an error or, if `skip` is given, handed to it and passed over.
pub(super) fn images(folder: &Path, fit: &Fit, skip: Option<&mut dyn FnMut(Error)>) -> Result<Images> {
    let (mut files, mut classes) = (Vec::new(), Vec::new());
    for path in entries(folder)? {
        if path.is_dir() {
            let before = files.len();
            let class = classes.len() as u32;
            walk(&path, &mut |file| files.push((file, class)))?;
            if files.len() > before {
                classes.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
    }
    if classes.is_empty() {
        walk(folder, &mut |file| files.push((file, 0)))?;
    }
    if files.is_empty() {
        let extensions = EXTENSIONS.join(", ");
        return Err(Error::file(folder, format!("has no images; put some there ({extensions}), or check the path")));
    }
    let (mut images, labels) = read_all(&files, fit, skip)?;
    let names = images.names.iter_mut().flatten();
    let prefix = format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR);
    names.for_each(|name| *name = name.strip_prefix(&prefix).map_or(name.clone(), str::to_string));
    if classes.is_empty() { Ok(images) } else { images.with_labels(labels, classes) }
}

fn read_all(
    files: &[(PathBuf, u32)],
    fit: &Fit,
    mut skip: Option<&mut dyn FnMut(Error)>,
) -> Result<(Images, Vec<u32>)> {
    let mut shape: Option<([usize; 3], &Path)> = None;
    let (mut values, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (path, label) in files {
        let image =
            read_image(path).and_then(|(shape, values)| fit.apply(shape, values).map_err(|e| Error::file(path, e)));
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
        let (first, of) = *shape.get_or_insert((own, path));
        if own[0] == 1 && first[0] == 3 {
            // Grey among colours.
            colours = colours.repeat(3);
            own[0] = 3;
        }
        if own != first {
            return Err(Error::Data(format!(
                "{} has shape {own:?}, but {} has {first:?}: say what all are to have by --size H,W, and --grey if \
                 only some have colours",
                path.display(),
                of.display()
            )));
        }
        values.append(&mut colours);
        labels.push(*label);
        names.push(path.display().to_string());
    }
    let Some((shape, _)) = shape else {
        return Err(Error::Data("none of the images can be read".into()));
    };
    Ok((Images { names: Some(names), ..Images::new(shape, values)? }, labels))
}

/// What is in a folder, by name, hidden entries aside.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| Error::file(folder, format!("cannot be read ({e})"));
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut paths = entries.map(|e| Ok(e.map_err(unreadable)?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
    paths.sort();
    Ok(paths)
}

fn walk(folder: &Path, found: &mut dyn FnMut(PathBuf)) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            walk(&path, found)?;
        } else if is_image(&path) {
            found(path);
        }
    }
    Ok(())
}
