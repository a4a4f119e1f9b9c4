//! `flows train`: a model from data.

use crate::config::{PRESETS, RunConfig};
use crate::picture;
use crate::plot::UNIT;
use clap::Args;
use flows_core::Result;
use flows_core::cli::{
    DeviceArgs, Exact, Interrupt, Likelihood, Mean, OutputArgs, ProgressBar, RunArgs, RunFolder, count, duration,
    log_likelihoods, plural, print, print_json, write_json,
};
use flows_core::data::{Dataset, Shuffle, Source, Toy};
use flows_core::flows::{Flow, NamedFlow};
use flows_core::train::{LossGradients, Outcome, Trainer};
use serde::Serialize;
use std::path::PathBuf;
use toml::{Table, Value};

const EXAMPLES: &str = "\
Examples:
  flows train
  flows train --data checkerboard --out runs/board
  flows train --data prices.csv --context year,region --out runs/prices
  flows train --data hf://datasets/owner/repo/table.csv --model maf --steps 20000 --lr 3e-4
  flows train --data power/ --preset power --out runs/power --tensorboard
  flows train --out runs/power --resume";

/// The presets, each with what it is for.
fn presets() -> String {
    format!("Presets, `toy` unless given, and for tables `table`:\n{}\n", PRESETS.lines(10))
}

