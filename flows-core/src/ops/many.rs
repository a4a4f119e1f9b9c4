//! Operations of three inputs whose value is known before them, and of more inputs than candle's three.

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Shape, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An operation of three inputs that is there for its gradients: its value is known.
pub(crate) trait Known: Send + Sync {
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

impl<K: Known> CustomOp3 for Operation<K> {
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

/// The gradients of further inputs, which the operation that has them leaves here for candle.
///
/// Several backward passes may go through one graph at a time: each has a ticket of its own, which
/// travels as the gradient of the stand-in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left(Arc<Mutex<Lockers>>);

#[derive(Debug, Default)]
struct Lockers {
    issued: u32,
    full: HashMap<u32, Vec<Option<Tensor>>>,
}

impl Left {
    fn lockers(&self) -> MutexGuard<'_, Lockers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the gradients, in the order of the inputs; the stand-in's gradient.
    pub(crate) fn set(&self, gradients: Vec<Option<Tensor>>) -> candle_core::Result<Tensor> {
        let mut lockers = self.lockers();
        // Below 2^24, every ticket is a number of f32.
        lockers.issued = (lockers.issued + 1) % (1 << 24);
        let ticket = lockers.issued;
        lockers.full.insert(ticket, gradients);
        Tensor::new(ticket as f32, &Device::Cpu)
    }

    /// The gradients of the inputs `first` and `first + 1`; none are left behind the first pair.
    fn take(&self, ticket: &Tensor, first: usize) -> candle_core::Result<[Option<Tensor>; 2]> {
        let ticket = ticket.to_scalar::<f32>()? as u32;
        let mut lockers = self.lockers();
        let mut take = |i: usize| lockers.full.get_mut(&ticket)?.get_mut(i)?.take();
        let pair = [take(first), take(first + 1)];
        if first == 0 {
            lockers.full.remove(&ticket);
        }
        Ok(pair)
    }

    /// A scalar zero to be an input of the operation in place of the `inputs`: by way of it they are
    /// in the graph, and candle asks for the gradients left here after the operation's own. The
    /// operation gives it what [`Self::set`] returns as its gradient.
    pub(crate) fn stand_in(&self, inputs: &[Tensor]) -> candle_core::Result<Tensor> {
        let zero = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu)?;
        inputs.chunks(2).enumerate().try_fold(zero.clone(), |stand_in, (i, pair)| {
            let link = Link { left: self.clone(), first: 2 * i };
            link.apply([&stand_in, &pair[0], pair.get(1).unwrap_or(&zero)])
        })
    }
}

struct Link {
    left: Left,
    first: usize,
}

impl Known for Link {
    const NAME: &'static str = "further-inputs";

    fn value(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn gradients(&self, [before, ..]: [&Tensor; 3], grad: &Tensor) -> candle_core::Result<[Option<Tensor>; 3]> {
        let [one, other] = self.left.take(grad, self.first)?;
        Ok([before.track_op().then(|| grad.clone()), one, other])
    }
}
