//! `ffjord eval`: the log-likelihood of data under a model.

use crate::images::{bits, evaluate};
use crate::kind::Kind;
use candle_core::{DType, Device};
use clap::Args;
use ffjord::run::{images, tables};
use ffjord::{ContinuousFlow, Cost, ImageModel};
use flows_core::cli::{Columns, ModelArgs, SkipArgs, log_likelihoods, print_or_json};
use flows_core::data::{Dataset, Examples, Source};
use flows_core::evaluate::Likelihood;
use flows_core::run::{FoundImages, Saved};
use flows_core::train::Ranks;
use flows_core::{Error, Result, Rng};
use serde_json::json;

/// The number of samples of a 2-D density.
const SAMPLES: usize = 20_000;

/// Evaluate how well a model fits data: the log-likelihood of rows, with the exact divergence, or the bits per dimension
/// of images, with an estimate of it
///
/// Prints the mean with its standard error, and the number of evaluations of the field per solve. Without --data it
/// evaluates the test rows or images of the model's run.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ffjord eval runs/pinwheel
  ffjord eval runs/prices --data new.csv --json
  ffjord eval runs/mnist --count 1000")]
pub struct EvalArgs {
    /// The rows: a .npy or .csv file, a folder with test.npy, hf://, or a 2-D density; for a model of images: digits,
    /// uci-digits, a folder, an IDX, .npy or .parquet file, or hf://, which are scaled and cropped, or padded, like those
    /// of the run
    #[arg(long, value_name = "D", help_heading = "Data")]
    pub data: Option<String>,
    /// Evaluate only the first N images
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Seed of the dequantization noise of images and of their divergence estimates [default: 0]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub skip: SkipArgs,
}

pub fn run(mut args: EvalArgs, ranks: &Ranks) -> Result<()> {
    args.model = args.model.of(ranks)?;
    if Kind::of(&args.model)? == Kind::Images { of_images(args, ranks) } else { of_rows(args, ranks) }
}

fn of_rows(args: EvalArgs, ranks: &Ranks) -> Result<()> {
    if args.count.is_some() || args.seed.is_some() || args.skip != SkipArgs::default() {
        return Err(Error::Config(
            "--count, --seed, --skip-bad and --strict are for models of images: omit them".into(),
        ));
    }
    let output = args.model.output;
    let saved = Saved::open(&args.model, ContinuousFlow::load)?;
    let (rows, name) = rows(&saved, args.data.as_deref(), &saved.device)?;
    let values = log_likelihoods(&saved.model, &rows, ranks, output.quiet)?;
    let evaluations = evaluations(saved.model.detached().take_cost().of_all(ranks)?);
    if !ranks.is_first() {
        return Ok(());
    }
    let result = Likelihood::of(&values, saved.model.dimensions());
    let value = json!({ "model": saved.path, "data": name, "result": result, "evaluations": evaluations });
    let text = format!(
        "log-likelihood  {}\nevaluations     {evaluations:.1} of the field per solve",
        result.text(&format!(" of {name}"))
    );
    print_or_json(output, &value, text)
}

fn of_images(args: EvalArgs, ranks: &Ranks) -> Result<()> {
    let output = args.model.output;
    let saved = Saved::open(&args.model, ImageModel::load)?;
    let model = &saved.model;
    let FoundImages { images, name } =
        saved.images::<images::RunConfig>(model.config().shape, args.data.as_deref(), args.skip, output)?;
    let count = args.count.map_or(usize::MAX, |count| count as usize);
    let rng = &mut Rng::seed(args.seed.unwrap_or(0));
    model.detached().take_cost();
    let result = bits(model, &evaluate(model, &images, count, rng, ranks, output.quiet)?, images.unpadded());
    let evaluations = evaluations(model.detached().take_cost().of_all(ranks)?);
    if !ranks.is_first() {
        return Ok(());
    }
    let value = json!({ "model": saved.path, "data": name, "result": result, "evaluations": evaluations });
    let text = format!("{} of {name}\nevaluations  {evaluations:.1} of the field per solve", result.text("", ""));
    print_or_json(output, &value, text)
}

/// The mean number of evaluations of the field per solve.
fn evaluations(cost: Cost) -> f64 {
    cost.forward as f64 / cost.solves.max(1) as f64
}

/// The rows that `data` names, or the test rows of the model's run, and their name for messages.
fn rows(saved: &Saved<ContinuousFlow>, data: Option<&str>, device: &Device) -> Result<(Examples, String)> {
    let Some(text) = data else {
        return saved.of_run("test rows", "--data", |mut run: tables::RunConfig| {
            Ok((run.load(device)?.test, format!("{} (test)", run.data)))
        });
    };
    let source: Source = text.parse()?;
    let data = Dataset::whole(source.rows(SAMPLES, &mut Rng::seed(0))?)?;
    let data = data.to(DType::F32, device).map_err(source.named())?;
    let config = saved.model.config();
    let names = config.columns.as_deref();
    let columns = Columns { features: config.features, names, context: 0, context_names: None };
    Ok((columns.of(&data, &data.test, text)?, text.to_string()))
}
