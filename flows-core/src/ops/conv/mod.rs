//! Convolutions of images and signals as matrix products, in the forward and the backward pass.
//!
//! candle's are slow, their gradients more so, and some are wrong for batches: `conv1d`'s gradient with respect to the
//! weights, and the value of `conv_transpose1d`, which has no gradient.

mod gather;
mod geometry;
mod kernels;
mod network;
mod plain;

use super::accumulate;
use super::activation::FusedActivation;
use super::cpu::Real;
use super::elements;
use super::operation::{Kernel, Operation, View, with_elements};
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};
use geometry::Geometry;
use kernels::Finish;
pub use network::{ConvLayer, Outside, conv_network};

/// `f(w * x + b)`, (B, O, H', W'): a convolution of images x (B, C, H, W) with weights (O, C, kh, kw) and bias (O),
/// followed by an activation f. H' = (H + 2 padding - kh) / stride + 1.
///
/// `y[o, u, v] = sum over c, i, j of w[o, c, i, j] x[c, stride u + i - padding, stride v + j - padding]`,
/// x being 0 outside the image.
///
/// # Errors
/// When shapes do not agree, the batch is empty, the kernel is larger than the padded image, or the
/// padding is as large as the kernel.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
    activation: FusedActivation,
) -> Result<Tensor> {
    let (outputs, [inputs, height, width], kernel) = match (x.dims(), weight.dims()) {
        ([_, c, h, w], [o, inputs, kh, kw]) if c == inputs => (*o, [*c, *h, *w], [*kh, *kw]),
        (got, want) => return Err(mismatch(got, want, "(B, C, H, W)", "(O, C, kh, kw)")),
    };
    let sizes = [axis(height, kernel[0], stride, padding, 1)?, axis(width, kernel[1], stride, padding, 1)?];
    let geometry = Geometry {
        batch: x.dim(0)?,
        inputs,
        outputs,
        input: [height, width],
        output: sizes,
        kernel,
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
    };
    Convolution { geometry, transposed: false, activation }.apply(x, weight, bias)
}

/// `f(w * x + b)`, (B, O, T'): a convolution of signals x (B, C, T) with weights (O, C, k) and bias (O), followed by an
/// activation f. T' = (T + 2 padding - dilation (k - 1) - 1) / stride + 1.
///
/// `y[o, t] = sum over c, j of w[o, c, j] x[c, stride t + dilation j - padding]`, x being 0 outside the
/// signal.
///
/// # Errors
/// When shapes do not agree, the batch is empty, the dilated kernel is larger than the padded signal,
/// or the padding is as large as the dilated kernel.
pub fn conv1d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
    dilation: usize,
    activation: FusedActivation,
) -> Result<Tensor> {
    let (outputs, [inputs, length], kernel) = match (x.dims(), weight.dims()) {
        ([_, c, t], [o, inputs, k]) if c == inputs => (*o, [*c, *t], *k),
        (got, want) => return Err(mismatch(got, want, "(B, C, T)", "(O, C, k)")),
    };
    let geometry = Geometry {
        batch: x.dim(0)?,
        inputs,
        outputs,
        input: [1, length],
        output: [1, axis(length, kernel, stride, padding, dilation)?],
        kernel: [1, kernel],
        stride: [1, stride],
        padding: [0, padding],
        dilation: [1, dilation],
    };
    Convolution { geometry, transposed: false, activation }.apply(x, weight, bias)
}

/// The transpose of [`conv1d`] as a linear map, with bias: it takes signals x (B, C, T) with weights (C, O, k)
/// and bias (O) to (B, O, T'), where T' = (T - 1) stride - 2 padding + k.
///
/// `y[o, stride t + j - padding] += w[c, o, j] x[c, t]` for all c, t and j.
///
/// # Errors
/// When shapes do not agree, the batch is empty, or the padding leaves nothing of the output.
pub fn conv_transpose1d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (outputs, [inputs, length], kernel) = match (x.dims(), weight.dims()) {
        ([_, c, t], [inputs, o, k]) if c == inputs => (*o, [*c, *t], *k),
        (got, want) => return Err(mismatch(got, want, "(B, C, T)", "(C, O, k)")),
    };
    let made = transposed_axis(length, kernel, stride, padding)?;
    // The geometry is that of the convolution of which this is the transpose.
    let geometry = Geometry {
        batch: x.dim(0)?,
        inputs: outputs,
        outputs: inputs,
        input: [1, made],
        output: [1, length],
        kernel: [1, kernel],
        stride: [1, stride],
        padding: [0, padding],
        dilation: [1, 1],
    };
    Convolution { geometry, transposed: true, activation: FusedActivation::Identity }.apply(x, weight, bias)
}

