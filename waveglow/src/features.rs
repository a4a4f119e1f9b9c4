//! The condition of a flow at the rate of the frames.

use crate::audio::{AudioConfig, MelBank};
use candle_core::Tensor;
use flows_core::nn::{Activation, ConvNet, ConvNetConfig, Mode, Network, Output, Scope};
use flows_core::{Error, Result, Structure};
use std::f64::consts::PI;

/// Features (B, K, F - 1) of the blocks between the F frames of a log-mel spectrogram (B, M, F).
///
/// Frames are centred on the edges of blocks of one hop, so the features of block j are those of the frames j and
/// j + 1, by convolutions of three blocks.
#[derive(Debug)]
pub struct BlockFeatures {
    bands: usize,
    blocks: usize,
    network: ConvNet,
}

/// About the mean and the standard deviation of the log-mel spectrograms of speech.
const MEAN: f64 = -5.0;
const DEVIATION: f64 = 2.5;

impl BlockFeatures {
    /// The features of signals of so many blocks.
    ///
    /// # Errors
    /// When a size is 0.
    pub fn new([bands, features]: [usize; 2], blocks: usize, scope: &Scope) -> Result<Self> {
        let config = ConvNetConfig {
            hidden: vec![features],
            kernels: vec![3, 3],
            activation: Activation::Relu,
            ..ConvNetConfig::default()
        };
        let network = config.build(1, 2 * bands, None, Output::new(features), scope)?;
        Ok(Self { bands, blocks, network })
    }
}

/// The log-mel spectrograms (B, M, F) as pairs of neighbours (B, 2M, F - 1), about standardized.
fn pairs(mel: &Tensor, bands: usize, blocks: usize) -> Result<Tensor> {
    match mel.dims() {
        [_, rows, frames] if *rows == bands && *frames == blocks + 1 => {}
        got => return Err(Error::shape("the mel spectrogram", got, format!("(B, {bands}, {})", blocks + 1))),
    }
    let mel = mel.affine(1.0 / DEVIATION, -MEAN / DEVIATION)?;
    Ok(Tensor::cat(&[mel.narrow(2, 0, blocks)?, mel.narrow(2, 1, blocks)?], 1)?)
}

impl Network for BlockFeatures {
    fn forward(&self, mel: &Tensor, _: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.network.forward(&pairs(mel, self.bands, self.blocks)?, None, mode)
    }

    fn structure(&self) -> Structure {
        Structure::new("Block features", format!("of {} bands", self.bands)).part(self.network.structure())
    }
}

/// The shift and the log-scale of each coefficient of a block, (B, 2N, F - 1) for N coefficients, of a log-mel spectrogram
/// (B, M, F).
///
/// The log-scale is the level of white noise with the spectrogram's value at the coefficient's frequency, between the
/// centres of bands by interpolation, plus what convolutions make of three blocks; so it is close from the start.
#[derive(Debug)]
pub struct Envelope {
    bands: usize,
    blocks: usize,
    /// (1, N, M).
    interpolation: Tensor,
    /// (1, N, 1).
    offset: Tensor,
    network: ConvNet,
}

impl Envelope {
    /// The envelope of blocks of one hop.
    ///
    /// # Errors
    /// When a size is 0.
    pub fn new(audio: &AudioConfig, features: usize, blocks: usize, scope: &Scope) -> Result<Self> {
        let (bands, coefficients) = (audio.bands, audio.hop);
        let config = ConvNetConfig {
            hidden: vec![features],
            kernels: vec![3, 1],
            activation: Activation::Relu,
            ..ConvNetConfig::default()
        };
        let network = config.build(1, 2 * bands, None, Output::near(vec![0.0; 2 * coefficients]), scope)?;
        let bank = MelBank::<f64>::new(audio)?;
        let centres = bank.centres();
        // Of white noise of deviation 1, the mean magnitude in a band: of a Rayleigh variable, times the filter's area.
        let magnitude = (PI / 4.0 * 0.375 * audio.window as f64).sqrt();
        let levels: Vec<f64> = (0..bands)
            .map(|band| bank.filter(band).map_or(0.0, |(_, weights)| (magnitude * weights.iter().sum::<f64>()).ln()))
            .collect();
        let mut weights = vec![0.0; coefficients * bands];
        for (k, row) in weights.chunks_mut(bands).enumerate() {
            let frequency = (k as f64 + 0.5) * audio.rate as f64 / (2 * coefficients) as f64;
            let above = centres.partition_point(|centre| *centre <= frequency);
            match (above.checked_sub(1), above < bands) {
                (Some(below), true) => {
                    let share = (frequency - centres[below]) / (centres[above] - centres[below]);
                    (row[below], row[above]) = (1.0 - share, share);
                }
                (Some(below), false) => row[below] = 1.0,
                (None, _) => row[0] = 1.0,
            }
        }
        let offsets: Vec<f64> = weights
            .chunks(bands)
            .map(|row| row.iter().zip(&levels).map(|(weight, level)| -weight * level).sum())
            .collect();
        let constant = |values: Vec<f64>, columns: usize| -> Result<Tensor> {
            Ok(Tensor::from_vec(values, (1, coefficients, columns), scope.device())?.to_dtype(scope.dtype())?)
        };
        Ok(Self { bands, blocks, interpolation: constant(weights, bands)?, offset: constant(offsets, 1)?, network })
    }
}

impl Network for Envelope {
    fn forward(&self, mel: &Tensor, _: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        let learnt = self.network.forward(&pairs(mel, self.bands, self.blocks)?, None, mode)?;
        let mean = ((mel.narrow(2, 0, self.blocks)? + mel.narrow(2, 1, self.blocks)?)? * 0.5)?;
        let level = self.interpolation.broadcast_matmul(&mean)?.broadcast_add(&self.offset)?;
        let start = Tensor::cat(&[&level.zeros_like()?, &level], 1)?;
        Ok((learnt + start)?)
    }

    fn structure(&self) -> Structure {
        Structure::new("Envelope", format!("of {} bands", self.bands)).part(self.network.structure())
    }
}
