//! A univariate family applied to every element.

use super::univariate::{Univariate, apply, identities};
use super::{Bijector, Bounds, Direction, Mode, Support};
use crate::nn::{Init, Network, NetworkConfig, Scope, raw_parameters};
use crate::shape::{check_context, check_event};
use crate::{Error, Result, Structure, ops};
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

/// `x_i = f(z_i; p_i)` for every element i of the event, `log|det| = sum_i log|f'(z_i; p_i)|`.
///
/// The parameters p_i are weights, or come from the context through a network; both start where
/// the family is (nearest to) the identity. It is also what a coupling of one dimension, which has
/// nothing to condition on, falls back to.
#[derive(Debug)]
pub struct Elementwise {
    univariate: Arc<dyn Univariate>,
    shape: Vec<usize>,
    source: Source,
}

/// Where the parameters of the elements come from.
#[derive(Debug)]
enum Source {
    /// Raw values, (1, N, P).
    Weights(Tensor),
    /// A network from a context of this width.
    Context(usize, Box<dyn Network>),
    /// A network over channels, from a context of its own kind.
    Channels(Box<dyn Network>),
    /// The family has none.
    Nothing(Tensor),
}

impl Elementwise {
    /// The family on events of `shape`, with parameters of its own.
    ///
    /// # Errors
    /// When the weight's name is taken.
    pub fn new(shape: &[usize], univariate: Arc<dyn Univariate>, scope: &Scope) -> Result<Self> {
        let (n, p) = (shape.iter().product(), univariate.parameter_count());
        let source = match p {
            0 => Source::Nothing(Tensor::zeros((1, n, 0), scope.dtype(), scope.device())?),
            _ => {
                let start = identities(univariate.as_ref(), n)?.bias.map_or(Init::Zeros, Init::Values);
                Source::Weights(scope.weight("parameters", (1, n, p), start)?)
            }
        };
        Ok(Self { univariate, shape: shape.to_vec(), source })
    }

    /// The family on events of `shape`, with parameters that a network makes from a context of
    /// width `context`.
    ///
    /// # Errors
    /// When a width is 0.
    pub fn conditional(
        shape: &[usize],
        univariate: Arc<dyn Univariate>,
        context: usize,
        network: &NetworkConfig,
        scope: &Scope,
    ) -> Result<Self> {
        if univariate.parameter_count() == 0 {
            return Self::new(shape, univariate, scope);
        }
        let output = identities(univariate.as_ref(), shape.iter().product())?;
        let source = Source::Context(context, network.build(context, None, output, &scope.enter("conditioner"))?);
        Ok(Self { univariate, shape: shape.to_vec(), source })
    }

    /// The family on signals (C, T) or images (C, H, W), with parameters that `network` makes from the context, its
    /// input: (B, P C, T) or (B, P C, H, W), the first of all channels, then the second of all, and so on.
    ///
    /// So a flow is given a spectrogram, or SRFlow's injector the features of an image.
    ///
    /// # Errors
    /// When an event has no channel.
    pub fn over_channels(shape: &[usize], univariate: Arc<dyn Univariate>, network: Box<dyn Network>) -> Result<Self> {
        if shape.is_empty() || shape.contains(&0) {
            return Err(Error::shape("the event of a map over channels", shape, "(C, T) or (C, H, W)"));
        }
        Ok(Self { univariate, shape: shape.to_vec(), source: Source::Channels(network) })
    }

    /// What is between the images of these bounds of an element.
    pub(super) fn image_of(&self, direction: Direction, bounds: Bounds) -> Bounds {
        image(self.univariate.as_ref(), direction, bounds)
    }

