//! Evaluates a field, with or without kernels.

use super::vector_field::Number;
use super::{Batch, Dual, Gradients, Kernel, Penalty, Probe, VectorField, Vectors};
use candle_core::{Shape, Tensor, Var};
use flows_core::ops::kernel::with_slice;
use flows_core::{Error, Result};
use rayon::prelude::*;

/// The most pieces of a batch that are processed in parallel, and the fewest rows of a piece; they fix the order of
/// summation, whatever the number of threads.
const PIECES: usize = 8;
const MIN_ROWS: usize = 16;

/// All weights of a field as one vector, through which their gradients flow back.
pub(crate) fn weights(field: &dyn VectorField) -> Result<Tensor> {
    let parts = field.tensors();
    Ok(Tensor::cat(&parts.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?, 0)?)
}

/// The value (B, D), and the divergence (B) minus the penalty, as a graph of candle's operations.
pub(crate) fn composed(
    field: &dyn VectorField,
    t: f64,
    z: &Tensor,
    context: Option<&Tensor>,
    probe: &Probe,
    penalty: Penalty,
) -> Result<(Tensor, Tensor)> {
    let t = Tensor::new(t, z.device())?.to_dtype(z.dtype())?;
    composed_at(field, &t, z, context, probe, penalty)
}

/// As [`composed`], at a time that is a scalar tensor and may carry a gradient.
pub(crate) fn composed_at(
    field: &dyn VectorField,
    t: &Tensor,
    z: &Tensor,
    context: Option<&Tensor>,
    probe: &Probe,
    penalty: Penalty,
) -> Result<(Tensor, Tensor)> {
    let (rows, dim) = z.dims2()?;
    let tangents = match probe {
        Probe::Basis => Tensor::eye(dim, z.dtype(), z.device())?.unsqueeze(1)?.broadcast_as((dim, rows, dim))?,
        Probe::Noise(e) | Probe::Bottleneck(e) => e.unsqueeze(0)?,
    };
    let tangents = tangents.contiguous()?;
    let bottleneck = matches!(probe, Probe::Bottleneck(_));
    let outputs = evaluate(field, bottleneck, &field.tensors(), t, z, Some(&tangents), context)?;
    let products = outputs.products.ok_or_else(no_tangents)?;
    let mut divergence = (&products * tangents)?.sum(2)?.sum(0)?;
    if !penalty.is_zero() {
        let kinetic = (outputs.value.sqr()?.sum(1)? * (penalty.kinetic / dim as f64))?;
        let jacobian = (products.sqr()?.sum(2)?.sum(0)? * (penalty.jacobian / dim as f64))?;
        divergence = (divergence - (kinetic + jacobian)?)?;
    }
    Ok((outputs.value, divergence))
}

/// The value (B, D) alone, as a graph of candle's operations.
pub(crate) fn value(field: &dyn VectorField, t: f64, z: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
    let t = Tensor::new(t, z.device())?.to_dtype(z.dtype())?;
    let found = field.evaluate(&field.tensors(), &t, &Dual::new(z.clone(), None)?, context)?;
    Ok(checked(&found, z)?.clone())
}

/// The value of a field at z, one's own too, which has the shape of z.
fn checked<'a>(found: &'a Dual, z: &Tensor) -> Result<&'a Tensor> {
    if found.value().shape() == z.shape() {
        return Ok(found.value());
    }
    Err(Error::shape("the value of a vector field", found.value().dims(), format!("that of z, {:?},", z.dims())))
}

