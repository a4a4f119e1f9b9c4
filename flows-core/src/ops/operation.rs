//! The one way from a kernel over slices of f32 or f64 to an operation of the graph.

use super::cpu::{Real, with_slices};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor};

/// A function of N contiguous tensors on the CPU, all of f32 or all of f64, with its gradients; N is 1, 2 or 3.
///
/// `x.apply_op2(&y, Operation(kernel))` evaluates it.
pub trait Kernel<const N: usize>: Send + Sync + 'static {
    /// What errors call it.
    const NAME: &'static str;

    /// The value, row-major, and its shape.
    ///
    /// # Errors
    /// When shapes do not agree.
    fn value<T: Real>(&self, inputs: [View<'_, T>; N]) -> Result<(Vec<T>, Shape)>;

    /// The gradients by the inputs, given the value and the gradient by that; none where none is needed.
    ///
    /// # Errors
    /// When there are none.
    fn gradients<T: Real>(&self, inputs: [&Tensor; N], value: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        let _ = (inputs, value, grad);
        candle_core::bail!("{} has no gradient", Self::NAME)
    }
}

/// The elements of a tensor, row-major, with its shape.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    /// The elements.
    pub values: &'a [T],
    /// The shape.
    pub shape: &'a Shape,
}

impl<'a, T: Real> View<'a, T> {
    fn new(storage: &'a CpuStorage, layout: &'a Layout) -> Result<Self> {
        Ok(Self { values: T::slice(storage, layout)?, shape: layout.shape() })
    }
}

/// A [`Kernel`] of N inputs as candle knows operations.
#[derive(Clone, Copy, Debug)]
pub struct Operation<K, const N: usize>(pub K);

/// What [`Kernel`] means to candle, for one number of inputs.
macro_rules! operation {
    ($trait:ident, $n:literal, $gradients:ty, [$($storage:ident: $layout:ident),*], [$($input:ident),*]) => {
        impl<K: Kernel<$n>> $trait for Operation<K, $n> {
            fn name(&self) -> &'static str {
                K::NAME
            }

            fn cpu_fwd(&self, $($storage: &CpuStorage, $layout: &Layout),*) -> Result<(CpuStorage, Shape)> {
                fn run<T: Real>(found: Result<(Vec<T>, Shape)>) -> Result<(CpuStorage, Shape)> {
                    found.map(|(values, shape)| (T::storage(values), shape))
                }
                match [$($storage),*][0] {
                    CpuStorage::F32(_) => run(self.0.value::<f32>([$(View::new($storage, $layout)?),*])),
                    CpuStorage::F64(_) => run(self.0.value::<f64>([$(View::new($storage, $layout)?),*])),
                    _ => candle_core::bail!("{} is for tensors of f32 or f64: convert by `to_dtype`", K::NAME),
                }
            }

            fn bwd(&self, $($input: &Tensor,)* value: &Tensor, grad: &Tensor) -> Result<$gradients> {
                let [$($input),*] = match value.dtype() {
                    DType::F32 => self.0.gradients::<f32>([$($input),*], value, grad)?,
                    _ => self.0.gradients::<f64>([$($input),*], value, grad)?,
                };
                Ok(($($input),*))
            }
        }
    };
}

operation!(CustomOp1, 1, Option<Tensor>, [s: l], [x]);
operation!(CustomOp2, 2, (Option<Tensor>, Option<Tensor>), [s1: l1, s2: l2], [x, y]);
operation!(CustomOp3, 3, (Option<Tensor>, Option<Tensor>, Option<Tensor>), [s1: l1, s2: l2, s3: l3], [x, y, z]);

/// Calls `f` with the elements of tensors on the CPU.
///
/// # Errors
/// When a tensor is of another type or on another device.
pub fn with_elements<T: Real, R, const M: usize>(tensors: [&Tensor; M], f: impl FnOnce([&[T]; M]) -> R) -> Result<R> {
    let tensors = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    with_slices(&tensors, |slices| f(std::array::from_fn(|i| slices[i])))
}
