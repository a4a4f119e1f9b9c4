//! Linear maps whose weight is masked by degrees, at the price of what the mask keeps.

use super::accumulate::gradient;
use super::cpu::{Real, with_slice};
use super::fused::Fused;
use super::matmul::{PARALLEL, add_product_of};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Shape, Tensor};
use faer::{MatMut, MatRef};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Which entries of a weight (outputs, inputs) are kept: those whose input has a degree below the
/// output's limit.
///
/// Products run over blocks of neighbouring outputs. Where the inputs are sorted by degree, a block
/// reads a leading part of them, and only the end of that part, which some of the block's outputs
/// must not see, is copied with zeros in it.
#[derive(Debug)]
pub(crate) struct Staircase {
    degrees: Vec<usize>,
    limits: Vec<usize>,
    blocks: Vec<Block>,
    mask: OnceLock<Tensor>,
}

/// Neighbouring outputs and the inputs they see.
#[derive(Debug)]
struct Block {
    outputs: Range<usize>,
    /// All of the outputs see the inputs before this one.
    all: usize,
    /// None of the outputs sees this input or one behind it.
    any: usize,
}

/// Outputs of a block, more or less.
const BLOCK: usize = 64;

impl Staircase {
    /// The mask for inputs of these degrees and outputs with these (exclusive) limits.
    pub(crate) fn new(degrees: Vec<usize>, limits: Vec<usize>) -> Self {
        let size = limits.len().div_ceil(limits.len().div_ceil(BLOCK).max(1)).max(1);
        let block = |(i, limits): (usize, &[usize])| {
            let outputs = i * size..i * size + limits.len();
            let least = limits.iter().copied().min().unwrap_or(0);
            let most = limits.iter().copied().max().unwrap_or(0);
            let all = degrees.iter().take_while(|&&degree| degree < least).count();
            let any = degrees.iter().rposition(|&degree| degree < most).map_or(0, |last| last + 1);
            Block { outputs, all, any }
        };
        let blocks = limits.chunks(size).enumerate().map(block).collect();
        Self { degrees, limits, blocks, mask: OnceLock::new() }
    }

    /// How many inputs have a degree below `limit`; where they are sorted, the leading ones.
    pub(crate) fn visible(&self, limit: usize) -> usize {
        self.degrees.iter().filter(|&&degree| degree < limit).count()
    }

    fn keeps(&self, output: usize, input: usize) -> bool {
        self.degrees[input] < self.limits[output]
    }

    /// The mask as ones and zeros, (outputs, inputs).
    fn mask(&self, like: &Tensor) -> Result<Tensor> {
        if let Some(mask) = self.mask.get() {
            return Ok(mask.clone());
        }
        let (outputs, inputs) = (self.limits.len(), self.degrees.len());
        let ones: Vec<f32> =
            (0..outputs * inputs).map(|i| if self.keeps(i / inputs, i % inputs) { 1.0 } else { 0.0 }).collect();
        let mask = Tensor::from_vec(ones, (outputs, inputs), like.device())?.to_dtype(like.dtype())?;
        Ok(self.mask.get_or_init(|| mask).clone())
    }
}

/// `f(x (W * M)^T + b)` for x (B, inputs), W (outputs, inputs), its mask M, b (outputs) and an
/// activation f; the gradient outside of the mask is zero.
///
/// # Errors
/// When shapes do not agree.
pub(crate) fn masked_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    staircase: &Arc<Staircase>,
    activation: Fused,
) -> Result<Tensor> {
    let inputs = staircase.degrees.len();
    match x.dims() {
        [_, width] if *width == inputs => {}
        got => return Err(Error::shape("the input of a linear layer", got, format!("(B, {inputs})"))),
    }
    if !(x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64) && weight.dtype() == x.dtype()) {
        return plain(x, &(weight * staircase.mask(weight)?)?, bias, activation);
    }
    let op = MaskedLinear { staircase: staircase.clone(), activation };
    Ok(x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?)
}

/// The same as a composition of candle's operations, for other devices and as the tests' reference.
fn plain(x: &Tensor, masked: &Tensor, bias: &Tensor, activation: Fused) -> Result<Tensor> {
    activation.plain(x.matmul(&masked.t()?)?.broadcast_add(bias)?)
}

#[derive(Debug)]
struct MaskedLinear {
    staircase: Arc<Staircase>,
    activation: Fused,
}

