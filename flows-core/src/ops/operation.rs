//! Operations of candle's graph from functions over slices of f32 or f64.

use super::cpu::{Real, with_slices};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor};
use std::sync::{Mutex, PoisonError};

/// A function of N contiguous tensors on the CPU, all of f32 or all of f64, with its gradients; N is 1, 2 or 3.
///
/// `x.apply_op2(&y, Operation(kernel))` evaluates it.
pub trait Kernel<const N: usize>: Send + Sync + 'static {
    /// The operation's name in errors.
    const NAME: &'static str;

    /// The value, row-major, and its shape.
    ///
    /// # Errors
    /// When shapes do not agree.
    fn value<T: Real>(&self, inputs: [View<'_, T>; N]) -> Result<(Vec<T>, Shape)>;

    /// The gradients with respect to the inputs, given the value and the gradient with respect to it; `None` for an
    /// input that needs none.
    ///
    /// # Errors
    /// When the operation is not differentiable.
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

/// A [`Kernel`] of N inputs as an operation of candle.
#[derive(Clone, Copy, Debug)]
pub struct Operation<K, const N: usize>(pub K);

impl<K: Kernel<N>, const N: usize> Operation<K, N> {
    fn forward(&self, inputs: [(&CpuStorage, &Layout); N]) -> Result<(CpuStorage, Shape)> {
        match inputs[0].0 {
            CpuStorage::F32(_) => self.run::<f32>(inputs),
            CpuStorage::F64(_) => self.run::<f64>(inputs),
            _ => candle_core::bail!("{} is for tensors of f32 or f64: convert by `to_dtype`", K::NAME),
        }
    }

    fn run<T: Real>(&self, inputs: [(&CpuStorage, &Layout); N]) -> Result<(CpuStorage, Shape)> {
        let mut views = inputs.map(|(_, layout)| View { values: &[], shape: layout.shape() });
        for (view, (storage, layout)) in views.iter_mut().zip(inputs) {
            view.values = T::slice(storage, layout)?;
        }
        let (values, shape) = self.0.value(views)?;
        Ok((T::storage(values), shape))
    }

    fn backward(&self, inputs: [&Tensor; N], value: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        match value.dtype() {
            DType::F32 => self.0.gradients::<f32>(inputs, value, grad),
            _ => self.0.gradients::<f64>(inputs, value, grad),
        }
    }
}

/// The backward pass of an operation of N inputs whose value is computed before it is applied; N is 1, 2 or 3.
pub trait Backward<const N: usize>: Send + Sync + 'static {
    /// The operation's name in errors.
    const NAME: &'static str;

    /// The gradients with respect to the inputs, given the value and the gradient with respect to it; `None` for an
    /// input that needs none.
    ///
    /// # Errors
    /// When they cannot be computed.
    fn gradients(&self, inputs: [&Tensor; N], value: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; N]>;
}

/// A value as an operation of candle, whose gradients are those of a [`Backward`].
///
/// `x.apply_op2(&y, Precomputed::new(value, backward))` is the value as a function of x and y.
#[derive(Debug)]
pub struct Precomputed<B, const N: usize> {
    value: Mutex<Option<(CpuStorage, Shape)>>,
    backward: B,
}

impl<B: Backward<N>, const N: usize> Precomputed<B, N> {
    /// The operation with this value, row-major, and its shape.
    pub fn new(value: (CpuStorage, Shape), backward: B) -> Self {
        Self { value: Mutex::new(Some(value)), backward }
    }

    fn forward(&self, _: [(&CpuStorage, &Layout); N]) -> Result<(CpuStorage, Shape)> {
        match self.value.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(value) => Ok(value),
            None => candle_core::bail!("{} was applied twice: its value is there only once", B::NAME),
        }
    }

    fn backward(&self, inputs: [&Tensor; N], value: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        self.backward.gradients(inputs, value, grad)
    }
}

