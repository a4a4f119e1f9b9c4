//! `ffjord train`: a model from data.

use crate::config::{PRESETS, RunConfig};
use crate::images;
use crate::losses::draw_losses;
use crate::particles::{self, Boltzmann};
use crate::picture;
use crate::watch::{Costs, Means, Watch};
use clap::Args;
use ffjord::ContinuousFlow;
use flows_core::cli::{
    DeviceArgs, Exact, FitArgs, Interrupt, Likelihood, Mean, OutputArgs, ProgressBar, RunArgs, RunFolder, SkipArgs,
    count, duration, log_likelihoods, plural, print, print_json, write_json,
};
use flows_core::data::{Dataset, Shuffle, Source, Toy};
use flows_core::train::{Outcome, Trainer, forward_kl};
use flows_core::{Error, Result};
use serde::Serialize;
use std::path::PathBuf;
use toml::Value;

const EXAMPLES: &str = "\
Examples:
  ffjord train
  ffjord train --data eight-gaussians --out runs/eight
  ffjord train --data prices.csv --steps 3000 --out runs/prices
  ffjord train --preset digits
  ffjord train --data mnist/ --preset mnist-small --out runs/mnist
  ffjord train --data photos/ --preset digits --size 16,16 --grey --out runs/photos
  ffjord train --out runs/prices --resume";

/// Settings of a model that may change when a run goes on: its weights are of the field and the times alone.
pub const CHANGEABLE: [&str; 8] = [
    "flow.solver",
    "flow.evaluation",
    "flow.row_steps",
    "flow.divergence",
    "flow.penalty",
    "flow.steer",
    "flow.gradient",
    "flow.matching",
];

/// The most samples that a model is compared with a known energy by.
const SAMPLES: usize = 10_000;

/// The presets, each with what it is for.
fn presets() -> String {
    let (rows, images) = (PRESETS.lines(12), images::PRESETS.lines(12));
    format!(
        "Presets; unless given that of the density's name, else `toy`, and for tables `table`:\n{rows}\n\
         For images, `digits` unless given:\n{images}\n"
    )
}

