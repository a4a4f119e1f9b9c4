//! Shuffled minibatches that depend only on the seed and their index.

use crate::{Error, Result, Rng};

/// An endless sequence of shuffled minibatches with random access.
///
/// The batches of an epoch are a permutation that depends only on the seed and the number of the epoch, so
/// that a training run can be resumed from its step alone. A remainder smaller than a
/// batch is skipped; if there are fewer examples than a batch, every batch is all of them.
///
/// ```
/// use flows_core::data::Shuffle;
/// let mut forward = Shuffle::new(10, 3, 7)?;
/// let batches: Vec<_> = (0..20).map(|number| forward.batch(number)).collect();
/// assert_eq!(Shuffle::new(10, 3, 7)?.batch(13), batches[13]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Shuffle {
    seed: u64,
    batch_size: usize,
    /// The epoch of `order`.
    epoch: u64,
    order: Vec<u32>,
}

impl Shuffle {
    /// Batches of `batch_size` out of `examples`.
    ///
    /// # Errors
    /// When either number is 0 or there are more than 2^32 - 1 examples.
    pub fn new(examples: usize, batch_size: usize, seed: u64) -> Result<Self> {
        if examples == 0 || batch_size == 0 {
            return Err(Error::Config(format!(
                "batches of {batch_size} out of {examples} examples cannot be made; both must be at least 1"
            )));
        }
        if u32::try_from(examples).is_err() {
            return Err(Error::Config(format!("{examples} examples are too many; give at most {}", u32::MAX)));
        }
        let batch_size = batch_size.min(examples);
        Ok(Self { seed, batch_size, epoch: 0, order: order(seed, 0, examples) })
    }

    /// The number of batches per epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        (self.order.len() / self.batch_size) as u64
    }

    /// The indices of batch `number`, counted from 0.
    pub fn batch(&mut self, number: u64) -> Vec<u32> {
        let (epoch, place) = (number / self.batches_per_epoch(), number % self.batches_per_epoch());
        if epoch != self.epoch {
            (self.epoch, self.order) = (epoch, order(self.seed, epoch, self.order.len()));
        }
        let start = place as usize * self.batch_size;
        self.order[start..start + self.batch_size].to_vec()
    }
}

fn order(seed: u64, epoch: u64, examples: usize) -> Vec<u32> {
    // A large odd constant, so that no epochs of neighbouring seeds share an order.
    Rng::seed(seed.wrapping_add(epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15))).permutation(examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_permutations_and_batches_have_no_history() -> Result<()> {
        let mut shuffle = Shuffle::new(12, 3, 5)?;
        let batches: Vec<_> = (0..12).map(|n| shuffle.batch(n)).collect();
        for epoch in batches.chunks(4) {
            let mut all = epoch.concat();
            all.sort_unstable();
            assert_eq!(all, (0..12).collect::<Vec<u32>>());
        }
        assert!(batches[..4] != batches[4..8]);
        for n in [11, 0, 5, 3, 8] {
            assert_eq!(shuffle.batch(n), batches[n as usize]);
        }
        assert!(Shuffle::new(12, 3, 6)?.batch(0) != batches[0]);
        assert_eq!(Shuffle::new(5, 99, 0)?.batch(u64::MAX).len(), 5);
        assert!(Shuffle::new(0, 1, 0).is_err() && Shuffle::new(1, 0, 0).is_err());
        Ok(())
    }
}
