//! A loss with its gradients, from one graph or from one graph per piece of a batch.

use crate::ops::{Sums, backward, has_gpu};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor, backprop::GradStore};
use rayon::prelude::*;
use std::ops::Range;

/// Rows per graph: few enough for a network's activations to stay in the cache.
const BLOCK: usize = 256;

/// The value of a loss and its gradients, which are absent if the value is not finite.
#[derive(Debug)]
pub struct LossGradients {
    /// The loss.
    pub value: f64,
    /// Its gradient with respect to every weight that it depends on.
    pub gradients: Option<GradStore>,
}

impl LossGradients {
    /// The gradients of a scalar loss.
    ///
    /// # Errors
    /// When the loss is not a scalar or depends on an operation without a gradient.
    pub fn of(loss: &Tensor) -> Result<Self> {
        loss.clone().gradients()
    }

    /// The gradients of the mean of `loss` over `rows` rows, cut into `pieces` that run on separate
    /// threads with separate graphs.
    ///
    /// `loss` takes a range of rows and a generator, and returns the mean over the range. One piece is one
    /// graph; several are processed in blocks of 256 rows, each piece with its own generator. The
    /// result depends on the number of pieces, through rounding and random draws, but not on the number of
    /// threads. Layers that update buffers (batch norm, spectral norms) need one piece.
    ///
    /// # Errors
    /// Any error from `loss`, or as [`Self::of`].
    pub fn of_pieces<L: Loss>(
        rows: usize,
        pieces: usize,
        rng: &mut Rng,
        loss: impl Fn(Range<usize>, &mut Rng) -> Result<L> + Sync,
    ) -> Result<Self> {
        let pieces = Pieces::cut(rows, pieces, rng);
        // In the order of the rows, whichever thread finishes first.
        let mut sums = Sums::default();
        let parts = pieces.gradients(0..pieces.len(), loss)?;
        let mut total = Self::sum(parts.into_iter().map(|(part, part_sums)| {
            sums.add(part_sums);
            Ok(part)
        }))?;
        total.gradients.as_mut().map(|gradients| sums.finish(gradients)).transpose()?;
        Ok(total)
    }

    fn sum(mut parts: impl Iterator<Item = Result<Self>>) -> Result<Self> {
        let mut total = parts.next().ok_or_else(|| Error::Data("the batch is empty".into()))??;
        parts.try_for_each(|part| total.add(part?))?;
        Ok(total)
    }

    /// Adds another part of the same sum.
    ///
    /// # Errors
    /// When the gradients of a weight differ in shape.
    pub(super) fn add(&mut self, other: Self) -> Result<()> {
        self.value += other.value;
        self.gradients = match (self.gradients.take(), other.gradients) {
            (Some(mut sum), Some(part)) => {
                sum.extend(part)?;
                Some(sum)
            }
            _ => None,
        };
        Ok(())
    }
}

/// The rows of a batch, cut into pieces that each have a generator.
pub(super) struct Pieces {
    rows: usize,
    /// Rows per graph.
    block: usize,
    pieces: Vec<(Range<usize>, Rng)>,
}

