//! A model that was saved, and the data that goes with it.

use crate::columns::matched;
use crate::config::RunConfig;
use candle_core::{DType, Device};
use clap::Args;
use flows_core::cli::{ModelArgs, model_file, settings_of_run};
use flows_core::data::{Dataset, Examples, Source, Table};
use flows_core::flows::Flow;
use flows_core::{Error, Result, Rng};
use std::path::PathBuf;

/// Samples of a 2-D density that is named in place of a file.
const SAMPLES: usize = 20_000;

/// A model and where it was found.
pub struct Saved {
    pub flow: Flow,
    pub path: PathBuf,
}

/// The rows that a subcommand works on.
#[derive(Args, Debug)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// The rows: a .npy or .csv file, a folder with test.npy, hf://, or a 2-D density; those that the
    /// model was tested on unless given
    #[arg(long, value_name = "D")]
    pub data: Option<String>,
    /// The columns of the context, by name or by index from 0, separated by commas; those that the model
    /// was trained with unless given
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub context: Option<Vec<String>>,
}

impl Saved {
    /// The model that the arguments name, and the device that it is on.
    pub fn of(args: &ModelArgs) -> Result<(Self, Device)> {
        let (path, device) = args.open()?;
        Ok((Self { flow: Flow::load(&path, &device)?, path }, device))
    }

    /// The model in `text`: the folder of a run, a file, or `hf://owner/repo/path`.
    pub fn open(text: &str, device: &Device) -> Result<Self> {
        let path = model_file(text)?;
        Ok(Self { flow: Flow::load(&path, device)?, path })
    }

    /// The settings of the run that made the model.
    pub fn run(&self) -> Result<RunConfig> {
        let message = "has no config.toml beside it that says what it was trained on";
        settings_of_run(&self.path)?.ok_or_else(|| Error::file(&self.path, message))
    }

    /// The rows that `args` name, and what to call them.
    pub fn rows(&self, args: &DataArgs, device: &Device) -> Result<(Examples, String)> {
        let config = self.flow.config();
        let (data, name) = match &args.data {
            Some(text) => {
                let context = match (&args.context, &config.context_columns) {
                    (Some(columns), _) | (None, Some(columns)) => columns.clone(),
                    (None, None) if config.context.is_some() && self.settings().exists() => self.run()?.context,
                    (None, None) => Vec::new(),
                };
                (self.read(&text.parse()?, &context, device)?, text.clone())
            }
            None => {
                let mut run = self.run().map_err(unread("test", "--data"))?;
                if let Some(context) = &args.context {
                    run.context.clone_from(context);
                }
                (run.load(device).map_err(unread("test", "--data"))?, format!("{} (test)", run.data))
            }
        };
        Ok((matched(&self.flow, &data, &data.test, &name)?, name))
    }

    /// All rows of a table, the test rows of a folder, or samples of a 2-D density.
    fn read(&self, source: &Source, context: &[String], device: &Device) -> Result<Dataset> {
        let data = whole(source.rows(SAMPLES, &mut Rng::seed(0))?)?.with_context(context)?;
        if !self.flow.config().model.architecture().is_standardized() {
            data.check_angles().map_err(source.named())?;
        }
        data.to(DType::F32, device).map_err(source.named())
    }

    fn settings(&self) -> PathBuf {
        self.path.with_file_name("config.toml")
    }
}

/// The error of rows of a run that cannot be read, and the flag that names others.
pub fn unread(part: &str, flag: &str) -> impl Fn(Error) -> Error {
    move |error| {
        let kind = if error.is_bad_use() { Error::Data } else { Error::Io };
        kind(format!("the {part} rows of the run cannot be read: {error}; name others by {flag}"))
    }
}

/// A table of which every part is the whole.
pub fn whole(table: Table) -> Result<Dataset> {
    Dataset::from_parts([table.clone(), table.clone(), table])
}
