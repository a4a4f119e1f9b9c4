//! A model that was saved, and the data that goes with it.

use crate::config::RunConfig;
use crate::likelihood::check_columns;
use candle_core::{DType, Device};
use clap::Args;
use flows_core::cli::{parse_settings, read_settings};
use flows_core::data::{Dataset, Examples, Source, Table, read_table};
use flows_core::flows::Flow;
use flows_core::{Error, Result, Rng, hub};
use std::path::{Path, PathBuf};

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
    /// The model in `text`: the folder of a run, a file, or `hf://owner/repo/path`.
    pub fn open(text: &str, device: &Device) -> Result<Self> {
        let path = locate(text)?;
        Ok(Self { flow: Flow::load(&path, device)?, path })
    }

    /// The settings of the run that made the model.
    pub fn run(&self) -> Result<RunConfig> {
        let path = self.path.with_file_name("config.toml");
        if !path.exists() {
            let message = "has no config.toml beside it that says what it was trained on";
            return Err(Error::file(&self.path, message));
        }
        parse_settings(read_settings(&path)?).map_err(|e| Error::file(path, e))
    }

    /// The rows that `args` name, and what to call them.
    pub fn rows(&self, args: &DataArgs, device: &Device) -> Result<(Examples, String)> {
        let (rows, name) = match &args.data {
            Some(text) => {
                let context = match &args.context {
                    Some(columns) => columns.clone(),
                    None if self.flow.config().context.is_some() => self.run().map(|r| r.context).unwrap_or_default(),
                    None => Vec::new(),
                };
                (read_rows(&text.parse()?, &context, device)?, text.clone())
            }
            None => {
                let mut run = self.run().map_err(unread("test", "--data"))?;
                if let Some(context) = &args.context {
                    run.context.clone_from(context);
                }
                (run.load(device).map_err(unread("test", "--data"))?.test, format!("{} (test)", run.data))
            }
        };
        check_columns(&self.flow, &rows, &name)?;
        Ok((rows, name))
    }

    /// The names that the columns of the data and of the context had in training, if they had any.
    pub fn columns(&self) -> Option<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Results {
            columns: Option<Vec<String>>,
        }
        let text = std::fs::read_to_string(self.path.with_file_name("results.json")).ok()?;
        let columns = serde_json::from_str::<Results>(&text).ok()?.columns?;
        (columns.len() == self.flow.config().features).then_some(columns)
    }
}

/// The error of rows of a run that cannot be read, and the flag that names others.
pub fn unread(part: &str, flag: &str) -> impl Fn(Error) -> Error {
    move |error| Error::Data(format!("the {part} rows of the run cannot be read: {error}; name others by {flag}"))
}

/// The file of the model that `text` names.
pub fn locate(text: &str) -> Result<PathBuf> {
    let path = hub::resolve(text)?;
    Ok(if path.is_dir() { path.join("model.safetensors") } else { path })
}

/// All rows of a table, the test rows of a folder, or samples of a 2-D density.
fn read_rows(source: &Source, context: &[String], device: &Device) -> Result<Examples> {
    let table = |path: &Path| read_table(path);
    let whole = match source {
        Source::Toy(toy) => Table { columns: None, data: toy.sample(SAMPLES, &mut Rng::seed(0))? },
        Source::Table(path) => table(path)?,
        Source::Directory(path) => table(&path.join("test.npy"))?,
        Source::Hub(address) if Path::new(address.path()).extension().is_some() => table(&address.fetch()?)?,
        Source::Hub(address) => table(&address.join("test.npy")?.fetch()?)?,
    };
    let data = Dataset::from_parts([whole.clone(), whole.clone(), whole])?;
    Ok(data.with_context(context)?.to(DType::F32, device)?.test)
}
