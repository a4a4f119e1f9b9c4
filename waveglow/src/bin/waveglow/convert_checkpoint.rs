//! `waveglow convert-checkpoint`: models of PyTorch, and back.

use candle_core::Device;
use clap::Args;
use flows_core::cli::{OutputArgs, check_extension, check_out, count, model_file, print_or_json};
use flows_core::files::write_atomically;
use flows_core::{Error, Result};
use serde_json::json;
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use waveglow::audio::AudioConfig;
use waveglow::published::{self, from_json, state_dict};

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
    /// The config.json that a WaveGlow was trained with, for its sampling rate and frames, which no checkpoint tells
    /// [default: those of Tacotron 2 at 22,050 Hz]
    #[arg(long, value_name = "FILE.json", conflicts_with = "published")]
    config: Option<PathBuf>,
    /// Write the state dict of NVIDIA's code instead of a model of this program
    #[arg(long)]
    published: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: ConvertArgs) -> Result<()> {
    check_extension(&args.to, "safetensors", "models")?;
    let path = model_file(&args.from)?;
    check_out(&args.to, [&path])?;
    if args.to.file_name().is_some_and(|name| name == "training.safetensors") {
        return Err(Error::file(&args.to, "is the name of what a run resumes from: choose another name"));
    }
    let audio = match &args.config {
        Some(config) => {
            let text = std::fs::read_to_string(config).map_err(|e| Error::file(config, e))?;
            from_json(&text).map_err(|e| Error::file(config, e))?.audio
        }
        None => AudioConfig::default(),
    };
    let model = published::load(&path, &audio, &Device::Cpu)?;
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
