//! `flows train`: trains a model on data.

use crate::config::{PROGRAM, RunConfig, Stream};
use clap::Args;
use flows_core::Result;
use flows_core::cli::{DeviceArgs, OutputArgs, RunArgs, check_strict, describe_rows, log_likelihoods, plural, unset};
use flows_core::data::{Frames, Kinds, Schema, Shuffle, Source};
use flows_core::evaluate::{Exact, Likelihood, Mean};
use flows_core::flows::{Mixed, TableArchitecture, TableModel};
use flows_core::run::{Loss, Reference, Trained, table_figure};
use flows_core::train::{Ranks, Trainer};
use serde::Serialize;
use std::collections::BTreeMap;

const EXAMPLES: &str = "\
Examples:
  flows train
  flows train --data checkerboard --out runs/board
  flows train --data prices.csv --context year,region --out runs/prices
  flows train --data patients.parquet --missing model --bounded share=0:1 --out runs/patients
  flows train --data hf://datasets/owner/repo/table.csv --model maf --steps 20000 --lr 3e-4
  flows train --data power/ --preset power --out runs/power --tensorboard
  flows train --out runs/power --resume";

/// The presets with their descriptions.
fn presets() -> String {
    let lines = PROGRAM.presets.lines(10);
    format!("Presets, `toy` unless given, `table` for tables of real numbers, `mixed` for others:\n{lines}\n")
}

