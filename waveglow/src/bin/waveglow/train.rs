//! `waveglow train`: trains a model on audio.

use crate::eval::Figures;
use crate::spectrograms::draw;
use clap::Args;
use flows_core::cli::{DeviceArgs, OutputArgs, RunArgs, check_strict, count, plural, unset};
use flows_core::evaluate::Mean;
use flows_core::run::{Loss, Program, Trained};
use flows_core::train::{Loss as _, Ranks, Trainer};
use flows_core::{Error, Result, Rng};
use serde::Serialize;
use std::path::Path;
use waveglow::audio::{Encoding, LogMel, Sound, write};
use waveglow::data::{AudioSource, Clips, Segments, Splits};
use waveglow::run::{AudioStream, PRESETS, RunConfig};
use waveglow::{AudioFlow, nats_per_sample};

/// What the program calls its runs and settings.
const PROGRAM: Program = Program {
    name: "waveglow",
    presets: PRESETS,
    subject: "data",
    counted: "clips",
    files: &["original.wav", "copy.wav", "griffin-lim.wav", "spectrograms.png"],
    kept: &["data", "clips"],
    changeable: &[],
};

/// The unit of the loss.
const UNIT: &str = "nats/sample";

/// The clips that are validated with.
const VALIDATED: usize = 16;

const EXAMPLES: &str = "\
Examples:
  waveglow train
  waveglow train --data recordings/ --preset speech-small --out runs/speech
  waveglow train --data LJSpeech-1.1/wavs --preset waveglow-256
  waveglow train --out runs/speech --resume";

/// The presets with their descriptions.
fn presets() -> String {
    format!("Presets, `plucks` unless given:\n{}\n", PRESETS.lines(14))
}

/// Train a vocoder: a density of audio given its mel spectrogram
///
/// Reports the log-likelihood of the test clips in nats a sample and the distance of copies to them, and writes to the
/// folder --out: the model, the settings (config.toml), the metrics (metrics.jsonl), the loss curve (loss.png), the
/// results (results.json), and of the first test clip the sound (original.wav), what the model makes of its spectrogram
/// (copy.wav), what Griffin-Lim's 60 iterations make of it (griffin-lim.wav), and the three spectrograms
/// (spectrograms.png, from top to bottom). A model of two minutes is not as close to the spectrogram as Griffin-Lim is,
/// which does nothing else. Ctrl-C saves and ends; --resume continues from where a run was last saved, and gives the same
/// model as an uninterrupted run. `mpirun -n 4 waveglow train --pieces 4` divides every batch among four processes.
///
/// Audio comes from a folder of .wav, .flac or .ogg files, of any rate: they are mixed to one channel and resampled to
/// the model's rate once, in memory. One clip in ten is held out, two of fewer than twenty. Without --data the program makes plucked strings and
/// bells.
#[derive(Args)]
#[command(after_long_help = presets() + EXAMPLES)]
pub struct TrainArgs {
    #[command(flatten)]
    settings: Flags,
    /// Skip audio files that cannot be read, with a warning, instead of ending with an error
    #[arg(long, help_heading = "Audio")]
    skip_bad: bool,
    /// Make it an error if anything about the audio is noted
    #[arg(long, help_heading = "Audio")]
    strict: bool,
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
    /// plucks, a folder of audio files, or one file
    #[arg(long, value_name = "D", conflicts_with = "resume", help_heading = "Audio")]
    data: Option<AudioSource>,
    /// The standard deviation of the latents that copies are made from
    #[arg(long, value_name = "S", conflicts_with = "resume", allow_negative_numbers = true, help_heading = "Audio")]
    sigma: Option<f64>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    model: ModelFlags,
}

#[derive(Args, Default, PartialEq, Serialize)]
#[command(next_help_heading = "Audio")]
struct ModelFlags {
    /// Samples of a training segment
    #[arg(long = "segment", value_name = "N", conflicts_with = "resume")]
    samples: Option<usize>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    audio: AudioFlags,
}

#[derive(Args, Default, PartialEq, Serialize)]
#[command(next_help_heading = "Audio")]
struct AudioFlags {
    /// The sampling rate of the model in Hz
    #[arg(long, value_name = "HZ", conflicts_with = "resume")]
    rate: Option<usize>,
    /// The upper edge of the highest mel band in Hz, at most half the rate
    #[arg(long, value_name = "HZ", conflicts_with = "resume")]
    high: Option<f64>,
}

/// The results of a run: `results.json`.
#[derive(Serialize)]
struct Results {
    data: AudioSource,
    #[serde(flatten)]
    trained: Trained,
    test: Figures,
}

