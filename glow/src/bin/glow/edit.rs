//! `glow edit`: more or less of an attribute.

use crate::pictures::picture;
use crate::saved::{Saved, image_files};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use flows_core::cli::{ModelArgs, check_out, check_png, plural, print, print_json, work_bar};
use flows_core::files::{load_model, save_model};
use flows_core::plot::write_png;
use flows_core::{Error, Result, Rng};
use glow::{Glow, GlowConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Images whose noise is found at once.
const CHUNK: usize = 32;

/// The `kind` that the file of a direction names.
const KIND: &str = "glow-direction";

/// Change an attribute of images
///
/// A direction is the mean noise of images --with an attribute less that of images --without it; --save keeps it for
/// --direction. Each image becomes a row of the picture: its noise plus the direction times each of --strengths.
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
    /// Images with the attribute: a folder, or a .txt file with a path a line
    #[arg(long, value_name = "PATH", requires = "without", conflicts_with = "direction")]
    with: Option<PathBuf>,
    /// Images without it
    #[arg(long, value_name = "PATH", requires = "with")]
    without: Option<PathBuf>,
    /// A direction that --save kept
    #[arg(long, value_name = "FILE")]
    direction: Option<PathBuf>,
    /// Keep the direction in this file
    #[arg(long, value_name = "FILE", requires = "with")]
    save: Option<PathBuf>,
    /// How much of the direction is added, separated by commas
    #[arg(long, value_name = "A,B,...", value_delimiter = ',', allow_hyphen_values = true)]
    #[arg(default_values_t = [-1.0, -0.5, 0.0, 0.5, 1.0])]
    strengths: Vec<f64>,
    /// The class of the images, for a model with classes
    #[arg(long, value_name = "C", allow_negative_numbers = true)]
    class: Option<u32>,
    /// What the noise within a value of a colour derives from
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
    check_png(&args.out)?;
    let saved = Saved::open(&args.model)?;
    let files = if args.images.is_empty() { Vec::new() } else { image_files(&args.images)? };
    let named =
        |path: &Option<PathBuf>| path.as_ref().map_or(Ok(Vec::new()), |path| image_files(std::slice::from_ref(path)));
    let (with, without) = (named(&args.with)?, named(&args.without)?);
    let read = [Some(&saved.path), args.direction.as_ref()].into_iter().flatten();
    let read: Vec<&PathBuf> = read.chain(&files).chain(&with).chain(&without).collect();
    check_out(&args.out, &read)?;
    args.save.as_ref().map_or(Ok(()), |path| check_out(path, &read))?;
    let mut rng = Rng::seed(args.seed);
    let direction = match (&args.direction, &args.with, &args.without) {
        (Some(path), ..) => load(path, &saved.glow)?,
        (None, Some(_), Some(_)) => {
            let mut mean = |files: &[PathBuf]| -> Result<Tensor> {
                let z = noise(&saved, files, &args, &mut rng)?;
                Ok((z.sum_keepdim(0)? / z.dim(0)? as f64)?)
            };
            (mean(&with)? - mean(&without)?)?
        }
        _ => {
            let message = "give the images --with and --without the attribute, or a --direction that was saved";
            return Err(Error::Config(message.into()));
        }
    };
    if let Some(path) = &args.save {
        let config = serde_json::to_string(&Origin::of(&saved.glow)?).map_err(|e| Error::file(path, e))?;
        save_model(path, KIND, &config, &[("direction".to_string(), direction.clone())])?;
    }
    let length = direction.sqr()?.sum_all()?.sqrt()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    if !files.is_empty() {
        let z = noise(&saved, &files, &args, &mut rng)?;
        let direction = direction.to_device(&saved.device)?.to_dtype(z.dtype())?;
        let mut rows = Vec::new();
        for i in 0..files.len() {
            for strength in &args.strengths {
                rows.push((z.narrow(0, i, 1)? + (&direction * *strength)?)?);
            }
        }
        let context = saved.class(args.class, rows.len())?;
        let x = saved.glow.decode_all(&Tensor::cat(&rows, 0)?, context.as_ref())?;
        write_png(&picture(&saved.glow.quantize(&x)?, args.strengths.len())?, &args.out)?;
    }
    if output.json {
        let out = Some(&args.out).filter(|_| !files.is_empty());
        return print_json(&json!({
            "model": saved.path, "length": length, "saved": args.save, "images": files, "strengths": args.strengths,
            "out": out,
        }));
    }
    let kept = args.save.iter().map(|path| format!("direction of length {length:.2} in {}", path.display()));
    let edited = (!files.is_empty()).then(|| {
        format!(
            "{} at {} in {}",
            plural(files.len(), "image"),
            plural(args.strengths.len(), "strength"),
            args.out.display()
        )
    });
    print(kept.chain(edited).collect::<Vec<_>>().join("\n"))
}

/// What a direction is of.
#[derive(PartialEq, Serialize, Deserialize)]
struct Origin {
    config: GlowConfig,
    /// A hash of all weights (FNV-1a over their bits), by which others are told.
    weights: String,
}

impl Origin {
    fn of(glow: &Glow) -> Result<Self> {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for (_, weights) in glow.parameters().tensors() {
            let weights = weights.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?;
            for weight in weights.to_vec1::<f64>()? {
                hash = (hash ^ weight.to_bits()).wrapping_mul(0x100_0000_01b3);
            }
        }
        Ok(Self { config: glow.config().clone(), weights: format!("{hash:016x}") })
    }
}

/// The direction in a file, (1, D), which must be of this model.
fn load(path: &Path, glow: &Glow) -> Result<Tensor> {
    let file = load_model(path)?;
    file.expect_kind(KIND)?;
    if file.config::<Origin>().ok() != Some(Origin::of(glow)?) {
        return Err(Error::file(path, "is a direction of another model; learn it again by --with and --without"));
    }
    match file.tensors.get("direction").filter(|t| t.dims() == [1, glow.config().dims()]) {
        Some(direction) => Ok(direction.clone()),
        None => Err(Error::file(path, "holds no direction; learn it again by --with and --without")),
    }
}

/// The noise of images, (N, D).
fn noise(saved: &Saved, files: &[PathBuf], args: &EditArgs, rng: &mut Rng) -> Result<Tensor> {
    let glow: &Glow = &saved.glow;
    let bar = work_bar(files.len(), "encoding", args.model.output.quiet || files.len() < 4 * CHUNK);
    let mut parts = Vec::new();
    for files in files.chunks(CHUNK) {
        let images = files.iter().map(|path| saved.image(path)).collect::<Result<Vec<_>>>()?;
        let x = glow.dequantize(&Tensor::cat(&images, 0)?, rng)?;
        parts.push(glow.latent(&x, saved.class(args.class, files.len())?.as_ref())?.detach());
        bar.inc(files.len() as u64);
    }
    bar.finish_and_clear();
    Ok(Tensor::cat(&parts, 0)?)
}
