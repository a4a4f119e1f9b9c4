//! A model of images that was saved, and the run that it comes from.

use super::config::RunConfig;
use candle_core::Device;
use ffjord::ImageModel;
use flows_core::cli::{ModelArgs, model_file, settings_of_run};
use flows_core::data::images::{Fit, Framing};
use flows_core::files::load_model;
use flows_core::{Error, Result};
use std::path::PathBuf;

/// A model and where it was found.
pub struct Saved {
    pub model: ImageModel,
    pub path: PathBuf,
}

/// Whether the arguments name a model of images.
pub fn is_model(args: &ModelArgs) -> Result<bool> {
    Ok(load_model(&model_file(&args.model)?)?.kind == ImageModel::KIND)
}

impl Saved {
    /// The model that the arguments name, and the device that it is on.
    pub fn open(args: &ModelArgs) -> Result<(Self, Device)> {
        let (path, device) = args.open()?;
        Ok((Self { model: ImageModel::load(&path, &device)?, path }, device))
    }

    /// The settings of the run that made the model.
    pub fn run(&self) -> Result<RunConfig> {
        let message = "has no config.toml beside it that says what it was trained on; name images by --data";
        settings_of_run(&self.path)?.ok_or_else(|| Error::file(&self.path, message))
    }

    /// What images are to be like for the model.
    pub fn fit(&self) -> Result<Fit> {
        let run: Option<RunConfig> = settings_of_run(&self.path)?;
        Ok(Fit::to(self.model.config().shape, run.map_or(Framing::Crop, |run| run.fit.framing)))
    }
}
