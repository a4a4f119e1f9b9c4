//! The audio front end: files, resampling, spectrograms, and measures of quality.

mod cepstral_distortion;
mod compressed;
mod log_spectral_distance;
mod loudness;
mod mfcc;
mod noise;
mod pitch;
mod polyphase;
mod read;
mod resample;
mod settings;
mod si_sdr;
mod silence;
mod sound;
mod stoi;
mod wav;
mod write;

pub use cepstral_distortion::{AlignedDistortion, aligned_cepstral_distortion, cepstral_distortion, mel_cepstrum};
pub use log_spectral_distance::log_spectral_distance;
pub use loudness::{decibels_to_factor, level, loudness, with_level, with_loudness, with_peak};
pub use mfcc::{LogEnergy, mfcc};
pub use noise::{Noise, mix_at_snr};
pub use pitch::{PitchConfig, median_pitch, pitch};
pub use read::{read, read_from};
pub use resample::{resample, resample_samples};
pub use settings::{AudioConfig, MelScale, Padding};
pub use si_sdr::{si_sdr, snr};
pub use silence::{SilenceConfig, sounding_part, trim_silence};
pub use sound::Sound;
pub use stoi::{extended_stoi, stoi};
pub use write::{Encoding, write, write_to};
