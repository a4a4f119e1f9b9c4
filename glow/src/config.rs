//! The config of a Glow.

use flows_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a coupling layer moves the second half of the channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CouplingKind {
    /// `z = (x + t) sigmoid(max(r, -7) + 2)`.
    #[default]
    Affine,
    /// `z = (x + t) sigmoid(max(r, -2) + 2)`: a layer stretches samples at most twofold, so that samples slightly
    /// outside the range of the data do not diverge.
    Bounded,
    /// `z = x + t`.
    Additive,
    /// A rational-quadratic spline of 8 bins on [-4, 4], the identity outside (Durkan et al., 2019, arXiv:1906.04032).
    Spline,
    /// An affine map of the logit of the distribution function of a mixture of 8 logistics; sampling inverts it
    /// numerically (Ho et al., Flow++, 2019, arXiv:1902.00275, section 3.2).
    Mixture,
}

/// How channels are mixed between coupling layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mixing {
    /// An invertible 1x1 convolution with a plain matrix.
    Plain,
    /// An invertible 1x1 convolution with LU factors, which cannot become singular.
    #[default]
    Lu,
    /// A fixed random permutation.
    Shuffle,
    /// A reversal of the channels.
    Reverse,
}

/// Conditioning on an image of lower resolution, and its encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The factor by which its sides are smaller: a power of two.
    pub scale: usize,
    /// Channels of the features that the encoder passes to the flow.
    #[serde(default = "default_features")]
    pub features: usize,
    /// Residual blocks that make them.
    #[serde(default = "default_blocks")]
    pub blocks: usize,
}

impl Condition {
    /// Conditioning on an image whose sides are `scale` times smaller, with the default encoder.
    pub fn new(scale: usize) -> Self {
        Self { scale, features: default_features(), blocks: default_blocks() }
    }
}

fn default_features() -> usize {
    16
}

fn default_blocks() -> usize {
    4
}

/// Variational dequantization: a flow of the dequantization noise, given the image (Ho et al., Flow++, 2019,
/// arXiv:1902.00275, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dequantizer {
    /// Number of affine couplings.
    pub steps: usize,
    /// Hidden channels of their networks.
    pub hidden: usize,
    /// Channels of the features of the image that it is conditioned on.
    pub features: usize,
    /// Residual blocks that make them.
    pub blocks: usize,
}

impl Default for Dequantizer {
    fn default() -> Self {
        Self { steps: 4, hidden: 32, features: 16, blocks: 2 }
    }
}

/// The config of a [`Glow`](crate::Glow): everything but its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlowConfig {
    /// Channels, height and width of an image.
    pub shape: [usize; 3],
    /// Bits per channel value, 1 to 8.
    #[serde(default = "default_bits")]
    pub bits: u32,
    /// L: number of levels, each of which squeezes the image; all but the last then split off half of the channels.
    pub levels: usize,
    /// K: steps of flow per level.
    pub steps: usize,
    /// Steps of the last level, if different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_steps: Option<usize>,
    /// Hidden channels of a coupling layer's network.
    pub hidden: usize,
    /// The coupling layers.
    #[serde(default)]
    pub coupling: CouplingKind,
    /// How the channels are mixed.
    #[serde(default)]
    pub mixing: Mixing,
    /// How the channels of the last level are mixed, if different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_mixing: Option<Mixing>,
    /// Whether the first step from the data equalises the histogram of pixel values:
    /// [`Equalize`](flows_core::bijectors::Equalize).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub equalize: bool,
    /// The number of classes, if the model is conditional on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// The names of the classes, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
    /// Channels of the [`ClassFeatures`](crate::ClassFeatures) on which all couplings and priors are conditioned.
    /// Without them only the last level's normal distribution depends on the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_features: Option<usize>,
    /// Conditioning on an image of lower resolution, if any: the model is then a density of the images that it may come
    /// from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// If set, the number a in (0, 1/2) for which the flow models `logit(a + (1 - 2a) c)` of values c in [0, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit: Option<f64>,
    /// Variational dequantization, if the dequantization noise is not to be uniform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dequantizer: Option<Dequantizer>,
}

fn default_bits() -> u32 {
    8
}

impl GlowConfig {
    /// The published model for 32 x 32 images, applied to images of this shape.
    pub fn new(shape: [usize; 3]) -> Self {
        Self {
            shape,
            bits: default_bits(),
            levels: 3,
            steps: 32,
            top_steps: None,
            hidden: 512,
            coupling: CouplingKind::default(),
            mixing: Mixing::default(),
            top_mixing: None,
            equalize: false,
            classes: None,
            class_names: None,
            class_features: None,
            condition: None,
            logit: None,
            dequantizer: None,
        }
    }

    /// Whether the model is conditional on classes or images of lower resolution.
    pub fn is_conditional(&self) -> bool {
        self.classes.is_some() || self.condition.is_some()
    }

    /// Channels, height and width of the image that the model is conditioned on, if any.
    pub fn condition_shape(&self) -> Option<[usize; 3]> {
        let [channels, height, width] = self.shape;
        self.condition.map(|Condition { scale, .. }| [channels, height / scale, width / scale])
    }

    /// Channels of the features that the layers are conditioned on, if any.
    pub fn features(&self) -> Option<usize> {
        self.condition.map_or(self.class_features, |condition| Some(condition.features))
    }

    /// The index of the class that a text names, or, where no name is a number, whose number from 0 it is.
    ///
    /// # Errors
    /// When there is no such class.
    pub fn class(&self, text: &str) -> Result<u32> {
        let named = self.class_names.iter().flatten().position(|name| name == text);
        let numbered = self.class_names.iter().flatten().any(|name| name.parse::<usize>().is_ok());
        let number = text.parse().ok().filter(|number| !numbered && *number < self.classes.unwrap_or(0));
        named
            .or(number)
            .map(|class| class as u32)
            .ok_or_else(|| Error::Config(format!("the model has no class {text}: name one of {}", self.class_list())))
    }

