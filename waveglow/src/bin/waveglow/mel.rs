//! `waveglow mel`: log-mel spectrograms of audio.

use crate::saved::load;
use crate::spectrograms::draw;
use candle_core::{Device, Tensor};
use clap::Args;
use flows_core::cli::{OutputArgs, check_extension, check_out, model_file, plural, print_or_json};
use flows_core::data::{Table, write_table};
use flows_core::{Error, Result};
use serde_json::json;
use std::path::PathBuf;
use waveglow::audio::{AudioConfig, LogMel, read, resample};

/// Write the log-mel spectrogram of audio, and a picture of it
///
/// The spectrogram is that of Tacotron 2, `ln(max(bank |STFT|, 1e-5))` of 80 bands from 0 to 8000 Hz at 22,050 Hz, unless
/// --model names a model with other settings. Audio of another rate is resampled, and channels are mixed. The file has
/// the shape (bands, frames) and is read by `waveglow vocode` and by NumPy.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  waveglow mel speech.wav --out speech.npy
  waveglow mel speech.wav --model runs/plucks --out speech.npy --picture speech.png")]
pub struct MelArgs {
    /// The audio file: .wav, .flac or .ogg
    file: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE.npy", default_value = "mel.npy")]
    out: PathBuf,
    /// A picture of the spectrogram to write
    #[arg(long, value_name = "FILE.png")]
    picture: Option<PathBuf>,
    /// The model whose settings are used: the folder of a run, a file, or hf://owner/repo/path
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: MelArgs) -> Result<()> {
    check_extension(&args.out, "npy", "spectrograms")?;
    check_out(&args.out, [&args.file])?;
    if let Some(picture) = &args.picture {
        check_extension(picture, "png", "pictures")?;
        check_out(picture, [&args.file, &args.out])?;
    }
    let config = match &args.model {
        Some(model) => load(model_file(model)?, &Device::Cpu)?.config().audio.clone(),
        None => AudioConfig::default(),
    };
    let sound = read(&args.file)?;
    sound.check_not_empty().map_err(|e| Error::file(&args.file, e))?;
    let own = sound.rate();
    let sound = resample(&sound.into_mono(), config.rate)?;
    let mel = LogMel::new(&config)?.of(&sound.channels()[0])?;
    let frames = mel.len() / config.bands;
    let data = Tensor::from_vec(mel.clone(), (config.bands, frames), &Device::Cpu)?;
    write_table(&args.out, &Table { columns: None, data })?;
    if let Some(picture) = &args.picture {
        draw(std::slice::from_ref(&mel), config.bands, picture)?;
    }
    let resampled = if own == config.rate { String::new() } else { format!(", resampled from {own} Hz") };
    let (frames_of, place) = (plural(frames, "frame"), args.out.display());
    let text = format!("{} bands of {frames_of} at {} Hz{resampled}, in {place}", config.bands, config.rate);
    let value = json!({
        "file": args.file, "out": args.out, "bands": config.bands, "frames": frames, "rate": config.rate,
        "resampled_from": own, "picture": args.picture,
    });
    print_or_json(args.output, &value, text)
}