/// candle's trait for operations of one number of inputs.
macro_rules! custom_op {
    (
        $operation:ident, $bound:ident, $trait:ident, $n:literal, $gradients:ty,
        [$($storage:ident: $layout:ident),*], [$($input:ident),*]
    ) => {
        impl<K: $bound<$n>> $trait for $operation<K, $n> {
            fn name(&self) -> &'static str {
                K::NAME
            }

            fn cpu_fwd(&self, $($storage: &CpuStorage, $layout: &Layout),*) -> Result<(CpuStorage, Shape)> {
                self.forward([$(($storage, $layout)),*])
            }

            fn bwd(&self, $($input: &Tensor,)* value: &Tensor, grad: &Tensor) -> Result<$gradients> {
                let [$($input),*] = self.backward([$($input),*], value, grad)?;
                Ok(($($input),*))
            }
        }
    };
}

macro_rules! custom_ops {
    ($operation:ident, $bound:ident) => {
        custom_op!($operation, $bound, CustomOp1, 1, Option<Tensor>, [s: l], [x]);
        custom_op!($operation, $bound, CustomOp2, 2, (Option<Tensor>, Option<Tensor>), [s1: l1, s2: l2], [x, y]);
        custom_op!(
            $operation, $bound, CustomOp3, 3, (Option<Tensor>, Option<Tensor>, Option<Tensor>),
            [s1: l1, s2: l2, s3: l3], [x, y, z]
        );
    };
}

custom_ops!(Operation, Kernel);
custom_ops!(Precomputed, Backward);

/// Calls `f` with the elements of tensors on the CPU.
///
/// # Errors
/// When a tensor is of another type or on another device.
pub fn with_elements<T: Real, R, const M: usize>(tensors: [&Tensor; M], f: impl FnOnce([&[T]; M]) -> R) -> Result<R> {
    let tensors = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    with_slices(&tensors, |slices| f(std::array::from_fn(|i| slices[i])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// `2 x`.
    struct Double;

    impl Kernel<1> for Double {
        const NAME: &'static str = "double";

        fn value<T: Real>(&self, [x]: [View<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
            Ok((x.values.iter().map(|&x| x + x).collect(), x.shape.clone()))
        }
    }

    impl Backward<1> for Double {
        const NAME: &'static str = "double";

        fn gradients(&self, _: [&Tensor; 1], _: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 1]> {
            Ok([Some((grad * 2.0)?)])
        }
    }

    #[test]
    fn misuse_is_an_error_and_not_a_panic() -> Result<()> {
        let message = |result: Result<Tensor>| result.expect_err("an error").to_string();
        let x = Var::new(&[1f32, 2.0], &Device::Cpu)?;
        let y = x.apply_op1(Operation(Double))?;
        assert_eq!(y.to_vec1::<f32>()?, [2.0, 4.0]);
        let error = y.backward().expect_err("no gradient").to_string();
        assert!(error.contains("double has no gradient"), "{error}");
        let error = message(x.to_dtype(DType::U32)?.apply_op1(Operation(Double)));
        assert!(error.contains("to_dtype"), "{error}");
        let known = Precomputed::new((CpuStorage::F32(vec![2.0, 4.0]), Shape::from(2)), Double);
        assert_eq!(x.apply_op1_no_bwd(&known)?.to_vec1::<f32>()?, [2.0, 4.0]);
        let error = message(x.apply_op1_no_bwd(&known));
        assert!(error.contains("applied twice"), "{error}");
        Ok(())
    }

    #[test]
    fn a_value_known_before_has_its_gradient() -> Result<()> {
        let x = Var::new(&[1f64, 2.0], &Device::Cpu)?;
        let y = x.apply_op1(Precomputed::new((CpuStorage::F64(vec![2.0, 4.0]), Shape::from(2)), Double))?;
        let gradients = y.sqr()?.sum_all()?.backward()?;
        assert_eq!(gradients.get(&x).map(Tensor::to_vec1::<f64>).transpose()?, Some(vec![8.0, 16.0]));
        Ok(())
    }
}
