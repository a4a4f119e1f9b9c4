//! The rows to use with a saved model of a table.

use super::{Saved, Settings};
use crate::cli::{Columns, check_draws, draw_rows};
use crate::data::{Dataset, Examples, Frame, Schema, Source, Table, read_frame};
use crate::distributions::Distribution;
use crate::flows::{TableConfig, TableModel};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use std::path::PathBuf;

/// The number of samples of a 2-D density named in place of a file.
const SAMPLES: usize = 20_000;

/// The settings of a run on a table.
pub trait TableSettings: Settings {
    /// The columns of the context, by name or by index from 0.
    fn context(&mut self) -> &mut Vec<String>;

    /// Loads the data in three parts, the same at every call, and the name of its source.
    ///
    /// # Errors
    /// When they cannot be read, or are not those that the run began with.
    fn load_table(self, device: &Device) -> Result<(Dataset, String)>;
}

/// The rows that a subcommand works on.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// The rows: a table, a folder with a part `test`, hf://, or a 2-D density [default: the test rows of the
    /// model's run]
    #[arg(long, value_name = "D")]
    pub data: Option<String>,
    /// The columns of the context, by name or by index from 0, separated by commas [default: those that the model
    /// was trained with]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub context: Option<Vec<String>>,
}

impl DataArgs {
    /// The rows that these arguments name, with a name for messages: all rows of a table, the test rows of a folder, or
    /// samples of a 2-D density.
    ///
    /// # Errors
    /// When they cannot be read, or are not rows of the model.
    pub fn rows<T: TableSettings>(&self, saved: &Saved<TableModel>) -> Result<(Examples, String)> {
        let (blocks, name) = self.blocks::<T>(saved, saved.model.config().schema())?;
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let join = |parts: Vec<&Tensor>| Tensor::cat(&parts, 0);
        let context: Option<Vec<&Tensor>> = blocks.iter().map(|block| block.context.as_ref()).collect();
        let x = join(blocks.iter().map(|block| &block.x).collect())?;
        Ok((Examples { x, context: context.map(join).transpose()? }, name))
    }

    /// The rows of [`Self::rows`], those of a large text file some at a time; files are read by this schema.
    ///
    /// # Errors
    /// When they cannot be read, or are not rows of the model.
    pub fn blocks<'a, T: TableSettings>(
        &'a self,
        saved: &'a Saved<TableModel>,
        schema: Option<&'a Schema>,
    ) -> Result<(Blocks<'a>, String)> {
        let Some(text) = &self.data else {
            let (data, name) = self.of_run::<T>(saved, "test rows", "--data")?;
            let name = format!("{name} (test)");
            let rows = Columns::from(saved.model.config()).of(&data, &data.test, &name)?;
            return Ok((Box::new(std::iter::once(Ok(rows))), name));
        };
        let source: Source = text.parse()?;
        let tables = source.into_blocks(schema, SAMPLES, &mut Rng::seed(0))?;
        Ok((Box::new(tables.map(move |table| self.of_table::<T>(saved, table?, text))), text.clone()))
    }

    /// The data of the run in three parts, with the name of its source. Messages call it `what`, and suggest the `flag`
    /// that names other data.
    ///
    /// # Errors
    /// As [`Saved::of_run`].
    pub fn of_run<T: TableSettings>(
        &self,
        saved: &Saved<TableModel>,
        what: &str,
        flag: &str,
    ) -> Result<(Dataset, String)> {
        saved.of_run(what, flag, |mut run: T| {
            if let Some(context) = &self.context {
                run.context().clone_from(context);
            }
            run.load_table(&saved.device)
        })
    }

    /// The rows of a table of numbers as the model takes them; errors call it `name`.
    ///
    /// # Errors
    /// When they are not rows of the model.
    pub fn of_table<T: TableSettings>(&self, saved: &Saved<TableModel>, table: Table, name: &str) -> Result<Examples> {
        let config = saved.model.config();
        let context = match (&self.context, config.context_columns()) {
            (Some(columns), _) => columns.clone(),
            (None, Some(columns)) => columns.to_vec(),
            (None, None) if config.context().is_some() => {
                saved.settings::<T>()?.map(|mut run| std::mem::take(run.context())).unwrap_or_default()
            }
            (None, None) => Vec::new(),
        };
        let data = Dataset::whole(table)?.with_context(&context)?;
        let data = config.check(data, &saved.device).map_err(named(name))?;
        Columns::from(config).of(&data, &data.test, name)
    }
}

