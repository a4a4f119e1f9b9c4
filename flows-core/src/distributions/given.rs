//! A conditional distribution at a fixed context.

use super::Distribution;
use crate::bijectors::Support;
use crate::{Error, Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};

/// A conditional distribution at one context, itself a distribution without context: `p(x | c)` for a fixed c.
///
/// A network that embeds the context of a flow ([`Embed`](crate::bijectors::Embed)) is evaluated once, when this is
/// created, rather than for each event. Gradients still flow to its weights.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use flows_core::distributions::{Distribution, draw};
/// use flows_core::flows::{Flow, FlowConfig, Maf};
/// let mut rng = flows_core::Rng::seed(0);
/// let flow = Flow::new(FlowConfig::new(2, Maf::default()).with_context(3), &mut rng)?;
/// let posterior = flow.given(&Tensor::new(&[0.1f32, -2.0, 0.7], &Device::Cpu)?)?;
/// let x = draw(&posterior, 1000, None, &mut rng)?;
/// assert_eq!(posterior.log_prob(&x, None)?.dims(), [1000]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Given<'a> {
    distribution: Box<dyn Distribution + 'a>,
    detached: Option<Box<dyn Distribution + 'a>>,
}

impl<'a> Given<'a> {
    /// `distribution` at a context, (...) or (1, ...); for a concrete type, [`Distribution::given`] does the same.
    ///
    /// # Errors
    /// When the context has the wrong shape.
    pub fn new(distribution: &'a dyn Distribution, context: &Tensor) -> Result<Self> {
        let context = match context.dims() {
            [1, _, ..] => context.clone(),
            _ => context.unsqueeze(0)?,
        };
        let detached = distribution.detached().map(|twin| at(twin, &context)).transpose()?;
        Ok(Self { distribution: at(distribution, &context)?, detached })
    }
}

pub(super) fn at<'a>(distribution: &'a dyn Distribution, context: &Tensor) -> Result<Box<dyn Distribution + 'a>> {
    Ok(match distribution.condition(context)? {
        Some(conditioned) => conditioned,
        None => Box::new(Repeated { distribution, context: context.clone() }),
    })
}

impl Distribution for Given<'_> {
    crate::delegate_distribution!(|self| self.distribution);

    fn detached(&self) -> Option<&dyn Distribution> {
        self.detached.as_deref().map(|twin| twin as &dyn Distribution)
    }

    fn structure(&self) -> Structure {
        Structure::new("Given", "").part(self.distribution.structure())
    }
}

/// A distribution given the same context, (1, ...), for every event.
#[derive(Debug)]
struct Repeated<'a> {
    distribution: &'a dyn Distribution,
    context: Tensor,
}

impl Repeated<'_> {
    fn rows(&self, context: Option<&Tensor>, count: usize) -> Result<Tensor> {
        check_given(context)?;
        repeat(&self.context, count)
    }
}

/// Fails if a context is passed to a distribution whose context is fixed.
pub(super) fn check_given(context: Option<&Tensor>) -> Result<()> {
    match context {
        Some(_) => Err(Error::Config("the context of this distribution is already given: pass none".into())),
        None => Ok(()),
    }
}

/// Repeats a context (1, ...) for every event of a batch.
pub(super) fn repeat(context: &Tensor, batch: usize) -> Result<Tensor> {
    let mut shape = context.dims().to_vec();
    shape[0] = batch;
    Ok(context.broadcast_as(shape)?.contiguous()?)
}

impl Distribution for Repeated<'_> {
    fn event_shape(&self) -> &[usize] {
        self.distribution.event_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let context = self.rows(context, x.dim(0)?)?;
        self.distribution.log_prob(x, Some(&context))
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let context = self.rows(context, x.dim(0)?)?;
        self.distribution.log_prob_training(x, Some(&context), rng)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.distribution.sample(count, Some(&self.rows(context, count)?), rng)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.distribution.sample_with_log_prob(count, Some(&self.rows(context, count)?), rng)
    }

    fn sample_with_log_prob_training(
        &self,
        count: usize,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor)> {
        self.distribution.sample_with_log_prob_training(count, Some(&self.rows(context, count)?), rng)
    }

    fn support(&self) -> Support {
        self.distribution.support()
    }

    fn dtype(&self) -> Option<DType> {
        self.distribution.dtype()
    }

    fn device(&self) -> Device {
        self.distribution.device()
    }

    fn structure(&self) -> Structure {
        self.distribution.structure()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::{Autoregressive, Embed, univariate::Affine};
    use crate::distributions::{StandardNormal, Transformed, draw, draw_given, draw_with_log_prob, score};
    use crate::nn::{Mode, Network, NetworkConfig, Parameters};
    use crate::testing::{difference, perturb};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A network that repeats the first column of a context, and counts the rows that it has processed.
    #[derive(Debug, Default)]
    struct Counted(Arc<AtomicUsize>);

    impl Network for Counted {
        fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
            self.0.fetch_add(x.dim(0)?, Ordering::Relaxed);
            let first = x.narrow(1, 0, 1)?;
            Ok(Tensor::cat(&[&first, &first], 1)?)
        }

        fn structure(&self) -> Structure {
            Structure::new("Counted", "")
        }
    }

    #[test]
    fn a_context_is_embedded_once() -> Result<()> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let network = NetworkConfig::mlp([8]);
        let affine = Arc::new(Affine::default());
        let layer = Autoregressive::new(2, affine, Some(2), None, &network, &parameters.scope())?;
        perturb(&parameters, 0.3, &mut Rng::seed(1))?;
        let counted = Counted::default();
        let rows = counted.0.clone();
        let base = StandardNormal::new([2], DType::F64, &Device::Cpu)?;
        let flow = Transformed::new(base, Embed::new(Box::new(counted), Box::new(layer)))?;

        let contexts = Rng::seed(2).normal_tensor((3, 5), DType::F64, &Device::Cpu)?;
        let given = flow.given(&contexts.get(1)?)?;
        let x = draw(&given, 300, None, &mut Rng::seed(3))?;
        let log_prob = score(&given, &x, None)?;
        assert_eq!(rows.swap(0, Ordering::Relaxed), 1, "the network processed more than one context");
        let repeated = contexts.narrow(0, 1, 1)?.broadcast_as((300, 5))?;
        assert!(difference(&flow.log_prob(&x, Some(&repeated))?, &log_prob)? < 1e-12);
        let (same, same_log_prob) = draw_with_log_prob(&given, 300, None, &mut Rng::seed(3))?;
        assert!(difference(&x, &same)? == 0.0 && difference(&log_prob, &same_log_prob)? < 1e-9);

        rows.store(0, Ordering::Relaxed);
        let draws = draw_given(&flow, 200, &contexts, &mut Rng::seed(4))?;
        assert_eq!((draws.dims(), rows.load(Ordering::Relaxed)), (&[3, 200, 2][..], 3));
        // Draws follow their contexts: given another context they are less likely.
        let log_prob = |context: usize| -> Result<f64> {
            let log_prob = flow.given(&contexts.get(context)?)?.log_prob(&draws.get(2)?, None)?;
            Ok(log_prob.mean_all()?.to_scalar::<f64>()?)
        };
        assert!(log_prob(2)? > log_prob(0)? && log_prob(2)? > log_prob(1)?);
        Ok(())
    }
}