/// The transpose of [`conv2d`] as a linear map, with bias: it takes images x (B, C, H, W) with weights (C, O, kh, kw)
/// and bias (O) to (B, O, H', W'), where H' = (H - 1) stride - 2 padding + kh.
///
/// `y[o, stride u + i - padding, stride v + j - padding] += w[c, o, i, j] x[c, u, v]` for all c, u, v, i and j.
///
/// # Errors
/// When shapes do not agree, the batch is empty, or the padding leaves nothing of the output.
pub fn conv_transpose2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (outputs, [inputs, height, width], kernel) = match (x.dims(), weight.dims()) {
        ([_, c, h, w], [inputs, o, kh, kw]) if c == inputs => (*o, [*c, *h, *w], [*kh, *kw]),
        (got, want) => return Err(mismatch(got, want, "(B, C, H, W)", "(C, O, kh, kw)")),
    };
    let made =
        [transposed_axis(height, kernel[0], stride, padding)?, transposed_axis(width, kernel[1], stride, padding)?];
    // The geometry is that of the convolution of which this is the transpose.
    let geometry = Geometry {
        batch: x.dim(0)?,
        inputs: outputs,
        outputs: inputs,
        input: made,
        output: [height, width],
        kernel,
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
    };
    Convolution { geometry, transposed: true, activation: FusedActivation::Identity }.apply(x, weight, bias)
}

fn mismatch(got: &[usize], weight: &[usize], x: &str, w: &str) -> Error {
    Error::shape("the input of a convolution", got, format!("{x} for weights {w} = {weight:?}"))
}

