//! The config of a density over images.

use crate::CnfSettings;
use crate::field::{ConvConfig, FieldConfig, Penalty};
use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

/// The architecture of an [`ImageModel`](super::ImageModel).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// The margin that keeps the logit away from black and white.
    pub alpha: f64,
    /// Whether histogram equalization ([`Equalize`](flows_core::bijectors::Equalize)) replaces the logit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub equalize: bool,
    /// Whether images are whitened before the flows ([`Whiten`](flows_core::bijectors::Whiten)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whiten: bool,
    /// The number of scales; each but the last squeezes the image and factors out half of its channels.
    pub scales: usize,
    /// The number of continuous flows before each squeeze, and again after it.
    pub flows: usize,
    /// The settings of each flow. As published, `penalty` applies to bits per dimension, not to the nats of a whole
    /// image.
    pub flow: CnfSettings,
}

impl ImageConfig {
    /// The number of dimensions of an image, C H W.
    pub fn dims(&self) -> usize {
        self.shape.iter().product()
    }

    /// The shape (C, H, W) of the image that remains at a scale.
    pub(super) fn scale_shape(&self, scale: usize) -> [usize; 3] {
        let [channels, height, width] = self.shape;
        [channels << scale, height >> scale, width >> scale]
    }

    /// The settings of a flow over images of `shape` (C, H, W).
    pub(super) fn flow_of(&self, shape: [usize; 3]) -> CnfSettings {
        let mut flow = self.flow.clone();
        let nats = self.dims() as f64 * LN_2;
        flow.penalty = Penalty { kinetic: flow.penalty.kinetic * nats, jacobian: flow.penalty.jacobian * nats };
        if let FieldConfig::Conv(ConvConfig { shape: of_field, .. }) = &mut flow.field {
            *of_field = Some(shape);
        }
        flow
    }

    /// Checks the config, apart from the settings of the flows.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |message: String| Err(Error::Config(message));
        let [channels, height, width] = self.shape;
        if self.shape.iter().any(|size| !(1..=1 << 16).contains(size)) {
            return bad(format!(
                "images of {channels} x {height} x {width} are not supported: give sizes of 1 to 65,536"
            ));
        }
        if !(1..=10).contains(&self.scales) || !(1..=100).contains(&self.flows) {
            return bad("a model of images needs 1 to 10 `scales` and 1 to 100 `flows`".into());
        }
        let factor = 1 << (self.scales - 1);
        if height % factor != 0 || width % factor != 0 {
            let scales = self.scales;
            return bad(format!(
                "{scales} scales halve {height} x {width} {} times, which leaves a remainder: use fewer `scales`",
                scales - 1
            ));
        }
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return bad(format!("`alpha` is {}, but must be above 0 and below 1/2: 1e-6 for instance", self.alpha));
        }
        Ok(())
    }
}
