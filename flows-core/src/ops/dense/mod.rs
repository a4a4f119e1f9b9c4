//! Networks of linear layers as one operation: one node of the graph, with a hand-written backward pass.

use super::accumulate::gradient;
use super::activation::FusedActivation;
use super::cpu::{Real, with_slice};
use super::many::{BackwardMany, Gradients, apply_many};
use super::matmul::{Operand, add_product};
use super::operation::with_elements;
use super::staircase::Staircase;
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};
use std::borrow::Cow;
use std::sync::Arc;

/// Weight (outputs, inputs), its mask, and bias (outputs) of a linear layer.
#[derive(Clone, Debug)]
pub(crate) struct LinearLayer {
    weight: Tensor,
    bias: Tensor,
    mask: Option<Arc<Staircase>>,
}

/// A layer or a residual block of a network.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// `f(W h + b)`.
    Linear(LinearLayer, FusedActivation),
    /// `h + W2 f(W1 f(h) + b1) + b2`.
    Residual([LinearLayer; 2], FusedActivation),
}

/// `f(x W^T + b)` for x (B, inputs), W (outputs, inputs), b (outputs) and an activation f.
///
/// # Errors
/// When shapes do not agree.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: FusedActivation) -> Result<Tensor> {
    let bias = match bias {
        Some(bias) => bias.clone(),
        None => Tensor::zeros(weight.dim(0)?, x.dtype(), x.device())?,
    };
    dense(x, None, vec![Step::Linear(LinearLayer::new(weight, &bias)?, activation)])
}

/// The steps, one after another, applied to x (B, inputs); `shift` (B, outputs) is added in the first,
/// which must then be linear, before its activation.
///
/// # Errors
/// When shapes do not agree.
pub(crate) fn dense(x: &Tensor, shift: Option<&Tensor>, steps: Vec<Step>) -> Result<Tensor> {
    check(x, &steps)?;
    let fits = |t: &Tensor| t.device().is_cpu() && t.dtype() == x.dtype();
    let layers = || steps.iter().flat_map(Step::layers);
    let is_fused = fits(x) && shift.is_none_or(fits) && layers().all(|l| fits(&l.weight) && fits(&l.bias));
    if !(matches!(x.dtype(), DType::F32 | DType::F64) && is_fused) {
        return composed(x, shift, &steps);
    }
    let shift = match shift {
        Some(shift) => shift.contiguous()?,
        None => Tensor::zeros(0, x.dtype(), x.device())?,
    };
    let x = x.contiguous()?;
    Ok(match x.dtype() {
        DType::F32 => fused::<f32>([&x, &shift], steps)?,
        _ => fused::<f64>([&x, &shift], steps)?,
    })
}

fn fused<T: Real>(inputs: [&Tensor; 2], steps: Vec<Step>) -> candle_core::Result<Tensor> {
    let layers = || steps.iter().flat_map(Step::layers);
    let weights: Vec<Tensor> = layers().flat_map(|layer| [layer.weight.clone(), layer.bias.clone()]).collect();
    let (batch, width) = inputs[0].dims2()?;
    let shape = Shape::from((batch, layers().last().map_or(width, |layer| layer.bias.elem_count())));
    if !inputs.into_iter().chain(&weights).any(Tensor::track_op) {
        return T::tensor(with_elements(inputs, |[x, shift]| evaluate(&steps, x, shift))??, &shape);
    }
    let (y, kept) = with_elements::<T, _, _>(inputs, |[x, shift]| evaluate_and_keep(&steps, x, shift))??;
    apply_many((T::storage(y), shape), inputs, &weights, Dense { steps, kept })
}

/// The same as a composition of candle's operations, for other devices and as the tests' reference.
fn composed(x: &Tensor, shift: Option<&Tensor>, steps: &[Step]) -> Result<Tensor> {
    let first = match (shift, steps.first()) {
        (Some(shift), Some(Step::Linear(layer, f))) => Some(f.plain((layer.plain(x)? + shift)?)?),
        _ => None,
    };
    let rest = &steps[usize::from(first.is_some())..];
    rest.iter().try_fold(first.unwrap_or_else(|| x.clone()), |h, step| step.plain(&h))
}

