//! Gradients of weights, added up in place.
//!
//! Candle makes a tensor of zeros and a sum for each use of a weight, which costs more than the
//! products of small batches. Within [`backward`] the operations of this module add the gradients
//! of weights to one buffer each instead; a plain `Tensor::backward` gives the same by candle's way.

use super::cpu::Real;
use crate::Result;
use candle_core::{CpuStorage, Shape, Tensor, TensorId, backprop::GradStore};
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

/// The gradients of weights, summed so far by a backward pass or several.
#[derive(Debug, Default)]
pub struct Sums(HashMap<TensorId, (CpuStorage, Shape)>);

thread_local! {
    /// Where the backward pass that runs on this thread adds the gradients of weights.
    static OPEN: RefCell<Option<Sums>> = const { RefCell::new(None) };
}

/// Gives the thread its outer sums back, also when a backward pass panics.
struct Restore(Option<Sums>);

impl Drop for Restore {
    fn drop(&mut self) {
        OPEN.set(self.0.take());
    }
}

/// The gradients of `loss`; those that operations of this module know how to add up go into `sums`.
pub(crate) fn backward(loss: &Tensor, sums: &mut Sums) -> Result<GradStore> {
    // A thread that waits for another may be lent to a second backward pass: hence the stack.
    let _restore = Restore(OPEN.replace(Some(std::mem::take(sums))));
    let gradients = loss.backward();
    *sums = OPEN.take().unwrap_or_default();
    Ok(gradients?)
}

/// The gradient of an input of an operation, which `add` adds to what it is given: a tensor to hand
/// to candle, or none if candle has nothing to do.
pub(super) fn gradient<T: Real>(input: &Tensor, add: impl FnOnce(&mut [T])) -> candle_core::Result<Option<Tensor>> {
    if !input.track_op() {
        return Ok(None);
    }
    let zeros = || T::storage(vec![T::zero(); input.elem_count()]);
    if !(input.is_variable() && OPEN.with_borrow(Option::is_some)) {
        let mut sum = zeros();
        add(T::values_mut(&mut sum)?);
        return T::into_tensor(sum, input.shape()).map(Some);
    }
    // Out of the map while `add` runs: it may wait, and the thread be lent meanwhile.
    let sums = |f: &mut dyn FnMut(&mut Sums)| OPEN.with_borrow_mut(|open| open.as_mut().map(f));
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

/// How much one thread takes at a time.
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

    /// Puts the sums beside or onto the gradients that candle knows.
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
