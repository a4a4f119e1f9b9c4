//! Normalizing flows over audio: WaveGlow (Prenger, Valle and Catanzaro, 2018, arXiv:1811.00002) and its relatives.

//!
//! A model is a density of signals given their log-mel spectrograms, and turns spectrograms into sound:
//!
//! ```
//! use flows_core::Rng;
//! use waveglow::audio::LogMel;
//! use waveglow::data::plucks;
//! use waveglow::{Architecture, AudioFlow, AudioFlowConfig, LappedConfig, copy_synthesis};
//! let mut rng = Rng::seed(0);
//! let architecture = Architecture::Lapped(LappedConfig { couplings: 2, ..LappedConfig::default() });
//! let config = AudioFlowConfig { architecture, ..AudioFlowConfig::waveglow(Default::default(), 16_384) };
//! let model = AudioFlow::new(config, &mut rng)?;
//! let sound = plucks(22_050, 1.0, &mut rng);
//! let log_mel = LogMel::new(&model.config().audio)?;
//! let copy = copy_synthesis(&model, &sound, &log_mel, 0.7, &mut rng)?;
//! assert!(copy.is_some_and(|copy| copy.log_mel_distance < 3.0));
//! # Ok::<(), flows_core::Error>(())
//! ```

/// The chapter of the introduction, whose code is tested with the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../docs/introduction/audio.md")]
struct Chapter;

pub mod audio;
mod config;
mod conv;
pub mod data;
mod evaluate;
mod features;
mod flow;
mod model;
pub mod published;
#[cfg(feature = "cli")]
pub mod run;
mod synthesis;
mod upsample;
mod wavenet;

pub use config::{Architecture, AudioFlowConfig, LappedConfig, WaveGlowConfig};
pub use evaluate::{CopySynthesis, copy_synthesis, log_mel_distance, nats_per_sample};
pub use model::{AudioDensity, AudioFlow};
pub use synthesis::synthesize;
pub use wavenet::WaveNetConfig;
