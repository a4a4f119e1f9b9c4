//! `waveglow eval`: how well a model fits audio, and how close its copies are.

use crate::saved::load;
use clap::Args;
use flows_core::cli::{ModelArgs, OutputArgs, plural, print_or_json, work_bar};
use flows_core::evaluate::Mean;
use flows_core::run::Saved;
use flows_core::{Error, Result, Rng};
use serde::Serialize;
use serde_json::json;
use waveglow::audio::{GriffinLim, LogMel};
use waveglow::data::{AudioSource, Clips};
use waveglow::run::{PUBLISHED_SIGMA, RunConfig, check_sigma};
use waveglow::{AudioFlow, copy_synthesis, log_mel_distance, nats_per_sample};

/// Evaluate a model: log-likelihood, and the distance of copies to the originals
///
/// Prints the log-likelihood in nats a sample, and the mean absolute difference of the log-mel spectrograms of clips and
/// of what the model synthesizes from their spectrograms, beside that of Griffin-Lim's 60 iterations, each with its
/// standard error over the clips. Without --data it evaluates the test clips of the model's run. Of each clip the first
/// ten seconds are taken.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  waveglow eval runs/plucks
  waveglow eval runs/speech --data recordings/ --sigma 0.6 --json")]
pub struct EvalArgs {
    /// A folder of audio, a file, or plucks [default: the test clips of the model's run]
    #[arg(long, value_name = "D")]
    data: Option<AudioSource>,
    /// The standard deviation of the latents [default: that of the model's run, or 0.6]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    sigma: Option<f64>,
    /// Skip audio files that cannot be read, with a warning, instead of ending with an error
    #[arg(long)]
    skip_bad: bool,
    /// Seed of the noise and the latents
    #[arg(long, value_name = "SEED", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    #[command(flatten)]
    model: ModelArgs,
}

/// How a model does on clips.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The log-likelihood in nats a sample.
    pub log_likelihood: Mean,
    /// The distance of the log-mel spectrograms of copies.
    pub log_mel_distance: Mean,
    /// The same of Griffin-Lim's.
    pub griffin_lim: Mean,
    /// Seconds of work for a second of sound.
    pub real_time_factor: f64,
}

impl Figures {
    /// The figures of a model on clips, with the sound of the first that is long enough: the original, the copy and
    /// Griffin-Lim's.
    pub fn of(
        model: &AudioFlow,
        clips: &Clips,
        sigma: f64,
        [noise, latents]: [&mut Rng; 2],
        output: OutputArgs,
    ) -> Result<(Self, [Vec<f32>; 3])> {
        let log_mel = LogMel::new(&model.config().audio)?;
        let bar = work_bar(2 * clips.len(), "evaluating", output.quiet);
        let nats = nats_per_sample(model, clips, &log_mel, noise, || bar.inc(1))?;
        let (mut distances, mut others, mut factors, mut first) = (Vec::new(), Vec::new(), Vec::new(), None);
        for signal in &clips.signals {
            if let Some(made) = copy_synthesis(model, signal, &log_mel, sigma, latents)? {
                let other = griffin_lim(&made.original, &log_mel, latents)?;
                distances.push(made.log_mel_distance);
                others.push(log_mel_distance(&made.original, &other, &log_mel)?);
                factors.push(made.real_time_factor);
                first.get_or_insert([made.original, made.copy, other]);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let Some(sounds) = first else { return Err(Error::Internal("no clip was synthesized".into())) };
        factors.sort_by(f64::total_cmp);
        let figures = Self {
            log_likelihood: Mean::of(&nats),
            log_mel_distance: Mean::of(&distances),
            griffin_lim: Mean::of(&others),
            real_time_factor: factors[factors.len() / 2],
        };
        Ok((figures, sounds))
    }

    /// The figures in words.
    pub fn lines(&self) -> [(&'static str, String); 2] {
        let copies = format!(
            "log-mel distance {:.3} of copies, {:.3} of Griffin-Lim's; real-time factor {:.3}",
            self.log_mel_distance.mean, self.griffin_lim.mean, self.real_time_factor
        );
        [("test", format!("log-likelihood {} nats/sample", self.log_likelihood)), ("copies", copies)]
    }
}

/// What 60 iterations of Griffin-Lim make of the spectrogram of a signal.
fn griffin_lim(signal: &[f32], log_mel: &LogMel, rng: &mut Rng) -> Result<Vec<f32>> {
    let mel = log_mel.of(signal)?;
    let method = GriffinLim { iterations: 60, ..GriffinLim::default() };
    method.from_log_mel(log_mel, &mel, signal.len(), rng)
}

pub fn run(args: EvalArgs) -> Result<()> {
    let output = args.model.output;
    let saved = Saved::open(&args.model, load)?;
    let run: Option<RunConfig> = saved.settings()?;
    let sigma = args.sigma.or(run.map(|run| run.sigma)).unwrap_or(PUBLISHED_SIGMA);
    check_sigma(sigma)?;
    let mut skip = |error| output.note(format_args!("skipped: {error}"));
    let skip: Option<&mut dyn FnMut(Error)> = if args.skip_bad { Some(&mut skip) } else { None };
    let (clips, name) = match &args.data {
        Some(source) => {
            let config = saved.model.config();
            let (clips, notes) = source.clips(config.audio.rate, config.unit(), skip, &mut Rng::seed(args.seed))?;
            notes.iter().for_each(|note| output.note(format_args!("note   {note}")));
            (clips, source.to_string())
        }
        None => saved.of_run("test clips", "--data", |mut run: RunConfig| {
            let (splits, _) = run.load(Some(&mut |_| {}))?;
            Ok((splits.test, format!("{} (test)", run.data)))
        })?,
    };
    let mut rngs = [Rng::seed(args.seed), Rng::seed(args.seed)];
    let [noise, latents] = &mut rngs;
    let (figures, _) = Figures::of(&saved.model, &clips, sigma, [noise, latents], output)?;
    let [(_, test), (_, copies)] = figures.lines();
    let text = format!("{name}, {}: {test}\n{copies}", plural(clips.len(), "clip"));
    let value = json!({ "model": saved.path, "data": name, "clips": clips.len(), "sigma": sigma, "figures": figures });
    print_or_json(output, &value, text)
}
