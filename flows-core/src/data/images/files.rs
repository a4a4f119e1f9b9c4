//! Lists of image files.

use super::collect::{Item, collect};
use super::folder::all_images;
use super::tree::Tree;
use super::{Fit, Images, decode};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The image files given as paths, below folders, or listed in .txt files, one path per line relative to the list.
///
/// # Errors
/// When a folder or list cannot be read or has no images.
pub fn image_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(all_images(&Tree::of(path)?)?.into_iter().map(|file| path.join(file)));
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

/// Reads image files, converted by `fit`; of grey ones among others in colour the channel is repeated.
///
/// # Errors
/// When one cannot be read, or they have several shapes.
pub fn read_files(files: &[PathBuf], fit: &Fit) -> Result<Images> {
    let items = |fit: &Fit| {
        let fit = fit.clone();
        let item = move |path: &PathBuf| {
            Ok(Item { name: path.display().to_string(), label: None, image: decode::read(path, &fit) })
        };
        Ok(files.iter().map(item))
    };
    // A single file needs no advice to skip it.
    let mut failed = Vec::new();
    let collected = collect(items, fit, Some(&mut |error| failed.push(error)));
    match failed.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(collected?.0),
    }
}
