//! The audio front end: files, resampling, spectrograms, and measures of quality.

mod denoiser;
mod griffin_lim;
mod log_mel;
mod mdct;
mod mel;
mod mel_inverse;
mod multi_resolution;
mod sample;
mod settings;
mod spectrogram;
mod stft;

pub use denoiser::Denoiser;
pub use griffin_lim::GriffinLim;
pub use log_mel::{Front, LogMel};
pub use mdct::Mdct;
pub use mel::MelBank;
pub use multi_resolution::MultiResolutionStft;
pub use realfft::num_complex::Complex;
pub use sample::Sample;
pub use settings::{AudioConfig, MelScale, Padding};
pub use spectrogram::Spectrogram;
pub use stft::Stft;
