//! `glow train`: a model from images.

use crate::config::{PRESETS, RunConfig, context};
use crate::eval::{Bits, log_likelihoods};
use crate::pictures::{grid, write_grid};
use crate::super_resolve;
use clap::Args;
use flows_core::Result;
use flows_core::cli::{
    DeviceArgs, FitArgs, Interrupt, OutputArgs, ProgressBar, RunArgs, RunFolder, SkipArgs, describe_images, duration,
    plural, print, print_json, write_json,
};
use flows_core::data::Shuffle;
use flows_core::data::images::ImageSource;
use flows_core::train::{Loss, LossGradients, Outcome, Trainer};
use glow::{CouplingKind, Glow};
use serde::Serialize;
use std::f64::consts::LN_2;
use std::path::PathBuf;
use toml::{Table, Value};

/// Samples in the picture.
const SAMPLES: usize = 64;

/// What the loss is called.
pub const UNIT: &str = "bits/dim";

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

/// The presets, each with what it is for.
fn presets() -> String {
    format!("Presets, `digits` unless given:\n{}\n", PRESETS.lines(14))
}

/// Train a model on images
///
/// Ends with the bits a colour of the test images takes, and leaves in the folder --out: the model, the settings
/// (config.toml), the metrics (metrics.jsonl), the loss curve (loss.png), the results (results.json) and samples
/// (samples.png), which are drawn anew at each evaluation. Ctrl-C saves and ends; --resume goes on where a run was
/// saved last, also after a crash, and gives the model that an uninterrupted run would have given.
///
/// Images come from a folder (each sub-folder a class), an IDX or .npy file, a .parquet file as the Hugging Face Hub has
/// them (of a name -00000-of-00003 all three), or a folder with parts named train... and test...; else one image in ten
/// is held out to test on. Without --data the program draws its own digits.
///
/// uci-digits are 1,797 digits of 8 x 8 written by hand: the test set of Optical Recognition of Handwritten Digits by
/// E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0.
#[derive(Args)]
#[command(after_long_help = presets() + EXAMPLES)]
pub struct TrainArgs {
    /// digits, uci-digits, a folder of images, an IDX, .npy or .parquet file, a folder with train... and test..., or
    /// hf:// [default: digits]
    #[arg(long, value_name = "D", conflicts_with = "resume", help_heading = "Images")]
    data: Option<String>,
    #[command(flatten)]
    fit: FitArgs,
    /// Mirror images at random
    #[arg(long, conflicts_with = "resume", help_heading = "Images")]
    flip: bool,
    /// Shift images at random by up to this share of their height and width: 0.1 as published for MNIST and CIFAR-10
    #[arg(long, value_name = "S", conflicts_with = "resume", help_heading = "Images", allow_negative_numbers = true)]
    shift: Option<f64>,
    /// Turn images at random by up to so many degrees
    #[arg(long, value_name = "D", conflicts_with = "resume", help_heading = "Images", allow_negative_numbers = true)]
    rotation: Option<f64>,
    /// Stretch or shrink height and width of images at random by up to this share
    #[arg(long, value_name = "Z", conflicts_with = "resume", help_heading = "Images", allow_negative_numbers = true)]
    zoom: Option<f64>,
    /// Slant images at random by up to so many radians
    #[arg(long, value_name = "R", conflicts_with = "resume", help_heading = "Images", allow_negative_numbers = true)]
    shear: Option<f64>,
    #[command(flatten)]
    skip: SkipArgs,
    /// L: how often images are squeezed
    #[arg(long, value_name = "L", conflicts_with = "resume", help_heading = "Model")]
    levels: Option<i64>,
    /// K: steps of flow in a level
    #[arg(long, value_name = "K", conflicts_with = "resume", help_heading = "Model")]
    depth: Option<i64>,
    /// Channels within the couplings' networks
    #[arg(long, value_name = "N", conflicts_with = "resume", help_heading = "Model")]
    hidden: Option<i64>,
    /// Bits of a colour, 1 to 8
    #[arg(long, value_name = "B", conflicts_with = "resume", help_heading = "Model")]
    bits: Option<i64>,
    /// What couplings do to the half of the channels that moves: affine, affine and bounded, additive, a
    /// rational-quadratic spline, or the mixture of logistics of Flow++
    #[arg(long, value_name = "KIND", conflicts_with = "resume", help_heading = "Model")]
    #[arg(value_parser = ["affine", "bounded", "additive", "spline", "mixture"])]
    coupling: Option<String>,
    /// Model logit(A + (1 - 2A) c) of colours c in [0, 1] rather than colours; bits/dim stay those of colours
    #[arg(long, value_name = "A", allow_negative_numbers = true, conflicts_with = "resume", help_heading = "Model")]
    logit: Option<f64>,
    /// Learn the noise that makes whole colours real numbers, given the image, in place of uniform noise
    #[arg(long, conflicts_with = "resume", help_heading = "Model")]
    variational_dequantization: bool,
    /// Make the model conditional on the classes of the images
    #[arg(long, conflicts_with = "resume", help_heading = "Model")]
    conditional: bool,
    /// Give the model each image made S times smaller, from which `glow super-resolve` then draws larger ones
    #[arg(long, value_name = "S", conflicts_with_all = ["resume", "conditional"], help_heading = "Model")]
    super_resolution: Option<i64>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a run ends with: `results.json`.
#[derive(Serialize)]
struct Results {
    data: ImageSource,
    shape: [usize; 3],
    parameters: usize,
    steps: u64,
    early_stopped: bool,
    /// Of training.
    seconds: f64,
    /// Images a second of training.
    images_per_second: f64,
    /// Bits a colour of the validation images under the weights that were kept.
    validation: Option<f64>,
    test: Bits,
    out: PathBuf,
}

pub fn run(args: TrainArgs) -> Result<()> {
    let device = args.device.open()?;
    let (folder, mut config) = settle(&args)?;
    let out = folder.path();
    let note = |text: String| args.output.note(text);
    let splits = args.skip.reading(args.output, |skip| config.load(skip))?;
    if config.data != ImageSource::Digits {
        config.images = Some(splits.count());
    }
    note(format!("data   {}: {}", config.data, describe_images(&splits)));
    let glow = config.build(&splits, &device)?;
    let parameters = glow.parameters().count();
    let mut generators = config.generators();
    let mut shuffle = Shuffle::new(splits.train.len(), config.batch, config.seed)?;
    let trainer = Trainer::new(glow.parameters(), config.train.clone(), generators.training)?;
    let (mut trainer, done) = folder.trainer(trainer, Glow::KIND, glow.config(), &[])?;
    let _replaced = folder.begin(&config)?;
    let steps = config.train.steps;
    let size = config.batch.min(splits.train.len());
    let coupling = match config.model.coupling {
        CouplingKind::Affine => "affine",
        CouplingKind::Bounded => "bounded",
        CouplingKind::Additive => "additive",
        CouplingKind::Spline => "spline",
        CouplingKind::Mixture => "mixture",
    };
    note(format!(
        "model  Glow, {} levels of {} {coupling} steps{}, {} bits: {}, {} of {}",
        config.model.levels,
        config.model.steps,
        config.model.top_steps.map_or(String::new(), |steps| format!(", the last of {steps}")),
        config.model.bits,
        plural(parameters, "parameter"),
        plural(steps as usize, "step"),
        plural(size, "image")
    ));
    folder.note_resumed(done, args.output);

    let picture = || -> Result<()> {
        if glow.config().condition.is_some() {
            let rng = &mut generators.picture.clone();
            return write_grid(&super_resolve::page(&glow, &splits.validation, config.temperature, rng)?, out);
        }
        let columns = glow.config().classes.map_or(SAMPLES.isqrt(), |classes| classes.min(SAMPLES));
        let count = SAMPLES / columns * columns;
        write_grid(&grid(&glow, config.temperature, count, columns, &mut generators.picture.clone())?, out)
    };
    let all: Vec<u32> = (0..splits.validation.len() as u32).collect();
    let outcome = {
        let interrupt = Interrupt::install()?;
        let bar = ProgressBar::new(steps, done).named(UNIT).examples(size * config.train.accumulate as usize, "images");
        let bar = (!args.output.quiet).then_some(bar);
        let mut observers = folder.observers((done, steps), &args.run, bar, &interrupt)?;
        let mut evaluate = |rng: &mut _| {
            let values = log_likelihoods(&glow, &splits.validation, &all, 1, rng, true)?;
            picture()?;
            Ok(Bits::of(&glow, &values, 1, None).bits_per_dimension)
        };
        let dims = glow.config().dims() as f64;
        let pieces = if device.is_cpu() { config.pieces } else { 1 };
        let loss = |number: u64, rng: &mut flows_core::Rng| {
            let batch = shuffle.batch(number);
            let images = splits.train.augmented(&batch, config.flip, &config.warp, &mut rng.fork())?;
            let context = context(&glow, &splits.train, &batch, &images)?;
            let mut loss = LossGradients::of_pieces(batch.len(), pieces, rng, |rows, rng| {
                let part = |t: &candle_core::Tensor| t.narrow(0, rows.start, rows.len());
                let context = context.as_ref().map(part).transpose()?;
                let loss = glow.loss(config.train.memory, &part(&images)?, context.as_ref(), rng)?;
                loss.times(1.0 / (dims * LN_2))
            })?;
            loss.value += f64::from(config.model.bits);
            Ok(loss)
        };
        trainer.run(loss, Some(&mut evaluate), &mut observers)?
    };
    folder.finished("glow", outcome, (trainer.step(), steps))?;

    let all: Vec<u32> = (0..splits.test.len() as u32).collect();
    let values = log_likelihoods(&glow, &splits.test, &all, 1, &mut generators.test, args.output.quiet)?;
    let images = trainer.step() * config.train.accumulate * size as u64;
    let results = Results {
        data: config.data.clone(),
        shape: glow.config().shape,
        parameters,
        steps: trainer.step(),
        early_stopped: outcome == Outcome::EarlyStopped,
        seconds: trainer.seconds(),
        images_per_second: images as f64 / trainer.seconds(),
        validation: trainer.kept(),
        test: Bits::of(&glow, &values, 1, config.data.unpadded(&config.fit)?),
        out: out.to_path_buf(),
    };
    write_json(&out.join("results.json"), &results)?;
    folder.draw_losses(&[], UNIT)?;
    picture()?;
    if args.output.json { print_json(&results) } else { print(summary(&results)) }
}

/// The folder and the settings of the run: those of the folder when it is resumed, else those of the preset, the file
/// and the flags.
fn settle(args: &TrainArgs) -> Result<(RunFolder, RunConfig)> {
    if args.run.resume {
        let (folder, config): (_, RunConfig) = RunFolder::resumed(&args.run, "digits")?;
        config.check()?;
        return Ok((folder, config));
    }
    let settings = args.run.layer(PRESETS, "digits", "images", flags(args)?)?;
    let config: RunConfig = args.run.parse(settings)?;
    let config = RunConfig { data: config.data.absolute()?, ..config };
    let folder = RunFolder::new(args.run.place(&config.data.to_string()), &args.run)?;
    config.check()?;
    Ok((folder, config))
}

fn flags(args: &TrainArgs) -> Result<Table> {
    let table = |entries: Vec<(&str, Option<Value>)>| {
        let entries = entries.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        Table::from_iter(entries)
    };
    let warp = table(vec![
        ("shift", args.shift.map(Value::from)),
        ("rotation", args.rotation.map(Value::from)),
        ("zoom", args.zoom.map(Value::from)),
        ("shear", args.shear.map(Value::from)),
    ]);
    let model = table(vec![
        ("levels", args.levels.map(Value::from)),
        ("steps", args.depth.map(Value::from)),
        ("hidden", args.hidden.map(Value::from)),
        ("bits", args.bits.map(Value::from)),
        ("conditional", args.conditional.then_some(Value::from(true))),
        ("coupling", args.coupling.clone().map(Value::from)),
        ("logit", args.logit.map(Value::from)),
        ("dequantizer", args.variational_dequantization.then(|| Value::Table(Table::new()))),
        ("condition", args.super_resolution.map(|scale| Value::Table(table(vec![("scale", Some(scale.into()))])))),
    ]);
    Ok(table(vec![
        ("data", args.data.clone().map(Value::from)),
        ("flip", args.flip.then_some(Value::from(true))),
        ("fit", Some(Value::Table(args.fit.settings()?))),
        ("warp", Some(Value::Table(warp))),
        ("model", Some(Value::Table(model))),
    ]))
}

fn summary(results: &Results) -> String {
    let stopped = if results.early_stopped { ", when validation did not get better any more" } else { "" };
    let (steps, time) = (plural(results.steps as usize, "step"), duration(results.seconds));
    let speed = results.images_per_second;
    format!(
        "test     {}\ntrained  {steps} in {time}, {speed:.0} images a second{stopped}\nwritten  {}, with samples.png",
        results.test.text(),
        results.out.display()
    )
}
