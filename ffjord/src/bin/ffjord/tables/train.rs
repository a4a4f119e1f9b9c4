//! `ffjord train` on rows.

use super::particles;
use crate::kind::Kind;
use crate::train::{CHANGEABLE, PICTURES, TrainArgs, describe, losses, solver_line};
use ffjord::run::tables::{PRESETS, RunConfig, Stream};
use ffjord::run::{Batches, images};
use ffjord::{Boltzmann, ContinuousFlow, TrainingCost, TrainingCosts};
use flows_core::cli::{FitFlags, SkipArgs, describe_rows, log_likelihoods, plural};
use flows_core::data::{Dataset, Shuffle, Source, Toy};
use flows_core::distributions::draw;
use flows_core::evaluate::{Exact, Likelihood, Mean};
use flows_core::plot::Figure;
use flows_core::run::{Program, Run, Trained, plane_figure};
use flows_core::train::{Ranks, Trainer, forward_kl};
use flows_core::{Error, Result, Rng};
use serde::Serialize;

/// What the program calls its runs and settings.
const PROGRAM: Program = Program {
    name: "ffjord",
    presets: PRESETS,
    subject: "data",
    counted: "rows",
    files: &PICTURES,
    kept: &["data", "rows", "samples", "most", "proportions"],
    changeable: &CHANGEABLE,
};

/// The largest number of samples for the comparison with a known energy.
const SAMPLES: usize = 10_000;

/// The unit of the loss.
const UNIT: &str = "negative log-likelihood (nats)";

/// The results of a run: `results.json`.
#[derive(Serialize)]
struct Results {
    data: Source,
    #[serde(flatten)]
    trained: Trained,
    /// The mean cost of the solver per step of maximum likelihood.
    solver: Option<TrainingCost>,
    test: Likelihood,
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<Exact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boltzmann: Option<Boltzmann>,
    columns: Option<Vec<String>>,
}

pub fn run(args: TrainArgs, ranks: &Ranks) -> Result<()> {
    let (device, output) = (args.device.of(ranks)?.open()?, args.output.of(ranks));
    let (mut run, mut config) = open(&args, ranks)?;
    let data = config.load(&device)?;
    run.note(format_args!("data   {}: {}", config.data, describe_rows(&data)));
    data.remarks().iter().for_each(|remark| run.note(format_args!("       {remark}")));
    let kind = Kind::of_rows(&config.flow.field);
    note_repeated(&run, kind, &data)?;
    let model = config.build(&data, &device)?;
    let (steps, matching) = (config.train.steps, config.matching_steps.unwrap_or(0));
    let size = plural(config.batch.min(data.train.len()), "row");
    run.note(describe(config.flows, config.flow.solver.method, model.parameters(), steps, size));
    let trainer = Trainer::new(model.parameters(), config.train.clone(), config.rng(Stream::Training))?;
    let mut trainer = run.start(trainer, ContinuousFlow::KIND, model.config(), &config)?;

    let mut shuffle = Shuffle::new(data.train.len(), config.batch, config.seed)?;
    let (weights, batches) = (model.parameters().trainable(), Batches::new(config.pieces, &device, ranks));
    run.note_ranks(batches.pieces);
    let loss = |number: u64, rng: &mut _| {
        let batch = data.train.select(&shuffle.batch(number))?;
        batches.gradients(&weights, batch.len(), rng, |rows, rng| {
            let x = batch.rows(rows)?.x;
            if number / config.train.accumulate < matching {
                return model.matching_loss(&x, config.coupling, rng);
            }
            forward_kl(&model, &x, None, rng)
        })
    };
    let costs = TrainingCosts::of(model.flows().to_vec()).shared_by(batches.shared_by());
    let mut validate =
        |_: &mut _| Ok(-Mean::of(&costs.uncounted(|| log_likelihoods(&model, &data.validation, ranks, true))?).mean);
    let mut watch = run.watch(trainer.step(), steps)?.with(costs.watch(|line| run.note(line)));
    let outcome = trainer.run(loss, Some(&mut validate), &mut watch)?;
    drop(watch);
    let trained = run.trained(outcome, &trainer, steps, losses(matching, UNIT))?;

    let (values, solver) = (log_likelihoods(&model, &data.test, ranks, output.quiet)?, costs.means()?);
    if !ranks.is_first() {
        return Ok(());
    }
    let toy = if let Source::Toy(toy) = config.data { Some(toy) } else { None };
    let mut rng = config.rng(Stream::Picture);
    let boltzmann = boltzmann(&model, kind, &config, &data, &mut rng)?;
    let results = Results {
        data: config.data.clone(),
        trained,
        solver,
        test: Likelihood::of(&values, model.dimensions()),
        boltzmann,
        exact: toy.map(|toy| Exact::of(toy, &data.test, &values)).transpose()?,
        columns: data.columns.clone(),
    };
    run.save_results(&results)?;
    let lines: Vec<_> = toy.iter().map(|toy| ("entropy of the data", toy.entropy())).collect();
    run.draw_losses(&results.trained.losses, &lines)?;
    if let Some((name, figure)) = picture(&model, kind, &config, &data, &mut rng)? {
        figure.write(run.file(name))?;
    }
    run.report(&results, &summary(&results))
}

