//! What a step of training keeps of the flow's activations.

use super::{LossGradients, forward_kl, reverse_kl};
use crate::bijectors::{Pass, Point, Sweep, add_gradients, leaf};
use crate::distributions::{Distribution, Transformed};
use crate::ops::Direction;
use crate::{Error, Result, Rng};
use candle_core::{Tensor, Var, backprop::GradStore};
use serde::{Deserialize, Serialize};

/// How the gradients of a flow's loss come by the activations they need.
///
/// The gradients agree but for rounding. Recomputing takes a third more time or so, and memory that
/// does not grow with the number of steps: each step's graph is made again, from its input, which is
/// found from its output, when its turn comes (Gomez et al., 2017, arXiv:1707.04585). Steps whose
/// inverse is expensive or inexact ([`Bijector::recomputes`](crate::bijectors::Bijector::recomputes))
/// keep their input and nothing else. A distribution that is not a flow at its top keeps its graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// They are stored: the fastest.
    #[default]
    Store,
    /// They are computed again in the backward pass.
    Recompute,
}

impl Memory {
    /// [`forward_kl`] with its gradients, for the distribution's weights and whatever x and the context
    /// were computed from.
    ///
    /// # Errors
    /// As [`forward_kl`].
    pub fn forward_kl(
        self,
        distribution: &dyn Distribution,
        x: &Tensor,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<LossGradients> {
        match (self, distribution.transformed()) {
            (Self::Recompute, Some(flow)) => recomputed_forward_kl(flow, x, context, rng),
            _ => LossGradients::of(&forward_kl(distribution, x, context, rng)?),
        }
    }

    /// [`reverse_kl`] with its gradients.
    ///
    /// # Errors
    /// As [`reverse_kl`].
    pub fn reverse_kl(
        self,
        distribution: &dyn Distribution,
        log_density: impl Fn(&Tensor) -> Result<Tensor>,
        samples: usize,
        rng: &mut Rng,
    ) -> Result<LossGradients> {
        match (self, distribution.transformed()) {
            (Self::Recompute, Some(flow)) => recomputed_reverse_kl(flow, log_density, samples, rng),
            _ => LossGradients::of(&reverse_kl(distribution, log_density, samples, rng)?),
        }
    }
}

fn recomputed_forward_kl(
    flow: &Transformed,
    x: &Tensor,
    context: Option<&Tensor>,
    rng: &mut Rng,
) -> Result<LossGradients> {
    flow.check(x, context)?;
    // The graph ends at a leaf, so that no step goes through what is behind the context. Classes have
    // no gradient.
    let given = context.filter(|c| c.dtype().is_float()).map(leaf).transpose()?;
    let near = given.as_ref().map(Var::as_tensor).or(context);
    let pass = flow.bijector().pass(Direction::Inverse, &x.detach(), near, Some(&mut *rng))?;
    let ends = Ends::of(&pass)?;
    let z = (ends.value.as_tensor().clone(), ends.log_det.as_tensor().clone());
    let log_prob = flow.log_prob_training_at(z, &x.detach(), near, rng)?;
    let mut result = LossGradients::of(&log_prob.mean_all()?.neg()?)?;
    if let Some(gradients) = &mut result.gradients {
        let x_gradient = ends.back(pass, near, gradients)?.gradient;
        push(x, Some(x_gradient), gradients)?;
        if let (Some(context), Some(given)) = (context, given) {
            let gradient = gradients.remove(&given);
            push(context, gradient, gradients)?;
        }
    }
    Ok(result)
}

fn recomputed_reverse_kl(
    flow: &Transformed,
    log_density: impl Fn(&Tensor) -> Result<Tensor>,
    samples: usize,
    rng: &mut Rng,
) -> Result<LossGradients> {
    if samples == 0 {
        return Err(Error::Config("the reverse KL needs at least one sample".into()));
    }
    let (z, log_base) = flow.base().sample_with_log_prob(samples, None, rng)?;
    let pass = flow.bijector().pass(Direction::Forward, &z.detach(), None, None)?;
    let ends = Ends::of(&pass)?;
    let log_q = (log_base - ends.log_det.as_tensor())?;
    let log_p = log_density(&ends.value)?;
    if log_p.dims() != [samples] {
        return Err(Error::shape("the log-density of the target", log_p.dims(), format!("({samples})")));
    }
    let mut result = LossGradients::of(&(log_q - log_p)?.mean_all()?)?;
    if let Some(gradients) = &mut result.gradients {
        let z_gradient = ends.back(pass, None, gradients)?.gradient;
        push(&z, Some(z_gradient), gradients)?;
    }
    Ok(result)
}

/// The leaves at which the graph of a loss ends: what a pass gives.
struct Ends {
    value: Var,
    log_det: Var,
}

impl Ends {
    fn of(pass: &Pass<'_>) -> Result<Self> {
        Ok(Self { value: leaf(&pass.value)?, log_det: leaf(&pass.log_det)? })
    }

    /// The pass's input, and the gradient for it.
    fn back(self, pass: Pass<'_>, context: Option<&Tensor>, gradients: &mut GradStore) -> Result<Point> {
        let mut take = |leaf: &Var| match gradients.remove(leaf) {
            Some(gradient) => Ok(gradient.detach()),
            None => leaf.zeros_like(),
        };
        let (gradient, log_det) = (take(&self.value)?, take(&self.log_det)?);
        let at = Point { value: pass.value, gradient };
        (pass.back)(at, &mut Sweep { log_det: &log_det, context, gradients })
    }
}

/// Carries a gradient on to what the tensor was computed from.
fn push(tensor: &Tensor, gradient: Option<Tensor>, gradients: &mut GradStore) -> Result<()> {
    match gradient {
        Some(gradient) if tensor.track_op() => add_gradients(&(tensor * gradient)?.sum_all()?, gradients),
        _ => Ok(()),
    }
}
