//! A model that was saved, and the run that it comes from.

use crate::config::RunConfig;
use candle_core::Device;
use clap::Args;
use ffjord::Model;
use flows_core::cli::{DeviceArgs, OutputArgs, model_file, settings_of_run};
use flows_core::{Error, Result};
use std::path::PathBuf;

/// What every subcommand that uses a model takes.
#[derive(Args)]
pub struct ModelArgs {
    /// The folder of a run, a model.safetensors, or hf://owner/repo/path
    pub model: String,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A model and where it was found.
pub struct Saved {
    pub model: Model,
    pub path: PathBuf,
}

impl ModelArgs {
    /// The model, and the device that it is on.
    pub fn open(&self) -> Result<(Saved, Device)> {
        let device = self.device.open()?;
        let path = model_file(&self.model)?;
        Ok((Saved { model: Model::load(&path, &device)?, path }, device))
    }
}

impl Saved {
    /// The settings of the run that made the model.
    pub fn run(&self) -> Result<RunConfig> {
        let message = "has no config.toml beside it that says what it was trained on; name rows by --data";
        settings_of_run(&self.path)?.ok_or_else(|| Error::file(&self.path, message))
    }
}
