//! Storing or recomputing a flow's activations for the backward pass.

use super::objective::{at_least_one, excess, rows};
use super::{Loss, LossGradients, conditional_reverse_kl, forward_kl, reverse_kl};
use crate::bijectors::{Direction, Mode, Upstream, Vjp, add_gradients, leaf, vjp};
use crate::distributions::Transformed;
use crate::ops::Sums;
use crate::{Result, Rng};
use candle_core::{Tensor, Var, backprop::GradStore};
use serde::{Deserialize, Serialize};

/// Where the backward pass of a flow's loss gets the activations from.
///
/// Both variants give the same gradients. Recomputing takes up to two thirds more time, but only the memory for the
/// activations of one step, whatever the number of steps: of the inputs of a chain's n steps it keeps
/// n / 8 as checkpoints, recomputes the others, eight at a time, and builds the graph of one step at a time
/// (Chen et al., 2016, arXiv:1604.06174). Inverting the steps would need no checkpoints, but in an
/// ill-conditioned flow the rounding errors of the inverses grow from step to step, and can carry a value across a
/// nearby kink of an activation or knot of a spline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// The activations are stored: fastest.
    #[default]
    Store,
    /// The activations are recomputed in the backward pass.
    Recompute,
}

impl Memory {
    /// [`forward_kl`], with gradients for the flow's weights and for whatever x and the context were computed from.
    ///
    /// # Errors
    /// Same as [`forward_kl`].
    pub fn forward_kl(
        self,
        flow: &Transformed,
        x: &Tensor,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<FlowLoss> {
        Ok(match self {
            Self::Recompute => FlowLoss::Known(recomputed_forward_kl(flow, x, context, rng)?),
            Self::Store => FlowLoss::Graph(forward_kl(flow, x, context, rng)?),
        })
    }

    /// [`reverse_kl`], with gradients as for [`Self::forward_kl`].
    ///
    /// # Errors
    /// Same as [`reverse_kl`].
    pub fn reverse_kl(
        self,
        flow: &Transformed,
        log_density: impl Fn(&Tensor) -> Result<Tensor>,
        samples: usize,
        rng: &mut Rng,
    ) -> Result<FlowLoss> {
        Ok(match self {
            Self::Recompute => {
                let samples = at_least_one(samples)?;
                FlowLoss::Known(recomputed_reverse_kl(flow, log_density, samples, None, rng)?)
            }
            Self::Store => FlowLoss::Graph(reverse_kl(flow, log_density, samples, rng)?),
        })
    }

    /// [`conditional_reverse_kl`], with gradients as for [`Self::forward_kl`].
    ///
    /// # Errors
    /// Same as [`conditional_reverse_kl`].
    pub fn conditional_reverse_kl(
        self,
        flow: &Transformed,
        log_density: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
        context: &Tensor,
        rng: &mut Rng,
    ) -> Result<FlowLoss> {
        Ok(match self {
            Self::Recompute => {
                let (log_density, samples) = (|x: &Tensor| log_density(x, context), rows(context)?);
                FlowLoss::Known(recomputed_reverse_kl(flow, log_density, samples, Some(context), rng)?)
            }
            Self::Store => FlowLoss::Graph(conditional_reverse_kl(flow, log_density, context, rng)?),
        })
    }
}

/// A loss of a flow: its graph, or its value and gradients if the graph is already gone.
#[derive(Debug)]
pub enum FlowLoss {
    /// A scalar with its graph.
    Graph(Tensor),
    /// The value and its gradients.
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
    let given = Given::of(context)?;
    let x_detached = x.detach();
    let pass = vjp(flow.bijector(), Direction::Inverse, &x_detached, given.context(), &mut Mode::training(&mut *rng))?;
    let ends = Ends::of(&pass)?;
    let z = (ends.value.as_tensor().clone(), ends.log_det.as_tensor().clone());
    let log_prob = flow.log_prob_training_at(z, &x_detached, given.context(), rng)?;
    let mut result = LossGradients::of(&log_prob.mean_all()?.neg()?)?;
    if let Some(gradients) = &mut result.gradients {
        let x_gradient = ends.backward(pass, given.context(), gradients)?;
        push(x, Some(x_gradient), gradients)?;
        given.push(gradients)?;
    }
    Ok(result)
}

fn recomputed_reverse_kl(
    flow: &Transformed,
    log_density: impl Fn(&Tensor) -> Result<Tensor>,
    samples: usize,
    context: Option<&Tensor>,
    rng: &mut Rng,
) -> Result<LossGradients> {
    let given = Given::of(context)?;
    let (z, log_base) = flow.base().sample_with_log_prob_training(samples, given.context(), rng)?;
    let pass = vjp(flow.bijector(), Direction::Forward, &z, given.context(), &mut Mode::training(rng))?;
    let ends = Ends::of(&pass)?;
    let log_q = (log_base - ends.log_det.as_tensor())?;
    let mut result = LossGradients::of(&excess((ends.value.as_tensor().clone(), log_q), log_density)?)?;
    if let Some(gradients) = &mut result.gradients {
        let z_gradient = ends.backward(pass, given.context(), gradients)?;
        push(&z, Some(z_gradient), gradients)?;
        given.push(gradients)?;
    }
    Ok(result)
}

/// A context, and the leaf that stands in for it in the graph of a loss, so that no step differentiates
/// what the context was computed from. Class labels have no gradient.
struct Given<'a> {
    context: Option<&'a Tensor>,
    leaf: Option<Var>,
}

