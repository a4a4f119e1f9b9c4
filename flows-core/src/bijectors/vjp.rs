//! Vector-Jacobian products that recompute activations in place of keeping them.

use super::{Bijector, Direction, Mode};
use crate::shape::zero_log_det;
use crate::{Error, Result, ops};
use candle_core::{Tensor, Var, backprop::GradStore};

/// How far a recomputed value v may lie from the first one, relative to 1 + |v|.
const TOLERANCE: f64 = 1e-4;

/// A bijector with a vector-Jacobian product of its own, which keeps fewer activations than running its map again with
/// the graph would: a combinator, whose parts are recomputed one at a time.
///
/// Other bijectors need none: [`vjp`] keeps their input and runs [`Bijector::map`] a second time in the backward pass
/// (Chen et al., 2016, arXiv:1604.06174).
pub trait Recompute {
    /// The value and log-determinant of a direction without their graph, and their vector-Jacobian product.
    ///
    /// # Errors
    /// As [`Bijector::map`].
    fn vjp<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<Vjp<'a>>;
}

/// The value and log-determinant of `bijector` in a direction without their graph, and their vector-Jacobian product.
///
/// # Errors
/// As [`Bijector::map`].
pub fn vjp<'a>(
    bijector: &'a dyn Bijector,
    direction: Direction,
    input: &Tensor,
    context: Option<&Tensor>,
    mode: &mut Mode<'_>,
) -> Result<Vjp<'a>> {
    if let Some(own) = bijector.recompute() {
        return own.vjp(direction, input, context, mode);
    }
    let mut rng = mode.rng().cloned();
    let result = bijector.map(direction, &input.detach(), context, mode)?;
    Ok(Vjp::checkpoint(input, result, move |input, context| {
        bijector.map(direction, input, context, &mut Mode::recomputing(rng.as_mut()))
    }))
}

/// A value and log-determinant without their graph, and the vector-Jacobian product that takes the place of the graph.
pub struct Vjp<'a> {
    /// What the direction gives, (B, event...).
    pub value: Tensor,
    /// Its log-determinant, (B).
    pub log_det: Tensor,
    backward: Backward<'a>,
}

/// A backward pass: from the gradient of the loss with respect to the value to that with respect to the input. Gradients
/// of variables are added to those of the [`Upstream`].
pub type Backward<'a> = Box<dyn FnOnce(Tensor, &mut Upstream<'_>) -> Result<Tensor> + 'a>;

/// What a backward pass is given besides the gradient of the value.
pub struct Upstream<'a> {
    /// The gradient of the loss with respect to the log-determinant, (B).
    pub log_det: &'a Tensor,
    /// The context of the pass. If it is a variable, its gradient is among the others.
    pub context: Option<&'a Tensor>,
    /// The gradients of variables so far.
    pub gradients: &'a mut GradStore,
}

/// What a combinator does to each of its parts.
pub(super) type Apply<'b, 'a> = &'b mut dyn FnMut(&'a dyn Bijector, &Tensor) -> Result<(Tensor, Tensor)>;

impl<'a> Vjp<'a> {
    /// A value and log-determinant with their backward pass.
    pub fn new(value: &Tensor, log_det: &Tensor, backward: Backward<'a>) -> Self {
        Self { value: value.detach(), log_det: log_det.detach(), backward }
    }

