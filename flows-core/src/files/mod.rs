//! Files: written whole or not at all, and the format of saved models.

mod atomic;
mod finite;
mod model;
mod tensors;

pub use atomic::{remove_stale_temporaries, write_atomically};
pub(crate) use finite::is_finite;
pub use model::{ModelFile, load_model, save_model};
pub(crate) use model::{metadata, save_model_at};
#[cfg(feature = "cli")]
pub(crate) use tensors::read_metadata;
pub(crate) use tensors::{read_tensors, write_tensors};

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// What the metadata of a model file names as its format.
pub(crate) const MODEL: &str = "flows";

/// The same for the state of a training run.
pub(crate) const TRAINING: &str = "flows-training";

/// `folder` joined with `name`, the folder created if needed.
///
/// # Errors
/// When it cannot be made.
pub fn in_folder(folder: &Path, name: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .map_err(|e| Error::Io(format!("{}: cannot be made ({e}); choose another folder", folder.display())))?;
    Ok(folder.join(name))
}