/// Warns of test configurations of particles that are also training configurations.
fn note_repeated(run: &Run, kind: Kind, data: &Dataset) -> Result<()> {
    if let Kind::Particles(_) = kind
        && let repeated @ 1.. = particles::repeated(data)?
    {
        let rows = plural(repeated, "row");
        run.note(format_args!("note   the test set contains {rows} of the training set, which flatters the model"));
    }
    Ok(())
}

/// The comparison with the Boltzmann distribution of particles, if their energy is known.
fn boltzmann(
    model: &ContinuousFlow,
    kind: Kind,
    config: &RunConfig,
    data: &Dataset,
    rng: &mut Rng,
) -> Result<Option<Boltzmann>> {
    let (Kind::Particles(space), Some(energy)) = (kind, config.energy) else { return Ok(None) };
    Boltzmann::of(model, energy, space, &data.test.x, SAMPLES, rng).map(Some)
}

/// A picture of the model beside its data, for particles and for points in the plane.
fn picture(
    model: &ContinuousFlow,
    kind: Kind,
    config: &RunConfig,
    data: &Dataset,
    rng: &mut Rng,
) -> Result<Option<(&'static str, Figure)>> {
    if let Kind::Particles(space) = kind {
        return Ok(Some(("particles.png", particles::figure(model, space, config.energy, data, rng)?)));
    }
    if data.train.features() != 2 {
        return Ok(None);
    }
    let toy = if let Source::Toy(toy) = config.data { Some(toy) } else { None };
    let figure = plane_figure(model, toy, data, |count, _| draw(model, count, None, rng))?;
    Ok(Some(("density.png", figure)))
}

/// Opens the run and its settings.
fn open(args: &TrainArgs, ranks: &Ranks) -> Result<(Run, RunConfig)> {
    let data = args.settings.data.as_deref();
    if args.settings.fit != FitFlags::default() || args.skip != SkipArgs::default() {
        return Err(Error::Config(
            "--size, --grey, --colour, --background, --skip-bad and --strict are for images".into(),
        ));
    }
    if let Some(Err(error)) = data.map(str::parse::<Source>) {
        let images = "or images: digits, uci-digits, a folder of images, an IDX or .parquet file";
        return Err(Error::Config(format!("{error}; {images}")));
    }
    if let Some(Err(error)) = args.run.preset.as_deref().map(|name| PRESETS.get(name)) {
        let names: Vec<_> = images::PRESETS.list()?.into_iter().map(|(name, _)| name).collect();
        return Err(Error::Config(format!("{error}; or for images {}", names.join(", "))));
    }
    let preset = match data.map(str::parse::<Toy>) {
        Some(Err(_)) => "table",
        Some(Ok(toy)) if PRESETS.get(toy.name()).is_ok() => toy.name(),
        _ => "toy",
    };
    PROGRAM.open(&args.run, args.output, preset, &args.settings, ranks)
}

fn summary(results: &Results) -> Vec<(&'static str, String)> {
    let mut lines = vec![("test log-likelihood", results.test.text(""))];
    lines.extend(results.exact.map(|exact| ("exact density", exact.to_string())));
    lines.extend(results.boltzmann.map(|boltzmann| ("exact density", boltzmann.to_string())));
    lines.extend(results.solver.map(solver_line));
    lines.extend(results.trained.lines("", ""));
    lines
}
