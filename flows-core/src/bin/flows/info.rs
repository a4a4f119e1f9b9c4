//! `flows info`: what a model is.

use crate::saved::Saved;
use candle_core::Device;
use clap::Args;
use flows_core::cli::{OutputArgs, count, model_file, print, print_json};
use flows_core::files::load_model;
use flows_core::{Error, Result};
use serde_json::json;

/// Show what a model is: its settings, its structure, its size
///
/// The file of a model holds all that it takes to use it; this shows what that is.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  flows info runs/two-moons")]
pub struct InfoArgs {
    /// The folder of a run, a model.safetensors, or hf://owner/repo/path
    model: String,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: InfoArgs) -> Result<()> {
    let step = load_model(&model_file(&args.model)?)?.step;
    let Saved { flow, path } = Saved::open(&args.model, &Device::Cpu)?;
    let (parameters, config) = (flow.parameters(), flow.config());
    let dtype = parameters.dtype().as_str();
    if args.output.json {
        return print_json(&json!({
            "model": path, "kind": flows_core::flows::Flow::KIND, "config": config, "dtype": dtype,
            "parameters": parameters.count(), "step": step, "structure": flow.to_string(),
        }));
    }
    let settings = toml::to_string(config).map_err(|e| Error::Config(e.to_string()))?;
    print(format_args!(
        "model       {}\nparameters  {} of {dtype}\nstep        {}\n\n{}\n{}",
        path.display(),
        count(parameters.count()),
        step.map_or("not known".into(), |step| count(step as usize)),
        settings,
        flow.to_string().trim_end()
    ))
}
