//! What a step of training keeps of the flow's activations.

use super::{Loss, LossGradients, forward_kl, reverse_kl};
use crate::bijectors::{Pass, Sweep, add_gradients, leaf};
use crate::distributions::{Distribution, Transformed};
use crate::ops::{Direction, Sums};
use crate::{Error, Result, Rng};
use candle_core::{Tensor, Var, backprop::GradStore};
use serde::{Deserialize, Serialize};

/// How the gradients of a flow's loss come by the activations they need.
///
/// Both give the same gradients. Recomputing takes up to two thirds more time, and memory for the
/// activations of one step, whatever the number of steps: of the inputs of a chain's n steps it keeps
/// n / 8, finds the others again, eight at a time, and makes the graph of one step at a time
/// (checkpoints: Chen et al., 2016, arXiv:1604.06174). Going back by the inverses would keep none, but
/// their rounding grows from step to step where a flow is badly conditioned, and crosses kinks of
/// activations and knots of splines that lie near.
///
/// A distribution that is more than a flow (a mixture of them, say) keeps its graph.
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
    /// [`forward_kl`], its gradients being those for the distribution's weights and whatever x and the context
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
    ) -> Result<FlowLoss> {
        Ok(match (self, distribution.transformed()) {
            (Self::Recompute, Some(flow)) => FlowLoss::Known(recomputed_forward_kl(flow, x, context, rng)?),
            _ => FlowLoss::Graph(forward_kl(distribution, x, context, rng)?),
        })
    }

    /// [`reverse_kl`] likewise.
    ///
    /// # Errors
    /// As [`reverse_kl`].
    pub fn reverse_kl(
        self,
        distribution: &dyn Distribution,
        log_density: impl Fn(&Tensor) -> Result<Tensor>,
        samples: usize,
        rng: &mut Rng,
    ) -> Result<FlowLoss> {
        Ok(match (self, distribution.transformed()) {
            (Self::Recompute, Some(flow)) => FlowLoss::Known(recomputed_reverse_kl(flow, log_density, samples, rng)?),
            _ => FlowLoss::Graph(reverse_kl(distribution, log_density, samples, rng)?),
        })
    }
}

/// A loss of a flow: its graph, or its gradients where there is no graph any more.
#[derive(Debug)]
pub enum FlowLoss {
    /// A scalar.
    Graph(Tensor),
    /// Value and gradients.
    Known(LossGradients),
}

impl Loss for FlowLoss {
    fn gradients_beside(self, sums: &mut Sums) -> Result<LossGradients> {
        match self {
            Self::Graph(loss) => loss.gradients_beside(sums),
            Self::Known(known) => known.gradients_beside(sums),
        }
    }

    fn times(self, factor: f64) -> Result<Self> {
        Ok(match self {
            Self::Graph(loss) => Self::Graph(loss.times(factor)?),
            Self::Known(known) => Self::Known(known.times(factor)?),
        })
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
        let x_gradient = ends.back(pass, near, gradients)?;
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
        let z_gradient = ends.back(pass, None, gradients)?;
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

    /// The gradient for the pass's input.
    fn back(self, pass: Pass<'_>, context: Option<&Tensor>, gradients: &mut GradStore) -> Result<Tensor> {
        let nothing = self.log_det.zeros_like()?;
        let mut sweep = Sweep { log_det: &nothing, context, gradients };
        let (gradient, log_det) = (sweep.take(&self.value)?, sweep.take(&self.log_det)?);
        (pass.back)(gradient, &mut Sweep { log_det: &log_det, ..sweep })
    }
}

/// Carries a gradient on to what the tensor was computed from.
fn push(tensor: &Tensor, gradient: Option<Tensor>, gradients: &mut GradStore) -> Result<()> {
    match gradient {
        Some(gradient) if tensor.track_op() => add_gradients(&(tensor * gradient)?.sum_all()?, gradients),
        _ => Ok(()),
    }
}
