//! Atomic writing of files, the format of saved models, and the reading of PyTorch's checkpoints.

mod atomic;
mod finite;
mod model;
mod source;
mod tar;
mod tensors;
mod torch;
mod zip;

pub use atomic::{remove_stale_temporaries, write_atomically};
pub(crate) use finite::is_finite;
pub use model::{ModelFile, load_model, save_model};
pub(crate) use model::{metadata, save_model_at};
#[cfg(feature = "cli")]
pub(crate) use tensors::read_metadata;
pub(crate) use tensors::{read_tensors, write_tensors};
pub use torch::{Checkpoint, Entry, StoredTensor, read_torch};
pub(crate) use zip::Archive;
#[cfg(test)]
pub(crate) use zip::zip_of;

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The `format` in the metadata of a model file.
pub(crate) const MODEL: &str = "flows";

/// The `format` in the metadata of a training state.
pub(crate) const TRAINING: &str = "flows-training";

/// `folder` joined with `name`, creating the folder if needed.
///
/// # Errors
/// When the folder cannot be created.
pub fn in_folder(folder: &Path, name: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .map_err(|e| Error::Io(format!("{}: cannot be created ({e}); choose another folder", folder.display())))?;
    Ok(folder.join(name))
}
