//! `glow train`: trains a model on images.

use crate::eval::evaluate;
use crate::pictures::grid;
use crate::super_resolve;
use clap::Args;
use flows_core::cli::{DeviceArgs, FitFlags, OutputArgs, RunArgs, SkipArgs, describe_images, plural, unset};
use flows_core::data::Shuffle;
use flows_core::data::images::{ImageSource, Images};
use flows_core::evaluate::Mean;
use flows_core::plot::write_png;
use flows_core::run::{ImageSettings, ImageStream, Loss, Program, Trained};
use flows_core::train::{Loss as _, Ranks, Trainer};
use flows_core::{Result, Rng};
use glow::run::{PRESETS, RunConfig};
use glow::{Bits, Glow, context};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::f64::consts::LN_2;

/// What the program calls its runs and settings.
const PROGRAM: Program = Program {
    name: "glow",
    presets: PRESETS,
    subject: "data",
    counted: "images",
    files: &["samples.png"],
    kept: &["data", "images"],
    changeable: &[],
};

/// The number of samples in the picture.
const SAMPLES: usize = 64;

/// The unit of the loss.
const UNIT: &str = "bits/dim";

const EXAMPLES: &str = "\
Examples:
  glow train
  glow train --preset uci-digits
  glow train --data mnist/ --preset mnist-small --out runs/mnist
  glow train --data photos/ --preset faces --size 64,64 --out runs/faces
  glow train --data photos/ --preset faces-sr --out runs/sr
  glow train --data images.npy --preset cifar10-small --steps 20000 --lr 5e-4
  glow train --data hf://datasets/ylecun/mnist/mnist/train-00000-of-00001.parquet --preset mnist-small
  glow train --out runs/mnist --resume";

/// The presets with their descriptions.
fn presets() -> String {
    format!("Presets, `digits` unless given:\n{}\n", PRESETS.lines(14))
}

