//! A saved model, and the run that it comes from.

use super::settings::{parse_settings, read_settings};
use crate::cli::ModelArgs;
use crate::{Error, Result};
use candle_core::Device;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// A loaded model with its file and device.
#[derive(Debug)]
pub struct Saved<M> {
    /// The model.
    pub model: M,
    /// Its file.
    pub path: PathBuf,
    /// The device that it is on.
    pub device: Device,
}

impl<M> Saved<M> {
    /// Loads the model that the arguments name by `load`.
    ///
    /// # Errors
    /// When it cannot be fetched or loaded, or there is no such device.
    pub fn open(args: &ModelArgs, load: impl FnOnce(PathBuf, &Device) -> Result<M>) -> Result<Self> {
        let (path, device) = args.open()?;
        Ok(Self { model: load(path.clone(), &device)?, path, device })
    }

    /// The settings of the run that trained the model, if its `config.toml` lies beside the model.
    ///
    /// # Errors
    /// When the file cannot be read or parsed.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let path = self.path.with_file_name("config.toml");
        if !path.exists() {
            return Ok(None);
        }
        parse_settings(read_settings(&path)?).map(Some).map_err(|e| Error::file(path, e))
    }

    /// What `load` loads from the settings of the run that trained the model, such as its test rows. Messages call it
    /// `what`, and suggest the `flag` that names another.
    ///
    /// # Errors
    /// Any error from `load`, and when the settings are missing.
    pub fn of_run<T: DeserializeOwned, D>(
        &self,
        what: &str,
        flag: &str,
        load: impl FnOnce(T) -> Result<D>,
    ) -> Result<D> {
        let message = "has no config.toml beside it that says what it was trained on";
        let settings = self.settings().and_then(|run| run.ok_or_else(|| Error::file(&self.path, message)));
        settings.and_then(load).map_err(|error| {
            let kind = if error.is_bad_use() { Error::Data } else { Error::Io };
            kind(format!("the {what} of the run cannot be read: {error}; name others by {flag}"))
        })
    }
}
