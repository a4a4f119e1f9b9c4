//! The config of a flow over audio.

use crate::audio::{AudioConfig, Padding};
use crate::wavenet::WaveNetConfig;
use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The config of an [`AudioFlow`](crate::AudioFlow): everything but its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioFlowConfig {
    /// Sampling rate and spectrograms of the audio.
    #[serde(default)]
    pub audio: AudioConfig,
    /// The length of a signal in samples. No weight depends on it: [`Self::with_samples`] and
    /// [`Model::with_config`](flows_core::Model::with_config) give the same model over signals of another length.
    pub samples: usize,
    /// The flow.
    pub architecture: Architecture,
    /// Whether weights are normalized ([`weight_norm`](flows_core::ops::weight_norm)), as they are trained.
    #[serde(default = "yes")]
    pub weight_norm: bool,
}

fn yes() -> bool {
    true
}

/// The kinds of flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Architecture {
    /// WaveGlow.
    #[serde(rename = "waveglow")]
    WaveGlow(WaveGlowConfig),
    /// A flow over the coefficients of a lapped transform.
    Lapped(LappedConfig),
}

/// The sizes of a flow over the coefficients of a lapped transform ([`Mdct`](crate::audio::Mdct)) of one hop: a map that
/// the spectrogram alone conditions, then couplings over bands with 1x1 convolutions between them.
///
/// It works once a hop, not once a sample, which makes it a hundred times faster than WaveGlow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LappedConfig {
    /// Number of couplings.
    pub couplings: usize,
    /// Number of features of the spectrogram that the maps are conditioned on.
    pub features: usize,
    /// The networks of the couplings.
    pub network: WaveNetConfig,
}

impl Default for LappedConfig {
    fn default() -> Self {
        let network = WaveNetConfig { layers: 3, channels: 96, kernel: 3 };
        Self { couplings: 6, features: 128, network }
    }
}

/// The sizes of a WaveGlow (Prenger et al., 2018, arXiv:1811.00002), by default those published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WaveGlowConfig {
    /// Number of flows, each an invertible 1x1 convolution and a coupling.
    pub flows: usize,
    /// Neighbouring samples that are grouped as channels.
    pub group: usize,
    /// Channels leave after each so many flows.
    pub early_every: usize,
    /// Number of channels that leave.
    pub early_size: usize,
    /// Whether every second flow transforms the first half of its channels instead of the second, as in the first
    /// published checkpoint (`glow_old`).
    pub alternate: bool,
    /// The networks of the couplings.
    pub network: WaveNetConfig,
}

impl Default for WaveGlowConfig {
    fn default() -> Self {
        Self { flows: 12, group: 8, early_every: 4, early_size: 2, alternate: false, network: WaveNetConfig::default() }
    }
}

impl WaveGlowConfig {
    /// The number of channels of each flow, from the data.
    pub fn channels(&self) -> Vec<usize> {
        let left = |k: usize| (k / self.early_every.max(1)).saturating_mul(self.early_size);
        (0..self.flows).map(|k| self.group.saturating_sub(left(k))).collect()
    }

    fn check(&self, samples: usize) -> Result<()> {
        let fault = if self.flows == 0 || self.group == 0 || self.early_every == 0 || self.early_size == 0 {
            "`flows`, `group`, `early_every` and `early_size` must be at least 1".to_owned()
        } else if let Some(channels) = self.channels().into_iter().find(|channels| *channels < 2 || channels % 2 == 1) {
            format!("a coupling over {channels} channels: let fewer of the {} leave, and an even number", self.group)
        } else if !samples.is_multiple_of(self.group) {
            not_whole(samples, self.group)
        } else {
            return Ok(());
        };
        Err(Error::Config(fault))
    }
}

/// The largest number of samples of a signal, three hours.
const MOST: usize = 1 << 28;

fn not_whole(samples: usize, unit: usize) -> String {
    let nearest = samples.next_multiple_of(unit.max(1));
    format!("signals of {samples} samples: give a multiple of {unit}, such as {nearest}")
}

impl AudioFlowConfig {
    /// A WaveGlow over signals of this length, with the spectrograms of Tacotron 2.
    pub fn waveglow(settings: WaveGlowConfig, samples: usize) -> Self {
        let architecture = Architecture::WaveGlow(settings);
        Self { audio: AudioConfig::default(), samples, architecture, weight_norm: true }
    }

    /// The same config over signals of another length.
    pub fn with_samples(&self, samples: usize) -> Self {
        Self { samples, ..self.clone() }
    }

    /// Samples come in multiples of so many.
    pub fn unit(&self) -> usize {
        match &self.architecture {
            Architecture::WaveGlow(settings) => settings.group,
            Architecture::Lapped(_) => self.audio.hop,
        }
    }

    /// The number of samples that are synthesized from so many frames: a hop for each, or for each but the first where
    /// frames are the edges of blocks.
    pub fn samples_of(&self, frames: usize) -> usize {
        match &self.architecture {
            Architecture::WaveGlow(settings) => (frames * self.audio.hop).next_multiple_of(settings.group.max(1)),
            Architecture::Lapped(_) => frames.saturating_sub(1) * self.audio.hop,
        }
    }

    fn check_lapped(&self, settings: &LappedConfig) -> Result<()> {
        let hop = self.audio.hop;
        let fault = if hop < 2 || hop % 2 == 1 {
            format!("a lapped transform of {hop} bands: give an even `audio.hop`")
        } else if !self.samples.is_multiple_of(hop) {
            not_whole(self.samples, hop)
        } else if self.audio.padding != Padding::Centred {
            "a lapped transform needs frames that are centred on the edges of its blocks: set `audio.padding` to centred"
                .to_owned()
        } else if settings.features == 0 {
            "a flow on 0 features of the spectrogram: give at least 1".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Config(fault))
    }

    /// Checks that the config is one of a model.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn check(&self) -> Result<()> {
        self.audio.check()?;
        if !(1..=MOST).contains(&self.samples) {
            return Err(Error::Config(format!("signals of {} samples: give 1 to {MOST}", self.samples)));
        }
        match &self.architecture {
            Architecture::WaveGlow(settings) => settings.check(self.samples),
            Architecture::Lapped(settings) => self.check_lapped(settings),
        }
    }
}
