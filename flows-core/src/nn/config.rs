//! The serialisable description of a conditioner.

use super::{Activation, Made, MadeSettings, Mlp, Network, Output, ResidualNet, ResidualNetSettings, Scope};
use crate::{Error, Result, ops::check_width};
use serde::{Deserialize, Serialize};

/// The network that computes a bijector's parameters, which a coupling builds plain and an
/// autoregressive layer masked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetworkConfig {
    /// [`Mlp`], or [`Made`].
    Mlp {
        /// Widths of the hidden layers.
        hidden: Vec<usize>,
        /// The non-linearity.
        activation: Activation,
    },
    /// [`ResidualNet`], or a residual [`Made`].
    Residual {
        /// Width of the blocks.
        hidden: usize,
        /// Number of blocks.
        blocks: usize,
        /// The non-linearity.
        activation: Activation,
        /// The share of units that are dropped in training.
        #[serde(default)]
        dropout: f64,
    },
}

impl NetworkConfig {
    /// An MLP with ReLU.
    pub fn mlp(hidden: impl Into<Vec<usize>>) -> Self {
        Self::Mlp { hidden: hidden.into(), activation: Activation::Relu }
    }

    /// A residual network with ReLU and without dropout.
    pub fn residual(hidden: usize, blocks: usize) -> Self {
        Self::Residual { hidden, blocks, activation: Activation::Relu, dropout: 0.0 }
    }

    /// The network from `inputs` numbers, and a context of this width if there is one, to `output`.
    ///
    /// # Errors
    /// When a width is 0 or too large, or the dropout is not in [0, 1).
    pub fn build(
        &self,
        inputs: usize,
        context: Option<usize>,
        output: Output,
        scope: &Scope,
    ) -> Result<Box<dyn Network>> {
        self.check(inputs, &output)?;
        Ok(match *self {
            Self::Mlp { ref hidden, activation } => {
                Box::new(Mlp::new(inputs, hidden, output, context, activation, scope)?)
            }
            Self::Residual { hidden, blocks, activation, dropout } => {
                let settings = ResidualNetSettings { inputs, output, context, hidden, blocks, activation, dropout };
                Box::new(ResidualNet::new(settings, scope)?)
            }
        })
    }

    /// Fails if a width is too large.
    fn check(&self, inputs: usize, output: &Output) -> Result<()> {
        let hidden = match *self {
            Self::Mlp { ref hidden, .. } => hidden.as_slice(),
            Self::Residual { blocks: 1001.., .. } => {
                return Err(Error::Config("a residual network of that many blocks: choose at most 1,000".into()));
            }
            Self::Residual { hidden, .. } => &[hidden; 2],
        };
        // Weights are counted when they are created, but the degrees of units are not.
        let widths = [inputs, output.width].into_iter().chain(hidden.iter().copied());
        widths.into_iter().try_for_each(|width| check_width("a network", &[width]))
    }

    /// The masked network from `features` numbers to `output`, whose width is a multiple of `features`.
    ///
    /// # Errors
    /// As [`Made::new`].
    pub fn build_masked(
        &self,
        features: usize,
        context: Option<usize>,
        order: Option<Vec<usize>>,
        output: Output,
        scope: &Scope,
    ) -> Result<Made> {
        self.check(features, &output)?;
        Made::new(self.masked(features, context, order, output), scope)
    }

    /// The masked network over groups of inputs and outputs, each of a group below `groups`:
    /// see [`Made::over_groups`].
    ///
    /// # Errors
    /// As [`Made::over_groups`].
    pub(crate) fn build_masked_groups(
        &self,
        groups: usize,
        [inputs, outputs]: [&[usize]; 2],
        context: Option<usize>,
        output: Output,
        scope: &Scope,
    ) -> Result<Made> {
        self.check(inputs.len(), &output)?;
        Made::over_groups(self.masked(groups, context, None, output), inputs, outputs, scope)
    }

    fn masked(
        &self,
        features: usize,
        context: Option<usize>,
        order: Option<Vec<usize>>,
        output: Output,
    ) -> MadeSettings {
        let (hidden, residual, activation, dropout) = match *self {
            Self::Mlp { ref hidden, activation } => (hidden.clone(), false, activation, 0.0),
            Self::Residual { hidden, blocks, activation, dropout } => {
                (vec![hidden; 1 + 2 * blocks], true, activation, dropout)
            }
        };
        MadeSettings { features, output, context, hidden, residual, activation, dropout, order }
    }
}
