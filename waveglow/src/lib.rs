//! Normalizing flows over audio: WaveGlow (Prenger, Valle and Catanzaro, 2018, arXiv:1811.00002) and its relatives.

pub mod audio;
mod config;
mod conv;
mod flow;
mod model;
pub mod published;
mod upsample;
mod wavenet;

pub use config::{Architecture, AudioFlowConfig, WaveGlowConfig};
pub use flow::flow;
pub use model::{AudioDensity, AudioFlow};
pub use upsample::Upsample;
pub use wavenet::{WaveNet, WaveNetConfig};
