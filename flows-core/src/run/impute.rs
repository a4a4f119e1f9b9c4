//! The subcommand `impute`.

use super::tables::named;
use super::{DataArgs, Saved, TableSettings};
use crate::cli::{ModelArgs, check_out, count, plural, print_or_json};
use crate::data::{Cells, Column, Frame, Schema, read_frame, write_frame};
use crate::flows::{Imputation, TableConfig, TableModel, impute};
use crate::{Result, Rng};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Of fewer candidates than this, in effect, a draw is a poor one.
const FEW: f64 = 10.0;

/// Fill the missing cells of a table with draws from a model, given the other cells of their rows
///
/// A model of mixed columns draws them column by column, in its order. That is exact where no known cell comes after the
/// first missing one. Elsewhere, and for flows over numbers, draws are chosen among --candidates, weighted by how well the
/// known cells go with them (sampling and importance resampling): an approximation, which is good where many candidates
/// have weight, their effective number. The command says how many rows are exact, and how many have an effective number
/// below 10. The weight of the known cells includes the probability that these are not missing.
///
/// A draw is one of the values that the cell may have, not the best guess of it: means, spreads and correlations are then
/// those of the model. For what follows from the table, and its error, take --draws 5 or more, repeat the analysis with each
/// and compare. Cells are taken to be missing at random: that a cell is missing tells nothing of its value that the other
/// cells do not tell. A missing cell of the context is refused unless the model was trained with such (--missing model).
///
/// The other cells, and columns that the model does not have, stay as they are.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  flows impute runs/patients --data patients.csv --out filled.csv
  flows impute runs/patients --data patients.csv --draws 5 --out filled.csv    (a column `draw` counts them)
  flows impute runs/power --data power.csv --candidates 5000 --out filled.csv")]
pub struct ImputeArgs {
    /// The table, with empty cells where one is missing
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The file to write, .csv, or .npy for numbers alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How often to draw each missing cell; of several, the tables follow each other
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    draws: usize,
    /// Candidates for each row that is not exact
    #[arg(long, value_name = "K", default_value_t = 400, allow_negative_numbers = true)]
    candidates: usize,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    #[command(flatten)]
    model: ModelArgs,
}

impl ImputeArgs {
    /// Fills the table by the model, whose run has settings of this type.
    ///
    /// # Errors
    /// When the model or the table cannot be read, a row has no draw, or the table cannot be written.
    pub fn run<T: TableSettings>(&self) -> Result<()> {
        check_out(&self.out, [&self.data])?;
        let saved = Saved::open(&self.model, TableModel::load)?;
        let (config, name) = (saved.model.config(), self.data.display().to_string());
        let frame = read_frame(&self.data)?;
        let schema = config.schema().cloned().unwrap_or_else(|| of_frame(config, &frame));
        let coded = schema.clone().with_missing();
        let (table, _) = coded.numbers(&frame).map_err(named(&name))?;
        let mut rows = DataArgs::default().of_table::<T>(&saved, table, &name)?;
        if let TableConfig::Mixed(mixed) = config {
            let (given, drawn) = mixed.order.split_at(mixed.given);
            rows.x = marked(drawn.iter().map(|&i| coded.missing_code(i)), &rows.x)?;
            if let Some(context) = &rows.context {
                // A context may have a missing cell where the model knows such.
                let code = |&i: &usize| coded.missing_code(i).filter(|_| !schema.keeps_missing(i));
                rows.context = Some(marked(given.iter().map(code), context)?);
            }
        }
        let rng = &mut Rng::seed(self.seed);
        let row_name = |row: usize| frame.row_name(row);
        let found = impute(&saved.model, &rows, [self.draws, self.candidates], &row_name, rng).map_err(named(&name))?;
        let columns = columns(config, &schema)?;
        let filled = |rows: &Tensor| schema.fill(&frame, &columns, &decoded(config, rows)?);
        let tables = found.draws.iter().map(filled).collect::<Result<Vec<_>>>()?;
        let whole = if self.draws > 1 { Frame::numbered("draw", &tables) } else { tables[0].clone() };
        write_frame(&self.out, &whole)?;
        let left: usize =
            tables[0].columns.iter().map(|c| (0..c.cells.len()).filter(|&row| c.cells.is_missing(row)).count()).sum();
        let few = found.effective.iter().filter(|(_, effective)| *effective < FEW).count();
        let value = json!({
            "model": saved.path, "data": name, "out": self.out, "rows": frame.rows(), "incomplete": found.incomplete,
            "exact": found.exact, "candidates": self.candidates, "median_effective_candidates": median(&found),
            "rows_with_few_effective_candidates": few, "cells_left": left,
        });
        print_or_json(self.model.output, &value, self.report(&found, &frame, few, left))
    }

