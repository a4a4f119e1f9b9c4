//! Named flows: a serialisable config for each paper, with its defaults, and [`Flow`], the model built from it.

mod autoregressive;
mod block_neural;
mod circular_spline;
mod coupling;
mod flow;
mod gaussianization;
mod integral;
mod mixed_table;
mod neural;
mod planar;
mod residual;
mod sylvester;
mod table;

pub use autoregressive::{Iaf, Maf, NsfAutoregressive};
pub use block_neural::Bnaf;
pub use circular_spline::CircularSpline;
pub use coupling::{Nice, Nsf, RealNvp};
pub use flow::{Flow, FlowConfig, FlowDensity};
pub use gaussianization::Gaussianization;
pub use integral::Umnn;
pub use mixed_table::MixedTableModel;
pub use neural::Naf;
pub use planar::{PlanarFlow, RadialFlow};
pub use residual::ResidualFlow;
pub use sylvester::SylvesterFlow;
pub use table::{
    Imputation, Mixed, MixedConfig, MixedDensity, TableArchitecture, TableCheck, TableConfig, TableDensity, TableModel,
    impute,
};

use crate::bijectors::Bijector;
use crate::distributions::{Distribution, StandardNormal};
use crate::nn::Scope;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// An architecture that can be built for any number of features.
pub trait Architecture {
    /// Builds the bijector over `features` numbers, conditioned on a context of width `context`, if any.
    ///
    /// # Errors
    /// When a size is 0 or does not suit the number of features.
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>>;

    /// Whether a batch may be cut into pieces that are processed in parallel; not if a layer computes batch
    /// statistics or updates buffers in training.
    fn splits_batches(&self) -> bool {
        true
    }

    /// The base distribution over `features` numbers; by default the standard normal.
    ///
    /// # Errors
    /// When the type is neither f32 nor f64.
    fn base(&self, features: usize, scope: &Scope) -> Result<Box<dyn Distribution>> {
        Ok(Box::new(StandardNormal::new([features], scope.dtype(), scope.device())?))
    }

    /// Whether data are standardized to mean 0 and standard deviation 1; not if they are angles.
    fn is_standardized(&self) -> bool {
        true
    }
}

macro_rules! architectures {
    ($($(#[$doc:meta])* $name:ident($config:ident) = $text:literal,)*) => {
        /// One of the named architectures with its settings, tagged by `kind` when serialised.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum NamedFlow {
            $($(#[$doc])* #[serde(rename = $text)] $name($config),)*
        }

        impl NamedFlow {
            /// The names that [`NamedFlow::named`] knows.
            pub const NAMES: &[&str] = &[$($text),*];

            /// The architecture of this name with the defaults of its paper.
            ///
            /// # Errors
            /// When there is no such architecture; the message lists the names.
            pub fn named(name: &str) -> Result<Self> {
                match name {
                    $($text => Ok(Self::$name($config::default())),)*
                    _ => Err(Error::Config(format!("there is no model `{name}`: choose one of {}", Self::NAMES.join(", ")))),
                }
            }

            /// The name that [`NamedFlow::named`] accepts.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $text,)*
                }
            }

            /// The architecture with its settings.
            pub fn architecture(&self) -> &dyn Architecture {
                match self {
                    $(Self::$name(model) => model,)*
                }
            }
        }

        $(impl From<$config> for NamedFlow {
            fn from(model: $config) -> Self {
                Self::$name(model)
            }
        })*
    };
}

architectures! {
    /// Additive couplings.
    Nice(Nice) = "nice",
    /// Affine couplings.
    RealNvp(RealNvp) = "real-nvp",
    /// Rational-quadratic spline couplings.
    Nsf(Nsf) = "nsf",
    /// Masked autoregressive affine layers.
    Maf(Maf) = "maf",
    /// Inverse autoregressive affine layers.
    Iaf(Iaf) = "iaf",
    /// Masked autoregressive rational-quadratic splines.
    NsfAutoregressive(NsfAutoregressive) = "nsf-ar",
    /// Masked autoregressive deep sigmoids.
    Naf(Naf) = "naf",
    /// Block neural autoregressive layers.
    Bnaf(Bnaf) = "bnaf",
    /// Masked autoregressive monotonic integrals.
    Umnn(Umnn) = "umnn",
    /// Planar maps.
    Planar(PlanarFlow) = "planar",
    /// Radial maps.
    Radial(RadialFlow) = "radial",
    /// Sylvester maps.
    Sylvester(SylvesterFlow) = "sylvester",
    /// Invertible residual blocks.
    Residual(ResidualFlow) = "residual",
    /// Circular splines, for angles.
    CircularSpline(CircularSpline) = "circular-spline",
    /// Element-wise splines and rotations.
    Gaussianization(Gaussianization) = "gaussianization",
}

/// A chain of `layers` bijectors built by `layer`, from the base to the data, each in its own scope.
fn chain(
    layers: usize,
    scope: &Scope,
    mut layer: impl FnMut(usize, &Scope) -> Result<Vec<Box<dyn Bijector>>>,
) -> Result<Box<dyn Bijector>> {
    if !(1..=10_000).contains(&layers) {
        return Err(Error::Config(format!("a flow of {layers} layers: set `layers` to 1 to 10,000")));
    }
    let mut steps = Vec::new();
    for i in 0..layers {
        steps.extend(layer(i, &scope.enter(i))?);
    }
    Ok(Box::new(crate::bijectors::Chain::new(steps)?))
}
