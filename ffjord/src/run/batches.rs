//! The division of batches among ranks.

use candle_core::{Device, Tensor, Var};
use flows_core::train::{Loss, LossGradients, Ranks};
use flows_core::{Result, Rng};
use std::ops::Range;

/// Batches divided into pieces among ranks.
#[derive(Debug)]
pub struct Batches<'a> {
    /// The number of pieces of a batch.
    pub pieces: usize,
    ranks: &'a Ranks,
    alone: Ranks,
}

impl<'a> Batches<'a> {
    /// Batches of this many pieces, or on GPUs of one per rank.
    pub fn new(pieces: usize, device: &Device, ranks: &'a Ranks) -> Self {
        Self { pieces: if device.is_cpu() { pieces } else { ranks.size() }, ranks, alone: Ranks::alone() }
    }

    /// The ranks that share a batch; every rank evaluates a batch of one piece by itself.
    pub fn shared_by(&self) -> &Ranks {
        if self.pieces > 1 { self.ranks } else { &self.alone }
    }

    /// The gradients of the mean of `loss` over `rows` rows, summed over the ranks.
    ///
    /// # Errors
    /// Any error from `loss`, and when a rank is gone.
    pub fn gradients(
        &self,
        weights: &[(String, Var)],
        rows: usize,
        rng: &mut Rng,
        loss: impl Fn(Range<usize>, &mut Rng) -> Result<Tensor> + Sync,
    ) -> Result<LossGradients> {
        // A single piece uses the run's own generator.
        if self.pieces == 1 {
            return loss(0..rows, rng)?.gradients();
        }
        self.ranks.gradients(weights, rows, self.pieces, rng, loss)
    }
}
