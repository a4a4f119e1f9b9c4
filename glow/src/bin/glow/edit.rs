//! `glow edit`: changes an attribute of images.

use crate::saved::encode;
use candle_core::{DType, Tensor};
use clap::Args;
use flows_core::cli::{ModelArgs, check_extension, check_out, plural, print_or_json};
use flows_core::data::images::image_files;
use flows_core::latent::{direction, load_direction, save_direction};
use flows_core::plot::{image_grid, write_png};
use flows_core::run::Saved;
use flows_core::{Error, Result, Rng};
use glow::{Glow, class_context};
use serde_json::json;
use std::path::PathBuf;

/// The `kind` that the file of a direction names.
const KIND: &str = "glow-direction";

/// Change an attribute of images
///
/// A direction is the mean latent of images --with an attribute minus that of images --without it; --save writes it for
/// later use as --direction. Each image becomes a row of the picture: its latent plus the direction times each of
/// --strengths.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  glow edit runs/faces --with glasses/ --without others/ --save glasses.safetensors
  glow edit runs/faces photo.png --direction glasses.safetensors --out edited.png
  glow edit runs/faces one.png two.png --with smiling.txt --without serious.txt --strengths=-1,0,1")]
pub struct EditArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The images to edit: files, folders, or .txt files that list them
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Images with the attribute: a folder, or a .txt file with one path per line
    #[arg(long, value_name = "PATH", requires = "without", conflicts_with = "direction")]
    with: Option<PathBuf>,
    /// Images without it
    #[arg(long, value_name = "PATH", requires = "with")]
    without: Option<PathBuf>,
    /// A direction written by --save
    #[arg(long, value_name = "FILE")]
    direction: Option<PathBuf>,
    /// Write the direction to this file
    #[arg(long, value_name = "FILE", requires = "with")]
    save: Option<PathBuf>,
    /// Factors of the direction that are added, separated by commas
    #[arg(long, value_name = "A,B,...", value_delimiter = ',', allow_hyphen_values = true)]
    #[arg(default_values_t = [-1.0, -0.5, 0.0, 0.5, 1.0])]
    strengths: Vec<f64>,
    /// The class of the images by its name, or its number from 0, for a model with classes
    #[arg(long, value_name = "C")]
    class: Option<String>,
    /// Seed of the dequantization noise
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The picture to write
    #[arg(long, value_name = "FILE.png", default_value = "edited.png")]
    out: PathBuf,
}

pub fn run(args: EditArgs) -> Result<()> {
    let output = args.model.output;
    if args.images.is_empty() && args.save.is_none() {
        return Err(Error::Config("there is nothing to do: name images to edit, or a file to --save to".into()));
    }
    if args.strengths.iter().any(|strength| !strength.is_finite()) {
        return Err(Error::Config("a strength is a number: --strengths=-1,0,1".into()));
    }
    check_extension(&args.out, "png", "pictures")?;
    let saved = Saved::open(&args.model, Glow::load)?;
    let glow = &saved.model;
    let files = if args.images.is_empty() { Vec::new() } else { image_files(&args.images)? };
    let named =
        |path: &Option<PathBuf>| path.as_ref().map_or(Ok(Vec::new()), |path| image_files(std::slice::from_ref(path)));
    let (with, without) = (named(&args.with)?, named(&args.without)?);
    let read = [Some(&saved.path), args.direction.as_ref()].into_iter().flatten();
    let read: Vec<&PathBuf> = read.chain(&files).chain(&with).chain(&without).collect();
    check_out(&args.out, &read)?;
    args.save.as_ref().map_or(Ok(()), |path| check_out(path, &read))?;
    let mut rng = Rng::seed(args.seed);
    let mut noise =
        |files: &[PathBuf]| Ok::<_, Error>(encode(&saved, files, args.class.as_deref(), &mut rng, output.quiet)?.1);
    let found = match (&args.direction, &args.with, &args.without) {
        (Some(path), ..) => load_direction(path, KIND, glow.config().dims(), glow.config(), glow.parameters())?,
        (None, Some(_), Some(_)) => direction(&noise(&with)?, &noise(&without)?)?,
        _ => {
            let message = "give the images --with and --without the attribute, or a --direction that was saved";
            return Err(Error::Config(message.into()));
        }
    };
    if let Some(path) = &args.save {
        save_direction(path, KIND, &found, glow.config(), glow.parameters())?;
    }
    let length = found.sqr()?.sum_all()?.sqrt()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    if !files.is_empty() {
        let z = noise(&files)?;
        let direction = found.to_device(&saved.device)?.to_dtype(z.dtype())?;
        let mut rows = Vec::new();
        for i in 0..files.len() {
            for strength in &args.strengths {
                rows.push((z.narrow(0, i, 1)? + (&direction * *strength)?)?);
            }
        }
        let context = class_context(glow, args.class.as_deref(), rows.len())?;
        let x = glow.detached().decode_all(&Tensor::cat(&rows, 0)?, context.as_ref())?;
        write_png(&image_grid(&glow.quantize(&x)?, args.strengths.len())?, &args.out)?;
    }
    let out = Some(&args.out).filter(|_| !files.is_empty());
    let value = json!({
        "model": saved.path, "length": length, "saved": args.save, "images": files, "strengths": args.strengths,
        "out": out,
    });
    let kept = args.save.iter().map(|path| format!("direction of length {length:.2} in {}", path.display()));
    let (images, strengths) = (plural(files.len(), "image"), plural(args.strengths.len(), "strength"));
    let edited = out.map(|out| format!("{images} at {strengths} in {}", out.display()));
    print_or_json(output, &value, kept.chain(edited).collect::<Vec<_>>().join("\n"))
}
