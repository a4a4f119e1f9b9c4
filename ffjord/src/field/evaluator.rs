//! Evaluating a field, whether it has kernels or not.

use super::vector_field::Number;
use super::{Batch, Dual, Gradients, Kernel, Penalty, Probe, VectorField, Vectors};
use candle_core::{Shape, Tensor, Var};
use flows_core::ops::kernel::with_slice;
use flows_core::{Error, Result};
use rayon::prelude::*;

/// Parts of a batch that are worked on side by side, and the fewest rows of one; they decide the order
/// of sums, whatever the number of threads.
const PIECES: usize = 8;
const LEAST: usize = 16;

/// All weights as one vector, to which their gradients come.
pub(crate) fn weights(field: &dyn VectorField) -> Result<Tensor> {
    let parts = field.tensors();
    Ok(Tensor::cat(&parts.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?, 0)?)
}

/// Value (B, D) and divergence (B), less the penalty, as a graph of candle's operations.
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

/// The same at a time that is a scalar of the graph.
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
    let narrow = matches!(probe, Probe::Bottleneck(_));
    let found = evaluate((field, narrow), &field.tensors(), t, (z, Some(&tangents)), context)?;
    let products = found.products.ok_or_else(no_tangents)?;
    let mut divergence = (&products * tangents)?.sum(2)?.sum(0)?;
    if !penalty.is_none() {
        let kinetic = (found.value.sqr()?.sum(1)? * (penalty.kinetic / dim as f64))?;
        let jacobian = (products.sqr()?.sum(2)?.sum(0)? * (penalty.jacobian / dim as f64))?;
        divergence = (divergence - (kinetic + jacobian)?)?;
    }
    Ok((found.value, divergence))
}

/// The value (B, D) alone, likewise.
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

/// The field's value, and the products of its Jacobian with the tangents; where these enter at the bottleneck,
/// those of `(dh/dz) (dg/dh)`.
fn evaluate(
    (field, narrow): (&dyn VectorField, bool),
    weights: &[Tensor],
    t: &Tensor,
    (z, tangents): (&Tensor, Option<&Tensor>),
    context: Option<&Tensor>,
) -> Result<Outputs> {
    let dual = |v: &Tensor, tangents: Option<&Tensor>| Dual::new(v.clone(), tangents.cloned());
    if !narrow {
        let found = field.evaluate(weights, t, &dual(z, tangents)?, context)?;
        return Ok(Outputs { value: checked(&found, z)?.clone(), products: found.tangents().cloned() });
    }
    let parts = field.bottleneck().ok_or_else(no_bottleneck)?;
    let h = parts.enter(weights, t, &dual(z, None)?, context)?;
    let found = parts.leave(weights, t, &dual(h.value(), tangents)?)?;
    let through = parts.enter(weights, t, &dual(z, found.tangents())?, context)?;
    Ok(Outputs { value: checked(&found, z)?.clone(), products: through.tangents().cloned() })
}

/// A value (B, D), and the products of each tangent, (K, B, D) or (1, B, H).
struct Outputs {
    value: Tensor,
    products: Option<Tensor>,
}

/// What a field says that is asked for a bottleneck in vain.
pub(crate) fn no_bottleneck() -> Error {
    let message = "this field has no bottleneck for `divergence = \"bottleneck-gaussian\"`: give it a hidden layer";
    Error::Config(format!("{message} narrower than the data, or take \"gaussian\" or \"rademacher\""))
}

fn no_tangents() -> Error {
    Error::Config("a vector field lost the tangents that it was given: return those of its value".into())
}

