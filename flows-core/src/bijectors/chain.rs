//! One bijector after another.

use super::keep::{inward, keep};
use super::{Backward, Bijector, Direction, Mode, Recompute, Support, Upstream, Vjp, vjp};
use crate::shape::{batch_shape, zero_log_det};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// Fewest steps between two checkpoints.
const SEGMENT: usize = 8;

/// The composition of bijectors: `forward` applies them first to last, `inverse` last to first.
///
/// `x = f_K(... f_1(z))`, `log|det dx/dz| = sum_k log|det df_k|`. Event shapes of neighbours must
/// agree; that is checked when the chain is made.
///
/// A step after one with bounds, say a rotation after a sigmoid, rounds its output, from which that step's inverse may
/// then find its own outside of the bounds. So that no draw is one that the chain's inverse refuses, `forward` moves
/// such a value inside before the later step, by a few roundings.
#[derive(Debug)]
pub struct Chain {
    steps: Vec<Box<dyn Bijector>>,
    /// The steps but the last whose x are not all of the reals.
    bounded: Vec<usize>,
}

impl Chain {
    /// The chain of `steps`, from the base to the data.
    ///
    /// # Errors
    /// When there is no step, or the data shape of one is not the latent shape of the next.
    pub fn new(steps: Vec<Box<dyn Bijector>>) -> Result<Self> {
        if steps.is_empty() {
            return Err(Error::Config("a chain needs at least one bijector".into()));
        }
        for (i, pair) in steps.windows(2).enumerate() {
            if pair[0].data_shape() != pair[1].latent_shape() {
                let want = format!("the {:?} of step {}", pair[1].latent_shape(), i + 1);
                return Err(Error::shape(format!("the output of step {i} of the chain"), pair[0].data_shape(), want));
            }
        }
        let is_bounded = |step: &dyn Bijector| step.support().is_some_and(|set| !matches!(set, Support::Real { .. }));
        let bounded = (0..steps.len() - 1).filter(|&i| is_bounded(&steps[i])).collect();
        Ok(Self { steps, bounded })
    }

    /// The steps, from the base to the data.
    pub fn steps(&self) -> &[Box<dyn Bijector>] {
        &self.steps
    }

    /// The steps in the order of a direction, with their indices in the chain.
    fn ordered(&self, direction: Direction) -> Vec<(usize, &dyn Bijector)> {
        let steps = self.steps.iter().map(Box::as_ref).enumerate();
        match direction {
            Direction::Forward => steps.collect(),
            Direction::Inverse => steps.rev().collect(),
        }
    }
}

impl Chain {
    /// The output `x` of step `i`, moved inside of the range of that step in rows that the later steps and their
    /// inverses carry out of it.
    fn keep(&self, i: usize, x: Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        if !self.bounded.contains(&i) {
            return Ok(x);
        }
        let (step, later) = (&self.steps[i], &self.steps[i + 1..]);
        let target = || match step.support().map(|support| inward(&support, &x)).transpose()?.flatten() {
            Some(target) => Ok(target),
            None => {
                let latent = Tensor::zeros(batch_shape(x.dim(0)?, step.latent_shape()), x.dtype(), x.device())?;
                Ok(step.forward(&latent, context)?.0.detach())
            }
        };
        keep(&x, target, |x| {
            let (mut value, mut total) = (x.clone(), zero_log_det(x)?);
            for step in later {
                let (next, log_det) = step.forward(&value, context)?;
                (value, total) = (next, (total + log_det)?);
            }
            for step in later.iter().rev() {
                value = step.inverse(&value, context)?.0;
            }
            // What a later step takes for a point outside of its domain has density 0 anyway.
            let never = f64::NEG_INFINITY;
            Ok((total.ne(never)? * step.inverse(&value, context)?.1.eq(never)?)?)
        })
    }
}

/// The sum of the log-determinants of steps.
#[derive(Default)]
struct Total(Option<Tensor>);

impl Total {
    fn add(&mut self, step: usize, log_det: Tensor) -> Result<()> {
        self.0 = Some(match self.0.take() {
            None => log_det,
            Some(sum) if sum.dims() == log_det.dims() => (sum + log_det)?,
            Some(sum) => {
                let what = format!("the log-determinant of step {step} of the chain");
                return Err(Error::shape(what, log_det.dims(), format!("{:?}", sum.dims())));
            }
        });
        Ok(())
    }