/// Train a continuous flow on data
///
/// Ends with the log-likelihood of the test rows, by the exact divergence, and leaves in the folder --out: the model,
/// the settings (config.toml), the metrics (metrics.jsonl), the loss curve (loss.png), the results (results.json),
/// for data in the plane density.png, and for particles particles.png. At every evaluation a line tells how often the
/// field was evaluated, forward and backward, and how large the solver's steps were. Ctrl-C saves and ends; --resume
/// goes on where a run was saved last, and gives the model that an uninterrupted run would have given; with --config it
/// can have another solver from there on, such as one of more steps (`flow.solver.max_steps`).
///
/// Data is standardized within the model. Of a table 8 rows in 10 are trained on, 1 chooses the best weights, and 1
/// is tested on. A row of particles has the positions of all, particle by particle; the density is one of
/// configurations whose centre is 0.
///
/// A model of images ends with the bits a colour of the test images takes, by an estimate of the divergence, and leaves
/// samples.png, drawn anew at each evaluation. One image in ten is held out to test on where the data has no such part.
/// digits are drawn by the program; uci-digits are 1,797 digits of 8 x 8 written by hand: the test set of Optical
/// Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
/// https://doi.org/10.24432/C50P49, CC BY 4.0.
#[derive(Args)]
#[command(after_long_help = presets() + EXAMPLES)]
pub struct TrainArgs {
    /// pinwheel, eight-gaussians, two-moons, circles, rings, two-spirals, checkerboard or swiss-roll; a .npy or .csv
    /// file; a folder with train.npy, validation.npy and test.npy; hf://; or images: digits, uci-digits, a folder of
    /// images, an IDX or .parquet file, a .npy file of unsigned bytes, a folder with train... and test..., or hf://
    /// [default: pinwheel, and digits with a preset for images]
    #[arg(long, value_name = "D", conflicts_with = "resume", help_heading = "Data")]
    pub data: Option<String>,
    #[command(flatten)]
    pub fit: FitArgs,
    #[command(flatten)]
    pub skip: SkipArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What a run ends with: `results.json`.
#[derive(Serialize)]
struct Results {
    data: Source,
    parameters: usize,
    steps: u64,
    early_stopped: bool,
    /// Of training.
    seconds: f64,
    /// The mean negative log-likelihood of the validation rows under the weights that were kept.
    validation: Option<f64>,
    /// Of the solver, a step of likelihood.
    solver: Option<Means>,
    test: Likelihood,
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<Exact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boltzmann: Option<Boltzmann>,
    columns: Option<Vec<String>>,
    out: PathBuf,
}

pub fn run(args: TrainArgs) -> Result<()> {
    if images::is_run(&args)? {
        return images::train(args);
    }
    if args.fit.size.is_some() || args.fit.grey || args.skip.skip_bad {
        return Err(Error::Config("--size, --grey and --skip-bad are for images: leave them out".into()));
    }
    let device = args.device.open()?;
    let (folder, mut config) = settle(&args)?;
    let out = folder.path();
    let note = |text: String| args.output.note(text);
    let data = config.load(&device)?;
    if !matches!(config.data, Source::Toy(_)) {
        config.rows = Some(data.rows());
    }
    note(format!("data   {}: {}", config.data, describe(&data)));
    let space = config.flow.field.space();
    let repeated = if space.is_some() { particles::repeated(&data)? } else { 0 };
    if repeated > 0 {
        note(format!(
            "note   {} of the test are among those to train on: the result flatters the model",
            plural(repeated, "row")
        ));
    }
    let model = config.build(&data, &device)?;
    let parameters = model.parameters().count();
    let mut generators = config.generators();
    let mut shuffle = Shuffle::new(data.train.len(), config.batch, config.seed)?;
    let trainer = Trainer::new(model.parameters(), config.train.clone(), generators.training)?;
    let (mut trainer, done) = folder.trainer(trainer, ContinuousFlow::KIND, model.config(), &CHANGEABLE)?;
    let _replaced = folder.begin(&config)?;
    let (steps, matching) = (config.train.steps, config.matching_steps.unwrap_or(0));
    note(format!(
        "model  {}, {}: {}, {} of {}",
        plural(config.flows, "continuous flow"),
        config.flow.solver.method,
        plural(parameters, "parameter"),
        plural(steps as usize, "step"),
        plural(config.batch.min(data.train.len()), "row")
    ));
    folder.note_resumed(done, args.output);

    let costs = Costs::new(&model);
    let outcome = {
        let interrupt = Interrupt::install()?;
        let bar = (!args.output.quiet).then(|| ProgressBar::new(steps, done));
        let mut observers = folder.observers((done, steps), &args.run, bar, &interrupt)?;
        observers.push(Box::new(Watch::new(costs.clone(), args.output.quiet)));
        let mut evaluate = |_: &mut _| {
            costs.set_aside();
            let values = log_likelihoods(&model, &data.validation, true);
            costs.discard();
            Ok(-Mean::of(&values?).mean)
        };
        let loss = |number: u64, rng: &mut _| {
            let batch = data.train.select(&shuffle.batch(number))?;
            if number / config.train.accumulate < matching {
                return model.matching_loss(&batch.x, config.coupling, rng);
            }
            forward_kl(&model, &batch.x, None, rng)
        };
        trainer.run(loss, Some(&mut evaluate), &mut observers)?
    };
    folder.finished("ffjord", outcome, (trainer.step(), steps))?;

    let values = log_likelihoods(&model, &data.test, args.output.quiet)?;
    let toy = if let Source::Toy(toy) = config.data { Some(toy) } else { None };
    let boltzmann = match (space, config.energy) {
        (Some(space), Some(energy)) => {
            let count = data.test.len().min(SAMPLES);
            Some(Boltzmann::of(&model, energy, space, &data.test.x, count, &mut generators.picture)?)
        }
        _ => None,
    };
    let results = Results {
        data: config.data.clone(),
        parameters,
        steps: trainer.step(),
        early_stopped: outcome == Outcome::EarlyStopped,
        seconds: trainer.seconds(),
        validation: trainer.kept(),
        solver: costs.means(),
        test: Likelihood::of(&values, model.dimensions()),
        boltzmann,
        exact: toy.map(|toy| Exact::of(toy, &data.test, &values)).transpose()?,
        columns: data.columns.clone(),
        out: out.to_path_buf(),
    };
    write_json(&out.join("results.json"), &results)?;
    let lines: Vec<_> = toy.iter().map(|toy| ("entropy of the data", toy.entropy())).collect();
    draw_losses(&folder, matching, &lines, "negative log-likelihood (nats)")?;
    let rng = &mut generators.picture;
    let picture = match space {
        Some(space) => Some(("particles.png", particles::figure(&model, space, config.energy, &data, rng)?)),
        None => picture::figure(&model, &config.data, &data, rng)?.map(|figure| ("density.png", figure)),
    };
    if let Some((name, figure)) = picture {
        figure.write(out.join(name))?;
    }
    if args.output.json { print_json(&results) } else { print(summary(&results)) }
}

/// The folder and the settings of the run: those of the folder when it is resumed, else those of the
/// preset, the file and the flags.
fn settle(args: &TrainArgs) -> Result<(RunFolder, RunConfig)> {
    if args.run.resume {
        let (folder, config): (_, RunConfig) = RunFolder::resumed(&args.run, Toy::Pinwheel.name())?;
        let config = config.settled(true)?;
        config.check()?;
        return Ok((folder, config));
    }
    if let Some(Err(error)) = args.data.as_ref().map(|data| data.parse::<Source>()) {
        let images = "or of images: digits, uci-digits, a folder of them, an IDX or a .parquet file";
        return Err(Error::Config(format!("{error}; {images}")));
    }
    let flags = args.data.iter().map(|data| ("data".to_string(), Value::from(data.clone()))).collect();
    let preset = match args.data.as_deref().map(str::parse::<Toy>) {
        Some(Err(_)) => "table",
        Some(Ok(toy)) if PRESETS.get(toy.name()).is_ok() => toy.name(),
        _ => "toy",
    };
    let settings = args.run.layer(PRESETS, preset, "rows", flags)?;
    let config: RunConfig = args.run.parse(settings)?;
    let config = RunConfig { data: config.data.absolute()?, ..config }.settled(false)?;
    let folder = RunFolder::new(args.run.place(&config.data.to_string()), &args.run)?;
    config.check()?;
    Ok((folder, config))
}

fn describe(data: &Dataset) -> String {
    let columns = plural(data.train.features(), "column");
    let [train, validation, test] = [&data.train, &data.validation, &data.test].map(|part| part.len());
    let train = plural(train, "row");
    format!("{columns}; {train} to train on, {} to validate, {} to test", count(validation), count(test))
}

fn summary(results: &Results) -> String {
    let mut text = format!("test log-likelihood  {}\n", results.test.text(""));
    if let Some(Exact { log_likelihood, divergence, entropy }) = &results.exact {
        let short = divergence.text();
        text += &format!(
            "exact density        {log_likelihood:.4} nats on the same rows (entropy {entropy:.4}): the model is \
             {short} short of it\n"
        );
    }
    if let Some(boltzmann) = results.boltzmann {
        text += &format!("{}\n", boltzmann.text());
    }
    if let Some(means) = results.solver {
        text += &format!("solver               {means}, means of a step of likelihood\n");
    }
    let stopped = if results.early_stopped { ", when validation did not get better any more" } else { "" };
    let (steps, time) = (plural(results.steps as usize, "step"), duration(results.seconds));
    text + &format!("trained              {steps} in {time}{stopped}\nwritten              {}", results.out.display())
}
