//! Models by the word that names them.

use crate::{Result, hub};
use std::path::PathBuf;

/// The file of the model that `text` names: `model.safetensors` of the folder of a run, a file, or
/// `hf://owner/repo/path`, which is fetched.
///
/// # Errors
/// When it cannot be fetched.
pub fn model_file(text: &str) -> Result<PathBuf> {
    let path = hub::resolve(text)?;
    Ok(if path.is_dir() { path.join("model.safetensors") } else { path })
}