fn check(x: &Tensor, steps: &[Step]) -> Result<()> {
    let mut width = match x.dims() {
        [_, width] => *width,
        got => return Err(Error::shape("the input of a linear layer", got, "(B, inputs)")),
    };
    for LinearLayer { weight, bias, .. } in steps.iter().flat_map(Step::layers) {
        let (outputs, inputs) = weight.dims2()?;
        if outputs == 0 || inputs == 0 {
            return Err(Error::shape(
                "the weight of a linear layer",
                weight.dims(),
                "at least one input and one output",
            ));
        }
        if width != inputs {
            return Err(Error::shape("the input of a linear layer", &[x.dims()[0], width], format!("(B, {inputs})")));
        }
        if bias.dims() != [outputs] {
            return Err(Error::shape("the bias of a linear layer", bias.dims(), format!("({outputs})")));
        }
        width = outputs;
    }
    Ok(())
}

impl LinearLayer {
    /// A layer whose weight and bias are any tensors, variables or results.
    pub(crate) fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Self { weight: weight.contiguous()?, bias: bias.contiguous()?, mask: None })
    }

    /// The same with the weight masked.
    pub(crate) fn masked(self, mask: Arc<Staircase>) -> Self {
        Self { mask: Some(mask), ..self }
    }

    fn plain(&self, x: &Tensor) -> Result<Tensor> {
        let weight = match &self.mask {
            Some(mask) => (&self.weight * mask.mask(&self.weight)?)?,
            None => self.weight.clone(),
        };
        // Some devices multiply only contiguous rows.
        Ok(x.contiguous()?.matmul(&weight.t()?)?.broadcast_add(&self.bias)?)
    }

    /// `out = W x + b`, or `out += W x + b`, for rows x.
    fn forward<T: Real>(&self, x: &[T], mut out: Vec<T>) -> candle_core::Result<Vec<T>> {
        let (outputs, inputs) = self.weight.dims2()?;
        with_slice::<T, _>(&self.bias, |bias| match out.is_empty() {
            true => out = bias.repeat(x.len() / inputs),
            false => out.chunks_mut(outputs).for_each(|row| row.iter_mut().zip(bias).for_each(|(o, &b)| *o += b)),
        })?;
        with_slice(&self.weight, |w| match &self.mask {
            Some(mask) => mask.add_product(x, w, &mut out),
            None => add_product(&mut out, outputs, Operand::new(x, inputs), Operand::new(w, inputs).t()),
        })?;
        Ok(out)
    }

    /// The gradients with respect to weight and bias, given the layer's input and the gradient g with respect to its
    /// output.
    fn gradients<T: Real>(&self, x: &[T], g: &[T]) -> candle_core::Result<[Option<Tensor>; 2]> {
        let (outputs, inputs) = self.weight.dims2()?;
        let weight = gradient(&self.weight, |sum: &mut [T]| match &self.mask {
            Some(mask) => mask.add_weight_gradient(g, x, sum),
            None => add_product(sum, inputs, Operand::new(g, outputs).t(), Operand::new(x, inputs)),
        })?;
        let bias = gradient(&self.bias, |sum: &mut [T]| {
            g.chunks(outputs).for_each(|row| sum.iter_mut().zip(row).for_each(|(s, &v)| *s += v));
        })?;
        Ok([weight, bias])
    }

    /// The gradient with respect to the layer's input, given that with respect to its output.
    fn backward<T: Real>(&self, g: &[T]) -> candle_core::Result<Vec<T>> {
        let (outputs, inputs) = self.weight.dims2()?;
        let mut gx = vec![T::zero(); g.len() / outputs * inputs];
        with_slice(&self.weight, |w| match &self.mask {
            Some(mask) => mask.add_input_gradient(g, w, &mut gx),
            None => add_product(&mut gx, inputs, Operand::new(g, outputs), Operand::new(w, inputs)),
        })?;
        Ok(gx)
    }
}

impl Step {
    fn layers(&self) -> &[LinearLayer] {
        match self {
            Self::Linear(layer, _) => std::slice::from_ref(layer),
            Self::Residual(layers, _) => layers,
        }
    }

    fn plain(&self, h: &Tensor) -> Result<Tensor> {
        match self {
            Self::Linear(layer, f) => f.plain(layer.plain(h)?),
            Self::Residual([first, second], f) => {
                Ok((h + second.plain(&f.plain(first.plain(&f.plain(h.clone())?)?)?)?)?)
            }
        }
    }
}

