//! The memory of CPU tensors as slices, so that an update is one pass over it.

use crate::Result;
use candle_core::{CpuStorage, Error, InplaceOp1, InplaceOp2, Layout, Storage, Tensor, WithDType};
use std::cell::Cell;
use std::marker::PhantomData;

/// Elements that one thread takes at a time; tensors no larger than this are not worth a second thread.
pub(super) const CHUNK: usize = 1 << 15;

/// The element types that have fused updates.
pub(super) trait Updatable: WithDType {
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self < other { other } else { self }
    }
}

macro_rules! real {
    ($t:ty, $variant:ident) => {
        impl Updatable for $t {
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }

            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }

            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(values) => Some(values),
                    _ => None,
                }
            }
        }
    };
}

real!(f32, F32);
real!(f64, F64);

/// Passes a closure to candle's in-place operations, which give access to the memory.
struct Access<T, F> {
    with: Cell<Option<F>>,
    element: PhantomData<T>,
}

impl<T: Updatable, F> Access<T, F> {
    fn new(with: F) -> Self {
        Self { with: Cell::new(Some(with)), element: PhantomData }
    }

    fn take(&self) -> candle_core::Result<F> {
        self.with.take().ok_or_else(|| Error::Msg("an in-place update ran twice".into()))
    }
}

fn range(layout: &Layout) -> candle_core::Result<std::ops::Range<usize>> {
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| Error::Msg("a tensor is not contiguous".into()))?;
    Ok(start..end)
}

fn slice_mut<'a, T: Updatable>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [T]> {
    let range = range(layout)?;
    let values = T::slice_mut(storage).ok_or_else(|| Error::Msg(format!("a tensor is not {:?}", T::DTYPE)))?;
    Ok(&mut values[range])
}

impl<T: Updatable, F: FnOnce(&mut [T]) -> candle_core::Result<()>> InplaceOp1 for Access<T, F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        self.take()?(slice_mut(storage, layout)?)
    }
}

impl<T: Updatable, F: FnOnce(&mut [T], &[T]) -> candle_core::Result<()>> InplaceOp2 for Access<T, F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        self.take()?(slice_mut(s1, l1)?, &s2.as_slice::<T>()?[range(l2)?])
    }
}

/// Runs `with` on the memory of a contiguous CPU tensor.
pub(super) fn with_mut<T: Updatable>(
    tensor: &Tensor,
    with: impl FnOnce(&mut [T]) -> candle_core::Result<()>,
) -> candle_core::Result<()> {
    tensor.inplace_op1(&Access::<T, _>::new(with))
}

/// [`with_mut`] with a second tensor to read, of the same shape, that does not share the memory.
pub(super) fn with_mut_and<T: Updatable>(
    tensor: &Tensor,
    source: &Tensor,
    with: impl FnOnce(&mut [T], &[T]) -> candle_core::Result<()>,
) -> candle_core::Result<()> {
    if tensor.shape() != source.shape() {
        candle_core::bail!("an update of shape {:?} for a tensor of shape {:?}", source.dims(), tensor.dims());
    }
    tensor.inplace_op2(&source.contiguous()?, &Access::<T, _>::new(with))
}

/// Runs `with` on the values of a CPU tensor.
pub(super) fn with_values<T: Updatable, R>(tensor: &Tensor, with: impl FnOnce(&[T]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(with(&cpu.as_slice::<T>()?[range(layout)?])),
        _ => Err(Error::Msg("a tensor is not on the CPU".into()).into()),
    }
}

/// Writes `value` into the memory of `target`, a contiguous tensor of the same shape.
pub(super) fn assign(target: &Tensor, value: &Tensor) -> candle_core::Result<()> {
    match (target.elem_count(), target.rank()) {
        (0, _) => Ok(()),
        // A scalar has no dimension to set along.
        (_, 0) => target.reshape(1)?.slice_set(&value.reshape(1)?, 0, 0),
        _ => target.slice_set(&value.contiguous()?, 0, 0),
    }
}
