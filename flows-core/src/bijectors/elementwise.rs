//! A univariate family applied to every element.

use super::univariate::{Univariate, apply, identities};
use super::{Bijector, Direction, Mode};
use crate::nn::{Init, Network, NetworkConfig, Scope, raw_parameters};
use crate::shape::{check_context, check_event};
use crate::{Result, Structure, ops};
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
    /// The family has none.
    Nothing(Tensor),
}

impl Elementwise {
    /// The family on events of `shape`, with parameters of its own.
    ///
    /// # Errors
    /// When the weight's name is taken.
    pub fn new(shape: &[usize], univariate: Arc<dyn Univariate>, scope: &Scope) -> Result<Self> {
        let (n, p) = (shape.iter().product(), univariate.parameters());
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
        if univariate.parameters() == 0 {
            return Self::new(shape, univariate, scope);
        }
        let output = identities(univariate.as_ref(), shape.iter().product())?;
        let source = Source::Context(context, network.build(context, None, output, &scope.enter("conditioner"))?);
        Ok(Self { univariate, shape: shape.to_vec(), source })
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
            Source::Context(width, network) => {
                let context = check_context(context, *width, batch)?;
                let part = format_args!("an element-wise map over {:?}", self.shape);
                let sizes = [self.shape.iter().product(), self.univariate.parameters()];
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
            Source::Context(_, network) => node.part(network.structure()),
            Source::Nothing(_) => node,
        }
    }
}
