//! Passes that keep no activations, and their way back.

use super::Bijector;
use crate::ops::Direction;
use crate::{Result, Rng};
use candle_core::{Tensor, Var, backprop::GradStore};

/// The result of a pass without its graph, and the way back through it, which makes the graph again
/// a step at a time: [`Bijector::pass`].
pub struct Pass<'a> {
    /// What the direction gives, (B, event...).
    pub value: Tensor,
    /// Its log-determinant, (B).
    pub log_det: Tensor,
    /// From the value to the input, each with the gradient of the loss.
    pub back: Back<'a>,
}

/// The way back of a [`Pass`]: from its value and the value's gradient to its input and the input's
/// gradient. The gradients of variables are added to those of the [`Sweep`].
pub type Back<'a> = Box<dyn FnOnce(Point, &mut Sweep<'_>) -> Result<Point> + 'a>;

/// What the way back takes along.
pub struct Sweep<'a> {
    /// The gradient of the loss for the log-determinant, (B).
    pub log_det: &'a Tensor,
    /// The context of the pass. If it is a variable, its gradient is among the others.
    pub context: Option<&'a Tensor>,
    /// The gradients of variables, as far as they are known.
    pub gradients: &'a mut GradStore,
}

/// A tensor and the gradient of the loss for it, of the same shape.
#[derive(Clone, Debug)]
pub struct Point {
    /// The tensor, without a graph.
    pub value: Tensor,
    /// The gradient.
    pub gradient: Tensor,
}

impl Point {
    /// Applies a rearrangement of elements to both.
    pub(super) fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { value: f(&self.value)?, gradient: f(&self.gradient)? })
    }

    /// Applies a rearrangement of the elements of several to both.
    pub(super) fn join<const N: usize>(parts: [&Self; N], f: impl Fn([&Tensor; N]) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { value: f(parts.map(|p| &p.value))?, gradient: f(parts.map(|p| &p.gradient))? })
    }
}

impl<'a> Pass<'a> {
    /// A pass with a `result` whose way back runs it again, by `run`, from the input that `undo` finds
    /// from the value, both given the context.
    pub(super) fn step(
        result: (Tensor, Tensor),
        undo: impl FnOnce(Tensor, Option<&Tensor>) -> Result<Tensor> + 'a,
        run: impl FnOnce(&Tensor, Option<&Tensor>) -> Result<(Tensor, Tensor)> + 'a,
    ) -> Self {
        let back = move |at: Point, sweep: &mut Sweep<'_>| {
            let input = leaf(&undo(at.value, sweep.context)?)?;
            sweep.pull(run(&input, sweep.context)?, &at.gradient)?;
            sweep.take(&input)
        };
        Self { value: result.0.detach(), log_det: result.1.detach(), back: Box::new(back) }
    }

    /// The pass of a bijector whose only parts are its two directions.
    pub(super) fn whole<B: Bijector + ?Sized>(
        bijector: &'a B,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mut rng: Option<&mut Rng>,
    ) -> Result<Self> {
        // The way back is to draw the same again.
        let mut drawn = rng.as_deref().cloned();
        let result = run(bijector, direction, input, context, rng.as_deref_mut())?;
        let kept = if bijector.recomputes() { None } else { Some(input.detach()) };
        let undo = move |value: Tensor, context: Option<&Tensor>| match kept {
            Some(input) => Ok(input),
            None => Ok(run(bijector, direction.opposite(), &value, context, None)?.0.detach()),
        };
        let run = move |input: &Tensor, context: Option<&Tensor>| run(bijector, direction, input, context, drawn.as_mut());
        Ok(Self::step(result, undo, run))
    }
}

fn run<B: Bijector + ?Sized>(
    bijector: &B,
    direction: Direction,
    input: &Tensor,
    context: Option<&Tensor>,
    rng: Option<&mut Rng>,
) -> Result<(Tensor, Tensor)> {
    match (direction, rng) {
        (Direction::Forward, _) => bijector.forward(input, context),
        (Direction::Inverse, None) => bijector.inverse(input, context),
        (Direction::Inverse, Some(rng)) => bijector.inverse_training(input, context, rng),
    }
}

/// A variable of this value, at which a graph ends.
pub(crate) fn leaf(value: &Tensor) -> Result<Var> {
    Ok(Var::from_tensor(&value.detach())?)
}

impl Sweep<'_> {
    /// Adds the gradients through a value, whose own is `gradient`, and its log-determinant.
    pub(super) fn pull(&mut self, (value, log_det): (Tensor, Tensor), gradient: &Tensor) -> Result<()> {
        let loss = ((value * gradient)?.sum_all()? + (log_det * self.log_det)?.sum_all()?)?;
        add_gradients(&loss, self.gradients)
    }

    /// A leaf with its gradient, which is no longer among the others then.
    pub(super) fn take(&mut self, leaf: &Var) -> Result<Point> {
        let gradient = match self.gradients.remove(leaf) {
            Some(gradient) => gradient,
            None => leaf.zeros_like()?,
        };
        Ok(Point { value: leaf.as_detached_tensor(), gradient })
    }

    /// The same with another context.
    pub(super) fn given<'b>(&'b mut self, context: &'b Tensor) -> Sweep<'b> {
        Sweep { log_det: self.log_det, context: Some(context), gradients: self.gradients }
    }
}

/// Adds the gradients of a scalar for the variables that it depends on.
pub(crate) fn add_gradients(loss: &Tensor, gradients: &mut GradStore) -> Result<()> {
    let mut found = loss.backward()?;
    // The store has constants of the graph too, and its tensors hold on to the graph.
    for var in loss.sorted_nodes().into_iter().filter(|node| node.is_variable()) {
        let Some(gradient) = found.remove(var) else { continue };
        let sum = match gradients.remove(var) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        gradients.insert(var, sum.detach());
    }
    Ok(())
}
