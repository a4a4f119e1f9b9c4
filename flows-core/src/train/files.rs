//! Safetensors files with metadata, written so that a crash leaves the old file or the new one.

use crate::{Error, Result};
use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The newest version of the format that this build reads, and the one it writes.
pub(super) const VERSION: u32 = 1;

/// Metadata and tensors of a file.
pub(super) struct Contents {
    pub(super) metadata: HashMap<String, String>,
    pub(super) tensors: HashMap<String, Tensor>,
}

/// Lets `write` fill a new file beside `path`, syncs it and renames it to `path`.
pub(super) fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let Some(name) = path.file_name() else {
        return Err(Error::file(path, "is not the name of a file"));
    };
    let mut partial = name.to_os_string();
    partial.push(".partial");
    let partial = path.with_file_name(partial);
    let save = || -> std::io::Result<()> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&partial)?);
        write(&mut file)?;
        file.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        std::fs::rename(&partial, path)
    };
    if let Err(error) = save() {
        // The error that counts is the first one.
        let _ = std::fs::remove_file(&partial);
        return Err(Error::file(path, format!("cannot be written ({error}): the file as it was is untouched")));
    }
    // The rename itself lasts only when the folder is synced; not every system can do that.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Writes tensors with metadata; the same content gives the same bytes.
pub(super) fn write_tensors(
    path: &Path,
    metadata: &BTreeMap<&str, String>,
    tensors: &[(String, Tensor)],
) -> Result<()> {
    let mut tensors: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    // Wide types first, so that everything is aligned in the file.
    tensors.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype().size_in_bytes()), *name));
    let mut header = BTreeMap::from([("__metadata__", serde_json::json!(metadata))]);
    let mut end = 0;
    for (name, tensor) in &tensors {
        let start = end;
        end += tensor.elem_count() * tensor.dtype().size_in_bytes();
        let dtype = Dtype::from(tensor.dtype());
        let info = serde_json::json!({ "dtype": dtype, "shape": tensor.dims(), "data_offsets": [start, end] });
        if header.insert(name, info).is_some() {
            return Err(Error::file(path, format!("cannot be written: two tensors are named `{name}`")));
        }
    }
    let mut header = serde_json::to_vec(&header).map_err(|e| Error::file(path, format!("cannot be written ({e})")))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut failure = None;
    let written = write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in tensors {
            match tensor.to_device(&Device::Cpu) {
                Ok(tensor) => file.write_all(&safetensors::View::data(&tensor))?,
                Err(error) => {
                    failure = Some(error);
                    return Err(std::io::Error::other("a tensor cannot be read"));
                }
            }
        }
        Ok(())
    });
    match failure {
        Some(error) => Err(error.into()),
        None => written,
    }
}

/// Reads a file of this program; `format` is what its metadata must say, `remedy` what to do about a
/// file that is missing or broken.
pub(super) fn read_tensors(path: &Path, format: &str, remedy: &str) -> Result<Contents> {
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::file(path, format!("does not exist; {remedy}")),
        _ => Error::file(path, format!("cannot be read ({error}); {remedy}")),
    })?;
    let unusable = |error: SafeTensorError| {
        let why = match error {
            _ if bytes.is_empty() => "is empty".to_string(),
            SafeTensorError::MetadataIncompleteBuffer => "is cut short or has a tail that does not belong to it".into(),
            SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
                "is cut short or not a safetensors file".into()
            }
            error => format!("is not a safetensors file ({error})"),
        };
        Error::file(path, format!("{why}; {remedy}"))
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unusable)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    match metadata.get("format").map(String::as_str) {
        Some(found) if found == format => {}
        Some(super::checkpoint::MODEL) => {
            return Err(Error::file(path, format!("is a model, not the state of a training run; {remedy}")));
        }
        Some(super::state::TRAINING) => {
            let message = "is the state of a training run, not a model: use the `model.safetensors` beside it";
            return Err(Error::file(path, message));
        }
        _ => return Err(Error::file(path, format!("is a safetensors file that another program wrote; {remedy}"))),
    }
    match metadata.get("version").and_then(|version| version.parse::<u32>().ok()) {
        Some(version) if version <= VERSION => {}
        Some(version) => {
            let message =
                format!("has version {version} of the format, but this build reads up to {VERSION}: update it");
            return Err(Error::file(path, message));
        }
        None => return Err(Error::file(path, format!("does not say its version; {remedy}"))),
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| Error::file(path, format!("holds a tensor that cannot be read ({error}); {remedy}")))?;
    Ok(Contents { metadata, tensors })
}

/// `folder` joined with `name`, the folder made if need be.
pub(super) fn in_folder(folder: &Path, name: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::file(folder, format!("cannot be made ({error}): choose another folder")))?;
    Ok(folder.join(name))
}
