//! Operations of more inputs than candle's three.
//!
//! candle's operations have at most three inputs. Here the third stands in for any number of further ones: it is the
//! last of a chain of operations, each with two of them as inputs. The backward pass of the operation computes all
//! gradients, keeps those of the further inputs, and gives the stand-in a key to them as its gradient. candle then runs
//! the backward pass of each link of the chain, which takes the gradients of its two inputs and passes on the key.

use super::operation::{Backward, Precomputed};
use candle_core::{CpuStorage, DType, Device, Result, Shape, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The backward pass of an operation of two inputs and any number of further ones.
pub(crate) trait BackwardMany: Send + Sync + 'static {
    /// The operation's name in errors.
    const NAME: &'static str;

    /// The gradients, given the two inputs, the value and the gradient with respect to it.
    fn gradients(&self, inputs: [&Tensor; 2], value: &Tensor, grad: &Tensor) -> Result<Gradients>;
}

/// The gradients with respect to the inputs of an operation; `None` for an input that needs none.
pub(crate) struct Gradients {
    /// Those with respect to the two inputs.
    pub(crate) inputs: [Option<Tensor>; 2],
    /// Those with respect to the further inputs, in their order.
    pub(crate) further: Vec<Option<Tensor>>,
}

/// A value, row-major, and its shape, as a function of two `inputs` and `further` ones.
pub(crate) fn apply_many(
    value: (CpuStorage, Shape),
    inputs: [&Tensor; 2],
    further: &[Tensor],
    backward: impl BackwardMany,
) -> Result<Tensor> {
    let pending = Pending::default();
    let stand_in = pending.stand_in(further)?;
    inputs[0].apply_op3(inputs[1], &stand_in, Precomputed::new(value, Many { backward, pending }))
}

/// An operation whose third input stands in for the further ones.
struct Many<B> {
    backward: B,
    pending: Pending,
}

impl<B: BackwardMany> Backward<3> for Many<B> {
    const NAME: &'static str = B::NAME;

    fn gradients(&self, [a, b, stand_in]: [&Tensor; 3], value: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let Gradients { inputs: [of_a, of_b], further } = self.backward.gradients([a, b], value, grad)?;
        let key = if stand_in.track_op() { Some(self.pending.store(further)?) } else { None };
        Ok([of_a, of_b, key])
    }
}

/// Gradients of further inputs that candle has not asked for yet.
///
/// Several backward passes may go through one graph at a time: each has a key of its own.
#[derive(Clone, Debug, Default)]
struct Pending(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    last_key: u32,
    gradients: HashMap<u32, Vec<Option<Tensor>>>,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the gradients and returns their key.
    fn store(&self, gradients: Vec<Option<Tensor>>) -> Result<Tensor> {
        let mut registry = self.lock();
        // f32 represents every integer up to 2^24.
        registry.last_key = (registry.last_key + 1) % (1 << 24);
        let key = registry.last_key;
        registry.gradients.insert(key, gradients);
        Tensor::new(key as f32, &Device::Cpu)
    }

    /// The gradients of inputs `first` and `first + 1`; the others are dropped if this pair `is_last`.
    fn take(&self, key: &Tensor, first: usize, is_last: bool) -> Result<[Option<Tensor>; 2]> {
        let key = key.to_scalar::<f32>()? as u32;
        let mut registry = self.lock();
        let mut take = |i: usize| registry.gradients.get_mut(&key)?.get_mut(i)?.take();
        let pair = [take(first), take(first + 1)];
        if is_last {
            registry.gradients.remove(&key);
        }
        Ok(pair)
    }

    /// The last link of the chain, a scalar zero.
    fn stand_in(&self, further: &[Tensor]) -> Result<Tensor> {
        let zero = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        further.chunks(2).enumerate().try_fold(zero.clone(), |before, (i, pair)| {
            let link = Link { pending: self.clone(), first: 2 * i };
            let value = (CpuStorage::F32(vec![0.0]), Shape::from(()));
            before.apply_op3(&pair[0], pair.get(1).unwrap_or(&zero), Precomputed::new(value, link))
        })
    }
}

/// A link of the chain: its inputs are the link before it and two further inputs, from `first` on.
struct Link {
    pending: Pending,
    first: usize,
}

impl Backward<3> for Link {
    const NAME: &'static str = "further-inputs";

    fn gradients(&self, [before, ..]: [&Tensor; 3], _: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        // The backward pass goes through the links before this one if their inputs are in the graph.
        let goes_on = before.track_op();
        let [one, other] = self.pending.take(grad, self.first, !goes_on)?;
        Ok([goes_on.then(|| grad.clone()), one, other])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;
    use std::thread;

    /// The backward pass of `x_0 + 2 x_1 + 3 x_2 + ...`.
    struct Weighted(usize);

    impl BackwardMany for Weighted {
        const NAME: &'static str = "weighted";

        fn gradients(&self, _: [&Tensor; 2], _: &Tensor, grad: &Tensor) -> Result<Gradients> {
            let times = |i: usize| Ok(Some((grad * (i + 1) as f64)?));
            Ok(Gradients { inputs: [times(0)?, times(1)?], further: (2..self.0).map(times).collect::<Result<_>>()? })
        }
    }

    #[test]
    fn each_input_gets_its_gradient_in_each_of_several_passes() -> Result<()> {
        for (count, constants) in [(2, 0..0), (3, 0..0), (6, 0..0), (7, 2..5), (7, 5..7), (8, 2..8)] {
            let vars: Vec<Var> = (0..count).map(|i| Var::new(i as f64, &Device::Cpu)).collect::<Result<_>>()?;
            let input = |i: usize| if constants.contains(&i) { vars[i].detach() } else { vars[i].as_tensor().clone() };
            let inputs: Vec<Tensor> = (0..count).map(input).collect();
            let value: f64 = (0..count).map(|i| (i * (i + 1)) as f64).sum();
            let value = (CpuStorage::F64(vec![value]), Shape::from(()));
            let y = apply_many(value, [&inputs[0], &inputs[1]], &inputs[2..], Weighted(count))?;
            let pass = |factor: f64| -> Result<()> {
                let gradients = (&y * factor)?.backward()?;
                for i in (0..count).filter(|i| !constants.contains(i)) {
                    let gradient = gradients.get(&vars[i]).map(Tensor::to_scalar::<f64>).transpose()?;
                    assert_eq!(gradient, Some(factor * (i + 1) as f64), "input {i} of {count}");
                }
                Ok(())
            };
            thread::scope(|scope| {
                let threads: Vec<_> = (1..=4).map(|factor| scope.spawn(move || pass(f64::from(factor)))).collect();
                threads.into_iter().try_for_each(|thread| thread.join().expect("the pass does not panic"))
            })?;
        }
        Ok(())
    }
}