pub fn run(args: TrainArgs, ranks: &Ranks) -> Result<()> {
    let (device, output) = (args.device.of(ranks)?.open()?, args.output.of(ranks));
    let (mut run, mut config): (_, RunConfig) = PROGRAM.open(&args.run, output, "plucks", &args.settings, ranks)?;
    check_apart(&config.data, run.path())?;
    let mut skipped = Vec::new();
    let mut skip = |error: Error| skipped.push(format!("skipped: {error}"));
    let (splits, mut notes) = config.load(if args.skip_bad { Some(&mut skip) } else { None })?;
    notes.extend(skipped);
    run.note(format_args!("data   {}: {}", config.data, describe_clips(&splits, config.model.audio.rate)));
    check_strict(args.strict, &notes)?;
    notes.iter().for_each(|note| run.note(format_args!("note   {note}")));
    let model = config.build(&device)?;
    let steps = config.train.steps;
    run.note(describe(&model, steps, config.batch));
    let trainer = Trainer::new(model.parameters(), config.train.clone(), config.rng(AudioStream::Training))?;
    let mut trainer = run.start(trainer, AudioFlow::KIND, model.config(), &config)?;

    let segments = Segments::new(&splits.train, config.model.samples)?;
    let log_mel = LogMel::new(&config.model.audio)?;
    let weights = model.parameters().trainable();
    // On GPUs one piece per rank.
    let pieces = if device.is_cpu() { config.pieces } else { ranks.size() };
    run.note_ranks(pieces);
    let loss = |_: u64, rng: &mut Rng| {
        let x = segments.draw(config.batch, &mut rng.fork(), &device)?;
        ranks.gradients(&weights, config.batch, pieces, rng, |rows, rng| {
            let x = x.narrow(0, rows.start, rows.len())?;
            let mel = log_mel.forward(&x.squeeze(1)?)?;
            let loss = config.train.memory.forward_kl(&model, &x, Some(&mel), rng)?;
            loss.times(1.0 / config.model.samples as f64)
        })
    };
    let validation = splits.validation.first(VALIDATED);
    let mut validate = |rng: &mut _| {
        let nats = nats_per_sample(&model, &validation, &log_mel, rng, || {})?;
        Ok(-Mean::of(&nats).mean)
    };
    let examples = config.batch * config.train.accumulate as usize;
    let mut watch = run.watch(trainer.step(), steps)?.named(UNIT).examples(examples, "segments");
    let outcome = trainer.run(loss, Some(&mut validate), &mut watch)?;
    drop(watch);
    let trained = run.trained(outcome, &trainer, steps, vec![Loss::all(UNIT)])?;

    let mut rngs = [config.rng(AudioStream::Evaluation), config.rng(AudioStream::Synthesis)];
    let [noise, latents] = &mut rngs;
    let (test, sounds) = Figures::of(&model, &splits.test, config.sigma, [noise, latents], output)?;
    let results = Results { data: config.data.clone(), trained, test };
    run.save_results(&results)?;
    run.draw_losses(&results.trained.losses, &[])?;
    for (name, sound) in PROGRAM.files.iter().zip(&sounds) {
        run.draw(name, |path| {
            write(path, &Sound::mono(config.model.audio.rate, sound.clone())?, Encoding::default()).map(|_| ())
        })?;
    }
    run.draw("spectrograms.png", |path| {
        let mels = sounds.iter().map(|sound| log_mel.of(sound)).collect::<Result<Vec<_>>>()?;
        draw(&mels, log_mel.bands(), path)
    })?;
    let [likelihood, copies] = results.test.lines();
    let [trained, written] = results.trained.lines("", ", with copy.wav and spectrograms.png");
    run.report(&results, &[likelihood, copies, trained, written])
}

/// Checks that a run does not write its sounds among its data.
fn check_apart(data: &AudioSource, out: &Path) -> Result<()> {
    let AudioSource::Path(data) = data else { return Ok(()) };
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match absolute(out).starts_with(absolute(data)) {
        true => Err(Error::file(
            out,
            "is within the folder of the audio, among which a run would write: name another by --out",
        )),
        false => Ok(()),
    }
}

/// The clips for the user.
fn describe_clips(splits: &Splits, rate: usize) -> String {
    let seconds = |clips: &Clips| clips.samples() as f64 / rate as f64;
    let parts = [(&splits.train, "to train on"), (&splits.validation, "to validate"), (&splits.test, "to test")];
    let part = |(clips, what): (&Clips, &str)| format!("{} {what} ({:.0} s)", count(clips.len()), seconds(clips));
    format!("{} at {rate} Hz; {}", plural(splits.count, "clip"), parts.map(part).join(", "))
}

fn describe(model: &AudioFlow, steps: u64, batch: usize) -> String {
    let config = model.config();
    let kind = match &config.architecture {
        waveglow::Architecture::WaveGlow(settings) => format!("WaveGlow of {} flows", settings.flows),
        waveglow::Architecture::Lapped(settings) => format!("lapped flow of {} couplings", settings.couplings),
    };
    let segments = format!("{} of {:.2} s", plural(batch, "segment"), config.samples as f64 / config.audio.rate as f64);
    let (parameters, steps) = (plural(model.parameters().count(), "parameter"), plural(steps as usize, "step"));
    format!("model  {kind}: {parameters}, {steps} of {segments}")
}
