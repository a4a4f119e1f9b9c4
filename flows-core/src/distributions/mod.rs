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
mod mixed;
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
pub use mixed::{Column, Content, Margin, MixedTable, MixedTableConfig, Numeric};
pub use mixture::GaussianMixture;
pub use multivariate_normal::MultivariateNormal;
pub use normal::{Normal, NormalFamily, StandardNormal};
pub use product::Product;
pub(crate) use rows::BLOCK;
pub use rows::{draw, draw_given, draw_with_log_prob, score};
pub use student_t::{StudentT, StudentTFamily};
pub(crate) use transformed::Onto;
pub use transformed::Transformed;
pub use truncated::Truncated;
pub use uniform::BoxUniform;

/// A probability distribution over events of a fixed shape, possibly conditioned on a context.
///
/// With a context of shape (B, ...), event i is given row i of the context.
pub trait Distribution: std::fmt::Debug + Send + Sync {
    /// The shape of one event, without the batch.
    fn event_shape(&self) -> &[usize];

    /// `log p(x | context)` in nats, (B), for x (B, event...); minus infinity outside
    /// the support.
    ///
    /// # Errors
    /// When a shape is wrong, or a required context is missing.
    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor>;

    /// [`Self::log_prob`] in training mode (dropout, batch statistics).
    ///
    /// # Errors
    /// Same as [`Self::log_prob`].
    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let _ = rng;
        self.log_prob(x, context)
    }

    /// `count` draws, (count, event...); a context must have `count` rows. If the distribution is continuous, they are
    /// differentiable with respect to the parameters.
    ///
    /// # Errors
    /// When a required context is missing or has another number of rows.
    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor>;

    /// Draws with their `log_prob`, (count, event...) and (count), in one pass where
    /// the distribution allows it.
    ///
    /// # Errors
    /// Same as [`Self::sample`].
    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let x = self.sample(count, context, rng)?;
        let log_prob = self.log_prob(&x, context)?;
        Ok((x, log_prob))
    }

    /// [`Self::sample_with_log_prob`] in training mode, for a loss over the distribution's own draws.
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

    /// This distribution at one context, (1, ...), if there is a more efficient way than repeating the context for each
    /// event; used by [`Self::given`].
    ///
    /// # Errors
    /// When the context has the wrong shape.
    fn condition<'a>(&'a self, context: &Tensor) -> Result<Option<Box<dyn Distribution + 'a>>> {
        let _ = context;
        Ok(None)
    }

    /// This distribution at one context, (...) or (1, ...), which networks embed once rather than for each
    /// event; for a trait object use [`Given::new`].
    ///
    /// # Errors
    /// When the context has the wrong shape.
    fn given(&self, context: &Tensor) -> Result<Given<'_>>
    where
        Self: Sized,
    {
        Given::new(self, context)
    }

    /// Data-dependent initialisation (standardization, activation normalization) from a batch of the training data,
    /// unless already done.
    ///
    /// # Errors
    /// Same as [`Self::log_prob`].
    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        let _ = (x, context);
        Ok(())
    }

    /// A set that contains all events up to probability 0 (such as the ends of an interval); the reals if no smaller
    /// set is known.
    fn support(&self) -> Support {
        Support::real(self.event_shape())
    }

    /// The detached copy of this distribution, if it has one: its parameters are constants, so its results carry no
    /// graph.
    fn detached(&self) -> Option<&dyn Distribution> {
        None
    }

    /// The dtype of events, if there is only one.
    fn dtype(&self) -> Option<DType> {
        None
    }

    /// The device of draws.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// The structure for display; by default the name of the type.
    fn structure(&self) -> Structure {
        Structure::named_after(&self)
    }
}

/// Implements the methods of [`Distribution`], except `detached` and `structure`, by delegating to another one.
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

/// Pointers to distributions are distributions, so that models can share parts.
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
