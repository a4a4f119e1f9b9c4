//! Matrix products with weights that are masked by degrees, at the cost of the entries that the mask keeps.

use super::cpu::Real;
use super::matmul::{PARALLEL, add_product_of};
use crate::Result;
use candle_core::Tensor;
use faer::{MatMut, MatRef};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::OnceLock;

/// A mask that keeps the entries of a weight (outputs, inputs) whose input has a degree below the
/// output's limit.
///
/// Products run over blocks of adjacent outputs. Where the inputs are sorted by degree, a block
/// reads a leading part of them, and only the end of that part, which is masked for some of the block's outputs,
/// is copied with zeros in it.
#[derive(Debug)]
pub(crate) struct Staircase {
    degrees: Vec<usize>,
    limits: Vec<usize>,
    /// The number of inputs that each output sees, if these are the leading ones.
    counts: Option<Vec<usize>>,
    blocks: Vec<Block>,
    mask: OnceLock<Tensor>,
}

/// Adjacent outputs and the inputs they see.
#[derive(Debug)]
struct Block {
    outputs: Range<usize>,
    /// All of the outputs see the inputs before this one.
    all: usize,
    /// None of the outputs sees this input or one after it.
    any: usize,
}

/// About as many outputs make a block.
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
        let count = |&limit: &usize| degrees.partition_point(|&degree| degree < limit);
        let counts = degrees.is_sorted().then(|| limits.iter().map(count).collect());
        Self { degrees, limits, counts, blocks, mask: OnceLock::new() }
    }

    /// The degree of each input.
    pub(crate) fn degrees(&self) -> &[usize] {
        &self.degrees
    }

    /// The limit of each output.
    pub(crate) fn limits(&self) -> &[usize] {
        &self.limits
    }

    fn keeps(&self, output: usize, input: usize) -> bool {
        self.degrees[input] < self.limits[output]
    }

    /// The mask as ones and zeros, (outputs, inputs).
    pub(super) fn mask(&self, like: &Tensor) -> Result<Tensor> {
        if let Some(mask) = self.mask.get() {
            return Ok(mask.clone());
        }
        let (outputs, inputs) = (self.limits.len(), self.degrees.len());
        let ones: Vec<f32> =
            (0..outputs * inputs).map(|i| if self.keeps(i / inputs, i % inputs) { 1.0 } else { 0.0 }).collect();
        let mask = Tensor::from_vec(ones, (outputs, inputs), like.device())?.to_dtype(like.dtype())?;
        Ok(self.mask.get_or_init(|| mask).clone())
    }

    fn inputs(&self) -> usize {
        self.degrees.len()
    }

    fn outputs(&self) -> usize {
        self.limits.len()
    }

    /// Rows of the batch that one task takes, whatever the number of threads.
    fn rows(&self, batch: usize) -> usize {
        let kept: usize = self.blocks.iter().map(|b| b.outputs.len() * b.any).sum();
        if batch * kept < PARALLEL { batch.max(1) } else { batch.div_ceil(4).next_multiple_of(16) }
    }

    /// The columns `all..any` of each block's weight, masked.
    fn edges<T: Real>(&self, weight: &[T]) -> Vec<Vec<T>> {
        let edge = |&Block { ref outputs, all, any }: &Block| -> Vec<T> {
            let width = any.saturating_sub(all);
            let mut edge = vec![T::zero(); outputs.len() * width];
            for (output, edge) in outputs.clone().zip(edge.chunks_mut(width.max(1))) {
                let weight = &weight[output * self.inputs()..][..any];
                match &self.counts {
                    Some(counts) => edge[..counts[output] - all].copy_from_slice(&weight[all..counts[output]]),
                    None => {
                        (all..any).filter(|&input| self.keeps(output, input)).for_each(|i| edge[i - all] = weight[i])
                    }
                }
            }
            edge
        };
        self.blocks.iter().map(edge).collect()
    }

    /// Every block with its weight over the inputs that all of its outputs see, and its edge.
    fn parts<'a, T: Real>(
        &'a self,
        weight: &'a [T],
        edges: &'a [Vec<T>],
    ) -> impl Iterator<Item = (&'a Block, MatRef<'a, T>, MatRef<'a, T>)> {
        let weight = MatRef::from_row_major_slice(weight, self.outputs(), self.inputs());
        self.blocks.iter().zip(edges).map(move |(block, edge)| {
            let (first, count) = (block.outputs.start, block.outputs.len());
            let edge = MatRef::from_row_major_slice(edge, count, block.any.saturating_sub(block.all));
            (block, weight.submatrix(first, 0, count, block.all), edge)
        })
    }

    /// `y += x (W * M)^T` for rows x and y.
    pub(super) fn add_product<T: Real>(&self, x: &[T], weight: &[T], y: &mut [T]) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let batch = x.len() / inputs;
        let edges = self.edges(weight);
        let rows = self.rows(batch);
        in_parts(rows < batch, y.chunks_mut(rows * outputs).zip(x.chunks(rows * inputs)).collect(), |(y, x)| {
            let count = y.len() / outputs;
            let x = MatRef::from_row_major_slice(x, count, inputs);
            let mut view = MatMut::from_row_major_slice_mut(y, count, outputs);
            for (block, weight, edge) in self.parts(weight, &edges) {
                let mut y = view.as_mut().subcols_mut(block.outputs.start, block.outputs.len());
                add_product_of(y.as_mut(), x.subcols(0, block.all), weight.transpose());
                add_product_of(y, x.subcols(block.all, edge.ncols()), edge.transpose());
            }
        });
    }

    /// `gx += g (W * M)` for rows g and gx.
    pub(super) fn add_input_gradient<T: Real>(&self, grad: &[T], weight: &[T], gx: &mut [T]) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let batch = grad.len() / outputs;
        let edges = self.edges(weight);
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
    }

    /// `gw += (g^T x) * M` for rows g and x; `gw` is zero outside of the mask.
    pub(super) fn add_weight_gradient<T: Real>(&self, grad: &[T], x: &[T], gw: &mut [T]) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let batch = grad.len() / outputs;
        let g = MatRef::from_row_major_slice(grad, batch, outputs);
        let x = MatRef::from_row_major_slice(x, batch, inputs);
        let size = self.blocks.first().map_or(1, |block| block.outputs.len());
        let parts = gw.chunks_mut(size * inputs).zip(&self.blocks).collect();
        in_parts(self.rows(batch) < batch, parts, |(gw, Block { outputs, all, any }): (&mut [T], &Block)| {
            let view = MatMut::from_row_major_slice_mut(gw, outputs.len(), inputs).subcols_mut(0, *any);
            add_product_of(view, g.subcols(outputs.start, outputs.len()).transpose(), x.subcols(0, *any));
            for (row, output) in gw.chunks_mut(inputs).zip(outputs.clone()) {
                match &self.counts {
                    Some(counts) => row[counts[output]..*any].fill(T::zero()),
                    None => {
                        let hidden = |input: &usize| !self.keeps(output, *input);
                        (*all..*any).filter(hidden).for_each(|input| row[input] = T::zero());
                    }
                }
            }
        });
    }
}

/// Calls `work` for every part, on all threads or on this one.
fn in_parts<P: Send>(parallel: bool, parts: Vec<P>, work: impl Fn(P) + Sync + Send) {
    if parallel {
        parts.into_par_iter().for_each(work);
    } else {
        parts.into_iter().for_each(work);
    }
}