/// Train a model on data
///
/// Ends with the log-likelihood of the test rows, and leaves in the folder --out: the model, the settings
/// (config.toml), the metrics (metrics.jsonl), the loss curve (loss.png), the results (results.json), and
/// for data in the plane density.png. Ctrl-C saves and ends; --resume goes on where a run was saved last,
/// also after a crash, and gives the model that an uninterrupted run would have given.
///
/// Data is standardized within the model. Of a table 8 rows in 10 are trained on, 1 chooses the best
/// weights, and 1 is tested on.
#[derive(Args)]
#[command(after_long_help = presets() + EXAMPLES)]
pub struct TrainArgs {
    /// two-moons, circles, rings, eight-gaussians, pinwheel, two-spirals, checkerboard or swiss-roll; a .npy or
    /// .csv file; a folder with train.npy, validation.npy and test.npy; or hf:// [default: two-moons]
    #[arg(long, value_name = "D", conflicts_with = "resume", help_heading = "Data")]
    data: Option<String>,
    /// Columns that the model is conditioned on, by name or by index from 0, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "resume", help_heading = "Data")]
    context: Option<Vec<String>>,
    /// Take the columns as they are: neither shift nor scale them to mean 0 and deviation 1
    #[arg(long, conflicts_with = "resume", help_heading = "Data")]
    no_standardize: bool,
    /// The architecture, with the settings of its paper unless the preset has it
    #[arg(long, value_name = "M", conflicts_with = "resume")]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(NamedFlow::NAMES))]
    model: Option<String>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a run ends with: `results.json`.
#[derive(Serialize)]
struct Results {
    data: Source,
    model: &'static str,
    parameters: usize,
    steps: u64,
    early_stopped: bool,
    /// Of training.
    seconds: f64,
    /// The mean negative log-likelihood of the validation rows under the weights that were kept.
    validation: Option<f64>,
    test: Likelihood,
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<Exact>,
    columns: Option<Vec<String>>,
    context_columns: Option<Vec<String>>,
    out: PathBuf,
}

pub fn run(args: TrainArgs) -> Result<()> {
    let device = args.device.open()?;
    let (folder, mut config) = settle(&args)?;
    let out = folder.path();
    let note = |text: String| args.output.note(text);
    let data = config.load(&device)?;
    if !matches!(config.data, Source::Toy(_)) {
        config.rows = Some(data.rows());
    }
    note(format!("data   {}: {}", config.data, describe(&data)));
    let flow = config.build(&data, &device)?;
    let parameters = flow.parameters().count();
    let mut generators = config.generators();
    let mut shuffle = Shuffle::new(data.train.len(), config.batch, config.seed)?;
    let trainer = Trainer::new(flow.parameters(), config.train.clone(), generators.training)?;
    let (mut trainer, done) = folder.trainer(trainer, Flow::KIND, flow.config(), &[])?;
    let _replaced = folder.begin(&config)?;
    let steps = config.train.steps;
    let size = config.batch.min(data.train.len());
    note(format!(
        "model  {}: {}, {} of {}",
        config.model.name(),
        plural(parameters, "parameter"),
        plural(steps as usize, "step"),
        plural(size, "row")
    ));
    folder.note_resumed(done, args.output);

    let pieces = config.pieces_on(&device);
    let outcome = {
        let interrupt = Interrupt::install()?;
        let bar = (!args.output.quiet).then(|| ProgressBar::new(steps, done));
        let mut observers = folder.observers((done, steps), &args.run, bar, &interrupt)?;
        let mut evaluate = |_: &mut _| Ok(-Mean::of(&log_likelihoods(&flow, &data.validation, true)?).mean);
        let loss = |number: u64, rng: &mut _| {
            let batch = data.train.select(&shuffle.batch(number))?;
            LossGradients::of_pieces(batch.len(), pieces, rng, |rows, rng| {
                let part = batch.rows(rows)?;
                config.train.memory.forward_kl(&flow, &part.x, part.context.as_ref(), rng)
            })
        };
        trainer.run(loss, Some(&mut evaluate), &mut observers)?
    };
    folder.finished("flows", outcome, (trainer.step(), steps))?;

    let values = log_likelihoods(&flow, &data.test, args.output.quiet)?;
    // The exact density is that of both coordinates, not of one given the other.
    let toy = if let Source::Toy(toy) = config.data { Some(toy).filter(|_| config.context.is_empty()) } else { None };
    let results = Results {
        data: config.data.clone(),
        model: config.model.name(),
        parameters,
        steps: trainer.step(),
        early_stopped: outcome == Outcome::EarlyStopped,
        seconds: trainer.seconds(),
        validation: trainer.kept(),
        test: Likelihood::of(&values, flow.config().features),
        exact: toy.map(|toy| Exact::of(toy, &data.test, &values)).transpose()?,
        columns: data.columns.clone(),
        context_columns: data.context_columns.clone(),
        out: out.to_path_buf(),
    };
    write_json(&out.join("results.json"), &results)?;
    let lines: Vec<_> = toy.iter().map(|toy| ("entropy of the data", toy.entropy())).collect();
    folder.draw_losses(&lines, UNIT)?;
    if let Some(figure) = picture::figure(&flow, &config.data, &data, &mut generators.picture)? {
        figure.write(out.join("density.png"))?;
    }
    if args.output.json { print_json(&results) } else { print(summary(&results)) }
}

/// The folder and the settings of the run: those of the folder when it is resumed, else those of the
/// preset, the file and the flags.
fn settle(args: &TrainArgs) -> Result<(RunFolder, RunConfig)> {
    let mut flags = Table::new();
    let context = args.context.as_ref().map(|columns| columns.iter().cloned().map(Value::from).collect());
    let values = [
        ("data", args.data.clone().map(Value::from)),
        ("context", context.map(Value::Array)),
        ("standardize", args.no_standardize.then_some(Value::from(false))),
        ("model", args.model.clone().map(|kind| Value::Table(Table::from_iter([("kind".to_string(), kind.into())])))),
    ];
    flags.extend(values.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))));
    if args.run.resume {
        let (folder, config): (_, RunConfig) = RunFolder::resumed(&args.run, Toy::TwoMoons.name())?;
        config.check()?;
        return Ok((folder, config));
    }
    let table = args.data.as_ref().is_some_and(|data| data.parse::<Toy>().is_err());
    let settings = args.run.layer(PRESETS, if table { "table" } else { "toy" }, "rows", flags)?;
    let config: RunConfig = args.run.parse(settings)?;
    let config = RunConfig { data: config.data.absolute()?, ..config };
    let folder = RunFolder::new(args.run.place(&config.data.to_string()), &args.run)?;
    config.check()?;
    Ok((folder, config))
}

fn describe(data: &Dataset) -> String {
    let context = data.train.context_width().map_or(String::new(), |width| format!(" given {width}"));
    let columns = plural(data.train.features(), "column");
    let [train, validation, test] = [&data.train, &data.validation, &data.test].map(|part| part.len());
    let train = plural(train, "row");
    format!("{columns}{context}; {train} to train on, {} to validate, {} to test", count(validation), count(test))
}

fn summary(results: &Results) -> String {
    let mut text = format!("test log-likelihood  {}\n", results.test.text(""));
    if let Some(Exact { log_likelihood, divergence, .. }) = &results.exact {
        let short = divergence.text();
        text += &format!(
            "exact density        {log_likelihood:.4} nats on the same rows: the model is {short} short of it\n"
        );
    }
    let stopped = if results.early_stopped { ", when validation did not get better any more" } else { "" };
    let (steps, time) = (plural(results.steps as usize, "step"), duration(results.seconds));
    text + &format!("trained              {steps} in {time}{stopped}\nwritten              {}", results.out.display())
}