    /// The `result` of a pass of which only the input is kept: the backward pass builds the graph by calling `run` with
    /// the input and the context.
    pub fn checkpoint(
        input: &Tensor,
        result: (Tensor, Tensor),
        run: impl FnOnce(&Tensor, Option<&Tensor>) -> Result<(Tensor, Tensor)> + 'a,
    ) -> Self {
        let input = input.detach();
        let first = [result.0.detach(), result.1.detach()];
        let [value, log_det] = first.clone();
        let backward = move |gradient: Tensor, upstream: &mut Upstream<'_>| {
            let input = leaf(&input)?;
            let (value, log_det) = run(&input, upstream.context)?;
            check_same(&first[0], &value)?;
            check_same(&first[1], &log_det)?;
            let loss = ((value * gradient)?.sum_all()? + (log_det * upstream.log_det)?.sum_all()?)?;
            add_gradients(&loss, upstream.gradients)?;
            upstream.take(&input)
        };
        Self { value, log_det, backward: Box::new(backward) }
    }

    /// The vector-Jacobian product of parts side by side: `run` cuts the input of a direction into those of the parts
    /// and joins their images, in order.
    pub(super) fn of_parts(
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
        run: impl Fn(Direction, &Tensor, Apply<'_, 'a>) -> Result<(Tensor, Tensor)> + 'a,
    ) -> Result<Self> {
        let mut backwards = Vec::new();
        let (value, log_det) = run(direction, &input.detach(), &mut |part, v| {
            let Vjp { value, log_det, backward } = vjp(part, direction, v, context, mode)?;
            backwards.push(backward);
            Ok((value, log_det))
        })?;
        let backward = move |gradient: Tensor, upstream: &mut Upstream<'_>| {
            let mut backwards = backwards.into_iter();
            let input = run(direction.opposite(), &gradient, &mut |_, gradient| match backwards.next() {
                Some(backward) => Ok((backward(gradient.contiguous()?, upstream)?, zero_log_det(gradient)?)),
                None => Err(Error::Internal("a part has no backward pass".into())),
            });
            Ok(input?.0)
        };
        Ok(Self { value, log_det, backward: Box::new(backward) })
    }

    /// The same, with a backward pass that uses this context instead of the [`Upstream`]'s.
    pub(super) fn with_context(self, context: &Tensor) -> Self {
        let (context, backward) = (context.clone(), self.backward);
        let backward = move |gradient: Tensor, upstream: &mut Upstream<'_>| {
            backward(gradient, &mut upstream.with_context(&context))
        };
        Self { backward: Box::new(backward), ..self }
    }

    /// The gradient of the loss with respect to the input, from that with respect to the value.
    ///
    /// # Errors
    /// When a layer does not give the same result as before.
    pub fn backward(self, gradient: Tensor, upstream: &mut Upstream<'_>) -> Result<Tensor> {
        (self.backward)(gradient, upstream)
    }

    /// Value, log-determinant and backward pass.
    pub(super) fn into_parts(self) -> (Tensor, Tensor, Backward<'a>) {
        (self.value, self.log_det, self.backward)
    }
}

impl Upstream<'_> {
    /// Removes and returns the gradient with respect to a leaf.
    pub(crate) fn take(&mut self, leaf: &Var) -> Result<Tensor> {
        match self.gradients.remove(leaf) {
            Some(gradient) => Ok(gradient.detach()),
            None => Ok(leaf.zeros_like()?),
        }
    }

    /// The same with another context.
    pub(super) fn with_context<'b>(&'b mut self, context: &'b Tensor) -> Upstream<'b> {
        Upstream { log_det: self.log_det, context: Some(context), gradients: self.gradients }
    }
}

/// A variable of this value, a leaf of a new graph.
pub(crate) fn leaf(value: &Tensor) -> Result<Var> {
    Ok(Var::from_tensor(&value.detach())?)
}

/// Adds the gradients of a scalar with respect to all variables that it depends on.
pub(crate) fn add_gradients(loss: &Tensor, gradients: &mut GradStore) -> Result<()> {
    Ok(gradients.extend(ops::gradients(loss)?)?)
}

/// Fails if a recomputed value differs from the first: the gradients would be those of another function.
fn check_same(first: &Tensor, again: &Tensor) -> Result<()> {
    let again = again.detach();
    let bound = first.abs()?.affine(TOLERANCE, TOLERANCE)?;
    // A NaN passes, since comparisons with it are false; the loss reports it.
    let other = (first - again)?.abs()?.gt(&bound)?.to_dtype(candle_core::DType::F32)?.sum_all()?;
    if other.to_scalar::<f32>()? == 0.0 {
        return Ok(());
    }
    Err(Error::Config(
        "a layer gave another result when its activations were recomputed: it must draw from the generator of its mode \
         and change buffers by `Buffer::update` alone; or train with `memory = \"store\"`"
            .into(),
    ))
}
