//! Synthesis of signals of any length in bounded memory.

use crate::AudioFlow;
use crate::config::{Architecture, AudioFlowConfig};
use candle_core::{DType, Device, Tensor};
use flows_core::{Error, Result, Rng};
use std::ops::Range;

/// The length of a piece in seconds, in which a signal is synthesized.
const PIECE: f64 = 10.0;

impl AudioFlowConfig {
    /// The largest distance in samples at which a frame or a latent affects a sample.
    fn reach(&self) -> usize {
        let network = |layers: usize, kernel: usize| ((1usize << layers) - 1).saturating_mul((kernel - 1) / 2);
        match &self.architecture {
            Architecture::WaveGlow(settings) => {
                let each = network(settings.network.layers, settings.network.kernel);
                settings.flows * each * settings.group + self.audio.fft
            }
            Architecture::Lapped(settings) => {
                let each = network(settings.network.layers, settings.network.kernel);
                // Two blocks for the features, one for the overlap.
                (settings.couplings * each + 3) * self.audio.hop
            }
        }
    }

    /// The channels of each part of a latent vector, all of which have as many positions.
    fn latent_channels(&self) -> Vec<usize> {
        match &self.architecture {
            Architecture::WaveGlow(settings) => {
                let channels = settings.channels();
                let levels: Vec<usize> = channels.chunks(settings.early_every).map(|level| level[0]).collect();
                let leaving = levels.windows(2).map(|pair| pair[0] - pair[1]);
                leaving.chain(levels.last().copied()).collect()
            }
            Architecture::Lapped(_) => vec![self.audio.hop],
        }
    }
}

/// A piece of a signal and of the surroundings that affect it, in samples.
struct Piece {
    whole: Range<usize>,
    kept: Range<usize>,
}

/// The pieces of a signal of so many samples: they begin and end with frames.
fn pieces(config: &AudioFlowConfig, samples: usize) -> Vec<Piece> {
    // Pieces begin with a frame and with a group of samples.
    let (mut step, hop) = (config.unit(), config.audio.hop);
    while !step.is_multiple_of(hop) {
        step += config.unit();
    }
    let size = ((PIECE * config.audio.rate as f64) as usize).next_multiple_of(step);
    let reach = config.reach().next_multiple_of(step);
    let piece = |start: usize| {
        let kept = start..samples.min(start + size);
        Piece { whole: start.saturating_sub(reach)..samples.min(kept.end + reach), kept }
    };
    (0..samples).step_by(size).map(piece).collect()
}

/// Synthesizes the signal of a log-mel spectrogram (bands, frames) from latents of the standard deviation `sigma`, piece
/// by piece, and passes each piece to `sink`. The pieces are those of the signal as a whole
/// ([`AudioDensity::synthesize`](crate::AudioDensity::synthesize)) up to rounding.
///
/// # Errors
/// When the spectrogram has another number of bands or not enough frames, or any error of `sink`.
pub fn synthesize(
    model: &AudioFlow,
    mel: &Tensor,
    sigma: f64,
    rng: &mut Rng,
    mut sink: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let config = model.config();
    let frames = match mel.dims() {
        [bands, frames] if *bands == config.audio.bands => *frames,
        got => return Err(Error::shape("the mel spectrogram", got, format!("({}, frames)", config.audio.bands))),
    };
    let samples = config.samples_of(frames);
    if samples == 0 {
        return Err(Error::Data(format!(
            "the sound is shorter than a block of {} samples, or its spectrogram than two frames: give more",
            config.unit()
        )));
    }
    let (dtype, device) = (model.parameters().dtype(), model.parameters().device());
    let unit = config.unit();
    let channels = config.latent_channels();
    let z = rng.tensor(samples, dtype, &Device::Cpu, |rng| sigma * rng.normal())?;
    let positions = samples / unit;
    let mel = mel.to_dtype(dtype)?;
    for Piece { whole, kept } in pieces(config, samples) {
        let mut first = 0;
        let mut parts = Vec::with_capacity(channels.len());
        for &channels in &channels {
            let part = z.narrow(0, first, channels * positions)?.reshape((channels, positions))?;
            parts.push(part.narrow(1, whole.start / unit, whole.len() / unit)?.flatten_all()?);
            first += channels * positions;
        }
        let from = whole.start / config.audio.hop;
        let until = frames.min(whole.end.div_ceil(config.audio.hop) + 1);
        let mel = mel.narrow(1, from, until - from)?.unsqueeze(0)?.contiguous()?.to_device(device)?;
        let piece = model.with_config(config.with_samples(whole.len()))?;
        let latent = Tensor::cat(&parts, 0)?.unsqueeze(0)?.to_device(device)?;
        let (x, _) = piece.detached().bijector().forward(&latent, Some(&mel))?;
        let x = x.narrow(2, kept.start - whole.start, kept.len())?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let samples = x.flatten_all()?.to_vec1::<f32>()?;
        if samples.iter().any(|x| !x.is_finite()) {
            let message = format!("the sound that the model makes at a sigma of {sigma} is not finite");
            return Err(Error::Data(format!("{message}: lower it, or train the model for longer")));
        }
        sink(&samples)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::AudioConfig;
    use crate::{LappedConfig, WaveGlowConfig, WaveNetConfig};
    use flows_core::testing::perturb;

    #[test]
    fn pieces_are_those_of_the_whole() -> Result<()> {
        let rng = &mut Rng::seed(1);
        let network = WaveNetConfig { layers: 2, channels: 4, kernel: 3 };
        // Pieces of 256 samples.
        let audio =
            AudioConfig { rate: 26, fft: 64, hop: 16, window: 64, bands: 3, high: 13.0, ..AudioConfig::default() };
        let waveglow =
            WaveGlowConfig { flows: 4, early_every: 2, network: network.clone(), ..WaveGlowConfig::default() };
        for architecture in [
            Architecture::WaveGlow(waveglow),
            Architecture::Lapped(LappedConfig { couplings: 2, features: 4, network }),
        ] {
            let config = AudioFlowConfig { audio: audio.clone(), samples: 16, architecture, weight_norm: true };
            let model = AudioFlow::on(config, DType::F64, &Device::Cpu, rng)?;
            perturb(model.parameters(), 0.1, rng)?;
            let mel = rng.normal_tensor((3, 66), DType::F64, &Device::Cpu)?;
            let samples = model.config().samples_of(66);
            let whole = model.with_config(model.config().with_samples(samples))?;
            let want = whole.detached().synthesize(&mel.unsqueeze(0)?, 0.5, &mut Rng::seed(3))?.flatten_all()?;
            let (mut got, mut count) = (Vec::new(), 0);
            synthesize(&model, &mel, 0.5, &mut Rng::seed(3), |part| {
                got.extend_from_slice(part);
                count += 1;
                Ok(())
            })?;
            assert!(count > 2 && got.len() == samples, "{count} pieces of {} samples", got.len());
            let want: Vec<f32> = want.to_dtype(DType::F32)?.to_vec1()?;
            let off = got.iter().zip(&want).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
            let largest = want.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            assert!(off < 1e-6 * largest, "off by {off} of {largest}");
        }
        Ok(())
    }
}
