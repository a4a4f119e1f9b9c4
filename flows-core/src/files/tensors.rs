//! Safetensors files with metadata, written atomically.

use super::write_atomically;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;

/// The newest version of the format that this build reads, and the one it writes.
pub(crate) const VERSION: u32 = 1;

/// The metadata and tensors of a file.
pub(crate) struct Contents {
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) tensors: HashMap<String, Tensor>,
}

/// Writes tensors with metadata; equal contents give equal bytes.
pub(crate) fn write_tensors(
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
    let cannot = |e: std::io::Error| Error::unwritten(path, e);
    let mut header = serde_json::to_vec(&header).map_err(|e| cannot(e.into()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomically(path, |file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&header)).map_err(cannot)?;
        for (_, tensor) in tensors {
            let tensor = tensor.to_device(&Device::Cpu)?;
            file.write_all(&safetensors::View::data(&tensor)).map_err(cannot)?;
        }
        file.flush().map_err(cannot)
    })
}

/// Reads the metadata only; none if the file cannot be read, which reading the rest of it will report.
#[cfg(feature = "cli")]
pub(crate) fn read_metadata(path: &Path) -> Option<HashMap<String, String>> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length)).read_to_end(&mut header).ok()?;
    let header: HashMap<String, serde_json::Value> = serde_json::from_slice(&header).ok()?;
    serde_json::from_value(header.get("__metadata__")?.clone()).ok()
}

/// Reads a file of this `format`; errors end with `remedy`.
pub(crate) fn read_tensors(path: &Path, format: &str, remedy: &str) -> Result<Contents> {
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::file(path, format!("does not exist; {remedy}")).with_source(error),
        _ => Error::file(path, format!("cannot be read ({error}); {remedy}")).with_source(error),
    })?;
    let unusable = |error: SafeTensorError| {
        let why = match &error {
            _ if bytes.is_empty() => "is empty".to_string(),
            SafeTensorError::MetadataIncompleteBuffer => "is cut short or has extra bytes at its end".into(),
            SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
                "is cut short or not a safetensors file".into()
            }
            error => format!("is not a safetensors file ({error})"),
        };
        Error::file(path, format!("{why}; {remedy}")).with_source(error)
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unusable)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    match metadata.get("format").map(String::as_str) {
        Some(found) if found == format => {}
        Some(super::MODEL) => {
            return Err(Error::file(path, format!("is a model, not the state of a training run; {remedy}")));
        }
        Some(super::TRAINING) => {
            let message = "is the state of a training run, not a model: use the `model.safetensors` beside it";
            return Err(Error::file(path, message));
        }
        _ => return Err(Error::file(path, format!("is a safetensors file from another program; {remedy}"))),
    }
    match metadata.get("version").and_then(|version| version.parse::<u32>().ok()) {
        Some(version) if version <= VERSION => {}
        Some(version) => {
            let message =
                format!("has version {version} of the format, but this build reads up to {VERSION}: update it");
            return Err(Error::file(path, message));
        }
        None => return Err(Error::file(path, format!("has no version in its metadata; {remedy}"))),
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|e| Error::file(path, format!("holds a tensor that cannot be read ({e}); {remedy}")).with_source(e))?;
    Ok(Contents { metadata, tensors })
}
