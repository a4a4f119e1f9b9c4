//! Minibatches in an order that a saved run takes up again.

use super::Examples;
use crate::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// Minibatches of an order that is shuffled anew each epoch.
///
/// All that decides the batches to come is a small [`Position`]; the shuffled order itself is drawn
/// again from the generator's state when a run is resumed.
///
/// ```
/// use flows_core::{Rng, data::Batches};
/// let mut batches = Batches::new(5, 2, &mut Rng::seed(0))?;
/// let position = batches.position().clone();
/// assert_eq!(batches.next_in_epoch().map(|b| b.len()), Some(2));
/// assert_eq!(batches.next_in_epoch().map(|b| b.len()), Some(2));
/// assert_eq!(batches.next_in_epoch().map(|b| b.len()), Some(1));
/// assert!(batches.next_in_epoch().is_none());
/// assert_eq!(Batches::resume(position)?.next_whole(), Batches::new(5, 2, &mut Rng::seed(0))?.next_whole());
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Batches {
    position: Position,
    /// The order of the epoch.
    order: Vec<u32>,
}

/// Where [`Batches`] stand: what is saved with a training run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    examples: usize,
    batch_size: usize,
    epoch: u64,
    /// The examples of the epoch that have been given out.
    given: usize,
    /// The state from which the order of the epoch is drawn.
    rng: Rng,
}

impl Batches {
    /// Batches of `batch_size` out of `examples`, in an order that `rng`'s next number determines.
    ///
    /// # Errors
    /// When either number is 0 or there are more than 2^32 - 1 examples.
    pub fn new(examples: usize, batch_size: usize, rng: &mut Rng) -> Result<Self> {
        Self::resume(Position { examples, batch_size, epoch: 0, given: 0, rng: rng.fork() })
    }

    /// The batches that follow a saved position.
    ///
    /// # Errors
    /// As for [`Batches::new`], or when the position lies beyond the examples.
    pub fn resume(position: Position) -> Result<Self> {
        let Position { examples, batch_size, given, .. } = position;
        if examples == 0 || batch_size == 0 {
            return Err(Error::Config(format!(
                "batches of {batch_size} out of {examples} examples cannot be made; both must be at least 1"
            )));
        }
        if u32::try_from(examples).is_err() {
            return Err(Error::Config(format!("{examples} examples are too many; give at most {}", u32::MAX)));
        }
        if given > examples {
            return Err(Error::Data(format!(
                "a saved run stands at example {given} of {examples}; its file is damaged, start from another"
            )));
        }
        let order = position.rng.clone().permutation(examples);
        Ok(Self { position, order })
    }

    /// Where the batches stand.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The epochs that are done.
    pub fn epoch(&self) -> u64 {
        self.position.epoch
    }

    /// The indices of the epoch's next batch, whose last may be smaller; `None` once at the end of
    /// each epoch, after which the next begins.
    pub fn next_in_epoch(&mut self) -> Option<Vec<u32>> {
        let Position { examples, batch_size, given, .. } = self.position;
        if given == examples {
            self.begin_epoch();
            return None;
        }
        let end = given.saturating_add(batch_size).min(examples);
        self.position.given = end;
        Some(self.order[given..end].to_vec())
    }

    /// The indices of the next batch, without end and all of the same size.
    ///
    /// What is left of an epoch that is less than a batch is passed over; if there are fewer examples
    /// than a batch, every batch is all of them.
    pub fn next_whole(&mut self) -> Vec<u32> {
        let size = self.position.batch_size.min(self.position.examples);
        if self.position.examples - self.position.given < size {
            self.begin_epoch();
        }
        let given = self.position.given;
        self.position.given += size;
        self.order[given..given + size].to_vec()
    }

    /// The examples of [`Batches::next_whole`].
    ///
    /// # Errors
    /// When `examples` are other than those the batches were made for.
    pub fn next_of(&mut self, examples: &Examples) -> Result<Examples> {
        if examples.len() != self.position.examples {
            let (got, want) = (examples.len(), self.position.examples);
            return Err(Error::Data(format!(
                "the batches are of {want} examples but there are {got}; train on the same data or start anew"
            )));
        }
        examples.select(&self.next_whole())
    }

    fn begin_epoch(&mut self) {
        self.position.epoch += 1;
        self.position.given = 0;
        self.position.rng = self.position.rng.fork();
        self.order = self.position.rng.clone().permutation(self.position.examples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Toy;

    #[test]
    fn an_epoch_has_every_example_once() -> Result<()> {
        let mut batches = Batches::new(10, 3, &mut Rng::seed(5))?;
        let mut orders = Vec::new();
        for _ in 0..3 {
            let mut order = Vec::new();
            while let Some(batch) = batches.next_in_epoch() {
                order.extend(batch);
            }
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<u32>>());
            orders.push(order);
        }
        assert_eq!(batches.epoch(), 3);
        assert!(orders[0] != orders[1] && orders[1] != orders[2]);
        Ok(())
    }

    #[test]
    fn a_resumed_run_sees_the_same_batches() -> Result<()> {
        for size in [1, 3, 10, 99, usize::MAX] {
            let mut batches = Batches::new(10, size, &mut Rng::seed(5))?;
            for _ in 0..7 {
                let saved = serde_json::to_string(batches.position()).unwrap();
                let mut resumed = Batches::resume(serde_json::from_str(&saved).unwrap())?;
                for _ in 0..7 {
                    assert_eq!(resumed.next_whole().len(), size.min(10));
                }
                let mut resumed = Batches::resume(serde_json::from_str(&saved).unwrap())?;
                assert_eq!(resumed.next_in_epoch(), batches.clone().next_in_epoch());
                let mut resumed = Batches::resume(serde_json::from_str(&saved).unwrap())?;
                assert_eq!(resumed.next_whole(), batches.next_whole());
                assert_eq!(resumed.position(), batches.position());
            }
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_an_error() -> Result<()> {
        let rng = &mut Rng::seed(5);
        assert!(Batches::new(0, 1, rng).is_err() && Batches::new(1, 0, rng).is_err());
        assert!(Batches::new(1 << 33, 1, rng).is_err());
        let mut damaged = Batches::new(3, 2, rng)?.position().clone();
        damaged.given = 4;
        assert!(Batches::resume(damaged).is_err());
        let examples = Examples { x: Toy::Circles.sample(4, rng)?, context: None };
        assert!(Batches::new(3, 2, rng)?.next_of(&examples).is_err());
        assert_eq!(Batches::new(4, 3, rng)?.next_of(&examples)?.x.dims(), [3, 2]);
        Ok(())
    }
}