/// The field's value, and the products of its Jacobian with the tangents; with `bottleneck`, the tangents have its
/// width and the products are those of `(dh/dz) (dg/dh)`.
fn evaluate(
    field: &dyn VectorField,
    bottleneck: bool,
    weights: &[Tensor],
    t: &Tensor,
    z: &Tensor,
    tangents: Option<&Tensor>,
    context: Option<&Tensor>,
) -> Result<Outputs> {
    let dual = |v: &Tensor, tangents: Option<&Tensor>| Dual::new(v.clone(), tangents.cloned());
    if !bottleneck {
        let f = field.evaluate(weights, t, &dual(z, tangents)?, context)?;
        return Ok(Outputs { value: checked(&f, z)?.clone(), products: f.tangents().cloned() });
    }
    let halves = field.bottleneck().ok_or_else(no_bottleneck)?;
    let h = halves.enter(weights, t, &dual(z, None)?, context)?;
    let f = halves.leave(weights, t, &dual(h.value(), tangents)?)?;
    let h = halves.enter(weights, t, &dual(z, f.tangents())?, context)?;
    Ok(Outputs { value: checked(&f, z)?.clone(), products: h.tangents().cloned() })
}

/// A field's value (B, D) and its Jacobian-vector products, (K, B, D) or (1, B, H) at a bottleneck.
struct Outputs {
    value: Tensor,
    products: Option<Tensor>,
}

/// The error of a field that has no bottleneck but is asked for one.
pub(crate) fn no_bottleneck() -> Error {
    let message = "this field has no bottleneck for `divergence = \"bottleneck-gaussian\"`: give it a hidden layer";
    Error::Config(format!("{message} narrower than the data, or take \"gaussian\" or \"rademacher\""))
}

fn no_tangents() -> Error {
    Error::Config(
        "a vector field dropped the tangents it was given: return a `Dual` with the tangents of the value".into(),
    )
}

