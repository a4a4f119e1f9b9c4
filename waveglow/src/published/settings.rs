//! The JSON configs of published WaveGlows.

use crate::audio::AudioConfig;
use crate::config::{AudioFlowConfig, WaveGlowConfig};
use crate::wavenet::WaveNetConfig;
use flows_core::{Error, Result};
use serde::Deserialize;

/// What a config of NVIDIA/waveglow says of model and data; its other settings are those of a run there.
#[derive(Deserialize)]
struct Published {
    waveglow_config: Model,
    #[serde(default)]
    data_config: Data,
}

#[derive(Deserialize)]
struct Model {
    n_mel_channels: usize,
    n_flows: usize,
    n_group: usize,
    n_early_every: usize,
    n_early_size: usize,
    #[serde(rename = "WN_config")]
    network: Network,
}

#[derive(Deserialize)]
struct Network {
    n_layers: usize,
    n_channels: usize,
    kernel_size: usize,
}

#[derive(Deserialize)]
#[serde(default)]
struct Data {
    segment_length: usize,
    sampling_rate: usize,
    filter_length: usize,
    hop_length: usize,
    win_length: usize,
    mel_fmin: f64,
    mel_fmax: f64,
}

impl Default for Data {
    fn default() -> Self {
        let AudioConfig { rate, fft, hop, window, low, high, .. } = AudioConfig::default();
        Self {
            segment_length: 16_000,
            sampling_rate: rate,
            filter_length: fft,
            hop_length: hop,
            win_length: window,
            mel_fmin: low,
            mel_fmax: high,
        }
    }
}

/// The config in a `config.json` of NVIDIA/waveglow: `waveglow_config` and, where it is there, `data_config`.
///
/// # Errors
/// When the text is no such config, or describes no model.
pub fn from_json(text: &str) -> Result<AudioFlowConfig> {
    let Published { waveglow_config: model, data_config: data } = serde_json::from_str(text)
        .map_err(|e| Error::Config(format!("no config of a published WaveGlow ({e}): give its config.json")))?;
    let settings = WaveGlowConfig {
        flows: model.n_flows,
        group: model.n_group,
        early_every: model.n_early_every,
        early_size: model.n_early_size,
        alternate: false,
        network: WaveNetConfig {
            layers: model.network.n_layers,
            channels: model.network.n_channels,
            kernel: model.network.kernel_size,
        },
    };
    let audio = AudioConfig {
        rate: data.sampling_rate,
        fft: data.filter_length,
        hop: data.hop_length,
        window: data.win_length,
        bands: model.n_mel_channels,
        low: data.mel_fmin,
        high: data.mel_fmax,
        ..AudioConfig::default()
    };
    let config = AudioFlowConfig { audio, ..AudioFlowConfig::waveglow(settings, data.segment_length) };
    config.check()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;

    #[test]
    fn the_published_config_is_read() -> Result<()> {
        let text = r#"{
            "train_config": {"fp16_run": true, "output_directory": "checkpoints"},
            "data_config": {"training_files": "train_files.txt", "segment_length": 16000, "sampling_rate": 22050,
                "filter_length": 1024, "hop_length": 256, "win_length": 1024, "mel_fmin": 0.0, "mel_fmax": 8000.0},
            "dist_config": {"dist_backend": "nccl"},
            "waveglow_config": {"n_mel_channels": 80, "n_flows": 12, "n_group": 8, "n_early_every": 4,
                "n_early_size": 2, "WN_config": {"n_layers": 8, "n_channels": 512, "kernel_size": 3}}
        }"#;
        let config = from_json(text)?;
        let network = WaveNetConfig { channels: 512, ..WaveNetConfig::default() };
        let settings = WaveGlowConfig { network, ..WaveGlowConfig::default() };
        assert_eq!(config.architecture, Architecture::WaveGlow(settings));
        assert_eq!((config.samples, config.audio), (16_000, AudioConfig::default()));
        assert!(from_json("{}").is_err());
        Ok(())
    }
}
