//! The settings of a density over images.

use crate::CnfSettings;
use crate::field::{ConvConfig, FieldConfig, Penalty};
use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

/// All that says which density over images an [`ImageModel`](super::ImageModel) is; its parameters are the
/// rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// How far the logit stays away from black and white.
    pub alpha: f64,
    /// Whether, in place of the logit, colours are made evenly spread:
    /// [`Equalize`](flows_core::bijectors::Equalize).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub equalize: bool,
    /// Whether the flows work on whitened images: [`Whiten`](flows_core::bijectors::Whiten).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whiten: bool,
    /// Scales: all but the last squeeze the image and let half of its channels leave.
    pub scales: usize,
    /// Continuous flows before each squeeze, and as many behind it.
    pub flows: usize,
    /// What each of them is. Its `penalty` is one on bits a colour, as published, not on the nats of a whole image.
    pub flow: CnfSettings,
}

impl ImageConfig {
    /// Colours of an image.
    pub fn dims(&self) -> usize {
        self.shape.iter().product()
    }

    /// The shape of what is left at a scale.
    pub(super) fn scale_shape(&self, scale: usize) -> [usize; 3] {
        let [channels, height, width] = self.shape;
        [channels << scale, height >> scale, width >> scale]
    }

    /// The settings of a flow of images of `shape`.
    pub(super) fn flow_of(&self, shape: [usize; 3]) -> CnfSettings {
        let mut flow = self.flow.clone();
        let nats = self.dims() as f64 * LN_2;
        flow.penalty = Penalty { kinetic: flow.penalty.kinetic * nats, jacobian: flow.penalty.jacobian * nats };
        if let FieldConfig::Conv(ConvConfig { shape: of_field, .. }) = &mut flow.field {
            *of_field = Some(shape);
        }
        flow
    }

    /// Passes if there can be such a model; the flows say what is wrong with them themselves.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |message: String| Err(Error::Config(message));
        let [channels, height, width] = self.shape;
        if self.shape.iter().any(|size| !(1..=1 << 16).contains(size)) {
            return bad(format!("images of {channels} x {height} x {width} cannot be: give sizes of 1 to 65,536"));
        }
        if !(1..=10).contains(&self.scales) || !(1..=100).contains(&self.flows) {
            return bad("a model of images has 1 to 10 `scales`, each of 1 to 100 `flows`".into());
        }
        let factor = 1 << (self.scales - 1);
        if height % factor != 0 || width % factor != 0 {
            let scales = self.scales;
            return bad(format!(
                "{scales} scales halve {height} x {width} {} times, which leaves no whole number: use fewer",
                scales - 1
            ));
        }
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return bad(format!(
                "an `alpha` of {}: give a number above 0 and below 1/2, 1e-6 for instance",
                self.alpha
            ));
        }
        Ok(())
    }
}
