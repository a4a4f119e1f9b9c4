//! The files that a training run is saved to.

use super::Ranks;
use crate::files::in_folder;
use crate::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The files that a training run is saved to, with the kind and the settings of its model.
///
/// There are two: `model.safetensors`, the model to use (see [`crate::files::save_model`]), and
/// `training.safetensors`, everything needed to resume, including its own copy of the weights. A run is
/// resumed from the second alone, so a crash between the two writes cannot mix two steps: at worst
/// the model is one save older than the run.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(super) folder: PathBuf,
    pub(super) model: PathBuf,
    pub(super) training: PathBuf,
    pub(super) kind: String,
    pub(super) config: String,
    pub(super) changeable: &'static [&'static str],
    /// Whether this process writes the files.
    pub(super) writes: bool,
    pub(super) run: serde_json::Value,
}

impl Checkpoint {
    /// A checkpoint in `folder`, which is created if needed, of a model of this kind with these settings.
    ///
    /// # Errors
    /// When the folder cannot be created or the settings do not serialise to JSON.
    pub fn new(folder: impl Into<PathBuf>, kind: impl Into<String>, config: &impl Serialize) -> Result<Self> {
        let folder = folder.into();
        in_folder(&folder, "model.safetensors")?;
        Self::in_made(folder, kind, config)
    }

    /// [`Self::new`] without creating the folder: it exists, or this process does not write to it.
    pub(crate) fn in_made(folder: PathBuf, kind: impl Into<String>, config: &impl Serialize) -> Result<Self> {
        let config = serde_json::to_string(config)
            .map_err(|error| Error::Config(format!("the settings of the model are not JSON ({error})")))?;
        let [model, training] = ["model.safetensors", "training.safetensors"].map(|name| folder.join(name));
        let run = serde_json::Value::Null;
        Ok(Self { folder, model, training, kind: kind.into(), config, changeable: &[], writes: true, run })
    }

    /// Lets a run resume although its model had other values of these settings, given by dotted names such as
    /// `flow.solver`. They should affect only how the model is computed, not what it is.
    #[must_use]
    pub fn changeable(mut self, settings: &'static [&'static str]) -> Self {
        self.changeable = settings;
        self
    }

    /// Has rank 0 alone write the files; all ranks resume from them.
    #[must_use]
    pub fn written_by(mut self, ranks: &Ranks) -> Self {
        self.writes = ranks.is_first();
        self
    }

    /// Saves these settings of the run with its state, as the part `run`.
    #[must_use]
    pub fn of_run(mut self, settings: serde_json::Value) -> Self {
        self.run = settings;
        self
    }

    /// The folder of the run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the model.
    pub fn model(&self) -> &Path {
        &self.model
    }

    /// The file of the training run.
    pub fn training(&self) -> &Path {
        &self.training
    }

    /// Whether there is a training run to resume.
    pub fn exists(&self) -> bool {
        self.training.exists()
    }
}
