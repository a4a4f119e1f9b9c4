//! A model that was saved, and the images that go with it.

use crate::config::RunConfig;
use candle_core::{Device, Tensor};
use clap::Args;
use flows_core::cli::{ModelArgs, OutputArgs, SkipArgs, settings_of_run};
use flows_core::data::images::{Fit, Framing, ImageSource, Images, is_image, read_image};
use flows_core::{Error, Result};
use glow::Glow;
use std::path::{Path, PathBuf};

/// A model and where it was found.
pub struct Saved {
    pub glow: Glow,
    pub path: PathBuf,
    pub device: Device,
}

/// The images that a subcommand works on.
#[derive(Args, Debug)]
#[command(next_help_heading = "Images")]
pub struct ImageArgs {
    /// The images: digits, uci-digits, a folder, an IDX, .npy or .parquet file, or hf://; those that the model was
    /// tested on unless given. They are scaled and cropped, or padded, as those of the run were
    #[arg(long, value_name = "D")]
    pub data: Option<String>,
    #[command(flatten)]
    pub skip: SkipArgs,
}

/// Images, what to call them, and how many colours they had before they were padded.
pub struct Found {
    pub images: Images,
    pub name: String,
    pub unpadded: Option<usize>,
}

/// The image files among paths, directly within folders, and listed in .txt files, a path a line, which are relative
/// to the list.
pub fn image_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let listed = |folder: &Path| -> std::io::Result<Vec<PathBuf>> {
                std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
            };
            let mut found = listed(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
            found.retain(|file| is_image(file));
            found.sort();
            if found.is_empty() {
                return Err(Error::file(path, "has no images; check the path"));
            }
            files.extend(found);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Error::file(path, format!("cannot be read ({e}); check the path")))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            let before = files.len();
            files.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| folder.join(line)));
            if files.len() == before {
                return Err(Error::file(path, "lists no images; write a path a line"));
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

impl Saved {
    /// The model that the arguments name, on its device.
    pub fn open(args: &ModelArgs) -> Result<Self> {
        let (path, device) = args.open()?;
        Ok(Self { glow: Glow::load(&path, &device)?, path, device })
    }

    /// The images that the run chose its weights by.
    pub fn validation(&self) -> Result<Images> {
        let run = self.run()?.ok_or_else(|| {
            Error::file(&self.path, "has no config.toml beside it that says its images, to compare others with")
        })?;
        Ok(run.load(Some(&mut |_| {}))?.validation)
    }

    /// The settings of the run that made the model, if they lie beside it.
    fn run(&self) -> Result<Option<RunConfig>> {
        settings_of_run(&self.path)
    }

    /// What images are to be like for the model.
    pub fn fit(&self) -> Result<Fit> {
        Ok(Fit::to(self.glow.config().shape, self.run()?.map_or(Framing::Crop, |run| run.fit.framing)))
    }

    /// The images that `args` name.
    pub fn images(&self, args: &ImageArgs, output: OutputArgs) -> Result<Found> {
        let fit = self.fit()?;
        match &args.data {
            Some(text) => {
                let source: ImageSource = text.parse()?;
                let unpadded = source.unpadded(&fit)?;
                let images = args.skip.reading(output, |skip| source.test(&fit, skip))?;
                let images = match &self.glow.config().class_names {
                    Some(names) => images.named(names).map_err(|e| Error::Data(format!("{text}: {e}")))?,
                    None => images,
                };
                Ok(Found { images, name: text.clone(), unpadded })
            }
            None => {
                let run = self.run()?.ok_or_else(|| {
                    Error::file(&self.path, "has no config.toml beside it that says its images; name some by --data")
                })?;
                let images = args.skip.reading(output, |skip| run.load(skip))?.test;
                Ok(Found { images, name: format!("{} (test)", run.data), unpadded: run.data.unpadded(&run.fit)? })
            }
        }
    }

    /// One image file as colours 0 to 255, (1, C, H, W).
    pub fn image(&self, path: &Path) -> Result<Tensor> {
        let (shape, values) = read_image(path)?;
        let ([mut channels, height, width], mut values) =
            self.fit()?.apply(shape, values).map_err(|e| Error::file(path, e))?;
        let wanted = self.glow.config().shape[0];
        if channels == 1 && wanted == 3 {
            (channels, values) = (3, values.repeat(3));
        }
        if channels != wanted {
            return Err(Error::file(path, format!("has {channels} channels, the model's images have {wanted}")));
        }
        Ok(Tensor::from_vec(values, (1, channels, height, width), &Device::Cpu)?)
    }

    /// The class by its number as context of `rows` rows; an error unless it is given just where the model has classes.
    pub fn class(&self, class: Option<u32>, rows: usize) -> Result<Option<Tensor>> {
        if let Some(condition) = self.glow.config().condition {
            return Err(Error::Config(format!(
                "the model makes images {} times larger than those that it is given: use it by glow super-resolve",
                condition.scale
            )));
        }
        match (self.glow.config().classes, class) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Error::Config("the model has no classes; leave out --class".into())),
            (Some(classes), None) => {
                Err(Error::Config(format!("the model has {classes} classes: name one from 0 by --class")))
            }
            (Some(_), Some(class)) => Ok(Some(Tensor::full(class, (rows, 1), &self.device)?)),
        }
    }
}