impl MaskedLinear {
    fn inputs(&self) -> usize {
        self.staircase.degrees.len()
    }

    fn outputs(&self) -> usize {
        self.staircase.limits.len()
    }

    /// Rows of the batch that one task takes; it does not depend on the number of threads.
    fn rows(&self, batch: usize) -> usize {
        let kept: usize = self.staircase.blocks.iter().map(|b| b.outputs.len() * b.any).sum();
        if batch * kept < PARALLEL { batch.max(1) } else { batch.div_ceil(4).next_multiple_of(16) }
    }

    /// The columns `all..any` of each block's weight, masked.
    fn edges<T: Real>(&self, weight: &[T]) -> Vec<Vec<T>> {
        let edge = |block: &Block| -> Vec<T> {
            let row = |output: usize| {
                let keep = move |input| self.staircase.keeps(output, input);
                let weight = &weight[output * self.inputs()..];
                (block.all..block.any).map(move |input| if keep(input) { weight[input] } else { T::zero() })
            };
            block.outputs.clone().flat_map(row).collect()
        };
        self.staircase.blocks.iter().map(edge).collect()
    }

    /// For every block: its weight over the inputs that all of its outputs see, and its edge.
    fn parts<'a, T: Real>(
        &'a self,
        weight: &'a [T],
        edges: &'a [Vec<T>],
    ) -> impl Iterator<Item = (&'a Block, MatRef<'a, T>, MatRef<'a, T>)> {
        let weight = MatRef::from_row_major_slice(weight, self.outputs(), self.inputs());
        self.staircase.blocks.iter().zip(edges).map(move |(block, edge)| {
            let (first, count) = (block.outputs.start, block.outputs.len());
            let edge = MatRef::from_row_major_slice(edge, count, block.any.saturating_sub(block.all));
            (block, weight.submatrix(first, 0, count, block.all), edge)
        })
    }

    fn evaluate<T: Real>(&self, x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let batch = x.len() / inputs;
        let edges = self.edges(weight);
        let mut y = vec![T::zero(); batch * outputs];
        let rows = self.rows(batch);
        in_parts(rows < batch, y.chunks_mut(rows * outputs).zip(x.chunks(rows * inputs)).collect(), |(y, x)| {
            y.chunks_mut(outputs).for_each(|row| row.copy_from_slice(bias));
            let count = y.len() / outputs;
            let x = MatRef::from_row_major_slice(x, count, inputs);
            let mut view = MatMut::from_row_major_slice_mut(y, count, outputs);
            for (block, weight, edge) in self.parts(weight, &edges) {
                let mut y = view.as_mut().subcols_mut(block.outputs.start, block.outputs.len());
                add_product_of(y.as_mut(), x.subcols(0, block.all), weight.transpose());
                add_product_of(y, x.subcols(block.all, edge.ncols()), edge.transpose());
            }
            self.activation.apply(y);
        });
        y
    }

    fn input_gradient<T: Real>(&self, grad: &[T], weight: &[T]) -> Vec<T> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let batch = grad.len() / outputs;
        let edges = self.edges(weight);
        let mut gx = vec![T::zero(); batch * inputs];
        let rows = self.rows(batch);
        in_parts(rows < batch, gx.chunks_mut(rows * inputs).zip(grad.chunks(rows * outputs)).collect(), |(gx, g)| {
            let count = gx.len() / inputs;
            let g = MatRef::from_row_major_slice(g, count, outputs);
            let mut gx = MatMut::from_row_major_slice_mut(gx, count, inputs);
            for (block, weight, edge) in self.parts(weight, &edges) {
                let g = g.subcols(block.outputs.start, block.outputs.len());
                add_product_of(gx.as_mut().subcols_mut(0, block.all), g, weight);
                add_product_of(gx.as_mut().subcols_mut(block.all, edge.ncols()), g, edge);
            }
        });
        gx
    }

    /// Adds the gradient of the weight to `gw`, which is zero outside of the mask and stays so.
    fn weight_gradient<T: Real>(&self, grad: &[T], x: &[T], gw: &mut [T]) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let batch = grad.len() / outputs;
        let g = MatRef::from_row_major_slice(grad, batch, outputs);
        let x = MatRef::from_row_major_slice(x, batch, inputs);
        let size = self.staircase.blocks.first().map_or(1, |block| block.outputs.len());
        let parts = gw.chunks_mut(size * inputs).zip(&self.staircase.blocks).collect();
        in_parts(self.rows(batch) < batch, parts, |(gw, Block { outputs, all, any }): (&mut [T], &Block)| {
            let view = MatMut::from_row_major_slice_mut(gw, outputs.len(), inputs).subcols_mut(0, *any);
            add_product_of(view, g.subcols(outputs.start, outputs.len()).transpose(), x.subcols(0, *any));
            for (row, output) in gw.chunks_mut(inputs).zip(outputs.clone()) {
                let hidden = |input: &usize| !self.staircase.keeps(output, *input);
                (*all..*any).filter(hidden).for_each(|input| row[input] = T::zero());
            }
        });
    }

    fn gradients<T: Real>(
        &self,
        [x, weight, bias, y, grad]: [&Tensor; 5],
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let before = |y: &[T], grad: &[T]| self.activation.before(y, grad).into_owned();
        let grad = with_slice::<T, _>(y, |y| with_slice::<T, _>(grad, |grad| before(y, grad)))??;
        // Data at the bottom of a network needs no gradient.
        let gx = match x.track_op() {
            true => Some(T::tensor(with_slice(weight, |w| self.input_gradient(&grad, w))?, x.shape())?),
            false => None,
        };
        let gw = with_slice(x, |x| gradient(weight, |sum: &mut [T]| self.weight_gradient(&grad, x, sum)))??;
        let gb = gradient(bias, |sum: &mut [T]| {
            grad.chunks(sum.len()).for_each(|row| sum.iter_mut().zip(row).for_each(|(s, &v)| *s += v));
        })?;
        Ok((gx, gw, gb))
    }
}