impl<'a> Given<'a> {
    fn of(context: Option<&'a Tensor>) -> Result<Self> {
        Ok(Self { context, leaf: context.filter(|c| c.dtype().is_float()).map(leaf).transpose()? })
    }

    /// The context to pass to the flow.
    fn context(&self) -> Option<&Tensor> {
        self.leaf.as_ref().map(Var::as_tensor).or(self.context)
    }

    /// Propagates the leaf's gradient to what the context was computed from.
    fn push(self, gradients: &mut GradStore) -> Result<()> {
        let (Some(context), Some(leaf)) = (self.context, self.leaf) else { return Ok(()) };
        let gradient = gradients.remove(&leaf);
        push(context, gradient, gradients)
    }
}

/// The leaves at which the graph of a loss ends: the outputs of a pass through the flow.
struct Ends {
    value: Var,
    log_det: Var,
}

impl Ends {
    fn of(pass: &Vjp<'_>) -> Result<Self> {
        Ok(Self { value: leaf(&pass.value)?, log_det: leaf(&pass.log_det)? })
    }

    /// The gradient with respect to the pass's input.
    fn backward(self, pass: Vjp<'_>, context: Option<&Tensor>, gradients: &mut GradStore) -> Result<Tensor> {
        let nothing = self.log_det.zeros_like()?;
        let mut upstream = Upstream { log_det: &nothing, context, gradients };
        let (gradient, log_det) = (upstream.take(&self.value)?, upstream.take(&self.log_det)?);
        pass.backward(gradient, &mut Upstream { log_det: &log_det, ..upstream })
    }
}

/// Propagates a gradient to what the tensor was computed from.
fn push(tensor: &Tensor, gradient: Option<Tensor>, gradients: &mut GradStore) -> Result<()> {
    match gradient {
        Some(gradient) if tensor.track_op() => add_gradients(&(tensor * gradient)?.sum_all()?, gradients),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::{Chain, Elementwise, univariate::Affine};
    use crate::distributions::StandardNormal;
    use crate::nn::{NetworkConfig, Parameters};
    use crate::testing::{difference, perturb};
    use candle_core::{DType, Device};
    use std::sync::Arc;

    #[test]
    fn gradients_propagate_through_the_context() -> Result<()> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let step = |name: &str| {
            let scope = parameters.scope().enter(name);
            Elementwise::conditional(&[2], Arc::new(Affine::default()), 3, &NetworkConfig::mlp([4]), &scope)
        };
        let chain = Chain::new(vec![Box::new(step("a")?), Box::new(step("b")?)])?;
        perturb(&parameters, 0.3, &mut Rng::seed(1))?;
        let base = StandardNormal::new([2], DType::F64, &Device::Cpu)?;
        let q = Transformed::new(Box::new(base), Box::new(chain))?;
        let source = leaf(&Rng::seed(2).normal_tensor((5, 3), DType::F64, &Device::Cpu)?)?;
        // The target depends on the context as well.
        let log_density = |x: &Tensor, c: &Tensor| Ok(((x - c.narrow(1, 1, 2)?)?.sqr()?.sum(1)? * -0.7)?);
        let run = |memory: Memory| {
            let context = (source.as_tensor() * 2.0)?;
            memory.conditional_reverse_kl(&q, log_density, &context, &mut Rng::seed(3)).and_then(Loss::gradients)
        };
        let (stored, recomputed) = (run(Memory::Store)?, run(Memory::Recompute)?);
        assert_eq!(stored.value, recomputed.value);
        let of = |result: &LossGradients, var: &Var| result.gradients.as_ref().and_then(|g| g.get(var).cloned());
        let source = [("the source".to_string(), source.clone())];
        for (name, var) in parameters.trainable().into_iter().chain(source) {
            let (Some(want), Some(got)) = (of(&stored, &var), of(&recomputed, &var)) else { panic!("none: {name}") };
            assert!(difference(&want, &got)? < 1e-12, "{name}: {got} is not {want}");
        }
        Ok(())
    }
}
