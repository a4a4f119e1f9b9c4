//! Operations of more inputs than candle's three.

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Shape, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// The gradients of further inputs, which the operation that has them leaves here for candle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left(Arc<Mutex<Vec<Option<Tensor>>>>);

impl Left {
    /// Leaves the gradients, in the order of the inputs.
    pub(crate) fn set(&self, gradients: Vec<Option<Tensor>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = gradients;
    }

    fn get(&self, i: usize) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(i).cloned().flatten()
    }

    /// A scalar zero to be an input of the operation in place of the `inputs`: by way of it they are
    /// in the graph, and candle asks for the gradients left here after the operation's own.
    ///
    /// Whoever has it as an input gives it a gradient, any scalar.
    pub(crate) fn stand_in(&self, inputs: &[Tensor]) -> candle_core::Result<Tensor> {
        let zero = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu)?;
        inputs.chunks(2).enumerate().try_fold(zero.clone(), |stand_in, (i, pair)| {
            let link = Link { left: self.clone(), first: 2 * i };
            stand_in.apply_op3(&pair[0], pair.get(1).unwrap_or(&zero), link)
        })
    }
}

struct Link {
    left: Left,
    first: usize,
}

impl CustomOp3 for Link {
    fn name(&self) -> &'static str {
        "further-inputs"
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
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(
        &self,
        before: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((before.track_op().then(|| grad.clone()), self.left.get(self.first), self.left.get(self.first + 1)))
    }
}
