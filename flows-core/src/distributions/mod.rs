//! Distributions: bases, targets and [`Transformed`], a base pushed through a bijector.

use crate::bijectors::Support;
use crate::{Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

mod bernoulli;
mod categorical;
mod checks;
mod class_conditional;
mod conditional_normal;
mod given;
mod laplace;
mod location_scale;
mod logistic;
mod mixture;
mod multivariate_normal;
mod normal;
mod product;
mod rows;
mod student_t;
mod transformed;
mod truncated;
mod uniform;

pub use bernoulli::Bernoulli;
pub use categorical::Categorical;
pub use class_conditional::ClassConditional;
pub use conditional_normal::ConditionalNormal;
pub use given::Given;
pub use laplace::{Laplace, LaplaceFamily};
pub use location_scale::{Family, LocationScale, SymmetricCdf};
pub use logistic::{Logistic, LogisticFamily};
pub use mixture::GaussianMixture;
pub use multivariate_normal::MultivariateNormal;
pub use normal::{Normal, NormalFamily, StandardNormal};
pub use product::Product;
pub(crate) use rows::BLOCK;
pub use rows::{draw, draw_given, draw_with_log_prob, score};
pub use student_t::{StudentT, StudentTFamily};
pub use transformed::Transformed;
pub use truncated::Truncated;
pub use uniform::BoxUniform;

/// A probability distribution over events of a fixed shape, possibly conditioned on a context.
///
/// With a context of shape (B, ...), row i of the events goes with row i of the context.
pub trait Distribution: std::fmt::Debug + Send + Sync {
    /// The shape of one event, without the batch.
    fn event_shape(&self) -> &[usize];

    /// `log p(x | context)` in nats, (B), for x of shape (B, event...); minus infinity outside of
    /// the support.
    ///
    /// # Errors
    /// When a shape is wrong, or a context is missing that is needed.
    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor>;

    /// [`Self::log_prob`] as a step of maximum likelihood takes it (dropout, statistics of the batch).
    ///
    /// # Errors
    /// Same as [`Self::log_prob`].
    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let _ = rng;
        self.log_prob(x, context)
    }

    /// `count` draws, (count, event...); a context must have `count` rows. Differentiable with
    /// respect to the parameters where the distribution is continuous.
    ///
    /// # Errors
    /// When the context is missing or has another number of rows.
    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor>;

    /// Draws with their `log_prob`, (count, event...) and (count), at the price of one pass where
    /// the distribution allows it.
    ///
    /// # Errors
    /// Same as [`Self::sample`].
    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let x = self.sample(count, context, rng)?;
        let log_prob = self.log_prob(&x, context)?;
        Ok((x, log_prob))
    }

    /// [`Self::sample_with_log_prob`] as a step of training takes it, for a loss over draws of one's own.
    ///
    /// # Errors
    /// Same as [`Self::sample`].
    fn sample_with_log_prob_training(
        &self,
        count: usize,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor)> {
        self.sample_with_log_prob(count, context, rng)
    }

    /// This distribution at one context, (1, ...), if there is a better way than to repeat the context for each event:
    /// what [`Self::given`] is made of.
    ///
    /// # Errors
    /// When the context is of a wrong shape.
    fn condition<'a>(&'a self, context: &Tensor) -> Result<Option<Box<dyn Distribution + 'a>>> {
        let _ = context;
        Ok(None)
    }

    /// The distribution at one context, (...) or (1, ...), whose networks see the context once rather than for each
    /// event; of a trait object, [`Given::new`].
    ///
    /// # Errors
    /// When the context is of a wrong shape.
    fn given(&self, context: &Tensor) -> Result<Given<'_>>
    where
        Self: Sized,
    {
        Given::new(self, context)
    }

    /// Sets what depends on data (standardizing maps, activation normalization) from a batch of the training data,
    /// unless that was done before.
    ///
    /// # Errors
    /// Same as [`Self::log_prob`].
    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        let _ = (x, context);
        Ok(())
    }

    /// A set that holds all events, up to some of probability 0 (the bounds of a closed interval); all of the reals,
    /// where none that is smaller is known.
    fn support(&self) -> Support {
        Support::real(self.event_shape())
    }

    /// The same distribution with its parameters as constants, if it has such a twin: what that gives keeps no graph.
    fn detached(&self) -> Option<&dyn Distribution> {
        None
    }

    /// The type of events, where there is one alone.
    fn dtype(&self) -> Option<DType> {
        None
    }

    /// Where draws are made.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// What this is made of, for people to read; its name, if not said otherwise.
    fn structure(&self) -> Structure {
        Structure::named_after(&self)
    }
}

