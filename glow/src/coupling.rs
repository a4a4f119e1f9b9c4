//! The coupling layers of Glow.

use crate::CouplingKind;
use crate::conv::network;
use candle_core::Tensor;
use flows_core::bijectors::univariate::{LogisticMixture, RqSpline, Univariate};
use flows_core::bijectors::{Coupling, Direction, Mask};
use flows_core::nn::Scope;
use flows_core::ops::{Coupled, coupled};
use flows_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// The number of bins of a spline, and its bound.
const BINS: usize = 8;
const END: f64 = 4.0;

/// The number of logistics in a mixture.
const COMPONENTS: usize = 8;

/// A coupling layer over images of `shape` (C, H, W): the first half of the channels is kept, and a network of
/// convolutions of it, 3x3, 1x1 and 3x3 with `hidden` channels, parameterises the map of the second half (Kingma and
/// Dhariwal 2018, arXiv:1807.03039, section 3.3). If it is conditional, the network also takes `features` channels, the
/// layer's context (B, F, H, W), below the kept half.
///
/// `inverse` is `z = (x + t) s`, `s = sigmoid(max(r, -7) + 2)`, where the network outputs all r, then all t; if
/// bounded, with -2 in place of -7; if additive, `z = x + t`; or the inverse of a spline of x or of a mixture of
/// logistics, where the network outputs all first parameters, then all second ones, and so on. The last convolution is
/// initialised to zero, so that initially s is 0.88, a spline is the identity and a mixture is close to it. Weights:
/// `0.weight`, `0.bias`, `1.weight`, `1.bias`, `2.weight`, `2.bias`, `2.log_scale`.
///
/// # Errors
/// When the number of channels is odd, or a size is 0.
pub fn coupling(
    shape: [usize; 3],
    kind: CouplingKind,
    hidden: usize,
    features: Option<usize>,
    scope: &Scope,
) -> Result<Coupling> {
    let [channels, ..] = shape;
    if channels == 0 || channels % 2 == 1 || hidden == 0 {
        let message =
            format!("a coupling of {channels} channels, {hidden} hidden: give an even number, and at least 1");
        return Err(Error::Config(message));
    }
    let half = channels / 2;
    let univariate: Arc<dyn Univariate> = match kind {
        CouplingKind::Affine => Arc::new(GlowAffine(Coupled::Sigmoid)),
        CouplingKind::Bounded => Arc::new(GlowAffine(Coupled::Bounded)),
        CouplingKind::Additive => Arc::new(GlowAffine(Coupled::Shift)),
        CouplingKind::Spline => Arc::new(RqSpline::linear_tails(BINS, END)?),
        CouplingKind::Mixture => Arc::new(LogisticMixture::new(COMPONENTS)?),
    };
    let start = univariate.identity().into_iter().flat_map(|value| std::iter::repeat_n(value, half)).collect();
    let network = network(half, hidden, start, features, scope)?;
    Coupling::over_channels(&shape, &Mask::Halves { swap: false }, univariate, Box::new(network), scope)
}

/// The affine maps of Glow, as published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GlowAffine(pub(crate) Coupled);

impl GlowAffine {
    /// The map of each element.
    fn each(self, direction: Direction, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let ((batch, n), width) = (x.dims2()?, self.parameter_count());
        let rows = parameters.broadcast_as((batch, n, width))?.reshape((batch * n, width))?;
        let (value, log) = coupled(&x.reshape((batch * n, 1))?, &rows, 0..1, self.0, direction)?;
        Ok((value.reshape((batch, n))?, log.reshape((batch, n))?))
    }
}

impl Univariate for GlowAffine {
    fn name(&self) -> String {
        match self.0 {
            Coupled::Shift => "additive".into(),
            Coupled::Bounded => "bounded affine".into(),
            _ => "affine".into(),
        }
    }

    fn parameter_count(&self) -> usize {
        if self.0 == Coupled::Shift { 1 } else { 2 }
    }

    /// The initial parameters as published, for which s is 0.88.
    fn identity(&self) -> Vec<f64> {
        vec![0.0; self.parameter_count()]
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        self.each(Direction::Forward, z, parameters)
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        self.each(Direction::Inverse, x, parameters)
    }

    fn couple(
        &self,
        direction: Direction,
        x: &Tensor,
        moved: Range<usize>,
        parameters: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        coupled(x, parameters, moved, self.0, direction)
    }
}