/// The value alone.
fn evaluate<T: Real>(steps: &[Step], x: &[T], shift: &[T]) -> candle_core::Result<Vec<T>> {
    let (mut h, mut shift) = (Cow::Borrowed(x), shift.to_vec());
    for step in steps {
        h = Cow::Owned(match step {
            Step::Linear(layer, f) => {
                let mut y = layer.forward(&h, std::mem::take(&mut shift))?;
                f.apply(&mut y);
                y
            }
            Step::Residual([first, second], f) => {
                let mut u = h.to_vec();
                f.apply(&mut u);
                let mut v = first.forward(&u, Vec::new())?;
                f.apply(&mut v);
                second.forward(&v, h.into_owned())?
            }
        });
    }
    Ok(h.into_owned())
}

/// The value, and what the backward pass needs of each step: input and output of a linear one, the inputs of both
/// layers of a residual one.
fn evaluate_and_keep<T: Real>(steps: &[Step], x: &[T], shift: &[T]) -> candle_core::Result<(Vec<T>, Vec<[Tensor; 2]>)> {
    let keep = |values: Vec<T>| {
        let shape = Shape::from(values.len());
        T::tensor(values, &shape)
    };
    let mut kept = Vec::with_capacity(steps.len());
    let (mut h, mut shift) = (keep(x.to_vec())?, shift.to_vec());
    for step in steps {
        match step {
            Step::Linear(layer, f) => {
                let mut y = with_slice(&h, |h| layer.forward(h, std::mem::take(&mut shift)))??;
                f.apply(&mut y);
                let y = keep(y)?;
                kept.push([std::mem::replace(&mut h, y.clone()), y]);
            }
            Step::Residual([first, second], f) => {
                let out = with_slice(&h, <[T]>::to_vec)?;
                let mut u = out.clone();
                f.apply(&mut u);
                let mut v = first.forward(&u, Vec::new())?;
                f.apply(&mut v);
                h = keep(second.forward(&v, out)?)?;
                kept.push([keep(u)?, keep(v)?]);
            }
        }
    }
    Ok((with_slice(&h, <[T]>::to_vec)?, kept))
}

struct Dense {
    steps: Vec<Step>,
    kept: Vec<[Tensor; 2]>,
}

impl Dense {
    fn backward<T: Real>(&self, [x, shift]: [&Tensor; 2], grad: &Tensor) -> candle_core::Result<Gradients> {
        let mut g = with_slice::<T, _>(grad, <[T]>::to_vec)?;
        let (mut of_each, mut of_shift) = (Vec::new(), None);
        for (i, (step, [a, b])) in self.steps.iter().zip(&self.kept).enumerate().rev() {
            match step {
                Step::Linear(layer, f) => {
                    with_slice(b, |y| f.backward(y, &mut g))?;
                    of_each.push(with_slice(a, |h| layer.gradients(h, &g))??);
                    if i == 0 && shift.track_op() {
                        of_shift = Some(T::tensor(g.clone(), shift.shape())?);
                    }
                    if i > 0 || x.track_op() {
                        g = layer.backward(&g)?;
                    }
                }
                Step::Residual([first, second], f) => {
                    of_each.push(with_slice(b, |v| second.gradients(v, &g))??);
                    let mut inner = second.backward(&g)?;
                    with_slice(b, |v| f.backward(v, &mut inner))?;
                    of_each.push(with_slice(a, |u| first.gradients(u, &inner))??);
                    let mut inner = first.backward(&inner)?;
                    with_slice(a, |u| f.backward(u, &mut inner))?;
                    g.iter_mut().zip(inner).for_each(|(g, inner)| *g += inner);
                }
            }
        }
        let of_x = if x.track_op() { Some(T::tensor(g, x.shape())?) } else { None };
        Ok(Gradients { inputs: [of_x, of_shift], further: of_each.into_iter().rev().flatten().collect() })
    }
}

impl BackwardMany for Dense {
    const NAME: &'static str = "dense";

    fn gradients(&self, inputs: [&Tensor; 2], _: &Tensor, grad: &Tensor) -> candle_core::Result<Gradients> {
        match grad.dtype() {
            DType::F32 => self.backward::<f32>(inputs, grad),
            _ => self.backward::<f64>(inputs, grad),
        }
    }
}

#[cfg(test)]
mod tests;