    /// The names of the classes in words, or their numbers.
    pub fn class_list(&self) -> String {
        match (&self.class_names, self.classes.unwrap_or(0)) {
            (Some(names), _) => names.join(", "),
            (None, classes) => format!("0 to {}", classes.saturating_sub(1)),
        }
    }

    /// The number of values of an image.
    pub fn dims(&self) -> usize {
        self.shape.iter().product()
    }

    /// The number of discrete values of a channel.
    pub fn bins(&self) -> f64 {
        f64::from(1u32 << self.bits)
    }

    /// The number of steps of a level.
    pub fn steps_of(&self, level: usize) -> usize {
        self.top_steps.filter(|_| level + 1 == self.levels).unwrap_or(self.steps)
    }

    /// How the channels of a level are mixed.
    pub fn mixing_of(&self, level: usize) -> Mixing {
        self.top_mixing.filter(|_| level + 1 == self.levels).unwrap_or(self.mixing)
    }

    /// The shape of a level's z, before half of it is split off.
    pub fn level_shape(&self, level: usize) -> [usize; 3] {
        let [channels, height, width] = self.shape;
        [channels << (level + 2), height >> (level + 1), width >> (level + 1)]
    }

    /// Checks the config.
    ///
    /// # Errors
    /// When a size is 0 or too large, or the levels do not divide the image.
    pub fn check(&self) -> Result<()> {
        let bad = |message: String| Err(Error::Config(message));
        let [channels, height, width] = self.shape;
        if !(1..=1024).contains(&channels) || !(1..=8192).contains(&height) || !(1..=8192).contains(&width) {
            return bad(format!("images of {:?}: give 1 to 1024 channels and sides of 1 to 8192", self.shape));
        }
        if !(1..=8).contains(&self.bits) {
            return bad(format!("`bits` is {}, but must be 1 to 8", self.bits));
        }
        let steps = [self.steps, self.top_steps.unwrap_or(self.steps)].iter().all(|steps| (1..=1024).contains(steps));
        if !(1..=10).contains(&self.levels) || !steps || !(1..=8192).contains(&self.hidden) {
            return bad("a Glow has 1 to 10 `levels` of 1 to 1024 `steps` with 1 to 8192 `hidden` channels".into());
        }
        let side = 1 << self.levels;
        if height % side != 0 || width % side != 0 {
            return bad(format!(
                "images of {height} x {width} cannot be squeezed {} times: use fewer `levels`, or a `size` of multiples \
                 of {side}, such as {},{}",
                self.levels,
                height.next_multiple_of(side),
                width.next_multiple_of(side)
            ));
        }
        if self.equalize && self.logit.is_some() {
            return bad("equalised values are already logits: omit `equalize` or `logit`".into());
        }
        if self.class_names.as_ref().is_some_and(|names| Some(names.len()) != self.classes) {
            return bad("`class_names` needs a name for each of the `classes`: give as many, or omit it".into());
        }
        if self.classes == Some(0) {
            return bad("0 `classes`: give at least 1, or omit it".into());
        }
        if let Some(channels) = self.class_features {
            if self.classes.is_none() {
                return bad("`class_features` are of classes: make the model conditional on them".into());
            }
            if !(1..=1024).contains(&channels) {
                return bad(format!("{channels} `class_features`: give 1 to 1024"));
            }
        }
        if let Some(a) = self.logit.filter(|a| !(*a > 0.0 && *a < 0.5)) {
            return bad(format!("a `logit` of {a}: give a number above 0 and below 0.5, such as 0.05"));
        }
        if let Some(Dequantizer { steps, hidden, features, blocks }) = self.dequantizer
            && (!(1..=256).contains(&steps)
                || !(1..=8192).contains(&hidden)
                || !(1..=1024).contains(&features)
                || blocks > 256)
        {
            return bad("a `dequantizer` has 1 to 256 `steps`, 1 to 8192 `hidden` channels, 1 to 1024 `features` and \
                        at most 256 `blocks`"
                .into());
        }
        let Some(Condition { scale, features, blocks }) = self.condition else { return Ok(()) };
        if self.classes.is_some() {
            return bad("a model can be conditional on classes or on an image of lower resolution: omit one".into());
        }
        if !(scale.is_power_of_two() && (2..=64).contains(&scale)) || height % scale != 0 || width % scale != 0 {
            return bad(format!(
                "images of {height} x {width} given images {scale} times smaller: `scale` must be 2, 4, 8, 16, 32 or \
                 64 and divide both sides"
            ));
        }
        if !(1..=1024).contains(&features) || blocks > 256 {
            return bad("a `condition` needs 1 to 1024 `features` and at most 256 `blocks`".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_classes_where_no_name_is_one() {
        let class = |names: Option<&str>, text: &str| {
            let class_names = names.map(|names| names.split(' ').map(String::from).collect());
            let config = GlowConfig { classes: Some(2), class_names, ..GlowConfig::new([1, 8, 8]) };
            config.class(text).ok()
        };
        for (names, text, index) in [
            (Some("cat dog"), "dog", Some(1)),
            (Some("cat dog"), "0", Some(0)),
            (Some("1 7"), "1", Some(0)),
            (Some("1 7"), "0", None),
            (None, "1", Some(1)),
            (None, "2", None),
        ] {
            assert_eq!(class(names, text), index, "{names:?} {text}");
        }
    }
}