/// A field with its weights at hand, as the solver and the gradients need it.
pub(crate) enum Evaluator<'a, T> {
    /// By kernels of its own.
    Kernel(&'a dyn Kernel<T>, Vec<T>),
    /// By candle's operations, the weights being leaves of every graph.
    Composed(&'a dyn VectorField, Vec<Var>),
}

/// The gradient for numbers of the value from one on, given these.
type Seeds<'a, T> = dyn Fn(usize, &[T]) -> Vec<T> + Sync + 'a;

/// Rows of a batch.
#[derive(Clone, Copy)]
struct Piece {
    start: usize,
    rows: usize,
}

impl<'a, T: Number> Evaluator<'a, T> {
    /// `weights` as [`weights`] has them.
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

    /// Value (B, D) and divergence (B), less the penalty.
    pub(crate) fn rates(&self, t: f64, batch: Batch<'_, T>) -> Result<(Vec<T>, Vec<T>)> {
        let (field, leaves) = match self {
            Self::Kernel(kernel, weights) => return Ok(kernel.rates(weights, t, batch)),
            Self::Composed(field, leaves) => (*field, leaves),
        };
        let weights: Vec<Tensor> = leaves.iter().map(Var::as_detached_tensor).collect();
        let t = T::tensor(vec![T::of(t)], &Shape::from(()))?;
        let (dim, narrow) = (field.dim(), matches!(batch.vectors, Vectors::Bottleneck { .. }));
        let work = |piece: Piece| -> Result<(Vec<T>, Vec<T>)> {
            let (z, context) = piece.inputs(field, batch)?;
            let tangents = piece.tangents(dim, batch)?;
            let found = evaluate((field, narrow), &weights, &t, (&z, tangents.as_ref()), context.as_ref())?;
            let mut divergence = vec![T::zero(); piece.rows];
            let (value, products) = outputs(&found, batch.vectors.tangents(dim))?;
            batch.vectors.contract(piece.start, dim, &products, &mut divergence);
            batch.penalty.take(dim, &value, &products, &mut divergence);
            Ok((value, divergence))
        };
        let (mut value, mut divergence) = (Vec::with_capacity(batch.z.len()), Vec::new());
        for part in each(batch.z.len() / dim, work) {
            let part = part?;
            value.extend(part.0);
            divergence.extend(part.1);
        }
        Ok((value, divergence))
    }

    /// The gradients of `sum(of_value * value) + sum(of_divergence * divergence)`.
    pub(crate) fn gradients(
        &self,
        t: f64,
        batch: Batch<'_, T>,
        (of_value, of_divergence): (&[T], &[T]),
    ) -> Result<Gradients<T>> {
        match self {
            Self::Kernel(kernel, weights) => Ok(kernel.gradients(weights, t, batch, (of_value, of_divergence))),
            Self::Composed(field, leaves) => {
                let seeds = |start: usize, value: &[T]| of_value[start..start + value.len()].to_vec();
                Self::composed_gradients((*field, leaves), t, batch, (&seeds, of_divergence))
            }
        }
    }

    /// The gradients of a function of the value alone, whose gradient for the numbers of it from one on `of_value`
    /// gives: the field is evaluated once where it has no kernels.
    pub(crate) fn value_gradients(
        &self,
        t: f64,
        batch: Batch<'_, T>,
        of_value: &(impl Fn(usize, &[T]) -> Vec<T> + Sync),
    ) -> Result<Gradients<T>> {
        let zeros = |dim: usize| vec![T::zero(); batch.z.len() / dim];
        match self {
            Self::Kernel(kernel, weights) => {
                let (value, divergence) = kernel.rates(weights, t, batch);
                Ok(kernel.gradients(weights, t, batch, (&of_value(0, &value), &vec![T::zero(); divergence.len()])))
            }
            Self::Composed(field, leaves) => {
                Self::composed_gradients((*field, leaves), t, batch, (of_value, &zeros(field.dim())))
            }
        }
    }

    /// The gradients by autograd, given that of the value's numbers from one on as a function of them.
    fn composed_gradients(
        (field, leaves): (&dyn VectorField, &[Var]),
        t: f64,
        batch: Batch<'_, T>,
        (of_value, of_divergence): (&Seeds<'_, T>, &[T]),
    ) -> Result<Gradients<T>> {
        let weights: Vec<Tensor> = leaves.iter().map(|leaf| leaf.as_tensor().clone()).collect();
        let dim = field.dim();
        let (tangents, width) = (batch.vectors.tangents(dim), batch.vectors.width(dim));
        let narrow = matches!(batch.vectors, Vectors::Bottleneck { .. });
        let work = |piece: Piece| -> Result<Gradients<T>> {
            let (z, context) = piece.inputs(field, batch)?;
            let leaf = |v: &Tensor| Ok::<_, Error>(Var::from_tensor(v)?);
            let (z, context) = (leaf(&z)?, context.as_ref().map(leaf).transpose()?);
            let t = leaf(&T::tensor(vec![T::of(t)], &Shape::from(()))?)?;
            let vectors = piece.tangents(dim, batch)?;
            let given = context.as_ref().map(Var::as_tensor);
            let found = evaluate((field, narrow), &weights, &t, (&z, vectors.as_ref()), given)?;
            let (value, products) = outputs(&found, tangents)?;
            let size = piece.rows * dim;
            let mut seeds = vec![T::zero(); size + tangents * piece.rows * width];
            let (of_values, of_products) = seeds.split_at_mut(size);
            of_values.copy_from_slice(&of_value(piece.start * dim, &value));
            let of_divergence = &of_divergence[piece.start..][..piece.rows];
            batch.vectors.spread(piece.start, dim, of_divergence, of_products);
            if !batch.penalty.is_none() {
                let outputs = [&value[..], &products[..]].concat();
                batch.penalty.add_gradient(dim, &outputs, of_divergence, &mut seeds);
            }
            let seed = |of: &Tensor, seeds: &[T]| (of * T::tensor(seeds.to_vec(), of.shape())?)?.sum_all();
            let mut sum = seed(&found.value, &seeds[..size])?;
            if let Some(products) = &found.products {
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
        // In the order of the rows, whichever thread was first.
        let weights = vec![T::zero(); leaves.iter().map(|leaf| leaf.elem_count()).sum()];
        let mut all = Gradients { value: Vec::new(), z: Vec::new(), context: Vec::new(), weights, t: T::zero() };
        for part in each(of_divergence.len(), work) {
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
    /// z (rows, D) and, if the field is conditional, the context (rows, C).
    fn inputs<T: Number>(self, field: &dyn VectorField, batch: Batch<'_, T>) -> Result<(Tensor, Option<Tensor>)> {
        let part = |of: &[T], width: usize| {
            T::tensor(of[self.start * width..][..self.rows * width].to_vec(), &Shape::from((self.rows, width)))
        };
        let context = (field.context() > 0).then(|| part(batch.context, field.context())).transpose()?;
        Ok((part(batch.z, field.dim())?, context))
    }

    /// The tangents, if there are any.
    fn tangents<T: Number>(self, dim: usize, batch: Batch<'_, T>) -> Result<Option<Tensor>> {
        let (count, width) = (batch.vectors.tangents(dim), batch.vectors.width(dim));
        if count == 0 {
            return Ok(None);
        }
        let mut tangents = vec![T::zero(); count * self.rows * width];
        batch.vectors.write((self.start, self.rows), dim, width, &mut tangents);
        Ok(Some(T::tensor(tangents, &Shape::from((count, self.rows, width)))?))
    }
}

/// Value and products as vectors; there must be `tangents` products.
fn outputs<T: Number>(found: &Outputs, tangents: usize) -> Result<(Vec<T>, Vec<T>)> {
    let products = match &found.products {
        Some(products) => with_slice::<T, _>(products, <[T]>::to_vec)?,
        None if tangents == 0 => Vec::new(),
        None => return Err(no_tangents()),
    };
    Ok((with_slice::<T, _>(&found.value, <[T]>::to_vec)?, products))
}

/// The work on each piece of a batch, side by side, in the order of the rows.
fn each<R: Send>(rows: usize, work: impl Fn(Piece) -> Result<R> + Sync) -> Vec<Result<R>> {
    let size = rows.div_ceil(PIECES).max(LEAST);
    let starts: Vec<usize> = (0..rows).step_by(size).collect();
    starts.into_par_iter().map(|start| work(Piece { start, rows: size.min(rows - start) })).collect()
}
