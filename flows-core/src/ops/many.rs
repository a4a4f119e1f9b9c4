//! Operations of three inputs whose value is known before them, and of more inputs than candle's three.

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Shape, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An operation of three inputs that is there for its gradients: its value is known.
pub(crate) trait KnownValue: Send + Sync {
    /// What it is called.
    const NAME: &'static str;

    /// The value.
    fn value(&self) -> candle_core::Result<(CpuStorage, Shape)>;

    /// The gradients by the inputs, given that by the value.
    fn gradients(&self, inputs: [&Tensor; 3], grad: &Tensor) -> candle_core::Result<[Option<Tensor>; 3]>;

    /// The value as a function of the inputs.
    fn apply(self, inputs: [&Tensor; 3]) -> candle_core::Result<Tensor>
    where
        Self: Sized + 'static,
    {
        inputs[0].apply_op3(inputs[1], inputs[2], Operation(self))
    }
}

struct Operation<K>(K);

impl<K: KnownValue> CustomOp3 for Operation<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.0.value()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.0.gradients([a, b, c], grad).map(Into::into)
    }
}

/// The gradients of the inputs that an operation has beyond candle's three.
///
/// Several backward passes may go through one graph at a time: each has a handle of its own, which
/// travels as the gradient of the stand-in.
#[derive(Clone, Debug, Default)]
pub(crate) struct FurtherInputs(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    issued: u32,
    gradients: HashMap<u32, Vec<Option<Tensor>>>,
}

impl FurtherInputs {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the gradients, in the order of the inputs; gives the handle, which is the gradient of the stand-in.
    pub(crate) fn store(&self, gradients: Vec<Option<Tensor>>) -> candle_core::Result<Tensor> {
        let mut registry = self.registry();
        // Every number below 2^24 is one of f32.
        registry.issued = (registry.issued + 1) % (1 << 24);
        let handle = registry.issued;
        registry.gradients.insert(handle, gradients);
        Tensor::new(handle as f32, &Device::Cpu)
    }

    /// The gradients of the inputs `first` and `first + 1`; the pair at 0 is the last to be taken.
    fn take(&self, handle: &Tensor, first: usize) -> candle_core::Result<[Option<Tensor>; 2]> {
        let handle = handle.to_scalar::<f32>()? as u32;
        let mut registry = self.registry();
        let mut take = |i: usize| registry.gradients.get_mut(&handle)?.get_mut(i)?.take();
        let pair = [take(first), take(first + 1)];
        if first == 0 {
            registry.gradients.remove(&handle);
        }
        Ok(pair)
    }

    /// A scalar zero that is an input of the operation in place of `inputs`: through it they are in the
    /// graph, and candle asks for their gradients after the operation's own. The operation gives it what
    /// [`Self::store`] returns as its gradient.
    pub(crate) fn stand_in(&self, inputs: &[Tensor]) -> candle_core::Result<Tensor> {
        let zero = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu)?;
        inputs.chunks(2).enumerate().try_fold(zero.clone(), |stand_in, (i, pair)| {
            let link = Link { further: self.clone(), first: 2 * i };
            link.apply([&stand_in, &pair[0], pair.get(1).unwrap_or(&zero)])
        })
    }
}

struct Link {
    further: FurtherInputs,
    first: usize,
}

impl KnownValue for Link {
    const NAME: &'static str = "further-inputs";

    fn value(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn gradients(&self, [before, ..]: [&Tensor; 3], grad: &Tensor) -> candle_core::Result<[Option<Tensor>; 3]> {
        let [one, other] = self.further.take(grad, self.first)?;
        Ok([before.track_op().then(|| grad.clone()), one, other])
    }
}
