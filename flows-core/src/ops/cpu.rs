//! Slices from candle's tensors and tensors from slices.

use super::functions::Functions;
use crate::{Error, Result};
use candle_core::{CpuStorage, Device, Layout, Shape, Storage, Tensor, WithDType};
use num_traits::Float;

/// The element type of a kernel: f32 or f64.
///
/// Not a sub-trait of candle's `WithDType`, whose vector methods hide those of `Float`.
pub trait Real:
    Functions
    + Float
    + faer::traits::ComplexField
    + std::iter::Sum
    + std::ops::AddAssign
    + std::ops::MulAssign
    + Send
    + Sync
    + 'static
{
    /// The library's matrix product for this type.
    #[cfg(feature = "mkl")]
    const GEMM: super::matmul::mkl::Gemm<Self>;

    /// `value`, rounded to this type.
    fn of(value: f64) -> Self;
    /// The same number in f64.
    fn wide(self) -> f64;
    /// The elements of contiguous storage.
    fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [Self]>;
    /// Storage with these elements.
    fn storage(values: Vec<Self>) -> CpuStorage;
    /// A tensor on the CPU with these elements, row-major.
    fn tensor(values: Vec<Self>, shape: &Shape) -> candle_core::Result<Tensor>;
    /// All elements of storage.
    fn values(storage: &CpuStorage) -> candle_core::Result<&[Self]>;
    /// All elements of storage, mutably.
    fn values_mut(storage: &mut CpuStorage) -> candle_core::Result<&mut [Self]>;
    /// A tensor on the CPU from storage.
    fn into_tensor(storage: CpuStorage, shape: &Shape) -> candle_core::Result<Tensor>;
}

macro_rules! real {
    ($t:ty, $variant:ident, $gemm:ident) => {
        impl Real for $t {
            #[cfg(feature = "mkl")]
            const GEMM: super::matmul::mkl::Gemm<Self> = super::matmul::mkl::$gemm;

            fn of(value: f64) -> Self {
                value as $t
            }

            fn wide(self) -> f64 {
                f64::from(self)
            }

            fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [Self]> {
                match layout.contiguous_offsets() {
                    Some((start, end)) => Ok(&storage.as_slice::<$t>()?[start..end]),
                    None => candle_core::bail!("a kernel was given a tensor that is not contiguous"),
                }
            }

            fn storage(values: Vec<Self>) -> CpuStorage {
                <$t>::to_cpu_storage_owned(values)
            }

            fn tensor(values: Vec<Self>, shape: &Shape) -> candle_core::Result<Tensor> {
                Tensor::from_vec(values, shape.clone(), &Device::Cpu)
            }

            fn values(storage: &CpuStorage) -> candle_core::Result<&[Self]> {
                storage.as_slice()
            }

            fn values_mut(storage: &mut CpuStorage) -> candle_core::Result<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(values) => Ok(values),
                    _ => candle_core::bail!("a kernel was given storage of another type"),
                }
            }

            fn into_tensor(storage: CpuStorage, shape: &Shape) -> candle_core::Result<Tensor> {
                match storage {
                    CpuStorage::$variant(values) => Self::tensor(values, shape),
                    _ => candle_core::bail!("a kernel was given storage of another type"),
                }
            }
        }
    };
}
real!(f32, F32, cblas_sgemm);
real!(f64, F64, cblas_dgemm);

/// Calls `f` with the elements of a tensor on the CPU.
///
/// # Errors
/// When the tensor is of another type or on another device.
pub fn with_slice<T: Real, R>(tensor: &Tensor, f: impl FnOnce(&[T]) -> R) -> candle_core::Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(T::slice(storage, layout)?)),
        _ => candle_core::bail!("a kernel for the CPU was given a tensor of another device"),
    }
}

/// Calls `f` with the elements of several tensors on the CPU, which must be contiguous.
pub(crate) fn with_slices<T: Real, R>(tensors: &[Tensor], f: impl FnOnce(&[&[T]]) -> R) -> candle_core::Result<R> {
    let held: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let slices = held.iter().map(|(storage, layout)| match &**storage {
        Storage::Cpu(storage) => T::slice(storage, layout),
        _ => candle_core::bail!("a kernel for the CPU was given a tensor of another device"),
    });
    let slices: Vec<&[T]> = slices.collect::<candle_core::Result<_>>()?;
    Ok(f(&slices))
}

/// Two tensors of one shape from one of twice their size, since an operation of candle has a single result.
pub(crate) fn unpack(packed: &Tensor, shape: &Shape) -> Result<(Tensor, Tensor)> {
    let n = shape.elem_count();
    let part = |start| Ok::<_, Error>(packed.narrow(0, start, n)?.reshape(shape.clone())?);
    Ok((part(0)?, part(n)?))
}