    /// The map given what a network over channels makes of the context.
    fn given(
        &self,
        network: &dyn Network,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let Some(context) = context else {
            return Err(Error::Config("this flow is conditional: give a context, one row for each event".into()));
        };
        let raw = network.forward(context, None, mode)?;
        let mut want = input.dims().to_vec();
        want[1] *= self.univariate.parameter_count();
        if raw.dims() != want {
            let what = "what the network of an element-wise map makes of the context";
            return Err(Error::shape(what, raw.dims(), format!("{want:?}")));
        }
        let (flat, all) = (input.flatten_from(1)?, 0..self.shape.iter().product());
        let (value, log_det) = self.univariate.couple(direction, &flat, all, &raw.flatten_from(1)?)?;
        Ok((value.reshape(input.shape())?, log_det))
    }
}

/// What is between the images of these bounds in a direction, as far as the function is known whatever its parameters.
pub(super) fn image(univariate: &dyn Univariate, direction: Direction, bounds: Bounds) -> Bounds {
    let (domain, mut image) = match direction {
        Direction::Forward => (univariate.domain(), univariate.range()),
        Direction::Inverse => (univariate.range(), univariate.domain()),
    };
    if univariate.parameter_count() > 0 || bounds == Bounds::NONE {
        return image;
    }
    let at = |z: f64| -> Result<f64> {
        let none = Tensor::zeros((1, 1, 0), DType::F64, &Device::Cpu)?;
        let (x, _) = apply(univariate, direction, &Tensor::new(&[[z]], &Device::Cpu)?, &none)?;
        Ok(x.get(0)?.get(0)?.to_scalar()?)
    };
    let middle = match (bounds.lower, bounds.upper) {
        (Some(a), Some(b)) => 0.5 * a + 0.5 * b,
        (a, b) => a.map_or(0.0, |a| a + 1.0) + b.map_or(0.0, |b| b - 1.0),
    };
    for end in bounds.lower.into_iter().chain(bounds.upper).filter(|&end| domain.contain(end) && domain.contain(middle))
    {
        match (at(end), at(middle)) {
            (Ok(x), Ok(inside)) if x < inside => image.lower = Some(x),
            (Ok(x), Ok(inside)) if x > inside => image.upper = Some(x),
            _ => {}
        }
    }
    image
}

impl Bijector for Elementwise {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let batch = check_event("the input of an element-wise map", input, &self.shape)?;
        let parameters = match &self.source {
            Source::Weights(p) | Source::Nothing(p) => p.clone(),
            Source::Channels(network) => return self.given(network.as_ref(), direction, input, context, mode),
            Source::Context(width, network) => {
                let context = check_context(context, *width, batch)?;
                let part = format_args!("an element-wise map over {:?}", self.shape);
                let sizes = [self.shape.iter().product(), self.univariate.parameter_count()];
                raw_parameters(part, network.as_ref(), context, None, sizes, mode)?
            }
        };
        // Not flattened: a scalar event has no dimension to flatten from.
        let flat = input.reshape((batch, parameters.dim(1)?))?;
        let (value, log) = apply(self.univariate.as_ref(), direction, &flat, &parameters)?;
        Ok((value.reshape(input.shape())?, ops::sum_event(&log)?))
    }

    fn support(&self) -> Option<Support> {
        self.image(&Support::real(&self.shape[..]))
    }

    /// By the function's range, and by where it takes the bounds of z if it has no parameters.
    fn image(&self, latent: &Support) -> Option<Support> {
        let bounds = latent.bounds().into_iter().map(|bounds| self.image_of(Direction::Forward, bounds)).collect();
        Support::in_box(&self.shape, bounds)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        let bounds = data.bounds().into_iter().map(|bounds| self.image_of(Direction::Inverse, bounds)).collect();
        Support::in_box(&self.shape, bounds)
    }

    fn structure(&self) -> Structure {
        let node = Structure::new("Elementwise", format!("{:?}: {}", self.shape, self.univariate.name()));
        let node = node.parts(self.univariate.structure());
        match &self.source {
            Source::Weights(p) => node.weights([p]),
            Source::Context(_, network) | Source::Channels(network) => node.part(network.structure()),
            Source::Nothing(_) => node,
        }
    }
}