/// Rows, some at a time.
pub type Blocks<'a> = Box<dyn Iterator<Item = Result<Examples>> + 'a>;

/// The contexts of draws.
#[derive(Args, Clone, Debug, Default)]
pub struct ContextArgs {
    /// The contexts, a .npy or .csv file with only the columns of the context
    #[arg(long, value_name = "FILE")]
    pub context: Option<PathBuf>,
    /// One context, as the names of its columns with their values
    #[arg(long, value_name = "COLUMN=VALUE", value_delimiter = ',', conflicts_with = "context")]
    pub given: Vec<String>,
}

impl ContextArgs {
    /// Draws `count` rows, 1000 unless given, or so many for each context, one unless given. One context is embedded once.
    ///
    /// # Errors
    /// When the contexts are not those of the model, or there are too many draws.
    pub fn draw(&self, saved: &Saved<TableModel>, count: Option<usize>, rng: &mut Rng, quiet: bool) -> Result<Tensor> {
        let (model, device) = (&saved.model, &saved.device);
        let contexts = self.contexts(model)?;
        let (each, of_contexts) = match &contexts {
            None => (count.unwrap_or(1000), 1),
            Some(contexts) => (count.unwrap_or(1), contexts.dim(0)?),
        };
        let rows = each.saturating_mul(of_contexts);
        check_draws(rows, model.config().features().max(model.config().context().unwrap_or(0)), "row")?;
        match contexts {
            None => draw_rows(model, rows, None, device, rng, quiet),
            Some(context) if of_contexts == 1 => {
                draw_rows(&model.given(&context.to_device(device)?)?, rows, None, device, rng, quiet)
            }
            Some(contexts) => {
                let repeated = contexts.unsqueeze(1)?.repeat((1, each, 1))?.flatten(0, 1)?;
                draw_rows(model, rows, Some(&repeated), device, rng, quiet)
            }
        }
    }

    /// The contexts, on the CPU; none for a model without a context.
    fn contexts(&self, model: &TableModel) -> Result<Option<Tensor>> {
        let (config, columns) = (model.config(), Columns::from(model.config()));
        let (frame, name) = match (columns.context, &self.context) {
            (0, None) if self.given.is_empty() => return Ok(None),
            (0, _) => return Err(Error::Config("the model has no context; omit --context and --given".into())),
            (_, Some(path)) => (read_frame(path)?, path.display().to_string()),
            (_, None) if !self.given.is_empty() => (Frame::of_assignments(&self.given)?, "--given".to_string()),
            (width, None) => {
                let names = columns.context_names.map_or(String::new(), |names| format!(" (`{}`)", names.join("`, `")));
                return Err(Error::Config(format!(
                    "the model is conditional: give a file of its {width} context columns{names} by --context, or one \
                     context by --given COLUMN=VALUE"
                )));
            }
        };
        if let TableConfig::Mixed(mixed) = config {
            return mixed.contexts(&frame).map_err(named(&name)).map(Some);
        }
        let data = Dataset::whole(frame.numbers().map_err(named(&name))?)?;
        let data = data.to(DType::F32, &Device::Cpu).map_err(named(&name))?;
        let (got, width) = (data.test.features(), columns.context);
        if got != width {
            return Err(Error::Data(format!(
                "{name} has {got} columns, but the model's context has {width}; give these alone"
            )));
        }
        columns.context_of(&data.test.x, data.columns.as_deref(), &name).map(Some)
    }
}

/// A function that prefixes errors with the name of the data.
pub(super) fn named(name: &str) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::Data(message) => Error::Data(format!("{name}: {message}")),
        error => error,
    }
}
