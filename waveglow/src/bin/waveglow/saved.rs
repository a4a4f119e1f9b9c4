//! Models and audio from files.

use candle_core::{DType, Device, Tensor};
use flows_core::cli::OutputArgs;
use flows_core::{Error, Result};
use std::path::{Path, PathBuf};
use waveglow::AudioFlow;
use waveglow::audio::AudioConfig;
use waveglow::published;

/// A model of ours, or one that others have published.
pub fn load(path: PathBuf, device: &Device) -> Result<AudioFlow> {
    published::load(&path, &AudioConfig::default(), device)
}

/// A log-mel spectrogram (bands, frames) in a file of NumPy, PyTorch or safetensors, for a model with these settings.
pub fn read_mel(path: &Path, audio: &AudioConfig, output: OutputArgs) -> Result<Tensor> {
    let mel = published::read_spectrogram(path)?;
    let mel = match mel.dims() {
        [1, bands, frames] => mel.reshape((*bands, *frames))?,
        _ => mel,
    };
    let bands = audio.bands;
    match *mel.dims() {
        [rows, frames] if rows == bands && frames > 0 => {}
        [frames, rows] if rows == bands && frames > 0 => {
            let message =
                format!("is a spectrogram of {frames} bands and {rows} frames, but the model has {bands} bands");
            return Err(Error::file(path, format!("{message}: was it transposed? Save mel.T")));
        }
        ref got => {
            let message = format!("has the shape {got:?}, but a spectrogram of {bands} bands is ({bands}, frames)");
            return Err(Error::file(path, format!("{message}: make it by `waveglow mel --model`")));
        }
    }
    let values: Vec<f32> = mel.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    if let Some(value) = values.iter().find(|v| !v.is_finite()) {
        return Err(Error::file(path, format!("has a {value} in the spectrogram: make it again")));
    }
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
    // Pauses are near ln 1e-5 = -11.5; decimal logarithms end at -5.
    if !(-11.6..-5.01).contains(&low) || high > 4.0 {
        output.note(format_args!(
            "note   {}: the spectrogram has values from {low:.2} to {high:.2}, but natural logarithms of magnitudes, from \
             about -11.5 to 2, are expected: was it made with another logarithm, or normalized?",
            path.display()
        ));
    }
    Ok(Tensor::from_vec(values, mel.shape(), &Device::Cpu)?)
}