/// The size of the output along one axis.
fn axis(length: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Result<usize> {
    if kernel == 0 || stride == 0 || dilation == 0 {
        return Err(Error::Config(format!(
            "a convolution with kernel {kernel}, stride {stride} and dilation {dilation}: give at least 1 for each"
        )));
    }
    let span = (kernel - 1).saturating_mul(dilation).saturating_add(1);
    if padding >= span {
        return Err(Error::Config(format!(
            "a padding of {padding} for a kernel that spans {span} positions: give at most {}",
            span - 1
        )));
    }
    // No overflow: the padding is less than the span, which must not exceed the padded length.
    match length.saturating_add(padding.saturating_mul(2)) {
        padded if padded >= span && length > 0 => Ok((padded - span) / stride + 1),
        padded => Err(Error::Config(format!(
            "a kernel that spans {span} positions is larger than an input of {length} padded to {padded}: give a \
             larger input, a smaller kernel or more padding"
        ))),
    }
}

/// The size of a transposed convolution's output along one axis.
fn transposed_axis(length: usize, kernel: usize, stride: usize, padding: usize) -> Result<usize> {
    let whole = length.checked_sub(1).and_then(|steps| steps.checked_mul(stride)?.checked_add(kernel));
    let made = whole.and_then(|whole| whole.checked_sub(padding.checked_mul(2)?)).filter(|made| *made > 0);
    let Some(made) = made else {
        return Err(Error::Config(format!(
            "the output of a transposed convolution of {length} positions with a kernel of {kernel}, stride {stride} \
             and padding {padding} is empty: give a larger input or less padding"
        )));
    };
    axis(made, kernel, stride, padding, 1)?;
    Ok(made)
}

#[derive(Clone, Copy, Debug)]
struct Convolution {
    geometry: Geometry,
    transposed: bool,
    activation: FusedActivation,
}

impl Convolution {
    fn apply(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let Geometry { batch, inputs, outputs, .. } = self.geometry;
        if batch == 0 {
            return Err(Error::Data("the input of a convolution has no rows: give at least one".into()));
        }
        if inputs == 0 || outputs == 0 {
            return Err(Error::Config("a convolution needs at least one channel on either side".into()));
        }
        let Geometry { input, output, padding, .. } = self.geometry;
        for (channels, [height, width]) in [(inputs, input), (outputs, output)] {
            let padded = |side: usize, padding: usize| side.saturating_add(padding.saturating_mul(2));
            elements(&[batch, channels, padded(height, padding[0]), padded(width, padding[1])])?;
        }
        if !x.dtype().is_float() || weight.dtype() != x.dtype() {
            return Err(Error::Data(format!(
                "a convolution of {:?} with weights of {:?}: convert both to f32 or f64",
                x.dtype(),
                weight.dtype()
            )));
        }
        let made = self.channels();
        if let Some(bias) = bias.filter(|bias| bias.dims() != [made] || bias.dtype() != x.dtype()) {
            let want = format!("({made}) of type {:?}", x.dtype());
            return Err(Error::shape("the bias of a convolution", bias.dims(), want));
        }
        if !(x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)) {
            return plain::plain(&self, x, weight, bias);
        }
        let bias = match bias {
            Some(bias) => bias.contiguous()?,
            None => Tensor::zeros(made, x.dtype(), x.device())?,
        };
        Ok(x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, Operation(self))?)
    }

    /// The channels of the result.
    fn channels(&self) -> usize {
        if self.transposed { self.geometry.inputs } else { self.geometry.outputs }
    }

    fn positions(&self) -> [usize; 2] {
        if self.transposed { self.geometry.input } else { self.geometry.output }
    }

    /// The shape of the result for an input of this rank.
    fn shape(&self, rank: usize) -> Shape {
        let [height, width] = self.positions();
        let (batch, channels) = (self.geometry.batch, self.channels());
        if rank == 3 { (batch, channels, width).into() } else { (batch, channels, height, width).into() }
    }

    /// The gradients with respect to those of x, weight and bias that are `wanted`.
    fn parts<T: Real>(&self, [x, weight, y, grad]: [&[T]; 4], wanted: [bool; 3]) -> [Option<Vec<T>>; 3] {
        let (geometry, grad) = (&self.geometry, self.activation.before(y, grad));
        let back = if self.transposed { kernels::outputs } else { kernels::inputs };
        let [height, width] = self.positions();
        let of_x = || wanted[0].then(|| back(&grad, weight, geometry, Finish::NONE));
        let of_weight = || {
            wanted[1].then(|| match self.transposed {
                true => kernels::weights(&grad, x, geometry),
                false => kernels::weights(x, &grad, geometry),
            })
        };
        let of_bias = || wanted[2].then(|| kernels::channel_sums(&grad, self.channels(), height * width));
        let (of_x, (of_weight, of_bias)) = rayon::join(of_x, || rayon::join(of_weight, of_bias));
        [of_x, of_weight, of_bias]
    }
}

impl Kernel<3> for Convolution {
    const NAME: &'static str = "convolution";

    fn value<T: Real>(&self, [x, weight, bias]: [View<'_, T>; 3]) -> candle_core::Result<(Vec<T>, Shape)> {
        let finish = Finish { bias: Some(bias.values), activation: self.activation };
        let run = if self.transposed { kernels::inputs } else { kernels::outputs };
        Ok((run(x.values, weight.values, &self.geometry, finish), self.shape(x.shape.rank())))
    }

    fn gradients<T: Real>(
        &self,
        [x, weight, bias]: [&Tensor; 3],
        y: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let wanted = [x, weight, bias].map(Tensor::track_op);
        let [gx, gw, gb] = with_elements::<T, _, _>([x, weight, y, grad], |slices| self.parts(slices, wanted))?;
        let gx = gx.map(|gx| T::tensor(gx, x.shape())).transpose()?;
        let sum = |input: &Tensor, part: Option<Vec<T>>| match part {
            Some(part) => accumulate::gradient_of(input, part),
            None => Ok(None),
        };
        Ok([gx, sum(weight, gw)?, sum(bias, gb)?])
    }
}

#[cfg(test)]
mod tests;
