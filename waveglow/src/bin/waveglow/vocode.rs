//! `waveglow vocode`: sound from spectrograms.

use crate::saved::{load, read_mel};
use candle_core::Tensor;
use clap::Args;
use flows_core::cli::{ModelArgs, OutputArgs, check_out, plural, print_or_json, work_bar};
use flows_core::files::in_folder;
use flows_core::run::Saved;
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use waveglow::audio::{AudioConfig, Denoiser, Encoding, LogMel, Sound, Stft, read, resample, write};
use waveglow::published::without_weight_norm;
use waveglow::run::{PUBLISHED_SIGMA, RunConfig, check_sigma};
use waveglow::{AudioFlow, synthesize};

/// Synthesize sound from log-mel spectrograms, or from audio by way of its own
///
/// Files are spectrograms (bands, frames) of the model's settings in .npy, .pt or .safetensors, as `waveglow mel` and
/// text-to-speech systems write them, or audio, whose spectrograms are taken and synthesized (copy synthesis). Long
/// signals are made piece by piece. --out names a .wav for one file, or a folder for several.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  waveglow vocode runs/plucks speech.wav --out copy.wav
  waveglow vocode waveglow_256channels.pt mel.npy --sigma 0.6 --denoise 0.1 --out speech.wav
  waveglow vocode runs/plucks a.npy b.npy c.wav --out copies/")]
pub struct VocodeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Spectrograms (.npy, .pt, .safetensors) or audio (.wav, .flac, .ogg)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The standard deviation of the latents: lower is smoother [default: that of the model's run, or 0.6]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    sigma: Option<f64>,
    /// Subtract this share of what the model makes of silence, against hum: 0.01 to 0.1 is usual
    #[arg(long, value_name = "STRENGTH", default_value_t = 0.0, allow_negative_numbers = true)]
    denoise: f64,
    /// Seed of the latents
    #[arg(long, value_name = "SEED", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The .wav to write, or the folder for several
    #[arg(long, value_name = "PATH", default_value = "vocoded.wav")]
    out: PathBuf,
}

/// The frames of silence that a denoiser listens to, as many as the published one's.
const SILENCE: usize = 88;

pub fn run(args: VocodeArgs) -> Result<()> {
    let output = args.model.output;
    args.sigma.map_or(Ok(()), check_sigma)?;
    let one = is_one(&args)?;
    let saved = Saved::open(&args.model, load)?;
    let run: Option<RunConfig> = saved.settings()?;
    let sigma = args.sigma.or(run.map(|run| run.sigma)).unwrap_or(PUBLISHED_SIGMA);
    // Normalized weights would be computed once a piece.
    let model = if saved.model.config().weight_norm { without_weight_norm(&saved.model)? } else { saved.model };
    let audio = model.config().audio.clone();
    let log_mel = LogMel::new(&audio)?;
    let denoiser = (args.denoise != 0.0).then(|| denoiser(&model)).transpose()?;
    let places = places(&args, one, &saved.path)?;
    let (start, mut seconds, mut clipped) = (Instant::now(), 0.0, 0);
    let bar = work_bar(args.files.len(), "synthesizing", output.quiet || args.files.len() < 2);
    let mut written = Vec::new();
    for (file, path) in args.files.iter().zip(places) {
        let mel = spectrogram(file, &log_mel, &audio, output)?;
        let mut samples = Vec::new();
        let made = synthesize(&model, &mel, sigma, &mut Rng::seed(args.seed), |piece| {
            samples.extend_from_slice(piece);
            Ok(())
        });
        made.map_err(|e| Error::file(file, e))?;
        if let Some(denoiser) = &denoiser {
            samples = denoiser.apply(&samples, args.denoise)?;
        }
        seconds += samples.len() as f64 / audio.rate as f64;
        clipped += write(&path, &Sound::mono(audio.rate, samples)?, Encoding::default())?;
        written.push(path);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let factor = start.elapsed().as_secs_f64() / seconds;
    if clipped > 0 {
        output.note(format_args!("note   {} beyond full scale were clipped", plural(clipped, "sample")));
    }
    let place = args.out.display();
    let text = format!("{seconds:.2} s of sound at {} Hz in {place} (real-time factor {factor:.3})", audio.rate);
    let value = json!({
        "model": saved.path, "files": written, "seconds": seconds, "rate": audio.rate, "real_time_factor": factor,
        "sigma": sigma, "denoise": args.denoise, "seed": args.seed, "clipped": clipped,
    });
    print_or_json(output, &value, text)
}

/// Whether --out is one file.
fn is_one(args: &VocodeArgs) -> Result<bool> {
    let one = match args.out.extension() {
        Some(ending) if ending.eq_ignore_ascii_case("wav") => !args.out.is_dir(),
        Some(_) if !args.out.is_dir() => {
            return Err(Error::file(&args.out, "is neither a .wav nor a folder: name one of them by --out"));
        }
        _ => false,
    };
    if one && args.files.len() > 1 {
        let message = format!("{} into one .wav: name a folder by --out", plural(args.files.len(), "file"));
        return Err(Error::Config(message));
    }
    Ok(one)
}

/// Where the sound of each file goes; nothing is written yet.
fn places(args: &VocodeArgs, one: bool, model: &Path) -> Result<Vec<PathBuf>> {
    if one {
        check_out(&args.out, args.files.iter().map(PathBuf::as_path).chain([model]))?;
        return Ok(vec![args.out.clone()]);
    }
    let mut places = Vec::new();
    for file in &args.files {
        let place = in_folder(&args.out, &format!("{}.wav", file.file_stem().unwrap_or_default().display()))?;
        check_out(&place, args.files.iter().map(PathBuf::as_path).chain([model]))?;
        if places.contains(&place) {
            let message = format!("two of the files would be written to {}: rename one", place.display());
            return Err(Error::Config(message));
        }
        places.push(place);
    }
    Ok(places)
}

/// The spectrogram in a file, or that of the audio in it.
fn spectrogram(file: &Path, log_mel: &LogMel, audio: &AudioConfig, output: OutputArgs) -> Result<Tensor> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if ["npy", "pt", "pth", "safetensors"].contains(&ending.as_str()) {
        return read_mel(file, audio, output);
    }
    let sound = read(file)?;
    sound.check_not_empty().map_err(|e| Error::file(file, e))?;
    let sound = resample(&sound.into_mono(), audio.rate)?;
    let mel = log_mel.of(&sound.channels()[0])?;
    let bands = log_mel.bands();
    let frames = mel.len() / bands;
    Ok(Tensor::from_vec(mel, (bands, frames), &candle_core::Device::Cpu)?)
}

/// The bias denoiser of a model: what it makes of the spectrogram 0, without noise, as the published one does.
fn denoiser(model: &AudioFlow) -> Result<Denoiser<f32>> {
    let audio = &model.config().audio;
    let mel = Tensor::zeros((audio.bands, SILENCE), candle_core::DType::F32, &candle_core::Device::Cpu)?;
    let mut samples = Vec::new();
    synthesize(model, &mel, 0.0, &mut Rng::seed(0), |piece| {
        samples.extend_from_slice(piece);
        Ok(())
    })?;
    Denoiser::of_silence(Stft::new(audio.fft, audio.hop, audio.window, audio.padding)?, &samples)
}