impl Pieces {
    pub(super) fn cut(rows: usize, pieces: usize, rng: &mut Rng) -> Self {
        let size = rows.div_ceil(pieces.max(1)).max(1);
        let block = if pieces > 1 { BLOCK } else { size };
        let pieces = (0..rows).step_by(size).map(|start| (start..rows.min(start + size), rng.fork())).collect();
        Self { rows, block, pieces }
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The contributions of these pieces to the loss and its gradients.
    pub(super) fn gradients<L: Loss>(
        &self,
        which: Range<usize>,
        loss: impl Fn(Range<usize>, &mut Rng) -> Result<L> + Sync,
    ) -> Result<Vec<(LossGradients, Sums)>> {
        let gradients = |(piece, rng): &(Range<usize>, Rng)| {
            let (mut rng, mut sums) = (rng.clone(), Sums::default());
            let blocks = piece.clone().step_by(self.block).map(|start| start..piece.end.min(start + self.block));
            let total = LossGradients::sum(blocks.map(|block| {
                let share = block.len() as f64 / self.rows as f64;
                loss(block, &mut rng)?.times(share)?.gradients_beside(&mut sums)
            }))?;
            Ok((total, sums))
        };
        match &self.pieces[which] {
            // On a GPU each thread has its own stream, and streams are not synchronised: stay on this thread.
            pieces @ [_] if has_gpu() => pieces.iter().map(gradients).collect(),
            pieces => pieces.par_iter().map(gradients).collect(),
        }
    }
}

/// What a training step minimises: a scalar tensor, or a value whose gradients are already known.
pub trait Loss: Sized {
    /// Value and gradients; operations that can accumulate their weight gradients in place add them to `sums`.
    ///
    /// # Errors
    /// Same as [`LossGradients::of`].
    fn gradients_beside(self, sums: &mut Sums) -> Result<LossGradients>;

    /// Value and gradients.
    ///
    /// # Errors
    /// Same as [`LossGradients::of`].
    fn gradients(self) -> Result<LossGradients> {
        let mut sums = Sums::default();
        let mut result = self.gradients_beside(&mut sums)?;
        result.gradients.as_mut().map(|gradients| sums.finish(gradients)).transpose()?;
        Ok(result)
    }

    /// This loss multiplied by a factor.
    ///
    /// # Errors
    /// When the device fails.
    fn times(self, factor: f64) -> Result<Self>;
}

impl Loss for Tensor {
    fn gradients_beside(self, sums: &mut Sums) -> Result<LossGradients> {
        if self.elem_count() != 1 {
            return Err(Error::shape("the loss", self.dims(), "() (a scalar: take the mean over the batch)"));
        }
        let value = self.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?[0];
        let gradients = if value.is_finite() { Some(backward(&self, sums)?) } else { None };
        Ok(LossGradients { value, gradients })
    }

    fn times(self, factor: f64) -> Result<Self> {
        Ok((self * factor)?)
    }
}

impl Loss for LossGradients {
    fn gradients_beside(self, _: &mut Sums) -> Result<LossGradients> {
        Ok(self)
    }

    fn times(mut self, factor: f64) -> Result<Self> {
        self.value *= factor;
        if let Some(gradients) = &mut self.gradients {
            for id in gradients.get_ids().copied().collect::<Vec<_>>() {
                let scaled = gradients.get_id(id).map(|gradient| gradient * factor).transpose()?;
                scaled.and_then(|scaled| gradients.insert_id(id, scaled));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    #[test]
    fn pieces_add_up_to_the_whole() -> Result<()> {
        let w = Var::from_tensor(&Tensor::new(&[0.5f64, -1.5], &Device::Cpu)?)?;
        let x = Rng::seed(0).normal_tensor((7, 2), DType::F64, &Device::Cpu)?;
        let loss = |range: Range<usize>, _: &mut Rng| {
            let x = x.narrow(0, range.start, range.len())?;
            Ok(x.broadcast_mul(&w)?.sum(1)?.exp()?.mean_all()?)
        };
        let whole = LossGradients::of(&loss(0..7, &mut Rng::seed(1))?)?;
        for pieces in [1, 2, 3, 7, 20] {
            let parts = LossGradients::of_pieces(7, pieces, &mut Rng::seed(1), loss)?;
            assert!((parts.value - whole.value).abs() < 1e-12);
            let grad = |g: &LossGradients| g.gradients.as_ref().and_then(|g| g.get(&w)).cloned();
            let (Some(a), Some(b)) = (grad(&parts), grad(&whole)) else { panic!("no gradient") };
            assert!(crate::testing::difference(&a, &b)? < 1e-12);
        }
        assert!(LossGradients::of_pieces(0, 2, &mut Rng::seed(1), loss).is_err());
        Ok(())
    }
}
