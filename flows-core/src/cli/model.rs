//! Models by the word that names them.

use super::{DeviceArgs, OutputArgs};
use crate::train::Ranks;
use crate::{Result, hub};
use candle_core::Device;
use clap::Args;
use std::path::PathBuf;

/// What every subcommand that uses a model takes.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// The folder of a run, a model.safetensors, or hf://owner/repo/path
    pub model: String,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How to speak.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl ModelArgs {
    /// The same for a rank: [`DeviceArgs::of`], [`OutputArgs::of`].
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn of(&self, ranks: &Ranks) -> Result<Self> {
        Ok(Self { model: self.model.clone(), device: self.device.of(ranks)?, output: self.output.of(ranks) })
    }

    /// The file of the model, as [`model_file`], and the device that it is to be on.
    ///
    /// # Errors
    /// When it cannot be fetched or there is no such device.
    pub fn open(&self) -> Result<(PathBuf, Device)> {
        let device = self.device.open()?;
        Ok((model_file(&self.model)?, device))
    }
}

/// The file of the model that `text` names: `model.safetensors` of the folder of a run, a file, or
/// `hf://owner/repo/path`, which is fetched.
///
/// # Errors
/// When it cannot be fetched.
pub fn model_file(text: &str) -> Result<PathBuf> {
    let path = hub::resolve(text)?;
    Ok(if path.is_dir() { path.join("model.safetensors") } else { path })
}
