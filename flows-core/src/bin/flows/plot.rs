//! `flows plot`: figures of models and runs.

use candle_core::Tensor;
use clap::{Args, Subcommand};
use flows_core::cli::{ModelArgs, OutputArgs, print_or_json};
use flows_core::distributions::Distribution;
use flows_core::flows::{TableConfig, TableModel};
use flows_core::plot::{Figure, Panel, points, window};
use flows_core::run::{Losses, Saved, density, loss_figure, loss_panels};
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::PathBuf;

/// Draw the density of a 2-D model, or the losses of runs
///
/// Figures are written as .png or .svg, according to the file's extension.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  flows plot density runs/two-moons --out moons.svg
  flows plot loss runs/a runs/b --out losses.png")]
pub struct PlotArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Density(DensityArgs),
    Loss(LossArgs),
}

/// Draw the density of a 2-D model
///
/// Unless --window is given, the window covers the model's samples.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  flows plot density runs/two-moons --out moons.svg
  flows plot density runs/prices --context 2020,3 --window=0,10,-2,2 --out prices.png")]
struct DensityArgs {
    /// The file to write, .png or .svg
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The values of the context, separated by commas, for a conditional model
    #[arg(long, value_name = "VALUES", value_delimiter = ',', allow_hyphen_values = true)]
    context: Option<Vec<f32>>,
    /// LEFT,RIGHT,BOTTOM,TOP of the picture
    #[arg(long, value_name = "WINDOW", value_delimiter = ',', allow_hyphen_values = true)]
    window: Option<Vec<f64>>,
    #[command(flatten)]
    model: ModelArgs,
}

/// Draw the losses of one or several runs
///
/// The losses are read from metrics.jsonl in the folder of each run.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  flows plot loss runs/a runs/b --out losses.png")]
struct LossArgs {
    /// The folders of the runs, or files of metrics
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The file to write, .png or .svg
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: PlotArgs) -> Result<()> {
    let (figure, out, output) = match args.what {
        What::Density(args) => (plot_density(&args)?, args.out, args.model.output),
        What::Loss(args) => (plot_loss(&args)?, args.out, args.output),
    };
    figure.write(&out)?;
    print_or_json(output, &json!({ "out": out }), out.display())
}

fn plot_density(args: &DensityArgs) -> Result<Figure> {
    let Saved { model: flow, path, device } = Saved::open(&args.model, TableModel::load)?;
    let config = flow.config();
    let names = config.columns().map_or_else(|| vec![String::new(); 2], <[String]>::to_vec);
    if !matches!(config, TableConfig::Flow(_)) || config.features() != 2 {
        let kinds = if matches!(config, TableConfig::Mixed(_)) { " of several kinds" } else { "" };
        let message = format!("is a model over {} columns{kinds}; only a flow over 2 can be drawn", config.features());
        return Err(Error::file(path, message));
    }
    let (given, wanted) = (args.context.as_ref().map_or(0, Vec::len), config.context().unwrap_or(0));
    if given != wanted {
        return Err(Error::Config(format!("the model's context has {wanted} values, but --context gives {given}")));
    }
    let context = args.context.as_ref().map(|c| Tensor::from_slice(c, (1, c.len()), &device)).transpose()?;
    let window = match args.window.as_deref() {
        Some(&[left, right, bottom, top]) => [(left, right), (bottom, top)],
        Some(_) => return Err(Error::Config("a window is four numbers: --window=LEFT,RIGHT,BOTTOM,TOP".into())),
        None => {
            let contexts = context.as_ref().map(|c| c.repeat((2000, 1))).transpose()?;
            window(&points(&flow.sample(2000, contexts.as_ref(), &mut Rng::seed(0))?)?, false)
        }
    };
    let field = density(&flow, window, context.as_ref(), &device)?;
    let [(left, right), (bottom, top)] = window;
    let panel = Panel::new("").labels(&names[0], &names[1]).density(field);
    // Axes of similar length are assumed to have the same unit.
    let alike = (0.4..2.5).contains(&((right - left) / (top - bottom)));
    Ok(Figure::new(1, (420, 400)).panel(if alike { panel.equal_aspect() } else { panel }))
}

fn plot_loss(args: &LossArgs) -> Result<Figure> {
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let (values, units) = Losses::of_run(path)?;
        Ok((name, values, units))
    };
    let runs: Vec<_> = args.runs.iter().map(read).collect::<Result<_>>()?;
    Ok(loss_figure(loss_panels(&runs, &[])))
}
