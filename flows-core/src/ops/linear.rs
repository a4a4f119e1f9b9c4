//! Linear maps of a batch of rows, with bias and activation, forward and backward in one pass each.

use super::cpu::{Real, with_slice};
use super::matmul::{Operand, add_product};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Shape, Tensor};

/// An activation that [`linear`] applies on the way out; its derivative is a function of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fused {
    /// None.
    Identity,
    /// `max(y, 0)`.
    Relu,
    /// `tanh y`.
    Tanh,
}

impl Fused {
    /// The activation of every number, in place.
    pub(super) fn apply<T: Real>(self, y: &mut [T]) {
        match self {
            Self::Identity => {}
            Self::Relu => y.iter_mut().for_each(|v| *v = if *v < T::zero() { T::zero() } else { *v }),
            Self::Tanh => y.iter_mut().for_each(|v| *v = v.tanh()),
        }
    }

    /// The gradient before the activation, from that behind it and the value.
    pub(super) fn before<T: Real>(self, y: &[T], grad: &[T]) -> Vec<T> {
        let pairs = grad.iter().zip(y);
        match self {
            Self::Identity => grad.to_vec(),
            Self::Relu => pairs.map(|(&g, &y)| if y > T::zero() { g } else { T::zero() }).collect(),
            Self::Tanh => pairs.map(|(&g, &y)| g * (T::one() - y * y)).collect(),
        }
    }
}

/// `f(x W^T + b)` for x (B, inputs), W (outputs, inputs), b (outputs) and an activation f.
///
/// # Errors
/// When shapes do not agree.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Fused) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    match x.dims() {
        [_, width] if *width == inputs => {}
        got => return Err(Error::shape("the input of a linear layer", got, format!("(B, {inputs})"))),
    }
    if !(x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64) && weight.dtype() == x.dtype()) {
        return plain(x, weight, bias, activation);
    }
    let bias = match bias {
        Some(bias) => bias.contiguous()?,
        None => Tensor::zeros(outputs, x.dtype(), x.device())?,
    };
    Ok(x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, Linear { activation })?)
}

/// The same as a composition of candle's operations, for other devices and as the tests' reference.
pub(super) fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Fused) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    Ok(match activation {
        Fused::Identity => y,
        Fused::Relu => y.relu()?,
        Fused::Tanh => y.tanh()?,
    })
}

#[derive(Debug)]
struct Linear {
    activation: Fused,
}

impl Linear {
    fn evaluate<T: Real>(&self, x: &[T], weight: &[T], bias: &[T], inputs: usize) -> Vec<T> {
        let outputs = bias.len();
        let mut y = bias.repeat(x.len() / inputs);
        add_product(&mut y, outputs, Operand::new(x, inputs), Operand::new(weight, inputs).t());
        self.activation.apply(&mut y);
        y
    }

    fn gradients<T: Real>(
        &self,
        [x, weight, bias, y, grad]: [&Tensor; 5],
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (inputs, outputs) = (x.dim(1)?, bias.elem_count());
        let grad = with_slice::<T, _>(y, |y| with_slice::<T, _>(grad, |grad| self.activation.before(y, grad)))??;
        let g = Operand::new(&grad, outputs);
        let mut gx = vec![T::zero(); x.elem_count()];
        with_slice::<T, _>(weight, |w| add_product(&mut gx, inputs, g, Operand::new(w, inputs)))?;
        let mut gw = vec![T::zero(); weight.elem_count()];
        with_slice::<T, _>(x, |x| add_product(&mut gw, inputs, g.t(), Operand::new(x, inputs)))?;
        let mut gb = vec![T::zero(); outputs];
        grad.chunks(outputs).for_each(|row| gb.iter_mut().zip(row).for_each(|(s, &v)| *s += v));
        let tensor = |v, like: &Tensor| T::tensor(v, like.shape()).map(Some);
        Ok((tensor(gx, x)?, tensor(gw, weight)?, tensor(gb, bias)?))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, inputs) = l1.shape().dims2()?;
        let y = match s1 {
            CpuStorage::F32(_) => {
                f32::storage(self.evaluate(f32::slice(s1, l1)?, f32::slice(s2, l2)?, f32::slice(s3, l3)?, inputs))
            }
            _ => f64::storage(self.evaluate(f64::slice(s1, l1)?, f64::slice(s2, l2)?, f64::slice(s3, l3)?, inputs)),
        };
        Ok((y, Shape::from((batch, l3.shape().elem_count()))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        match x.dtype() {
            DType::F32 => self.gradients::<f32>([x, weight, bias, res, grad]),
            _ => self.gradients::<f64>([x, weight, bias, res, grad]),
        }
    }
}