/// A field with its current weights, ready to be evaluated and differentiated.
pub(crate) enum Evaluator<'a, T> {
    /// Evaluated by the field's own kernels.
    Kernel(&'a dyn Kernel<T>, Vec<T>),
    /// Evaluated by candle's operations, with the weights as leaves of each graph.
    Composed(&'a dyn VectorField, Vec<Var>),
}

/// Given a piece of the value and the index of its first number, returns the gradient with respect to that piece.
type ValueGradient<'a, T> = dyn Fn(usize, &[T]) -> Vec<T> + Sync + 'a;

/// A piece of a batch: `rows` consecutive rows from `start` on.
#[derive(Clone, Copy)]
struct Piece {
    start: usize,
    rows: usize,
}

impl<'a, T: Number> Evaluator<'a, T> {
    /// `weights` is the vector that [`weights`] returns.
    pub(crate) fn new(field: &'a dyn VectorField, weights: &Tensor) -> Result<Self> {
        if let Some(kernels) = field.kernels() {
            return Ok(Self::Kernel(T::kernel(kernels), with_slice::<T, _>(weights, <[T]>::to_vec)?));
        }
        let (weights, mut start) = (weights.detach(), 0);
        let leaf = |like: &Tensor| {
            let part = weights.narrow(0, start, like.elem_count())?.reshape(like.shape())?;
            start += like.elem_count();
            Ok(Var::from_tensor(&part)?)
        };
        Ok(Self::Composed(field, field.tensors().iter().map(leaf).collect::<Result<_>>()?))
    }

    /// The number of weights.
    pub(crate) fn weights(&self) -> usize {
        match self {
            Self::Kernel(_, weights) => weights.len(),
            Self::Composed(_, leaves) => leaves.iter().map(|leaf| leaf.elem_count()).sum(),
        }
    }

    /// The value (B, D), and the divergence (B) minus the penalty.
    pub(crate) fn rates(&self, t: f64, batch: Batch<'_, T>) -> Result<(Vec<T>, Vec<T>)> {
        let (field, leaves) = match self {
            Self::Kernel(kernel, weights) => return Ok(kernel.rates(weights, t, batch)),
            Self::Composed(field, leaves) => (*field, leaves),
        };
        let weights: Vec<Tensor> = leaves.iter().map(Var::as_detached_tensor).collect();
        let t = T::tensor(vec![T::of(t)], &Shape::from(()))?;
        let (dim, bottleneck) = (field.dim(), matches!(batch.vectors, Vectors::Bottleneck { .. }));
        let work = |piece: Piece| -> Result<(Vec<T>, Vec<T>)> {
            let (z, context) = piece.inputs(field, batch)?;
            let tangents = piece.tangents(dim, batch)?;
            let outputs = evaluate(field, bottleneck, &weights, &t, &z, tangents.as_ref(), context.as_ref())?;
            let mut divergence = vec![T::zero(); piece.rows];
            let (value, products) = outputs.to_vecs(batch.vectors.tangents(dim))?;
            batch.vectors.contract(piece.start, dim, &products, &mut divergence);
            batch.penalty.subtract(dim, &value, &products, &mut divergence);
            Ok((value, divergence))
        };
        let (mut value, mut divergence) = (Vec::with_capacity(batch.z.len()), Vec::new());
        for part in map_pieces(batch.z.len() / dim, work) {
            let part = part?;
            value.extend(part.0);
            divergence.extend(part.1);
        }
        Ok((value, divergence))
    }

    /// The gradients of `sum(grad_value * value) + sum(grad_divergence * divergence)`.
    pub(crate) fn gradients(
        &self,
        t: f64,
        batch: Batch<'_, T>,
        (grad_value, grad_divergence): (&[T], &[T]),
    ) -> Result<Gradients<T>> {
        match self {
            Self::Kernel(kernel, weights) => Ok(kernel.gradients(weights, t, batch, (grad_value, grad_divergence))),
            Self::Composed(field, leaves) => {
                let seeds = |start: usize, value: &[T]| grad_value[start..start + value.len()].to_vec();
                Self::composed_gradients(*field, leaves, t, batch, &seeds, grad_divergence)
            }
        }
    }

    /// The gradients of a function of the value alone, where `grad_value` returns that function's gradient with respect
    /// to a piece of the value, given the piece and the index of its first number.
    pub(crate) fn value_gradients(
        &self,
        t: f64,
        batch: Batch<'_, T>,
        grad_value: &(impl Fn(usize, &[T]) -> Vec<T> + Sync),
    ) -> Result<Gradients<T>> {
        match self {
            Self::Kernel(kernel, weights) => {
                let (value, divergence) = kernel.rates(weights, t, batch);
                let grad_divergence = vec![T::zero(); divergence.len()];
                Ok(kernel.gradients(weights, t, batch, (&grad_value(0, &value), &grad_divergence)))
            }
            Self::Composed(field, leaves) => {
                let grad_divergence = vec![T::zero(); batch.z.len() / field.dim()];
                Self::composed_gradients(*field, leaves, t, batch, grad_value, &grad_divergence)
            }
        }
    }

    /// The gradients by autograd, given the gradients with respect to value and divergence.
    fn composed_gradients(
        field: &dyn VectorField,
        leaves: &[Var],
        t: f64,
        batch: Batch<'_, T>,
        grad_value: &ValueGradient<'_, T>,
        grad_divergence: &[T],
    ) -> Result<Gradients<T>> {
        let weights: Vec<Tensor> = leaves.iter().map(|leaf| leaf.as_tensor().clone()).collect();
        let dim = field.dim();
        let (tangents, width) = (batch.vectors.tangents(dim), batch.vectors.width(dim));
        let bottleneck = matches!(batch.vectors, Vectors::Bottleneck { .. });
        let work = |piece: Piece| -> Result<Gradients<T>> {
            let (z, context) = piece.inputs(field, batch)?;
            let leaf = |v: &Tensor| Ok::<_, Error>(Var::from_tensor(v)?);
            let (z, context) = (leaf(&z)?, context.as_ref().map(leaf).transpose()?);
            let t = leaf(&T::tensor(vec![T::of(t)], &Shape::from(()))?)?;
            let vectors = piece.tangents(dim, batch)?;
            let given = context.as_ref().map(Var::as_tensor);
            let outputs = evaluate(field, bottleneck, &weights, &t, &z, vectors.as_ref(), given)?;
            let (value, products) = outputs.to_vecs(tangents)?;
            let size = piece.rows * dim;
            let mut seeds = vec![T::zero(); size + tangents * piece.rows * width];
            let (grad_values, grad_products) = seeds.split_at_mut(size);
            grad_values.copy_from_slice(&grad_value(piece.start * dim, &value));
            let grad_divergence = &grad_divergence[piece.start..][..piece.rows];
            batch.vectors.spread(piece.start, dim, grad_divergence, grad_products);
            if !batch.penalty.is_zero() {
                let both = [&value[..], &products[..]].concat();
                batch.penalty.add_gradient(dim, &both, grad_divergence, &mut seeds);
            }
            let seed = |of: &Tensor, seeds: &[T]| (of * T::tensor(seeds.to_vec(), of.shape())?)?.sum_all();
            let mut sum = seed(&outputs.value, &seeds[..size])?;
            if let Some(products) = &outputs.products {
                sum = (sum + seed(products, &seeds[size..])?)?;
            }
            let gradients = sum.backward()?;
            let of = |var: &Var| match gradients.get(var) {
                Some(gradient) => with_slice::<T, _>(gradient, <[T]>::to_vec),
                None => Ok(vec![T::zero(); var.elem_count()]),
            };
            let weights = leaves.iter().map(of).collect::<candle_core::Result<Vec<_>>>()?.concat();
            let context = context.as_ref().map_or(Ok(Vec::new()), of)?;
            Ok(Gradients { value, z: of(&z)?, context, weights, t: of(&t)?[0] })
        };
        // Summed in the order of the rows, whichever thread finishes first.
        let weights = vec![T::zero(); leaves.iter().map(|leaf| leaf.elem_count()).sum()];
        let mut all = Gradients { value: Vec::new(), z: Vec::new(), context: Vec::new(), weights, t: T::zero() };
        for part in map_pieces(grad_divergence.len(), work) {
            let part = part?;
            all.value.extend(part.value);
            all.z.extend(part.z);
            all.context.extend(part.context);
            all.weights.iter_mut().zip(part.weights).for_each(|(sum, v)| *sum += v);
            all.t += part.t;
        }
        Ok(all)
    }
}

impl Piece {
    /// The points (rows, D) and, if the field is conditional, the context (rows, C).
    fn inputs<T: Number>(self, field: &dyn VectorField, batch: Batch<'_, T>) -> Result<(Tensor, Option<Tensor>)> {
        let part = |of: &[T], width: usize| {
            T::tensor(of[self.start * width..][..self.rows * width].to_vec(), &Shape::from((self.rows, width)))
        };
        let context = (field.context() > 0).then(|| part(batch.context, field.context())).transpose()?;
        Ok((part(batch.z, field.dim())?, context))
    }

    /// The tangents (K, rows, D or H), if any.
    fn tangents<T: Number>(self, dim: usize, batch: Batch<'_, T>) -> Result<Option<Tensor>> {
        let (count, width) = (batch.vectors.tangents(dim), batch.vectors.width(dim));
        if count == 0 {
            return Ok(None);
        }
        let mut tangents = vec![T::zero(); count * self.rows * width];
        batch.vectors.write(self.start..self.start + self.rows, dim, width, &mut tangents);
        Ok(Some(T::tensor(tangents, &Shape::from((count, self.rows, width)))?))
    }
}

impl Outputs {
    /// The value and the products as vectors, given the number of `tangents` that went in.
    fn to_vecs<T: Number>(&self, tangents: usize) -> Result<(Vec<T>, Vec<T>)> {
        let products = match &self.products {
            Some(products) => with_slice::<T, _>(products, <[T]>::to_vec)?,
            None if tangents == 0 => Vec::new(),
            None => return Err(no_tangents()),
        };
        Ok((with_slice::<T, _>(&self.value, <[T]>::to_vec)?, products))
    }
}

/// Processes the pieces of a batch in parallel; the results are in the order of the rows.
fn map_pieces<R: Send>(rows: usize, work: impl Fn(Piece) -> Result<R> + Sync) -> Vec<Result<R>> {
    let size = rows.div_ceil(PIECES).max(MIN_ROWS);
    let starts: Vec<usize> = (0..rows).step_by(size).collect();
    starts.into_par_iter().map(|start| work(Piece { start, rows: size.min(rows - start) })).collect()
}
