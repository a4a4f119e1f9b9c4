//! Lists of image files.

use super::{Fit, is_image, read_image};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::path::{Path, PathBuf};

/// The image files given as paths, directly within folders, or listed in .txt files, one path per line relative to the
/// list.
///
/// # Errors
/// When a folder or list cannot be read or has no images.
pub fn image_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let listed = |folder: &Path| -> std::io::Result<Vec<PathBuf>> {
                std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
            };
            let mut found = listed(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
            found.retain(|file| is_image(file));
            found.sort();
            if found.is_empty() {
                return Err(Error::file(path, "has no images; check the path"));
            }
            files.extend(found);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Error::file(path, format!("cannot be read ({e}); check the path")))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            let before = files.len();
            files.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| folder.join(line)));
            if files.len() == before {
                return Err(Error::file(path, "lists no images; write one path per line"));
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Reads an image file as integer values 0 to 255, (1, C, H, W), resized by `fit`; greyscale is repeated
/// if three channels are wanted.
///
/// # Errors
/// When it cannot be read or the number of channels does not match.
pub fn read_fitted(path: &Path, fit: &Fit, wanted: usize) -> Result<Tensor> {
    let (shape, values) = read_image(path)?;
    let ([mut channels, height, width], mut values) = fit.apply(shape, values).map_err(|e| Error::file(path, e))?;
    if channels == 1 && wanted == 3 {
        (channels, values) = (3, values.repeat(3));
    }
    if channels != wanted {
        return Err(Error::file(path, format!("has {channels} channels, the model's images have {wanted}")));
    }
    Ok(Tensor::from_vec(values, (1, channels, height, width), &Device::Cpu)?)
}
