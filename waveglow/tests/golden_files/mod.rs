//! The folder of golden cases, and its files.

use candle_core::{DType, Device, Tensor};
use flows_core::{Error, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The folder of golden cases, if there is one; a missing one that `FLOWS_GOLDEN` names is an error of the test.
pub fn root() -> Option<PathBuf> {
    let named = std::env::var_os("FLOWS_GOLDEN").map(PathBuf::from);
    let root = named.clone().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden").into());
    if root.is_dir() {
        return Some(root);
    }
    assert!(named.is_none(), "FLOWS_GOLDEN names no folder: {}", root.display());
    eprintln!("skipped: there are no golden cases at {}; set FLOWS_GOLDEN to their folder", root.display());
    None
}

/// The metadata of a file of safetensors, and its tensors in a dtype.
pub fn read(path: &Path, dtype: DType) -> Result<(HashMap<String, String>, HashMap<String, Tensor>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| Error::file(path, e))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    let tensors = tensors.into_iter().map(|(name, t)| Ok((name, t.to_dtype(dtype)?)));
    Ok((header.metadata().clone().unwrap_or_default(), tensors.collect::<Result<_>>()?))
}