    /// `new` refuses an empty chain, so there was at least one step.
    fn get(self) -> Result<Tensor> {
        self.0.ok_or_else(|| Error::Config("a chain needs at least one bijector".into()))
    }
}

/// The value after consecutive steps of a chain, and their backward passes.
fn through<'a>(
    chain: &Chain,
    steps: &[(usize, &'a dyn Bijector)],
    direction: Direction,
    input: &Tensor,
    context: Option<&Tensor>,
    mode: &mut Mode<'_>,
    total: &mut Total,
) -> Result<(Tensor, Vec<Backward<'a>>)> {
    let mut value = input.clone();
    let mut backwards = Vec::with_capacity(steps.len());
    for (i, step) in steps {
        let (next, log_det, backward) = vjp(*step, direction, &value, context, mode)?.into_parts();
        value = if direction == Direction::Forward { chain.keep(*i, next, context)? } else { next };
        backwards.push(backward);
        total.add(*i, log_det)?;
    }
    Ok((value, backwards))
}

fn backward_through(backwards: Vec<Backward<'_>>, gradient: Tensor, upstream: &mut Upstream<'_>) -> Result<Tensor> {
    backwards.into_iter().rev().try_fold(gradient, |gradient, backward| backward(gradient, upstream))
}

impl Bijector for Chain {
    fn latent_shape(&self) -> &[usize] {
        self.steps[0].latent_shape()
    }

    fn data_shape(&self) -> &[usize] {
        self.steps[self.steps.len() - 1].data_shape()
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let (mut value, mut total) = (input.clone(), Total::default());
        for (i, step) in self.ordered(direction) {
            let (next, log_det) = step.map(direction, &value, context, mode)?;
            value = if direction == Direction::Forward { self.keep(i, next, context)? } else { next };
            total.add(i, log_det)?;
        }
        Ok((value, total.get()?))
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.steps.iter().rev().try_fold(x.clone(), |v, step| step.initialize(&v, context))
    }

    fn support(&self) -> Option<Support> {
        self.image(&Support::real(self.latent_shape()))
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        let mut known = Some(latent.clone());
        for step in &self.steps {
            known = step.image(&known.unwrap_or_else(|| Support::real(step.latent_shape())));
        }
        known
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        let mut known = Some(data.clone());
        for step in self.steps.iter().rev() {
            known = step.preimage(&known.unwrap_or_else(|| Support::real(step.data_shape())));
        }
        known
    }

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }

    fn structure(&self) -> Structure {
        Structure::new("Chain", format!("of {}", self.steps.len())).parts(self.steps.iter().map(|s| s.structure()))
    }
}

impl Recompute for Chain {
    /// The steps are divided into segments of 8, or of the square root of their number if that is more. The input of a
    /// segment is its checkpoint, from which the backward pass recomputes the inputs of its steps.
    fn vjp<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<Vjp<'a>> {
        let steps = self.ordered(direction);
        let segments = steps.chunks(SEGMENT.max(steps.len().isqrt()));
        let last = segments.len() - 1;
        let (mut value, mut total, mut backwards) = (input.detach(), Total::default(), Vec::<Backward<'a>>::new());
        for (i, steps) in segments.enumerate() {
            let mut rng = mode.rng().cloned();
            let (next, segment) = through(self, steps, direction, &value, context, mode, &mut total)?;
            let checkpoint = std::mem::replace(&mut value, next);
            // The backward pass begins with the last segment, whose inputs are still at hand.
            if i == last {
                backwards.extend(segment);
                continue;
            }
            let steps = steps.to_vec();
            backwards.push(Box::new(move |gradient, upstream| {
                let mode = &mut Mode::recomputing(rng.as_mut());
                let context = upstream.context;
                let (_, backwards) =
                    through(self, &steps, direction, &checkpoint, context, mode, &mut Total::default())?;
                backward_through(backwards, gradient, upstream)
            }));
        }
        let backward =
            Box::new(move |gradient, upstream: &mut Upstream<'_>| backward_through(backwards, gradient, upstream));
        Ok(Vjp::new(&value, &total.get()?, backward))
    }
}
