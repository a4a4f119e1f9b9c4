//! The subcommand `check`.

mod figure;
mod remedy;
mod report;

pub use figure::check_figure;

use super::reference::spread;
use super::{DataArgs, Saved, TableSettings};
use crate::cli::{Columns, ModelArgs, count, log_likelihoods, print_or_json};
use crate::data::Examples;
use crate::evaluate::Mean;
use crate::files::in_folder;
use crate::flows::{TableCheck, TableModel};
use crate::train::Ranks;
use crate::{Result, Rng};
use clap::Args;
use remedy::{History, remedies};
use report::report;
use serde_json::json;
use std::path::{Path, PathBuf};

/// The most rows that are compared.
const ROWS: usize = 10_000;

/// The name of the picture.
const PICTURE: &str = "check.png";

/// See whether a model fits: compare its draws with rows that it was not trained on
///
/// Compares the test rows of the run, at most 10,000 spread evenly, with as many draws, and says in words what differs,
/// by how much, and what may help:
///
/// - The margin of each column: the greatest difference of the distribution functions of numbers (KS), and half the sum
///   of the differences of the shares of words, of repeated values and of missing cells (TV), with what equal
///   distributions exceed 5% of the time.
///
/// - The correlations that differ most.
///
/// - A classifier, fitted to one half of data and draws: it tells 50% of the other half rightly if they are alike.
///
/// - Where values lie in the distributions that the model gives them, and how many are in its central intervals.
///
/// A difference is one that equal distributions would show in less than 5% of all checks. The picture check.png, in the
/// run's folder or --out, shows pairs of columns (data below the diagonal, draws above), their margins, and the
/// calibration.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  flows check runs/two-moons
  flows check runs/patients --data new.csv --out pictures
  flows check model.safetensors --data test.npy --json")]
pub struct CheckArgs {
    /// The folder for check.png [default: that of the run]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seed of the draws and of the tests
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    model: ModelArgs,
}

impl CheckArgs {
    /// Checks the model, whose run has settings of this type.
    ///
    /// # Errors
    /// When the model or the rows cannot be read, or the picture cannot be written.
    pub fn run<T: TableSettings>(&self) -> Result<()> {
        let saved = Saved::open(&self.model, TableModel::load)?;
        let (rows, name) = self.data.rows::<T>(&saved)?;
        let all = rows.len();
        let rows = spread(&rows, ROWS)?;
        let (model, output) = (&saved.model, self.model.output);
        output.note(format_args!("drawing and comparing {} rows", count(rows.len())));
        let found = TableCheck::of(model, &rows, &mut Rng::seed(self.seed))?;
        let mean = |rows: &Examples| -> Result<Mean> {
            Ok(Mean::of(&log_likelihoods(model, rows, &Ranks::alone(), output.quiet)?))
        };
        let trained_on = match (&self.data.data, found.check.verdict.good) {
            (None, false) => {
                let (data, name) = self.data.of_run::<T>(&saved, "training rows", "--data")?;
                let train = Columns::from(model.config()).of(&data, &data.train, &name)?;
                Some(mean(&spread(&train, ROWS)?)?)
            }
            _ => None,
        };
        let history = History::of(
            saved.path.parent().unwrap_or(Path::new(".")),
            trained_on,
            mean(&rows)?,
            self.data.data.is_none(),
        );
        let remedies = remedies(&found.check, model.config(), &history);
        let run = Path::new(&self.model.model);
        let folder = self.out.as_deref().or_else(|| run.is_dir().then_some(run));
        let picture = folder.map(|folder| in_folder(folder, PICTURE)).transpose()?;
        if let Some(picture) = &picture {
            check_figure(&found).write(picture)?;
        }
        let value = json!({
            "model": saved.path, "data": name, "rows_of_data": all, "result": found.check, "remedies": remedies,
            "picture": picture,
        });
        let of = if all > rows.len() { format!(", of {}", count(all)) } else { String::new() };
        print_or_json(output, &value, report(&found.check, &format!("{name}{of}"), &remedies, picture.as_deref()))
    }
}