/// Train a model on data
///
/// Reports the log-likelihood of the test rows, and writes to the folder --out: the model, the settings
/// (config.toml), the metrics (metrics.jsonl), the loss curve (loss.png), the results (results.json), and
/// for two-dimensional data density.png. Ctrl-C saves and ends; --resume continues from where a run was last saved,
/// also after a crash, and gives the same model as an uninterrupted run. `mpirun -n 4 flows train
/// --pieces 4` divides every batch among four processes.
///
/// Data is standardized within the model. Of 10 rows of a table, 8 are for training, 1 is for choosing the best
/// weights, and 1 is for testing.
#[derive(Args)]
#[command(after_long_help = presets() + EXAMPLES, mut_group("Kinds", |kinds| kinds.conflicts_with("resume")))]
pub struct TrainArgs {
    #[command(flatten)]
    settings: Flags,
    /// End with an error if there is anything to note on the data
    #[arg(long, help_heading = "Data")]
    strict: bool,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The flags for settings, laid out like the settings.
#[derive(Args, Serialize)]
struct Flags {
    /// two-moons, circles, rings, eight-gaussians, pinwheel, two-spirals, checkerboard or swiss-roll; a table as .csv,
    /// .tsv, .txt, .npy, .npz, .parquet or .zip (`flows inspect` tells how it is read); a folder of parts of a table, or
    /// of train, validation and test; or hf:// [default: two-moons]
    #[arg(long, value_name = "D", conflicts_with = "resume", help_heading = "Data")]
    data: Option<String>,
    /// The columns to use, by name or by index from 0, separated by commas [default: all but constants and numbers of
    /// rows]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "resume", help_heading = "Data")]
    columns: Option<Vec<String>>,
    /// Columns to leave out, by name or by index from 0, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "resume", help_heading = "Data")]
    drop: Option<Vec<String>>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    kinds: Kinds,
    /// Columns that the model is conditioned on, by name or by index from 0, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "resume", help_heading = "Data")]
    context: Option<Vec<String>>,
    /// Do not standardize the columns to mean 0 and standard deviation 1
    #[arg(long = "no-standardize", num_args = 0, default_missing_value = "false")]
    #[arg(conflicts_with = "resume", help_heading = "Data")]
    standardize: Option<bool>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    model: ModelFlags,
}

#[derive(Args, Default, PartialEq, Serialize)]
struct ModelFlags {
    /// The architecture, with the settings of its paper unless the preset has others
    #[arg(long = "model", value_name = "M", conflicts_with = "resume")]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TableArchitecture::names()))]
    kind: Option<String>,
}

/// The results of a run: `results.json`.
#[derive(Serialize)]
struct Results {
    data: Source,
    model: &'static str,
    #[serde(flatten)]
    trained: Trained,
    test: Likelihood,
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<Exact>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    baselines: BTreeMap<&'static str, Mean>,
    columns: Option<Vec<String>>,
    context_columns: Option<Vec<String>>,
}

impl TrainArgs {
    /// The preset for the data, unless another is named, and the tables if they had to be read for it.
    fn preset(&self) -> Result<(&'static str, Option<Frames>)> {
        let Some(data) = &self.settings.data else { return Ok(("toy", None)) };
        let (run, model) = (&self.run, self.settings.model.kind.as_deref());
        let Flags { kinds, columns, drop, .. } = &self.settings;
        let frames = match data.parse()? {
            Source::Toy(_) => return Ok(("toy", None)),
            _ if model == Some(Mixed::NAME) => return Ok((Mixed::NAME, None)),
            _ if run.preset.is_some() || run.config.is_some() || model.is_some() => return Ok(("table", None)),
            table => table.frames()?.unwrap_or_default(),
        };
        let schema = Schema::with_kinds(&frames, kinds)?;
        let schema = schema.select(columns.as_deref().unwrap_or(&[]), drop.as_deref().unwrap_or(&[]))?;
        Ok((if schema.is_mixed() { Mixed::NAME } else { "table" }, Some(frames)))
    }
}

pub fn run(args: TrainArgs, ranks: &Ranks) -> Result<()> {
    let (device, output) = (args.device.of(ranks)?.open()?, args.output.of(ranks));
    let (preset, frames) = args.preset()?;
    let (mut run, mut config): (_, RunConfig) = PROGRAM.open(&args.run, output, preset, &args.settings, ranks)?;
    let data = config.load(frames, &device)?;
    config.fit(data.train.len(), args.run.settings.batch.is_some());
    run.note(format_args!("data   {}: {}", config.data, describe_rows(&data)));
    let remarks = data.remarks();
    check_strict(args.strict, &remarks)?;
    remarks.iter().for_each(|remark| run.note(format_args!("       {remark}")));
    let flow = config.build(&data, &device)?;
    let (parameters, steps) = (plural(flow.parameters().count(), "parameter"), config.train.steps);
    let size = plural(config.batch.min(data.train.len()), "row");
    let work = format!("{} of {size}", plural(steps as usize, "step"));
    run.note(format_args!("model  {}: {parameters}, {work}", config.model.name()));
    let trainer = Trainer::new(flow.parameters(), config.train.clone(), config.rng(Stream::Training))?;
    let mut trainer = run.start(trainer, TableModel::KIND, flow.config(), &config)?;

    let mut shuffle = Shuffle::new(data.train.len(), config.batch, config.seed)?;
    let (weights, pieces) = (flow.parameters().trainable(), config.pieces_on(&flow, ranks));
    run.note_ranks(pieces);
    let loss = |number: u64, rng: &mut _| {
        let batch = data.train.select(&shuffle.batch(number))?;
        ranks.gradients(&weights, batch.len(), pieces, rng, |rows, rng| {
            let part = batch.rows(rows)?;
            flow.loss(config.train.memory, &part.x, part.context.as_ref(), rng)
        })
    };
    let mut validate = |_: &mut _| Ok(-Mean::of(&log_likelihoods(&flow, &data.validation, ranks, true)?).mean);
    let outcome = trainer.run(loss, Some(&mut validate), &mut run.watch(trainer.step(), steps)?)?;
    let trained = run.trained(outcome, &trainer, steps, vec![Loss::all("negative log-likelihood (nats)")])?;

    let values = log_likelihoods(&flow, &data.test, ranks, output.quiet)?;
    let reference = Reference::held_out(&flow, &data, ranks);
    if !ranks.is_first() {
        return Ok(());
    }
    let toy = if let Source::Toy(toy) = config.data { Some(toy) } else { None };
    // The exact density is known for both coordinates jointly, not for one given the other.
    let known = toy.filter(|_| config.context.is_empty());
    let results = Results {
        data: config.data.clone(),
        model: config.model.name(),
        trained,
        test: Likelihood::of(&values, flow.config().features()),
        exact: known.map(|toy| Exact::of(toy, &data.test, &values)).transpose()?,
        baselines: flow.config().baselines(&data, &mut config.rng(Stream::Picture))?,
        columns: data.columns.clone(),
        context_columns: data.context_columns.clone(),
    };
    run.save_results(&results)?;
    if let Err(error) = reference.and_then(|scores| scores.write_beside(&run.file("model.safetensors"))) {
        run.note(format_args!("no scores of held-out rows are kept: {error}"));
    }
    let lines: Vec<_> = known.iter().map(|toy| ("entropy of the data", toy.entropy())).collect();
    run.draw_losses(&results.trained.losses, &lines)?;
    if let Some((name, figure)) = table_figure(&flow, toy, &data, &mut config.rng(Stream::Picture))? {
        figure.write(run.file(name))?;
    }
    run.report(&results, &summary(&results))
}

fn summary(results: &Results) -> Vec<(&'static str, String)> {
    let mut lines = vec![("test log-likelihood", results.test.text(""))];
    lines.extend(results.exact.map(|exact| ("exact density", exact.to_string())));
    lines.extend(results.baselines.iter().map(|baseline| (*baseline.0, baseline.1.to_string())));
    lines.extend(results.trained.lines("", ""));
    lines
}
