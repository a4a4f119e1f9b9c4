//! The arguments that name a model.

use super::{DeviceArgs, OutputArgs};
use crate::train::Ranks;
use crate::{Result, hub};
use candle_core::Device;
use clap::Args;
use std::path::PathBuf;

/// The arguments of every subcommand that uses a model.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// The folder of a run, a model.safetensors, or hf://owner/repo/path
    pub model: String,
    /// The device and the number of threads.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// What to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl ModelArgs {
    /// These arguments for one of several ranks, see [`DeviceArgs::of`] and [`OutputArgs::of`].
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn of(&self, ranks: &Ranks) -> Result<Self> {
        Ok(Self { model: self.model.clone(), device: self.device.of(ranks)?, output: self.output.of(ranks) })
    }

    /// The file of the model (see [`model_file`]) and the device to load it on.
    ///
    /// # Errors
    /// When the file cannot be fetched or there is no such device.
    pub fn open(&self) -> Result<(PathBuf, Device)> {
        let device = self.device.open()?;
        Ok((model_file(&self.model)?, device))
    }
}

/// The file of the model that `text` names: a file, the folder of a run, for its `model.safetensors`, or
/// `hf://owner/repo/path`, which is fetched.
///
/// # Errors
/// When it cannot be fetched.
pub fn model_file(text: &str) -> Result<PathBuf> {
    let path = hub::resolve(text)?;
    Ok(if path.is_dir() { path.join("model.safetensors") } else { path })
}
