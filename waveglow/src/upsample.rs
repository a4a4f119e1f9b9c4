//! The condition of WaveGlow: mel spectrograms at the rate of the flow's positions.

use candle_core::Tensor;
use flows_core::nn::{Init, Mode, Network, Scope};
use flows_core::{Error, Result, Structure, ops};

/// Log-mel spectrograms (B, M, F) to (B, M G, T / G), by a transposed convolution to the T samples of the signal and
/// the grouping of G neighbouring samples as channels (Prenger et al., 2018, arXiv:1811.00002, section 2.2).
///
/// Channel `m G + j` at position t is that of band m at sample `G t + j`. Weights: `weight` (M, M, kernel), `bias` (M).
#[derive(Debug)]
pub struct Upsample {
    weight: Tensor,
    bias: Tensor,
    hop: usize,
    group: usize,
    samples: usize,
}

impl Upsample {
    /// The network for signals of `samples`, a multiple of `group`, with frames every `hop` samples.
    ///
    /// # Errors
    /// When a name is taken in `scope`.
    pub fn new(bands: usize, kernel: usize, hop: usize, [samples, group]: [usize; 2], scope: &Scope) -> Result<Self> {
        // As in PyTorch's transposed convolution.
        let init = Init::fan_in(bands * kernel, 1.0);
        let weight = scope.weight("weight", (bands, bands, kernel), init.clone())?;
        Ok(Self { weight, bias: scope.weight("bias", bands, init)?, hop, group, samples })
    }
}

impl Network for Upsample {
    fn forward(&self, mel: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        let (bands, _, kernel) = self.weight.dims3()?;
        let (batch, frames) = match mel.dims() {
            [batch, rows, frames] if *rows == bands && *frames > 0 => (*batch, *frames),
            got => return Err(Error::shape("the mel spectrogram", got, format!("(B, {bands}, frames)"))),
        };
        let reached = (frames - 1) * self.hop + kernel;
        if reached < self.samples {
            let least = self.samples.saturating_sub(kernel).div_ceil(self.hop) + 1;
            let want = format!("at least {least} frames for {} samples", self.samples);
            return Err(Error::shape("the mel spectrogram", mel.dims(), want));
        }
        let x = ops::conv_transpose1d(mel, &self.weight, Some(&self.bias), self.hop, 0)?;
        let x = x.narrow(2, 0, self.samples)?.contiguous()?;
        let positions = self.samples / self.group;
        let x = x.reshape((batch, bands, positions, self.group))?.transpose(2, 3)?;
        Ok(x.contiguous()?.reshape((batch, bands * self.group, positions))?)
    }

    fn structure(&self) -> Structure {
        let dims = self.weight.dims();
        let details = format!("{} bands, kernel {}, hop {}, groups of {}", dims[0], dims[2], self.hop, self.group);
        Structure::new("Upsample", details).weights([&self.weight, &self.bias])
    }
}
