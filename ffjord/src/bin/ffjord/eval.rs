//! `ffjord eval`: how well a model fits data.

use crate::images::evaluate;
use crate::kind::Kind;
use candle_core::{DType, Device};
use clap::Args;
use ffjord::run::{images, tables};
use ffjord::{ContinuousFlow, Cost, ImageModel};
use flows_core::cli::{Columns, ModelArgs, SkipArgs, log_likelihoods, print_or_json};
use flows_core::data::images::{Fit, Framing, ImageSource, Images};
use flows_core::data::{Dataset, Examples, Source};
use flows_core::evaluate::Likelihood;
use flows_core::run::Saved;
use flows_core::train::Ranks;
use flows_core::{Error, Result, Rng};
use serde_json::json;

/// Samples of a 2-D density that is named in place of a file.
const SAMPLES: usize = 20_000;

/// Tell how well a model fits data: the log-likelihood of rows, by the exact divergence, or the bits a colour of images
/// takes, by its estimate
///
/// Prints the mean log-likelihood in nats with its standard error, the bits a dimension, and the evaluations of
/// the field that a solve took. Without --data it evaluates the test rows of the run that the model comes from.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ffjord eval runs/pinwheel
  ffjord eval runs/prices --data new.csv --json
  ffjord eval runs/mnist --count 1000")]
pub struct EvalArgs {
    /// The rows: a .npy or .csv file, a folder with test.npy, hf://, or a 2-D density; of a model of images: digits,
    /// uci-digits, a folder, an IDX, .npy or .parquet file, or hf://, scaled and cropped, or padded, as those of the run
    /// were
    #[arg(long, value_name = "D", help_heading = "Data")]
    pub data: Option<String>,
    /// Evaluate the first so many images of a model of images alone
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// What the noise of images and the estimate of their divergence derive from [default: 0]
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
    if args.count.is_some() || args.seed.is_some() || args.skip.skip_bad {
        return Err(Error::Config("--count, --seed and --skip-bad are for models of images: leave them out".into()));
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
        "log-likelihood  {}\nevaluations     {evaluations:.1} of the field a solve",
        result.text(&format!(" of {name}"))
    );
    print_or_json(output, &value, text)
}

fn of_images(args: EvalArgs, ranks: &Ranks) -> Result<()> {
    let output = args.model.output;
    let saved = Saved::open(&args.model, ImageModel::load)?;
    let (images, name) = found(&saved, &args)?;
    let count = args.count.map_or(usize::MAX, |count| count as usize);
    let rng = &mut Rng::seed(args.seed.unwrap_or(0));
    saved.model.detached().take_cost();
    let result = evaluate(&saved.model, &images, count, rng, ranks, output.quiet)?;
    let evaluations = evaluations(saved.model.detached().take_cost().of_all(ranks)?);
    if !ranks.is_first() {
        return Ok(());
    }
    let value = json!({ "model": saved.path, "data": name, "result": result, "evaluations": evaluations });
    print_or_json(output, &value, format!("{result} of {name}\nevaluations  {evaluations:.1} of the field a solve"))
}

/// Of the field, in a solve.
fn evaluations(cost: Cost) -> f64 {
    cost.forward as f64 / cost.solves.max(1) as f64
}

/// The rows that are named, or those that the model was tested on, and what to call them.
fn rows(saved: &Saved<ContinuousFlow>, data: Option<&str>, device: &Device) -> Result<(Examples, String)> {
    let Some(text) = data else {
        return saved.of_run("test rows", "--data", |run: tables::RunConfig| {
            Ok((run.load(device)?.test, format!("{} (test)", run.data)))
        });
    };
    let source: Source = text.parse()?;
    let table = source.rows(SAMPLES, &mut Rng::seed(0))?;
    let data = Dataset::from_parts([table.clone(), table.clone(), table])?;
    let data = data.to(DType::F32, device).map_err(source.named())?;
    let config = saved.model.config();
    let names = config.columns.as_deref();
    let columns = Columns { features: config.features, names, context: 0, context_names: None };
    Ok((columns.of(&data, &data.test, text)?, text.to_string()))
}

/// The images likewise.
fn found(saved: &Saved<ImageModel>, args: &EvalArgs) -> Result<(Images, String)> {
    let output = args.model.output;
    let Some(word) = &args.data else {
        return saved.of_run("test images", "--data", |run: images::RunConfig| {
            Ok((args.skip.reading(output, |skip| run.load(skip))?.test, format!("{} (test)", run.data)))
        });
    };
    let framing = saved.settings()?.map_or(Framing::Crop, |run: images::RunConfig| run.fit.framing);
    let (source, fit): (ImageSource, _) = (word.parse()?, Fit::to(saved.model.config().shape, framing));
    Ok((args.skip.reading(output, |skip| source.test(&fit, skip))?, word.clone()))
}