    fn report(&self, found: &Imputation, frame: &Frame, few: usize, left: usize) -> String {
        let rows = plural(frame.rows(), "row");
        let mut lines = vec![format!(
            "{} of {rows} had missing cells, filled in {}{}",
            count(found.incomplete),
            self.out.display(),
            if self.draws > 1 { format!(", {} times each", count(self.draws)) } else { String::new() }
        )];
        if found.exact > 0 {
            lines.push(format!("{}: drawn exactly from the model's conditional density", plural(found.exact, "row")));
        }
        if let Some(median) = median(found) {
            lines.push(format!(
                "{}: chosen among {} weighted candidates, of which {median:.0} are effective in the median",
                plural(found.effective.len(), "row"),
                count(self.candidates)
            ));
        }
        let worst = found.effective.iter().min_by(|a, b| a.1.total_cmp(&b.1)).filter(|_| few > 0);
        if let Some((row, effective)) = worst {
            lines.push(format!(
                "{} with fewer than {FEW:.0} effective candidates, row {} with {effective:.1}: raise --candidates",
                plural(few, "row"),
                frame.row_name(*row)
            ));
        }
        if left > 0 {
            lines.push(format!("{} left empty, in columns that the model does not have", plural(left, "cell")));
        }
        lines.join("\n")
    }
}

/// The median of the effective numbers of candidates.
fn median(found: &Imputation) -> Option<f64> {
    let mut effective: Vec<f64> = found.effective.iter().map(|(_, effective)| *effective).collect();
    effective.sort_unstable_by(f64::total_cmp);
    effective.get(effective.len() / 2).copied()
}

/// A schema for a model without one: columns of numbers.
fn of_frame(config: &TableConfig, frame: &Frame) -> Schema {
    let named = frame.names().filter(|_| config.columns().is_some());
    match named {
        Some(names) => Schema::of_numbers(names.into_iter().map(Some)),
        None => Schema::of_numbers(vec![None; config.features() + config.context().unwrap_or(0)]),
    }
}

/// The rows with NaN where the code of a column is that of a missing cell.
fn marked(codes: impl Iterator<Item = Option<usize>>, rows: &Tensor) -> Result<Tensor> {
    let codes: Vec<Option<f64>> = codes.map(|code| code.map(|code| code as f64)).collect();
    let mut cells = rows.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    for row in &mut cells {
        let pairs = row.iter_mut().zip(&codes);
        pairs.filter(|(cell, code)| Some(**cell) == **code).for_each(|(cell, _)| *cell = f64::NAN);
    }
    Ok(Tensor::from_vec(cells.concat(), rows.shape(), &Device::Cpu)?
        .to_dtype(rows.dtype())?
        .to_device(rows.device())?)
}

/// The columns of the model by their indices in the schema.
fn columns(config: &TableConfig, schema: &Schema) -> Result<Vec<usize>> {
    match config {
        TableConfig::Mixed(mixed) => Ok(mixed.order[mixed.given..].to_vec()),
        TableConfig::Flow(flow) => {
            let context = flow.context_columns.clone().unwrap_or_default();
            let order = schema.order(&context)?;
            let rest = order[context.len()..].to_vec();
            match &flow.columns {
                Some(names) => {
                    let of =
                        |name: &String| rest.iter().copied().find(|&i| schema.columns[i].name.as_ref() == Some(name));
                    Ok(names.iter().filter_map(of).collect())
                }
                None => Ok(rest),
            }
        }
    }
}

/// The rows of a model as a table.
fn decoded(config: &TableConfig, rows: &Tensor) -> Result<Frame> {
    if let TableConfig::Mixed(mixed) = config {
        return mixed.decode(rows);
    }
    let columns = rows.to_dtype(DType::F32)?.t()?.to_vec2::<f32>()?;
    // As many digits as the draws have.
    let number = |value: f32| value.to_string().parse().unwrap_or(f64::NAN);
    let column =
        |cells: Vec<f32>| Column { name: None, cells: Cells::Numbers(cells.into_iter().map(number).collect()) };
    Ok(Frame { columns: columns.into_iter().map(column).collect(), ..Frame::default() })
}
