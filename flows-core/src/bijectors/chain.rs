//! One bijector after another.

use super::{Backward, Bijector, Direction, Mode, Recompute, Support, Upstream, Vjp, vjp};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// Fewest steps between two checkpoints.
const SEGMENT: usize = 8;

/// The composition of bijectors: `forward` applies them first to last, `inverse` last to first.
///
/// `x = f_K(... f_1(z))`, `log|det dx/dz| = sum_k log|det df_k|`. Event shapes of neighbours must
/// agree; that is checked when the chain is made.
#[derive(Debug)]
pub struct Chain {
    steps: Vec<Box<dyn Bijector>>,
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
        Ok(Self { steps })
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

/// The value after consecutive steps, and their backward passes.
fn through<'a>(
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
        value = next;
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
            value = next;
            total.add(i, log_det)?;
        }
        Ok((value, total.get()?))
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.steps.iter().rev().try_fold(x.clone(), |v, step| step.initialize(&v, context))
    }

    fn support(&self) -> Option<Support> {
        self.steps[self.steps.len() - 1].support()
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
            let (next, segment) = through(steps, direction, &value, context, mode, &mut total)?;
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
                let (_, backwards) = through(&steps, direction, &checkpoint, context, mode, &mut Total::default())?;
                backward_through(backwards, gradient, upstream)
            }));
        }
        let backward =
            Box::new(move |gradient, upstream: &mut Upstream<'_>| backward_through(backwards, gradient, upstream));
        Ok(Vjp::new(&value, &total.get()?, backward))
    }
}