/// Train a model on images
///
/// Reports the bits per dimension of the test images, and writes to the folder --out: the model, the settings
/// (config.toml), the metrics (metrics.jsonl), the loss curve (loss.png), the results (results.json) and samples
/// (samples.png), which are redrawn at each evaluation. Ctrl-C saves and ends; --resume continues from where a run was
/// last saved, also after a crash, and gives the same model as an uninterrupted run. `mpirun -n 4 glow
/// train --pieces 4` divides every batch among four processes.
///
/// Images come from a folder (each folder in it is a class), or one of folders train, val and test; of the files of MNIST
/// or EMNIST; of .npy, .npz or .csv arrays; or of .parquet files as on the Hugging Face Hub (a name with -00000-of-00003 stands
/// for all three). Without a test part, one image in ten is held out. What is assumed, or left unread, is told, and is an
/// error by --strict. Without --data the program draws synthetic digits.
///
/// uci-digits are 1,797 handwritten digits of 8 x 8 pixels: the test set of Optical Recognition of Handwritten Digits
/// by E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0.
#[derive(Args)]
#[command(after_long_help = presets() + EXAMPLES)]
pub struct TrainArgs {
    #[command(flatten)]
    settings: Flags,
    #[command(flatten)]
    skip: SkipArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The flags for settings, laid out like the settings.
#[derive(Args, Serialize)]
struct Flags {
    /// digits, uci-digits, a folder of images or of train, val and test, an IDX, .npy, .npz or .parquet file, or hf://
    /// [default: digits]
    #[arg(long, value_name = "D", conflicts_with = "resume", help_heading = "Images")]
    data: Option<String>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    fit: FitFlags,
    /// Mirror images at random
    #[arg(long, num_args = 0, default_missing_value = "true", conflicts_with = "resume")]
    #[arg(help_heading = "Images")]
    flip: Option<bool>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    warp: WarpFlags,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    model: ModelFlags,
}

#[derive(Args, Default, PartialEq, Serialize)]
#[command(next_help_heading = "Images")]
struct WarpFlags {
    /// Shift images at random by up to this fraction of their height and width: 0.1 as published for MNIST and CIFAR-10
    #[arg(long, value_name = "S", conflicts_with = "resume", allow_negative_numbers = true)]
    shift: Option<f64>,
    /// Rotate images at random by up to this many degrees
    #[arg(long, value_name = "D", conflicts_with = "resume", allow_negative_numbers = true)]
    rotation: Option<f64>,
    /// Stretch or shrink height and width of images at random by up to this fraction
    #[arg(long, value_name = "Z", conflicts_with = "resume", allow_negative_numbers = true)]
    zoom: Option<f64>,
    /// Shear images at random by up to this many radians
    #[arg(long, value_name = "R", conflicts_with = "resume", allow_negative_numbers = true)]
    shear: Option<f64>,
}

#[derive(Args, Default, PartialEq, Serialize)]
#[command(next_help_heading = "Model")]
struct ModelFlags {
    /// L: number of levels, at each of which images are squeezed
    #[arg(long, value_name = "L", conflicts_with = "resume")]
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..=10))]
    levels: Option<i64>,
    /// K: steps of flow per level
    #[arg(long, value_name = "K", conflicts_with = "resume")]
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..=1024))]
    #[serde(rename = "steps")]
    depth: Option<i64>,
    /// Hidden channels of the couplings' networks
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..=8192))]
    hidden: Option<i64>,
    /// Bits per channel value, 1 to 8
    #[arg(long, value_name = "B", conflicts_with = "resume")]
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..=8))]
    bits: Option<i64>,
    /// The map of the couplings: affine, affine and bounded, additive, a rational-quadratic spline, or the mixture of
    /// logistics of Flow++
    #[arg(long, value_name = "KIND", conflicts_with = "resume")]
    #[arg(value_parser = ["affine", "bounded", "additive", "spline", "mixture"])]
    coupling: Option<String>,
    /// Model logit(A + (1 - 2A) c) of values c in [0, 1] instead of c; bits/dim still refer to c
    #[arg(long, value_name = "A", allow_negative_numbers = true, conflicts_with = "resume")]
    logit: Option<f64>,
    /// Learn the dequantization noise, given the image, instead of using uniform noise (variational dequantization)
    #[arg(long = "variational-dequantization", conflicts_with = "resume")]
    #[serde(skip_serializing_if = "unset", serialize_with = "defaults")]
    dequantizer: bool,
    /// Make the model conditional on the classes of the images
    #[arg(long, num_args = 0, default_missing_value = "true", conflicts_with = "resume")]
    conditional: Option<bool>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    condition: ConditionFlags,
}

#[derive(Args, Default, PartialEq, Serialize)]
struct ConditionFlags {
    /// Condition the model on each image shrunk S times, so that `glow super-resolve` can enlarge images
    #[arg(long = "super-resolution", value_name = "S", conflicts_with_all = ["resume", "conditional"])]
    scale: Option<i64>,
}

/// Serialises as an empty table, which keeps existing settings or takes the defaults.
fn defaults<S: Serializer>(_: &bool, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_map(Some(0))?.end()
}

/// The results of a run: `results.json`.
#[derive(Serialize)]
struct Results {
    data: ImageSource,
    shape: [usize; 3],
    #[serde(flatten)]
    trained: Trained,
    /// Images per second of training.
    images_per_second: f64,
    test: Bits,
}

