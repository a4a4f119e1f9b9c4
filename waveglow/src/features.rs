//! The condition of a flow at the rate of the frames.

use candle_core::Tensor;
use flows_core::nn::{Activation, ConvNet, ConvNetConfig, Mode, Network, Output, Scope};
use flows_core::{Error, Result, Structure};

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

impl Network for BlockFeatures {
    fn forward(&self, mel: &Tensor, _: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        let Self { bands, blocks, .. } = *self;
        match mel.dims() {
            [_, rows, frames] if *rows == bands && *frames == blocks + 1 => {}
            got => return Err(Error::shape("the mel spectrogram", got, format!("(B, {bands}, {})", blocks + 1))),
        }
        let mel = mel.affine(1.0 / DEVIATION, -MEAN / DEVIATION)?;
        let pairs = Tensor::cat(&[mel.narrow(2, 0, blocks)?, mel.narrow(2, 1, blocks)?], 1)?;
        self.network.forward(&pairs, None, mode)
    }

    fn structure(&self) -> Structure {
        Structure::new("Block features", format!("of {} bands", self.bands)).part(self.network.structure())
    }
}
