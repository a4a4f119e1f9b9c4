//! State dicts of PyTorch.

mod pickle;

use super::zip::{Archive, Fault};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use pickle::Described;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// Reads a file written by `torch.save(model.state_dict(), path)` in PyTorch 1.6 or later: the tensors by name.
///
/// The pickle is parsed without executing anything that it names, and sizes are checked against the file before memory
/// is allocated, so that a malicious or damaged file is only an error. Tensors of one storage share its memory.
///
/// # Errors
/// When the file is missing, damaged, or of another kind.
pub fn read_torch(path: &Path) -> Result<HashMap<String, Tensor>> {
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read ({e}); check the name")))?;
    read(file).map_err(|fault| {
        let remedy = "save the state dict alone, by torch.save(model.state_dict(), path) in PyTorch 1.6 or later, or as \
                      safetensors";
        Error::file(path, format!("is not a readable state dict ({fault}); {remedy}"))
    })
}

/// The largest size of a pickle in bytes: it only describes the tensors, and this suffices for a million.
const PICKLE: u64 = 1 << 28;

fn read(file: File) -> std::result::Result<HashMap<String, Tensor>, Fault> {
    let mut archive = Archive::open(file)?;
    let is_pickle = |name: &&str| *name == "data.pkl" || name.ends_with("/data.pkl");
    let pickle = archive.names().filter(is_pickle).min().map(String::from);
    let pickle = pickle.ok_or("the archive has no `data.pkl`")?;
    let folder = pickle.trim_end_matches("data.pkl").to_string();
    let order = format!("{folder}byteorder");
    if archive.names().any(|name| name == order) && archive.read(&order, 16)? != b"little" {
        return Err("its numbers are big-endian: save it on another machine".into());
    }
    let described = pickle::tensors(&archive.read(&pickle, PICKLE)?)?;
    let (mut storages, mut tensors) = (HashMap::new(), HashMap::new());
    // Tensors that are not contiguous are copied, in total at most as many bytes as the file has.
    let mut left = archive.size();
    for (name, described) in described {
        let Described { key, dtype, .. } = &described;
        let stored = (key.clone(), *dtype);
        if !storages.contains_key(&stored) {
            let mut bytes = archive.read(&format!("{folder}data/{key}"), u64::MAX)?;
            let elements = bytes.len() / dtype.size_in_bytes();
            bytes.truncate(elements * dtype.size_in_bytes());
            let storage = match elements {
                0 => Tensor::zeros(0, *dtype, &Device::Cpu),
                _ => Tensor::from_raw_buffer(&bytes, *dtype, &[elements], &Device::Cpu),
            };
            storages.insert(stored.clone(), storage.map_err(|e| Fault(format!("`{name}`: {e}")))?);
        }
        let tensor = view(&described, &storages[&stored], &mut left);
        tensors.insert(name.clone(), tensor.map_err(|fault| Fault(format!("`{name}`: {fault}")))?);
    }
    Ok(tensors)
}

/// The tensor in a storage; `left` is the number of bytes that may still be copied.
fn view(described: &Described, storage: &Tensor, left: &mut u64) -> std::result::Result<Tensor, Fault> {
    let Described { offset, dims, strides, dtype, .. } = described;
    let failed = |e: candle_core::Error| Fault(e.to_string());
    let elements = dims.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
    // The index of the last element.
    let last = dims
        .iter()
        .zip(strides)
        .try_fold(*offset, |at, (size, stride)| at.checked_add(size.saturating_sub(1).checked_mul(*stride)?));
    let stored = storage.elem_count();
    let (Some(elements), Some(last)) = (elements, last) else {
        return Err(format!("a shape of {dims:?} is too large").into());
    };
    if elements == 0 {
        return Tensor::zeros(dims.as_slice(), *dtype, &Device::Cpu).map_err(failed);
    }
    if elements > stored || last >= stored {
        return Err(format!("the shape {dims:?} needs more than the {stored} numbers that are stored").into());
    }
    let mut expected = 1;
    let contiguous = dims.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == expected;
        expected *= size;
        fits
    });
    if contiguous {
        return storage.narrow(0, *offset, elements).and_then(|t| t.reshape(dims.as_slice())).map_err(failed);
    }
    let bytes = (elements * dtype.size_in_bytes()) as u64;
    *left = left.checked_sub(bytes).ok_or("the file describes more numbers than it holds")?;
    let mut places = vec![*offset as i64];
    for (size, stride) in dims.iter().zip(strides) {
        places = places.iter().flat_map(|at| (0..*size).map(move |i| at + (i * stride) as i64)).collect();
    }
    let places = Tensor::new(places, &Device::Cpu).map_err(failed)?;
    storage.index_select(&places, 0).and_then(|t| t.reshape(dims.as_slice())).map_err(failed)
}

#[cfg(test)]
mod tests;
