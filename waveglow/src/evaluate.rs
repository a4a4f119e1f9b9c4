//! How well a model fits audio, and how it sounds.

use crate::AudioFlow;
use crate::audio::LogMel;
use crate::data::{Clips, with_noise};
use candle_core::{DType, Device, Tensor};
use flows_core::distributions::Distribution;
use flows_core::{Error, Result, Rng};
use serde::Serialize;
use std::time::Instant;

/// The largest part of a clip that is evaluated at once, in seconds.
const PIECE: f64 = 10.0;

/// A clip, cut to a length that the model takes, as a tensor (1, 1, T) with its spectrogram (1, bands, frames).
fn prepared(
    model: &AudioFlow,
    signal: &[f32],
    log_mel: &LogMel,
    rng: Option<&mut Rng>,
) -> Result<Option<(AudioFlow, Tensor, Tensor)>> {
    let config = model.config();
    let most = (PIECE * config.audio.rate as f64) as usize;
    let unit = config.unit();
    let samples = signal.len().min(most) / unit * unit;
    if samples == 0 {
        return Ok(None);
    }
    let values: Vec<f32> = match rng {
        Some(rng) => signal[..samples].iter().map(|x| with_noise(f64::from(*x), rng)).collect(),
        None => signal[..samples].to_vec(),
    };
    let x = Tensor::from_vec(values, (1, samples), &Device::Cpu)?;
    let mel = log_mel.forward(&x)?;
    let device = model.parameters().device();
    let model = model.with_config(config.with_samples(samples))?;
    Ok(Some((model, x.unsqueeze(1)?.to_device(device)?, mel.to_device(device)?)))
}

/// The log-likelihood in nats a sample of each clip, up to its first ten seconds, given its spectrogram; samples get
/// noise of half a step of 16 bits. A clip that is too short for the model has none.
///
/// # Errors
/// When a clip cannot be evaluated.
pub fn nats_per_sample(
    model: &AudioFlow,
    clips: &Clips,
    log_mel: &LogMel,
    rng: &mut Rng,
    mut progress: impl FnMut(),
) -> Result<Vec<f64>> {
    let mut values = Vec::with_capacity(clips.len());
    for signal in &clips.signals {
        if let Some((model, x, mel)) = prepared(model, signal, log_mel, Some(rng))? {
            let log_prob = model.detached().log_prob(&x, Some(&mel))?.to_dtype(DType::F64)?.get(0)?;
            values.push(log_prob.to_scalar::<f64>()? / x.dim(2)? as f64);
        }
        progress();
    }
    if values.is_empty() {
        return Err(Error::Data("every clip is shorter than a block of the model: give longer ones".into()));
    }
    Ok(values)
}

/// A clip and what the model makes of its spectrogram.
#[derive(Clone, Debug, Serialize)]
pub struct CopySynthesis {
    /// The mean absolute difference of the log-mel spectrograms.
    pub log_mel_distance: f64,
    /// Seconds of work for a second of sound.
    pub real_time_factor: f64,
    /// The samples of the clip.
    #[serde(skip)]
    pub original: Vec<f32>,
    /// The samples that the model made.
    #[serde(skip)]
    pub copy: Vec<f32>,
}

/// The first ten seconds of a clip, synthesized from its spectrogram with latents of the standard deviation `sigma`;
/// none if the clip is too short for the model.
///
/// # Errors
/// When the clip cannot be processed.
pub fn copy_synthesis(
    model: &AudioFlow,
    signal: &[f32],
    log_mel: &LogMel,
    sigma: f64,
    rng: &mut Rng,
) -> Result<Option<CopySynthesis>> {
    let Some((model, x, mel)) = prepared(model, signal, log_mel, None)? else { return Ok(None) };
    let start = Instant::now();
    let copy = model.detached().synthesize(&mel, sigma, rng)?;
    let seconds = start.elapsed().as_secs_f64();
    let samples = |x: &Tensor| x.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>();
    let (original, copy) = (samples(&x)?, samples(&copy)?);
    let log_mel_distance = log_mel_distance(&original, &copy, log_mel)?;
    let real_time_factor = seconds * model.config().audio.rate as f64 / copy.len() as f64;
    Ok(Some(CopySynthesis { log_mel_distance, real_time_factor, original, copy }))
}

/// The mean absolute difference of the log-mel spectrograms of two signals of the same length.
///
/// # Errors
/// When a signal is empty.
pub fn log_mel_distance(a: &[f32], b: &[f32], log_mel: &LogMel) -> Result<f64> {
    let (a, b) = (log_mel.of(a)?, log_mel.of(b)?);
    let sum: f64 = a.iter().zip(&b).map(|(a, b)| f64::from((a - b).abs())).sum();
    Ok(sum / a.len() as f64)
}
