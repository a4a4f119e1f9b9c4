//! A univariate family applied to every element.

use super::univariate::{Univariate, apply, identities};
use super::{Bijector, Direction, Mode};
use crate::nn::{Init, Network, NetworkConfig, Scope, raw_parameters};
use crate::shape::{check_context, check_event};
use crate::{Error, Result, Structure, ops};
use candle_core::Tensor;
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
