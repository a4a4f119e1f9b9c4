//! `glow import` and `glow export`: exchange of models with PyTorch.

use candle_core::Device;
use clap::Args;
use flows_core::cli::{OutputArgs, check_out, count, model_file, print_or_json, sides};
use flows_core::files::write_atomically;
use flows_core::hub;
use flows_core::{Error, Result};
use glow::{Glow, from_state_dict, read_state_dict, state_dict};
use serde_json::json;
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

/// Convert a PyTorch state dict to a model
///
/// The layout is that of rosinality/glow-pytorch: `torch.save(model.state_dict(), path)`, or the same tensors as
/// safetensors. Levels, steps, width and kind of couplings are inferred from the file; the image size and the bits per
/// channel value are not in it.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  glow import model_200000.pt --size 64,64 --bits 5 --out celeba.safetensors")]
pub struct ImportArgs {
    /// The .pt or .safetensors file, or hf://owner/repo/path
    file: String,
    /// Height and width of the images, separated by a comma
    #[arg(long, value_name = "H,W", value_parser = sides)]
    size: [usize; 2],
    /// Bits per channel value, 1 to 8
    #[arg(long, value_name = "B", default_value_t = 8)]
    bits: u32,
    /// The model to write
    #[arg(long, value_name = "FILE", default_value = "model.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Write a model as a state dict for PyTorch
///
/// The tensors have the names and shapes of rosinality/glow-pytorch; the file is in the safetensors format, which
/// PyTorch reads by `safetensors.torch.load_file`.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  glow export runs/faces --out faces-torch.safetensors")]
pub struct ExportArgs {
    /// The folder of a run, a model.safetensors, or hf://owner/repo/path
    model: String,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "state_dict.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn import(args: ImportArgs) -> Result<()> {
    let path = hub::resolve(&args.file)?;
    check_out(&args.out, [&path])?;
    let tensors = read_state_dict(&path)?;
    let glow = from_state_dict(tensors, args.size, args.bits, &Device::Cpu).map_err(|e| match e {
        Error::Data(message) => Error::file(&path, message),
        other => other,
    })?;
    glow.save(&args.out)?;
    let (config, parameters) = (glow.config(), glow.parameters().count());
    let [channels, height, width] = config.shape;
    let text = format!(
        "a Glow of {channels} x {height} x {width} images, {} levels of {} steps, {} parameters, in {}",
        config.levels,
        config.steps,
        count(parameters),
        args.out.display()
    );
    let value = json!({ "model": args.out, "config": config, "parameters": parameters });
    print_or_json(args.output, &value, text)
}

pub fn export(args: ExportArgs) -> Result<()> {
    let model = model_file(&args.model)?;
    check_out(&args.out, [&model])?;
    let glow = Glow::load(model, &Device::Cpu)?;
    let tensors: HashMap<String, _> = state_dict(&glow)?.into_iter().collect();
    let metadata = Some(HashMap::from([("format".to_string(), "pt".to_string())]));
    let bytes = safetensors::serialize(&tensors, metadata).map_err(|e| Error::file(&args.out, e))?;
    write_atomically(&args.out, |file| file.write_all(&bytes).map_err(|e| Error::unwritten(&args.out, e)))?;
    let value = json!({ "out": args.out, "tensors": tensors.len() });
    print_or_json(args.output, &value, format_args!("{} tensors in {}", count(tensors.len()), args.out.display()))
}