pub fn run(args: TrainArgs, ranks: &Ranks) -> Result<()> {
    let (device, output) = (args.device.of(ranks)?.open()?, args.output.of(ranks));
    let (mut run, mut config): (_, RunConfig) = PROGRAM.open(&args.run, output, "digits", &args.settings, ranks)?;
    let splits = args.skip.reading(output, |skip| config.load(skip))?;
    run.note(format_args!("data   {}: {}", config.data, describe_images(&splits)));
    args.skip.tell(output, &splits.notes())?;
    let glow = config.build(&splits, &device)?;
    let (steps, size) = (config.train.steps, config.batch.min(splits.train.len()));
    run.note(describe(&glow, steps, size));
    let trainer = Trainer::new(glow.parameters(), config.train.clone(), config.rng(ImageStream::Training))?;
    let mut trainer = run.start(trainer, Glow::KIND, glow.config(), &config)?;

    let mut shuffle = Shuffle::new(splits.train.len(), config.batch, config.seed)?;
    let (weights, dims) = (glow.parameters().trainable(), glow.config().dims() as f64);
    // On GPUs one piece per rank.
    let pieces = if device.is_cpu() { config.pieces } else { ranks.size() };
    run.note_ranks(pieces);
    let loss = |number: u64, rng: &mut Rng| {
        let batch = shuffle.batch(number);
        let images = splits.train.augmented(&batch, config.flip, &config.warp, &mut rng.fork());
        let mut loss = ranks.gradients(&weights, batch.len(), pieces, rng, |rows, rng| {
            let x = images.rows(rows.clone())?;
            let context = context(&glow, &splits.train, &batch[rows], &x)?;
            let loss = glow.loss(config.train.memory, &x, context.as_ref(), rng)?;
            loss.times(1.0 / (dims * LN_2))
        })?;
        loss.value += f64::from(glow.config().bits);
        Ok(loss)
    };
    let picture = || run.draw("samples.png", |path| picture(&glow, &splits.validation, &config, path));
    let mut validate = |rng: &mut _| {
        let values = evaluate(&glow, &splits.validation, 1, rng, ranks, true)?;
        picture()?;
        Ok(glow.bits(Mean::of(&values).mean))
    };
    let examples = size * config.train.accumulate as usize;
    let mut watch = run.watch(trainer.step(), steps)?.named(UNIT).examples(examples, "images");
    let outcome = trainer.run(loss, Some(&mut validate), &mut watch)?;
    drop(watch);
    let trained = run.trained(outcome, &trainer, steps, vec![Loss::all(UNIT)])?;

    let values = evaluate(&glow, &splits.test, 1, &mut config.rng(ImageStream::Evaluation), ranks, output.quiet)?;
    let results = Results {
        data: config.data.clone(),
        shape: glow.config().shape,
        images_per_second: (trained.steps * examples as u64) as f64 / trained.seconds,
        trained,
        test: Bits::of(&glow, &values, 1, splits.test.unpadded()),
    };
    run.save_results(&results)?;
    run.draw_losses(&results.trained.losses, &[])?;
    picture()?;
    let speed = format!(", {:.0} images per second", results.images_per_second);
    let [trained, written] = results.trained.lines(&speed, ", with samples.png");
    run.report(&results, &[("test", results.test.to_string()), trained, written])
}

fn describe(glow: &Glow, steps: u64, size: usize) -> String {
    let config = glow.config();
    let top = config.top_steps.map_or(String::new(), |steps| format!(", the last of {steps}"));
    let parameters = plural(glow.parameters().count(), "parameter");
    format!(
        "model  Glow, {} levels of {} {} steps{top}, {} bits: {parameters}, {} of {}",
        config.levels,
        config.steps,
        format!("{:?}", config.coupling).to_lowercase(),
        config.bits,
        plural(steps as usize, "step"),
        plural(size, "image")
    )
}

/// Writes a picture of samples, or of answers to shrunk validation images.
fn picture(glow: &Glow, validation: &Images, config: &RunConfig, path: &std::path::Path) -> Result<()> {
    let (temperature, rng) = (config.temperature, &mut config.rng(ImageStream::Picture));
    if glow.config().condition.is_some() {
        return write_png(&super_resolve::page(glow, validation, temperature, rng)?, path);
    }
    let columns = glow.config().classes.map_or(SAMPLES.isqrt(), |classes| classes.min(SAMPLES));
    write_png(&grid(glow, temperature, SAMPLES / columns * columns, columns, rng)?, path)
}