/// The methods of a [`Distribution`] that another one gives, all but `detached` and `structure`.
///
/// ```
/// use flows_core::distributions::{Distribution, Transformed};
/// #[derive(Debug)]
/// struct Named {
///     name: &'static str,
///     flow: Transformed,
/// }
///
/// impl Distribution for Named {
///     flows_core::delegate_distribution!(|self| self.flow);
/// }
/// ```
#[macro_export]
macro_rules! delegate_distribution {
    (|$this:ident| $inner:expr) => {
        $crate::delegate_distribution!(@but_initialize |$this| $inner);

        fn initialize(
            &$this,
            x: &$crate::candle_core::Tensor,
            context: Option<&$crate::candle_core::Tensor>,
        ) -> $crate::Result<()> {
            $inner.initialize(x, context)
        }
    };
    (@but_initialize |$this:ident| $inner:expr) => {
        fn event_shape(&$this) -> &[usize] {
            $inner.event_shape()
        }

        fn log_prob(
            &$this,
            x: &$crate::candle_core::Tensor,
            context: Option<&$crate::candle_core::Tensor>,
        ) -> $crate::Result<$crate::candle_core::Tensor> {
            $inner.log_prob(x, context)
        }

        fn log_prob_training(
            &$this,
            x: &$crate::candle_core::Tensor,
            context: Option<&$crate::candle_core::Tensor>,
            rng: &mut $crate::Rng,
        ) -> $crate::Result<$crate::candle_core::Tensor> {
            $inner.log_prob_training(x, context, rng)
        }

        fn sample(
            &$this,
            count: usize,
            context: Option<&$crate::candle_core::Tensor>,
            rng: &mut $crate::Rng,
        ) -> $crate::Result<$crate::candle_core::Tensor> {
            $inner.sample(count, context, rng)
        }

        fn sample_with_log_prob(
            &$this,
            count: usize,
            context: Option<&$crate::candle_core::Tensor>,
            rng: &mut $crate::Rng,
        ) -> $crate::Result<($crate::candle_core::Tensor, $crate::candle_core::Tensor)> {
            $inner.sample_with_log_prob(count, context, rng)
        }

        fn sample_with_log_prob_training(
            &$this,
            count: usize,
            context: Option<&$crate::candle_core::Tensor>,
            rng: &mut $crate::Rng,
        ) -> $crate::Result<($crate::candle_core::Tensor, $crate::candle_core::Tensor)> {
            $inner.sample_with_log_prob_training(count, context, rng)
        }

        fn condition<'a>(
            &'a $this,
            context: &$crate::candle_core::Tensor,
        ) -> $crate::Result<Option<Box<dyn $crate::distributions::Distribution + 'a>>> {
            $inner.condition(context)
        }

        fn support(&$this) -> $crate::bijectors::Support {
            $inner.support()
        }

        fn dtype(&$this) -> Option<$crate::candle_core::DType> {
            $inner.dtype()
        }

        fn device(&$this) -> $crate::candle_core::Device {
            $inner.device()
        }
    };
}

/// What points at a distribution is one, so that models can share parts.
macro_rules! pointer {
    ($pointer:ident) => {
        impl<D: Distribution + ?Sized> Distribution for $pointer<D> {
            delegate_distribution!(|self| (**self));

            fn detached(&self) -> Option<&dyn Distribution> {
                (**self).detached()
            }

            fn structure(&self) -> Structure {
                (**self).structure()
            }
        }
    };
}

pointer!(Box);
pointer!(Arc);
