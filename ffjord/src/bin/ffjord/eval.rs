//! `ffjord eval`: how well a model fits data.

use crate::images;
use crate::saved::Saved;
use candle_core::{DType, Device};
use clap::Args;
use flows_core::cli::{Likelihood, ModelArgs, SkipArgs, in_order, log_likelihoods, print, print_json};
use flows_core::data::{Dataset, Examples, Source};
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

pub fn run(args: EvalArgs) -> Result<()> {
    if images::is_model(&args.model)? {
        return images::eval(args);
    }
    if args.count.is_some() || args.seed.is_some() || args.skip.skip_bad {
        return Err(Error::Config("--count, --seed and --skip-bad are for models of images: leave them out".into()));
    }
    let output = args.model.output;
    let (saved, device) = Saved::open(&args.model)?;
    let (rows, name) = rows(&saved, args.data.as_deref(), &device)?;
    let values = log_likelihoods(&saved.model, &rows, output.quiet)?;
    let cost = saved.model.take_cost();
    let evaluations = cost.forward as f64 / cost.solves.max(1) as f64;
    let result = Likelihood::of(&values, saved.model.dimensions());
    if output.json {
        let result = json!({ "model": saved.path, "data": name, "result": result, "evaluations": evaluations });
        return print_json(&result);
    }
    print(format_args!(
        "log-likelihood  {}\nevaluations     {evaluations:.1} of the field a solve",
        result.text(&format!(" of {name}"))
    ))
}

fn rows(saved: &Saved, data: Option<&str>, device: &Device) -> Result<(Examples, String)> {
    let Some(text) = data else {
        let run = saved.run()?;
        return Ok((run.load(device)?.test, format!("{} (test)", run.data)));
    };
    let source: Source = text.parse()?;
    let table = source.rows(SAMPLES, &mut Rng::seed(0))?;
    let data = Dataset::from_parts([table.clone(), table.clone(), table])?;
    let data = data.to(DType::F32, device).map_err(source.named())?;
    let (config, got) = (saved.model.config(), data.test.features());
    if config.features != got {
        return Err(Error::Data(format!("{text} has {got} columns, but the model has {}", config.features)));
    }
    let x = in_order(&data.test.x, data.columns.as_deref(), config.columns.as_deref(), text)?;
    Ok((Examples { x, ..data.test }, text.to_string()))
}
