//! Normalizing flows over audio: WaveGlow (Prenger, Valle and Catanzaro, 2018, arXiv:1811.00002) and its relatives.

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
pub use features::{BlockFeatures, Envelope};
pub use flow::flow;
pub use model::{AudioDensity, AudioFlow};
pub use synthesis::synthesize;
pub use upsample::Upsample;
pub use wavenet::{WaveNet, WaveNetConfig};
