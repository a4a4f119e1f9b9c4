//! Where a training run is saved.

use super::Ranks;
use crate::files::in_folder;
use crate::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where a training run is saved, and as what.
///
/// Two files: `model.safetensors`, the model to use (see [`crate::files::save_model`]), and
/// `training.safetensors`, all it takes to go on, with a copy of the weights of its own. A run is
/// resumed from the second alone, so a crash between the two writes cannot mix two steps; the worst
/// it leaves is a model one save older than the run.
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
    /// A place in `folder`, which is made if need be, for a model of this kind and settings.
    ///
    /// # Errors
    /// When the folder cannot be made or the settings are no JSON.
    pub fn new(folder: impl Into<PathBuf>, kind: impl Into<String>, config: &impl Serialize) -> Result<Self> {
        let folder = folder.into();
        in_folder(&folder, "model.safetensors")?;
        Self::in_made(folder, kind, config)
    }

    /// The same in a folder that is there, or that this process does not write to.
    pub(crate) fn in_made(folder: PathBuf, kind: impl Into<String>, config: &impl Serialize) -> Result<Self> {
        let config = serde_json::to_string(config)
            .map_err(|error| Error::Config(format!("the settings of the model are not JSON ({error})")))?;
        let [model, training] = ["model.safetensors", "training.safetensors"].map(|name| folder.join(name));
        let run = serde_json::Value::Null;
        Ok(Self { folder, model, training, kind: kind.into(), config, changeable: &[], writes: true, run })
    }

    /// Lets a run go on whose model had other values of these settings, each a dotted name as `flow.solver`: those
    /// that say how the model is computed, not which it is.
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

    /// Keeps these settings of the run beside its state, as the part `run`.
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
