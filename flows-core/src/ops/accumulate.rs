//! Gradients of weights, accumulated in place.
//!
//! candle allocates a tensor of zeros and one for the sum at each use of a weight, which costs more than the
//! matrix products of small batches. Within [`backward`] the operations of this crate add the gradients
//! of each weight to one buffer instead; a plain `Tensor::backward` gives the same gradients candle's way.
//! A backward pass inside another (an implicit function's, say) has to go through
//! [`gradients`], or it would add to the sums of the outer one.

use super::cpu::Real;
use crate::Result;
use candle_core::{CpuStorage, Shape, Tensor, TensorId, backprop::GradStore};
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// The gradients of weights, accumulated over one or several backward passes.
#[derive(Debug, Default)]
pub struct Sums(HashMap<TensorId, (CpuStorage, Shape)>);

thread_local! {
    /// The sums of the backward pass that runs on this thread.
    static OPEN: RefCell<Option<Open>> = const { RefCell::new(None) };
}

/// The sums of a backward pass, for the variables of its graph.
struct Open {
    sums: Sums,
    variables: HashSet<TensorId>,
}

/// Restores the outer sums of the thread, also when a backward pass panics.
struct Restore(Option<Open>);

impl Drop for Restore {
    fn drop(&mut self) {
        OPEN.set(self.0.take());
    }
}

/// The gradients of `loss` with respect to the variables it depends on, except those that operations of this crate
/// add to `sums`.
pub(crate) fn backward(loss: &Tensor, sums: &mut Sums) -> Result<GradStore> {
    let variables: Vec<&Tensor> = loss.sorted_nodes().into_iter().filter(|node| node.is_variable()).collect();
    let open = Open { sums: std::mem::take(sums), variables: variables.iter().map(|var| var.id()).collect() };
    // While it waits for others, a thread of the pool may run a second backward pass: hence the stack.
    let restore = Restore(OPEN.replace(Some(open)));
    let found = loss.backward();
    *sums = OPEN.take().map(|open| open.sums).unwrap_or_default();
    drop(restore);
    // The store has gradients of constants as well, and its tensors keep the graph alive.
    let mut found = found?;
    let mut gradients = GradStore::default();
    for var in variables {
        if let Some(gradient) = found.remove(var) {
            gradients.insert(var, gradient.detach());
        }
    }
    Ok(gradients)
}

/// The gradients of `loss` with respect to the variables it depends on.
pub(crate) fn gradients(loss: &Tensor) -> Result<GradStore> {
    let mut sums = Sums::default();
    let mut gradients = backward(loss, &mut sums)?;
    sums.finish(&mut gradients)?;
    Ok(gradients)
}

/// The gradient of an operation with respect to an input, which `add` adds to its argument: a tensor for candle, or
/// `None` if it is accumulated here or not needed.
pub(super) fn gradient<T: Real>(input: &Tensor, add: impl FnOnce(&mut [T])) -> candle_core::Result<Option<Tensor>> {
    if !input.track_op() {
        return Ok(None);
    }
    let zeros = || T::storage(vec![T::zero(); input.elem_count()]);
    if !is_summed(input) {
        let mut sum = zeros();
        add(T::values_mut(&mut sum)?);
        return T::into_tensor(sum, input.shape()).map(Some);
    }
    // The sum is out of the map while `add` runs, since the thread may run another backward pass while `add` waits.
    let sums = |f: &mut dyn FnMut(&mut Sums)| OPEN.with_borrow_mut(|open| open.as_mut().map(|open| f(&mut open.sums)));
    let mut sum = None;
    sums(&mut |sums| sum = sums.0.remove(&input.id()));
    let mut sum = sum.map_or_else(zeros, |(sum, _)| sum);
    add(T::values_mut(&mut sum)?);
    let mut sum = Some(sum);
    sums(&mut |sums| {
        sum.take().map(|sum| sums.0.insert(input.id(), (sum, input.shape().clone())));
    });
    Ok(None)
}

/// [`gradient`] for a gradient that has been computed.
pub(super) fn gradient_of<T: Real>(input: &Tensor, part: Vec<T>) -> candle_core::Result<Option<Tensor>> {
    if !input.track_op() || is_summed(input) {
        return gradient(input, |sum: &mut [T]| sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part));
    }
    T::tensor(part, input.shape()).map(Some)
}

/// Whether the backward pass that runs on this thread accumulates the gradient of this tensor here.
fn is_summed(input: &Tensor) -> bool {
    let ours = |open: &Option<Open>| open.as_ref().is_some_and(|open| open.variables.contains(&input.id()));
    input.is_variable() && OPEN.with_borrow(ours)
}

/// Elements that one task adds.
const CHUNK: usize = 1 << 15;

impl Sums {
    /// Adds other sums.
    pub(crate) fn add(&mut self, other: Self) {
        for (id, (part, shape)) in other.0 {
            match self.0.get_mut(&id).map(|(sum, _)| sum) {
                None => drop(self.0.insert(id, (part, shape))),
                Some(CpuStorage::F32(sum)) => add_values(sum, &part),
                Some(CpuStorage::F64(sum)) => add_values(sum, &part),
                Some(_) => unreachable!("sums are of f32 or f64"),
            }
        }
    }

    /// Adds the sums to candle's gradients.
    pub(crate) fn finish(self, gradients: &mut GradStore) -> Result<()> {
        for (id, (sum, shape)) in self.0 {
            let sum = match sum {
                CpuStorage::F32(_) => f32::into_tensor(sum, &shape)?,
                _ => f64::into_tensor(sum, &shape)?,
            };
            let sum = match gradients.get_id(id) {
                Some(other) => (other + sum)?,
                None => sum,
            };
            gradients.insert_id(id, sum);
        }
        Ok(())
    }
}

fn add_values<T: Real>(sum: &mut [T], part: &CpuStorage) {
    let Ok(part) = T::values(part) else { return };
    let add = |(sum, part): (&mut [T], &[T])| sum.iter_mut().zip(part).for_each(|(s, &p)| *s += p);
    if sum.len() <= CHUNK {
        add((sum, part));
    } else {
        sum.par_chunks_mut(CHUNK).zip(part.par_chunks(CHUNK)).for_each(add);
    }
}
