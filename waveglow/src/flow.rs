//! The bijectors that configs describe.

use crate::audio::Mdct;
use crate::config::{Architecture, AudioFlowConfig, LappedConfig, WaveGlowConfig};
use crate::features::{BlockFeatures, Envelope};
use crate::upsample::Upsample;
use crate::wavenet::WaveNet;
use flows_core::Result;
use flows_core::bijectors::{
    Bijector, Chain, Conv1x1, Coupling, Elementwise, Embed, Inverse, Level, Mask, MultiScale, Order, Permutation,
    Reshape, Squeeze, Start, univariate::Affine,
};
use flows_core::nn::Scope;
use std::sync::Arc;

/// The flow of a config, from latent vectors to signals (1, T), whose context is a log-mel spectrogram (bands, frames).
///
/// # Errors
/// When a setting is out of range.
pub fn flow(config: &AudioFlowConfig, scope: &Scope) -> Result<Box<dyn Bijector>> {
    config.check()?;
    match &config.architecture {
        Architecture::WaveGlow(settings) => waveglow(config, settings, scope),
        Architecture::Lapped(settings) => lapped(config, settings, scope),
    }
}

/// The bound of the log-scale of a coefficient given the spectrogram: from far below 16 bits to full scale.
const ENVELOPE: f64 = 12.0;

/// A flow over the coefficients of a lapped transform.
fn lapped(config: &AudioFlowConfig, settings: &LappedConfig, scope: &Scope) -> Result<Box<dyn Bijector>> {
    let (audio, features) = (&config.audio, settings.features);
    let [bands, blocks] = [audio.hop, config.samples / audio.hop];
    let shape = [bands, blocks];
    let mut steps: Vec<Box<dyn Bijector>> = vec![Box::new(Reshape::new(&[config.samples], &shape)?)];
    for k in (0..settings.couplings).rev() {
        let scope = scope.enter(format!("couplings.{k}"));
        let mask = Mask::Alternating { odd: k % 2 == 1 };
        let half = bands / 2;
        let conditioner = scope.enter("conditioner");
        let network =
            WaveNet::new(&settings.network, [half, 2 * half], Some(features), config.weight_norm, &conditioner)?;
        let coupling = Coupling::over_channels(&shape, &mask, Arc::new(Affine::default()), Box::new(network), &scope)?;
        steps.push(Box::new(coupling));
        steps.push(Box::new(Conv1x1::lu(&shape, Start::Identity, &scope.enter("mixing"))?));
    }
    let network = BlockFeatures::new([audio.bands, features], blocks, &scope.enter("features"))?;
    let couplings = Embed::new(Box::new(network), Box::new(Chain::new(steps)?));
    let envelope = Envelope::new(audio, features, blocks, &scope.enter("envelope"))?;
    let affine = Arc::new(Affine::bounded(ENVELOPE)?);
    Ok(Box::new(Chain::new(vec![
        Box::new(couplings),
        Box::new(Elementwise::over_channels(&shape, affine, Box::new(envelope))?),
        Box::new(Mdct::new(config.samples, bands)?),
    ])?))
}

/// WaveGlow: levels of flows over the channels that remain of a group of samples.
fn waveglow(config: &AudioFlowConfig, settings: &WaveGlowConfig, scope: &Scope) -> Result<Box<dyn Bijector>> {
    let (audio, positions) = (&config.audio, config.samples / settings.group);
    let sizes = [config.samples, settings.group];
    let upsample = Upsample::new(audio.bands, audio.fft, audio.hop, sizes, &scope.enter("upsample"))?;
    let channels = settings.channels();
    let condition = audio.bands * settings.group;
    let mut levels = Vec::new();
    for (level, channels) in channels.chunks(settings.early_every).enumerate() {
        let first = level * settings.early_every;
        let mut steps: Vec<Box<dyn Bijector>> = Vec::new();
        let shape = [channels[0], positions];
        if first + channels.len() < settings.flows {
            // The first channels leave, where a multi-scale model lets the last ones.
            let order = leaving_order(shape[0], settings.early_size);
            steps.push(Box::new(Permutation::new(
                &shape,
                Order::Given(order),
                &scope.enter(format!("leave.{level}")),
            )?));
        }
        for k in (first..first + channels.len()).rev() {
            let scope = scope.enter(format!("flows.{k}"));
            let swap = settings.alternate && k % 2 == 1;
            let half = shape[0] / 2;
            let widths = [half, 2 * half];
            let network =
                WaveNet::new(&settings.network, widths, Some(condition), config.weight_norm, &scope.enter("coupling"))?;
            let (affine, mask) = (Arc::new(Affine::exp()), Mask::Halves { swap });
            let coupling = Coupling::over_channels(&shape, &mask, affine, Box::new(network), &scope)?;
            // The published map scales on the way to the latents: z = x e^s + t.
            steps.push(Box::new(Inverse(Box::new(coupling))));
            steps.push(Box::new(Conv1x1::new(&shape, Start::Random, &scope.enter("mixing"))?));
        }
        if level == 0 {
            steps.push(Box::new(Squeeze::new(&[1, config.samples], settings.group)?));
        }
        levels.push(Level { flow: Box::new(Chain::new(steps)?), prior: None });
    }
    Ok(Box::new(Embed::new(Box::new(upsample), Box::new(MultiScale::new(levels)?))))
}

/// The order of channels that puts the first, which leave, last.
pub(crate) fn leaving_order(channels: usize, leaving: usize) -> Vec<u32> {
    (0..channels).map(|i| ((i + leaving) % channels) as u32).collect()
}