/// Does `work` for every part, on all threads or on this one.
fn in_parts<P: Send>(parallel: bool, parts: Vec<P>, work: impl Fn(P) + Sync + Send) {
    if parallel {
        parts.into_par_iter().for_each(work);
    } else {
        parts.into_iter().for_each(work);
    }
}

impl CustomOp3 for MaskedLinear {
    fn name(&self) -> &'static str {
        "masked-linear"
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
        let y = match s1 {
            CpuStorage::F32(_) => {
                f32::storage(self.evaluate(f32::slice(s1, l1)?, f32::slice(s2, l2)?, f32::slice(s3, l3)?))
            }
            _ => f64::storage(self.evaluate(f64::slice(s1, l1)?, f64::slice(s2, l2)?, f64::slice(s3, l3)?)),
        };
        Ok((y, Shape::from((l1.shape().dims2()?.0, self.outputs()))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};

    #[test]
    fn equals_the_plain_composition() -> Result<()> {
        let mut rng = Rng::seed(1);
        let sorted = |n: usize, top: usize| (0..n).map(|i| i * top / n).collect::<Vec<_>>();
        let cases = [
            (3, sorted(7, 4), sorted(5, 5)),
            (300, sorted(150, 20), sorted(200, 21)),
            (9, vec![2, 0, 1], sorted(130, 4)),
            (9, sorted(40, 5), (0..100).map(|i| 5 - i / 20).collect()),
            (1, vec![1], vec![0, 0]),
        ];
        for (batch, degrees, limits) in cases {
            let (inputs, outputs) = (degrees.len(), limits.len());
            let staircase = Arc::new(Staircase::new(degrees, limits));
            for activation in [Fused::Identity, Fused::Relu, Fused::Tanh] {
                let mut draw = |rows, columns| -> Result<Var> {
                    Ok(Var::from_tensor(&rng.normal_tensor((rows, columns), DType::F64, &Device::Cpu)?)?)
                };
                let (x, w, b) = (draw(batch, inputs)?, draw(outputs, inputs)?, draw(1, outputs)?);
                let cotangent = draw(batch, outputs)?.detach();
                let fused = masked_linear(&x, &w, &b.squeeze(0)?, &staircase, activation)?;
                let masked = (w.as_tensor() * staircase.mask(&w)?)?;
                let reference = plain(&x, &masked, &b.squeeze(0)?, activation)?;
                assert!(difference(&reference, &fused)? < 1e-12);
                let got = (fused * &cotangent)?.sum_all()?.backward()?;
                let want = (reference * &cotangent)?.sum_all()?.backward()?;
                for var in [&x, &w, &b] {
                    let (Some(got), Some(want)) = (got.get(var), want.get(var)) else { panic!("no gradient") };
                    assert!(difference(want, got)? < 1e-11);
                }
            }
        }
        Ok(())
    }
}
