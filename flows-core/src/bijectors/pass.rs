//! Passes that keep no activations, and their way back.

use super::Bijector;
use super::reshape::no_log_det;
use crate::ops::Direction;
use crate::{Error, Result, Rng, ops};
use candle_core::{Tensor, Var, backprop::GradStore};

/// The result of a pass without its graph, and the way back through it: [`Bijector::pass`].
pub struct Pass<'a> {
    /// What the direction gives, (B, event...).
    pub value: Tensor,
    /// Its log-determinant, (B).
    pub log_det: Tensor,
    /// From the gradient of the loss for the value to that for the input.
    pub back: Back<'a>,
    /// Whether another pass from the same input and generator would be the same, to the bit and in
    /// its effects: not if it changes buffers.
    pub repeatable: bool,
}

/// The way back of a [`Pass`]: from the gradient for the value to that for the input. Those of
/// variables are added to the gradients of the [`Sweep`].
pub type Back<'a> = Box<dyn FnOnce(Tensor, &mut Sweep<'_>) -> Result<Tensor> + 'a>;

/// What a bijector made of others does to each of its parts.
pub(super) type Apply<'b, 'a> = &'b mut dyn FnMut(&'a dyn Bijector, &Tensor) -> Result<(Tensor, Tensor)>;

/// What the way back takes along.
pub struct Sweep<'a> {
    /// The gradient of the loss for the log-determinant, (B).
    pub log_det: &'a Tensor,
    /// The context of the pass. If it is a variable, its gradient is among the others.
    pub context: Option<&'a Tensor>,
    /// The gradients of variables, as far as they are known.
    pub gradients: &'a mut GradStore,
}

impl<'a> Pass<'a> {
    /// A pass with this `result`, which the way back makes again, with its graph, by `run` from the
    /// input and the context.
    pub fn again(
        input: &Tensor,
        result: (Tensor, Tensor),
        run: impl FnOnce(&Tensor, Option<&Tensor>) -> Result<(Tensor, Tensor)> + 'a,
    ) -> Self {
        let input = input.detach();
        let back = move |gradient: Tensor, sweep: &mut Sweep<'_>| {
            let input = leaf(&input)?;
            let (value, log_det) = run(&input, sweep.context)?;
            let loss = ((value * gradient)?.sum_all()? + (log_det * sweep.log_det)?.sum_all()?)?;
            add_gradients(&loss, sweep.gradients)?;
            sweep.take(&input)
        };
        Self { value: result.0.detach(), log_det: result.1.detach(), back: Box::new(back), repeatable: true }
    }

    /// The pass of a bijector that is one step: its input is kept.
    pub(super) fn step<B: Bijector + ?Sized>(
        bijector: &'a B,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        rng: Option<&mut Rng>,
    ) -> Result<Self> {
        let run = move |input: &Tensor, context: Option<&Tensor>, rng: Option<&mut Rng>| match (direction, rng) {
            (Direction::Forward, _) => bijector.forward(input, context),
            (Direction::Inverse, None) => bijector.inverse(input, context),
            (Direction::Inverse, Some(rng)) => bijector.inverse_training(input, context, rng),
        };
        // The way back is to draw the same again.
        let mut drawn = rng.as_deref().cloned();
        let result = run(input, context, rng)?;
        Ok(Self::again(input, result, move |input, context| run(input, context, drawn.as_mut())))
    }

    /// The pass of a bijector whose parts stand side by side: `run` cuts the input of a direction into
    /// theirs, and joins what is applied to them in their order.
    pub(super) fn of_parts(
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mut rng: Option<&mut Rng>,
        run: impl Fn(Direction, &Tensor, Apply<'_, 'a>) -> Result<(Tensor, Tensor)> + 'a,
    ) -> Result<Self> {
        let (mut ways, mut repeatable) = (Vec::new(), true);
        let (value, log_det) = run(direction, &input.detach(), &mut |part, v| {
            let pass = part.pass(direction, v, context, rng.as_deref_mut())?;
            repeatable &= pass.repeatable;
            ways.push(pass.back);
            Ok((pass.value, pass.log_det))
        })?;
        let back = move |gradient: Tensor, sweep: &mut Sweep<'_>| {
            let mut ways = ways.into_iter();
            let back = run(direction.opposite(), &gradient, &mut |_, gradient| match ways.next() {
                Some(back) => Ok((back(gradient.contiguous()?, sweep)?, no_log_det(gradient)?)),
                None => Err(Error::Config("a part has no way back".into())),
            });
            Ok(back?.0)
        };
        Ok(Self { value, log_det, back: Box::new(back), repeatable })
    }

    /// The same, whose way back has this context whatever that of the sweep.
    pub(super) fn given(self, context: &Tensor) -> Self {
        let (context, back) = (context.clone(), self.back);
        let back = move |gradient: Tensor, sweep: &mut Sweep<'_>| back(gradient, &mut sweep.given(&context));
        Self { back: Box::new(back), ..self }
    }
}

impl Sweep<'_> {
    /// The gradient for a leaf, which is no longer among the others then.
    pub(crate) fn take(&mut self, leaf: &Var) -> Result<Tensor> {
        match self.gradients.remove(leaf) {
            Some(gradient) => Ok(gradient.detach()),
            None => Ok(leaf.zeros_like()?),
        }
    }

    /// The same with another context.
    pub(super) fn given<'b>(&'b mut self, context: &'b Tensor) -> Sweep<'b> {
        Sweep { log_det: self.log_det, context: Some(context), gradients: self.gradients }
    }
}

/// A variable of this value, at which a graph ends.
pub(crate) fn leaf(value: &Tensor) -> Result<Var> {
    Ok(Var::from_tensor(&value.detach())?)
}

/// Adds the gradients of a scalar for the variables that it depends on.
pub(crate) fn add_gradients(loss: &Tensor, gradients: &mut GradStore) -> Result<()> {
    Ok(gradients.extend(ops::gradients(loss)?)?)
}
