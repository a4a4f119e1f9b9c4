//! Training runs: the settings in `config.toml`, and the model that they describe.
//!
//! ```
//! use waveglow::run::{PRESETS, RunConfig};
//! let config: RunConfig = flows_core::run::parse_settings(PRESETS.get("plucks")?)?;
//! assert_eq!((config.batch, config.model.audio.rate), (16, 16_000));
//! # Ok::<(), flows_core::Error>(())
//! ```

use crate::data::{AudioSource, Splits};
use crate::{Architecture, AudioFlow, AudioFlowConfig, LappedConfig, WaveGlowConfig, WaveNetConfig};
use candle_core::{DType, Device};
use flows_core::run::{Presets, Rows, Settings, check_at_least_one, check_training, stream};
use flows_core::train::TrainConfig;
use flows_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// The configurations of `waveglow train --preset`.
pub const PRESETS: Presets = Presets::new(include_str!("presets.toml"));

/// Everything that determines a run, apart from the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The source of the audio.
    pub data: AudioSource,
    /// The clips of all parts when the run began, if they come from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clips: Option<Rows>,
    /// The seed of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// Segments per step.
    pub batch: usize,
    /// Pieces that a batch is cut into, each with its own thread and graph; the last digits of the result depend on it,
    /// but not on the number of threads and ranks.
    #[serde(default = "default_pieces")]
    pub pieces: usize,
    /// The standard deviation of the latents that sounds are synthesized from.
    #[serde(default = "default_sigma")]
    pub sigma: f64,
    /// The model; its number of samples is that of a segment.
    pub model: AudioFlowConfig,
    /// The training settings.
    #[serde(default)]
    pub train: TrainConfig,
}

fn default_pieces() -> usize {
    2
}

fn default_sigma() -> f64 {
    0.9
}

/// The largest number of samples of a batch: a GiB of f32.
const MOST: usize = 1 << 28;

/// The standard deviation of latents that the published WaveGlow is used with.
pub const PUBLISHED_SIGMA: f64 = 0.6;

/// Checks that sigma, the standard deviation of latents, is one.
///
/// # Errors
/// When it is negative or not finite.
pub fn check_sigma(sigma: f64) -> Result<()> {
    match sigma >= 0.0 && sigma.is_finite() {
        true => Ok(()),
        false => Err(Error::Config(format!("a sigma of {sigma}: give a standard deviation, 0 or more"))),
    }
}

/// The random streams of a run, in the order in which they fork from its seed.
#[derive(Clone, Copy, Debug)]
pub enum AudioStream {
    /// Sounds made in code.
    Data,
    /// The weights.
    Weights,
    /// The segments.
    Training,
    /// The noise of the clips that are evaluated.
    Evaluation,
    /// The latents of what is synthesized.
    Synthesis,
}

impl RunConfig {
    /// The generator of a stream.
    pub fn rng(&self, of: AudioStream) -> Rng {
        stream(self.seed, of as usize)
    }

    /// Loads the clips in three parts, the same at every call, with notes on them, and remembers them; `skip` is called with the errors of
    /// skipped files.
    ///
    /// # Errors
    /// When they cannot be read, or are not those of when the run began.
    pub fn load(&mut self, skip: Option<&mut dyn FnMut(Error)>) -> Result<(Splits, Vec<String>)> {
        let (rate, least) = (self.model.audio.rate, self.model.unit());
        let (splits, notes) = self.data.load(rate, least, skip, &mut self.rng(AudioStream::Data))?;
        if self.data != AudioSource::Plucks {
            let then = self.clips.take();
            let clips = Rows::known((splits.count, "clip"), || Ok(splits.hash()), ("samples", &self.data), then)?;
            self.clips = Some(clips);
        }
        Ok((splits, notes))
    }

    /// The model with new weights.
    ///
    /// # Errors
    /// When the config is not that of a model.
    pub fn build(&self, device: &Device) -> Result<AudioFlow> {
        AudioFlow::on(self.model.clone(), DType::F32, device, &mut self.rng(AudioStream::Weights))
    }
}

impl Settings for RunConfig {
    fn resolve(self, _: bool) -> Result<Self> {
        let data = match self.data {
            AudioSource::Path(path) => {
                AudioSource::Path(std::path::absolute(&path).map_err(|e| Error::file(&path, e))?)
            }
            other => other,
        };
        Ok(Self { data, ..self })
    }

    fn check(&self) -> Result<()> {
        check_at_least_one(&[("batch", self.batch), ("pieces", self.pieces)])?;
        check_sigma(self.sigma)?;
        self.model.check()?;
        if self.batch.saturating_mul(self.model.samples) > MOST {
            let message = format!("{} segments of {} samples at a time", self.batch, self.model.samples);
            return Err(Error::Config(format!(
                "{message}: make `batch` or `model.samples` smaller, {MOST} samples in all"
            )));
        }
        // A small model reveals all errors in the training settings.
        let network = WaveNetConfig { layers: 1, channels: 2, kernel: 1 };
        let small = match &self.model.architecture {
            Architecture::WaveGlow(_) => {
                Architecture::WaveGlow(WaveGlowConfig { flows: 1, group: 2, network, ..WaveGlowConfig::default() })
            }
            Architecture::Lapped(_) => Architecture::Lapped(LappedConfig { couplings: 1, features: 1, network }),
        };
        let mut trial = AudioFlowConfig { architecture: small, ..self.model.clone() };
        (trial.audio.bands, trial.audio.hop, trial.samples) = (1, 2, 2);
        trial.audio.fft = trial.audio.fft.min(16);
        trial.audio.window = trial.audio.window.min(trial.audio.fft);
        check_training(AudioFlow::new(trial, &mut Rng::seed(0))?.parameters(), &self.train)
    }
}
