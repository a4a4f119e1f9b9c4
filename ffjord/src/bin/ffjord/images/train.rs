//! `ffjord train` of images.

use super::config::{PRESETS, RunConfig};
use super::eval::{Bits, log_likelihoods};
use super::pictures::samples;
use crate::losses::draw_losses;
use crate::train::{CHANGEABLE, TrainArgs};
use crate::watch::{Costs, Means, Watch};
use ffjord::ImageModel;
use flows_core::Result;
use flows_core::cli::{
    Interrupt, ProgressBar, RunFolder, describe_images, duration, plural, print, print_json, read_settings, write_json,
};
use flows_core::data::images::ImageSource;
use flows_core::data::{Shuffle, Toy};
use flows_core::plot::write_png;
use flows_core::train::{Outcome, Trainer, forward_kl};
use serde::Serialize;
use std::f64::consts::LN_2;
use std::path::PathBuf;
use toml::{Table, Value};

/// Samples in the picture.
const SAMPLES: usize = 64;

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
    /// Bits a colour of the validation images under the weights that were kept.
    validation: Option<f64>,
    /// Of the solver, a step of likelihood.
    solver: Option<Means>,
    test: Bits,
    out: PathBuf,
}

/// Whether the arguments are of a run over images: by its folder, its settings, its preset or its data.
pub fn is_run(args: &TrainArgs) -> Result<bool> {
    // What such runs alone have.
    let is_image = |settings: Table| settings.contains_key("model");
    if args.run.resume {
        // The run that goes on unless another is named is one of points in the plane.
        let settings = args.run.out.as_ref().map(|out| read_settings(&out.join("config.toml")));
        return Ok(settings.is_some_and(|settings| settings.is_ok_and(is_image)));
    }
    if let Some(preset) = &args.run.preset {
        return Ok(PRESETS.get(preset).is_ok());
    }
    // A density's name is never that of a folder, though a run may have made one.
    let images = |data: &String| data.parse::<Toy>().is_err() && ImageSource::of(data).is_some();
    if args.data.as_ref().is_some_and(images) {
        return Ok(true);
    }
    match &args.run.config {
        Some(path) => Ok(is_image(read_settings(path)?)),
        None => Ok(false),
    }
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
    let model = config.build(&splits, &device)?;
    let parameters = model.parameters().count();
    let generators = config.generators();
    let mut shuffle = Shuffle::new(splits.train.len(), config.batch, config.seed)?;
    let trainer = Trainer::new(model.parameters(), config.train.clone(), generators.training)?;
    let (mut trainer, done) = folder.trainer(trainer, ImageModel::KIND, model.config(), &CHANGEABLE)?;
    let _replaced = folder.begin(&config)?;
    let (steps, matching) = (config.train.steps, config.matching_steps.unwrap_or(0));
    let size = config.batch.min(splits.train.len());
    note(format!(
        "model  {}, {}: {}, {} of {}",
        plural(model.flows().len(), "continuous flow"),
        config.flow.solver.method,
        plural(parameters, "parameter"),
        plural(steps as usize, "step"),
        plural(size, "image")
    ));
    folder.note_resumed(done, args.output);

    let picture = || {
        let columns = SAMPLES.isqrt();
        write_png(&samples(&model, SAMPLES, columns, &mut generators.picture.clone())?, out.join("samples.png"))
    };
    let [validation, test] = config.evaluated;
    let costs = Costs::of(model.flows());
    let outcome = {
        let interrupt = Interrupt::install()?;
        let bar = ProgressBar::new(steps, done).examples(size * config.train.accumulate as usize, "images");
        let bar = (!args.output.quiet).then_some(bar);
        let mut observers = folder.observers((done, steps), &args.run, bar, &interrupt)?;
        observers.push(Box::new(Watch::new(costs.clone(), args.output.quiet)));
        let mut evaluate = |_: &mut _| {
            costs.set_aside();
            // The same noise each time, so that evaluations can be compared.
            let rng = &mut generators.evaluation.clone();
            let values = log_likelihoods(&model, &splits.validation, validation, rng, true)?;
            picture()?;
            costs.discard();
            Ok(Bits::of(&model, &values).bits_per_dimension)
        };
        let dims = model.config().dims() as f64;
        let loss = |number: u64, rng: &mut _| {
            let x = model.dequantize(&splits.train.tensor(&shuffle.batch(number), || false)?, rng)?;
            if number / config.train.accumulate < matching {
                return model.matching_loss(&x, config.coupling, rng);
            }
            Ok(forward_kl(&model, &x, None, rng)?.affine(1.0 / (dims * LN_2), 8.0)?)
        };
        trainer.run(loss, Some(&mut evaluate), &mut observers)?
    };
    folder.finished("ffjord", outcome, (trainer.step(), steps))?;

    let rng = &mut generators.evaluation.clone();
    let values = log_likelihoods(&model, &splits.test, test, rng, args.output.quiet)?;
    let results = Results {
        data: config.data.clone(),
        shape: model.config().shape,
        parameters,
        steps: trainer.step(),
        early_stopped: outcome == Outcome::EarlyStopped,
        seconds: trainer.seconds(),
        validation: trainer.kept(),
        solver: costs.means(),
        test: Bits::of(&model, &values),
        out: out.to_path_buf(),
    };
    write_json(&out.join("results.json"), &results)?;
    draw_losses(&folder, matching, &[], "bits a colour")?;
    picture()?;
    if args.output.json { print_json(&results) } else { print(summary(&results)) }
}

/// The folder and the settings of the run: those of the folder when it is resumed, else those of the
/// preset, the file and the flags.
fn settle(args: &TrainArgs) -> Result<(RunFolder, RunConfig)> {
    if args.run.resume {
        let (folder, config): (_, RunConfig) = RunFolder::resumed(&args.run, "digits")?;
        let config = config.settled(true)?;
        config.check()?;
        return Ok((folder, config));
    }
    let data = args.data.iter().map(|data| ("data".to_string(), Value::from(data.clone())));
    let flags = data.chain([("fit".to_string(), Value::Table(args.fit.settings()?))]).collect();
    let settings = args.run.layer(PRESETS, "digits", "images", flags)?;
    let config: RunConfig = args.run.parse(settings)?;
    let config = RunConfig { data: config.data.absolute()?, ..config }.settled(false)?;
    let folder = RunFolder::new(args.run.place(&config.data.to_string()), &args.run)?;
    config.check()?;
    Ok((folder, config))
}

fn summary(results: &Results) -> String {
    let mut text = format!("test      {}\n", results.test.text());
    if let Some(means) = results.solver {
        text += &format!("solver    {means}, means of a step of likelihood\n");
    }
    let stopped = if results.early_stopped { ", when validation did not get better any more" } else { "" };
    let (steps, time) = (plural(results.steps as usize, "step"), duration(results.seconds));
    text + &format!("trained   {steps} in {time}{stopped}\nwritten   {}, with samples.png", results.out.display())
}
