//! Images on the Hugging Face Hub.

use super::csv::is_csv;
use super::idx::is_idx;
use super::is_image;
use super::layout::{Layout, is_npy, is_packed};
use super::parquet::is_parquet;
use super::shards::in_parts;
use super::tree::unread;
use crate::data::shards;
use crate::hub::Address;
use crate::text::list;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Whether an address can only be one of images.
pub(super) fn may_be_images(address: &Address) -> bool {
    let path: &Path = address.path().as_ref();
    is_parquet(path) || is_idx(path)
}

/// Fetches the images at an address: a file with what belongs to it, or the Parquet files in a folder.
pub(super) fn layout(address: &Address) -> Result<Layout> {
    let (folder, name) = address.path().rsplit_once('/').map_or((None, address.path()), |(f, name)| (Some(f), name));
    let path: &Path = address.path().as_ref();
    let is_file = [is_parquet, is_idx, is_npy, is_csv, is_image, is_packed].iter().any(|is| is(path));
    // A folder may have a dot in its name: `v1.0`.
    if !is_file {
        return of_folder(address);
    }
    if is_parquet(path) {
        let paths = shards::of_address(address)?.iter().map(Address::fetch).collect::<Result<Vec<PathBuf>>>()?;
        return Ok(Layout::of_shards([paths, Vec::new(), Vec::new()]));
    }
    if is_idx(path) && name.contains("images") {
        let labels = name.replace("images", "labels").replace("idx3", "idx1");
        let labels = folder.map_or(labels.clone(), |folder| format!("{folder}/{labels}"));
        match address.with_path(&labels)?.fetch() {
            // Images may be without labels.
            Ok(_) | Err(Error::Data(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Layout::of(&address.fetch()?)
}

fn of_folder(address: &Address) -> Result<Layout> {
    let names: Vec<String> = address.names()?;
    let (files, others): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| is_parquet(name.as_ref()));
    if files.is_empty() {
        let holds = if others.is_empty() { "is empty".into() } else { format!("holds {}", list(others)) };
        let remedy = "name a folder of Parquet files, as there is one for most data sets at the revision \
                      refs/convert/parquet, or fetch the files and name their folder here";
        return Err(Error::Data(format!("{address} {holds}, no Parquet files; {remedy}")));
    }
    let shards = in_parts(files, &address.to_string())?;
    let fetch = |name: &String| address.join(name)?.fetch();
    let [train, validation, test] = shards.parts.map(|names| names.iter().map(fetch).collect::<Result<Vec<_>>>());
    let mut layout = Layout::of_shards([train?, validation?, test?]);
    layout.notes.extend(unread(shards.unread, ", of no part,"));
    Ok(layout)
}
