//! The rows to use with a saved model.

use crate::config::RunConfig;
use clap::Args;
use flows_core::cli::Columns;
use flows_core::data::{Dataset, Examples, Source};
use flows_core::flows::TableModel;
use flows_core::run::Saved;
use flows_core::{Result, Rng};

/// The number of samples of a 2-D density named in place of a file.
const SAMPLES: usize = 20_000;

/// The rows that a subcommand works on.
#[derive(Args, Debug)]
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

/// The rows that `args` name, with a name for messages: all rows of a table, the test rows of a folder, or samples of a
/// 2-D density.
pub fn rows(saved: &Saved<TableModel>, args: &DataArgs) -> Result<(Examples, String)> {
    let (config, columns) = (saved.model.config(), Columns::from(saved.model.config()));
    let Some(text) = &args.data else {
        let (data, name) = saved.of_run("test rows", "--data", |mut run: RunConfig| {
            run.context = args.context.clone().unwrap_or(run.context);
            Ok((run.load(&saved.device)?, format!("{} (test)", run.data)))
        })?;
        return Ok((columns.of(&data, &data.test, &name)?, name));
    };
    let context = match (&args.context, config.context_columns()) {
        (Some(columns), _) => columns.clone(),
        (None, Some(columns)) => columns.to_vec(),
        (None, None) if config.context().is_some() => {
            saved.settings::<RunConfig>()?.map(|run| run.context).unwrap_or_default()
        }
        (None, None) => Vec::new(),
    };
    let source: Source = text.parse()?;
    let table = match config.schema() {
        Some(schema) => source.rows_of(schema).map_err(source.named())?,
        None => None,
    };
    let table = table.map_or_else(|| source.rows(SAMPLES, &mut Rng::seed(0)), Ok)?;
    let data = Dataset::whole(table)?.with_context(&context)?;
    let data = config.check(data, &saved.device).map_err(source.named())?;
    Ok((columns.of(&data, &data.test, text)?, text.clone()))
}
