//! A model that was saved, and the run that it comes from.

use crate::config::RunConfig;
use candle_core::Device;
use ffjord::ContinuousFlow;
use flows_core::cli::{ModelArgs, settings_of_run};
use flows_core::{Error, Result};
use std::path::PathBuf;

/// A model and where it was found.
pub struct Saved {
    pub model: ContinuousFlow,
    pub path: PathBuf,
}

impl Saved {
    /// The model that the arguments name, and the device that it is on.
    pub fn open(args: &ModelArgs) -> Result<(Self, Device)> {
        let (path, device) = args.open()?;
        Ok((Self { model: ContinuousFlow::load(&path, &device)?, path }, device))
    }

    /// The settings of the run that made the model.
    pub fn run(&self) -> Result<RunConfig> {
        let message = "has no config.toml beside it that says what it was trained on; name rows by --data";
        settings_of_run(&self.path)?.ok_or_else(|| Error::file(&self.path, message))
    }
}
