//! `waveglow convert-checkpoint`: models of PyTorch, and back.

use crate::saved::load;
use candle_core::Device;
use clap::Args;
use flows_core::cli::{OutputArgs, check_extension, check_out, count, model_file, print_or_json};
use flows_core::files::write_atomically;
use flows_core::{Error, Result};
use serde_json::json;
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use waveglow::published::state_dict;

/// Convert a published WaveGlow to a model, or a model to the published layout
///
/// IN is a checkpoint in any layout of NVIDIA's WaveGlow (.pt, a state dict or a pickled module, also of torch hub and
/// NeMo), or a model of this program. OUT is a .safetensors file: a model of this program, or with --published the state
/// dict of NVIDIA's code, which `safetensors.torch.load_file` reads. Nothing in a checkpoint is ever executed.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  waveglow convert-checkpoint waveglow_256channels.pt waveglow.safetensors
  waveglow convert-checkpoint runs/speech state_dict.safetensors --published")]
pub struct ConvertArgs {
    /// The checkpoint, the folder of a run, or hf://owner/repo/path
    #[arg(value_name = "IN")]
    from: String,
    /// The file to write
    #[arg(value_name = "OUT")]
    to: PathBuf,
    /// Write the state dict of NVIDIA's code instead of a model of this program
    #[arg(long)]
    published: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: ConvertArgs) -> Result<()> {
    check_extension(&args.to, "safetensors", "model")?;
    let path = model_file(&args.from)?;
    check_out(&args.to, [&path])?;
    let model = load(path, &Device::Cpu)?;
    if args.published {
        let tensors: HashMap<String, _> = state_dict(&model)?;
        let metadata = Some(HashMap::from([("format".to_string(), "pt".to_string())]));
        let bytes = safetensors::serialize(&tensors, metadata).map_err(|e| Error::file(&args.to, e))?;
        write_atomically(&args.to, |file| file.write_all(&bytes).map_err(|e| Error::unwritten(&args.to, e)))?;
    } else {
        model.save(&args.to)?;
    }
    let parameters = model.parameters().count();
    let value =
        json!({ "out": args.to, "config": model.config(), "parameters": parameters, "published": args.published });
    print_or_json(args.output, &value, format!("{} parameters in {}", count(parameters), args.to.display()))
}
