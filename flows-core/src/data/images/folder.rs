//! Folders of images.

use super::decode::{Item, collect, read_image};
use super::{Fit, Images};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

const EXTENSIONS: [&str; 9] = ["png", "jpg", "jpeg", "bmp", "gif", "webp", "pgm", "ppm", "tga"];

/// Whether a file is an image by its extension.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Whether a folder or one of its descendants contains images.
pub(super) fn has_images(folder: &Path) -> bool {
    let mut found = false;
    walk(folder, &mut |_| found = true).is_ok() && found
}

/// Reads the images of a folder in the order of their names; each sub-folder is a class of the images below it.
///
/// A file that cannot be read is an error; if `skip` is given, the error is passed to it and the file is skipped.
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
    let item = |(path, class): (PathBuf, u32)| {
        Ok(Item { name: path.display().to_string(), label: Some(class), image: read_image(&path) })
    };
    let (mut images, labels) = collect(files.into_iter().map(item), fit, skip)?;
    let names = images.names.iter_mut().flatten();
    let prefix = format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR);
    names.for_each(|name| *name = name.strip_prefix(&prefix).map_or(name.clone(), str::to_string));
    match labels {
        Some(labels) if !classes.is_empty() => images.with_labels(labels, classes),
        _ => Ok(images),
    }
}

/// The entries of a folder, sorted by name, except hidden ones.
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
