//! The coupling layers of Glow.

use crate::CouplingKind;
use crate::conv::{last_layer_from, layer, weights};
use crate::injector::features;
use candle_core::Tensor;
use flows_core::bijectors::univariate::{LogisticMixture, RqSpline, Univariate};
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::nn::Scope;
use flows_core::ops::{ConvLayer, Coupled, conv_network, coupled, sum_event};
use flows_core::shape::check_event;
use flows_core::{Error, Result, Structure};

/// A coupling layer over images: the first half of the channels stays, and a network of convolutions of it, 3x3, 1x1
/// and 3x3, says how the second half moves (Kingma and Dhariwal 2018, arXiv:1807.03039, section 3.3).
///
/// `inverse` is `z = (x + t) s`, `s = sigmoid(max(r, -7) + 2)`, the network giving all r, then all t; or, if bounded,
/// the same with -2 for -7; or, if additive, `z = x + t`; or the inverse of a spline of x or of a mixture of logistics,
/// the network giving all first parameters, then all second ones, and so on. The last convolution starts at zero, so that
/// s is 0.88 then, a spline the identity and a mixture close to it. Weights: `0.weight`, `0.bias`, `1.weight`, `1.bias`,
/// `2.weight`, `2.bias`, `2.log_scale`.
///
/// A conditional layer's network sees features below the half that stays: its context (B, F, H, W).
#[derive(Debug)]
pub struct ImageCoupling {
    shape: [usize; 3],
    /// Channels of the context.
    features: usize,
    map: Map,
    network: Vec<ConvLayer>,
}

/// What becomes of the half that moves.
#[derive(Debug)]
enum Map {
    Affine(Coupled),
    Family(Box<dyn Univariate>),
}

/// Bins of a spline, and where it ends on either side.
const BINS: usize = 8;
const END: f64 = 4.0;

/// Logistics of a mixture.
const COMPONENTS: usize = 8;

impl ImageCoupling {
    /// A layer over images of `shape` (C, H, W) with `hidden` channels within its network.
    ///
    /// # Errors
    /// When the number of channels is odd, or a size is 0.
    pub fn new(shape: [usize; 3], kind: CouplingKind, hidden: usize, scope: &Scope) -> Result<Self> {
        Self::conditional(shape, kind, hidden, 0, scope)
    }

    /// The same, given a context of `features` channels; none if there are 0.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn conditional(
        shape: [usize; 3],
        kind: CouplingKind,
        hidden: usize,
        features: usize,
        scope: &Scope,
    ) -> Result<Self> {
        let [channels, ..] = shape;
        if channels == 0 || channels % 2 == 1 || hidden == 0 {
            let message = format!("a coupling of {channels} channels, {hidden} within: give an even number, and some");
            return Err(Error::Config(message));
        }
        let half = channels / 2;
        let map = match kind {
            CouplingKind::Affine => Map::Affine(Coupled::Sigmoid),
            CouplingKind::Bounded => Map::Affine(Coupled::Bounded),
            CouplingKind::Additive => Map::Affine(Coupled::Shift),
            CouplingKind::Spline => Map::Family(Box::new(RqSpline::linear_tails(BINS, END)?)),
            CouplingKind::Mixture => Map::Family(Box::new(LogisticMixture::new(COMPONENTS)?)),
        };
        let start = match &map {
            Map::Affine(Coupled::Shift) => vec![0.0; half],
            Map::Affine(_) => vec![0.0; channels],
            Map::Family(family) => family.identity().iter().flat_map(|&v| std::iter::repeat_n(v, half)).collect(),
        };
        let network = vec![
            layer(half + features, hidden, 3, &scope.enter(0))?,
            layer(hidden, hidden, 1, &scope.enter(1))?,
            last_layer_from(hidden, start, &scope.enter(2))?,
        ];
        Ok(Self { shape, features, map, network })
    }
}

impl Bijector for ImageCoupling {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let batch = check_event("the input of a coupling", input, &self.shape)?;
        let [channels, height, width] = self.shape;
        let half = channels / 2;
        let mut seen = input.narrow(1, 0, half)?;
        if self.features > 0 {
            seen = Tensor::cat(&[&seen, features(context, batch, [self.features, height, width])?], 1)?;
        }
        let parameters = conv_network(&seen, self.network.clone())?.flatten_from(1)?;
        let (flat, kept) = (input.flatten_from(1)?, half * height * width);
        let (out, log_det) = match &self.map {
            Map::Affine(map) => coupled(&flat, &parameters, kept, *map, direction)?,
            Map::Family(family) => {
                let raw = parameters.reshape((batch, family.parameters(), kept))?.transpose(1, 2)?.contiguous()?;
                let moved = flat.narrow(1, kept, kept)?.contiguous()?;
                let (moved, log) = match direction {
                    Direction::Forward => family.forward(&moved, &raw)?,
                    Direction::Inverse => family.inverse(&moved, &raw)?,
                };
                (Tensor::cat(&[&flat.narrow(1, 0, kept)?, &moved], 1)?, sum_event(&log)?)
            }
        };
        Ok((out.reshape(input.shape())?, log_det))
    }

    fn structure(&self) -> Structure {
        let kind = match &self.map {
            Map::Affine(Coupled::Shift) => "additive".into(),
            Map::Affine(Coupled::Bounded) => "bounded affine".into(),
            Map::Affine(_) => "affine".into(),
            Map::Family(family) => family.name(),
        };
        let given = if self.features > 0 { format!(" given {} features", self.features) } else { String::new() };
        let within = self.network[0].weight.dims()[0];
        let details = format!("{:?}{given}: {kind}, {within} channels within", self.shape);
        Structure::new("Coupling", details).weights(weights(&self.network))
    }
}
