//! `ffjord train` on images.

use super::pictures::samples;
use crate::train::{CHANGEABLE, PICTURES, TrainArgs, describe, losses, solver_line};
use ffjord::run::Batches;
use ffjord::run::images::{PRESETS, RunConfig};
use ffjord::{ImageModel, TrainingCost, TrainingCosts, log_likelihoods};
use flows_core::cli::{describe_images, plural, with_bar};
use flows_core::data::Shuffle;
use flows_core::data::images::{ImageSource, Images};
use flows_core::evaluate::{ImageBits, Mean};
use flows_core::plot::write_png;
use flows_core::run::{ImageSettings, ImageStream, Program, Trained};
use flows_core::train::{Ranks, Trainer, forward_kl};
use flows_core::{Result, Rng};
use serde::Serialize;
use std::f64::consts::LN_2;

/// What the program calls its runs and settings.
const PROGRAM: Program = Program {
    name: "ffjord",
    presets: PRESETS,
    subject: "data",
    counted: "images",
    files: &PICTURES,
    kept: &["data", "images"],
    changeable: &CHANGEABLE,
};

/// The number of samples in the picture.
const SAMPLES: usize = 64;

/// The unit of the loss.
const UNIT: &str = "bits/dim";

/// The results of a run: `results.json`.
#[derive(Serialize)]
struct Results {
    data: ImageSource,
    shape: [usize; 3],
    #[serde(flatten)]
    trained: Trained,
    /// The mean cost of the solver per step of maximum likelihood.
    solver: Option<TrainingCost>,
    test: ImageBits,
}

pub fn run(args: TrainArgs, ranks: &Ranks) -> Result<()> {
    let (device, output) = (args.device.of(ranks)?.open()?, args.output.of(ranks));
    let (mut run, mut config): (_, RunConfig) = PROGRAM.open(&args.run, output, "digits", &args.settings, ranks)?;
    let splits = args.skip.reading(output, |skip| config.load(skip))?;
    run.note(format_args!("data   {}: {}", config.data, describe_images(&splits)));
    args.skip.tell(output, &splits.notes())?;
    let model = config.build(&splits, &device)?;
    let (steps, matching) = (config.train.steps, config.matching_steps.unwrap_or(0));
    let size = config.batch.min(splits.train.len());
    let method = config.flow.solver.method;
    run.note(describe(model.flows().len(), method, model.parameters(), steps, plural(size, "image")));
    let trainer = Trainer::new(model.parameters(), config.train.clone(), config.rng(ImageStream::Training))?;
    let mut trainer = run.start(trainer, ImageModel::KIND, model.config(), &config)?;

    let mut shuffle = Shuffle::new(splits.train.len(), config.batch, config.seed)?;
    let (weights, dims) = (model.parameters().trainable(), model.config().dims() as f64);
    let batches = Batches::new(config.pieces, &device, ranks);
    run.note_ranks(batches.pieces);
    let loss = |number: u64, rng: &mut _| {
        let x = model.dequantize(&splits.train.tensor(&shuffle.batch(number), || false)?, rng)?;
        batches.gradients(&weights, x.dim(0)?, rng, |rows, rng| {
            let x = x.narrow(0, rows.start, rows.len())?;
            if number / config.train.accumulate < matching {
                return model.matching_loss(&x, config.coupling, rng);
            }
            Ok(forward_kl(&model, &x, None, rng)?.affine(1.0 / (dims * LN_2), 8.0)?)
        })
    };
    let draw = || samples(&model, SAMPLES, SAMPLES.isqrt(), &mut config.rng(ImageStream::Picture));
    let picture = || run.draw("samples.png", |path| write_png(&draw()?, path));
    let [validation, test] = config.evaluated;
    // The same noise each time, so that evaluations can be compared.
    let values =
        |images, count, quiet| evaluate(&model, images, count, &mut config.rng(ImageStream::Evaluation), ranks, quiet);
    let costs = TrainingCosts::of(model.flows()).shared_by(batches.shared_by());
    let mut validate = |_: &mut _| {
        costs.uncounted(|| {
            let values = values(&splits.validation, validation, true)?;
            picture()?;
            Ok(model.bits(Mean::of(&values).mean))
        })
    };
    let examples = size * config.train.accumulate as usize;
    let watch = run.watch(trainer.step(), steps)?.examples(examples, "images");
    let mut watch = watch.with(costs.watch(|line| run.note(line)));
    let outcome = trainer.run(loss, Some(&mut validate), &mut watch)?;
    drop(watch);
    let trained = run.trained(outcome, &trainer, steps, losses(matching, UNIT))?;

    let (values, solver) = (values(&splits.test, test, output.quiet)?, costs.means()?);
    let test = bits(&model, &values, splits.test.unpadded());
    let results = Results { data: config.data.clone(), shape: model.config().shape, trained, solver, test };
    run.save_results(&results)?;
    run.draw_losses(&results.trained.losses, &[])?;
    picture()?;
    let mut summary = vec![("test", results.test.text("", ""))];
    summary.extend(results.solver.map(solver_line));
    summary.extend(results.trained.lines("", ", with samples.png"));
    run.report(&results, &summary)
}

/// The log-density of each of the first `count` images, with noise and divergence estimates from `rng`.
pub fn evaluate(
    model: &ImageModel,
    images: &Images,
    count: usize,
    rng: &mut Rng,
    ranks: &Ranks,
    quiet: bool,
) -> Result<Vec<f64>> {
    with_bar(images.len().min(count), "evaluating", quiet, |progress| {
        log_likelihoods(model, images, count, rng, ranks, progress)
    })
}

/// The bits per dimension of images with these log-densities, which had `unpadded` values before padding.
pub fn bits(model: &ImageModel, values: &[f64], unpadded: Option<usize>) -> ImageBits {
    ImageBits::of(values, model.config().dims(), unpadded, |mean| model.bits(mean))
}
