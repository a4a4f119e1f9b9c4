//! The split of an event into the part that a coupling keeps and the part that it moves.

use crate::nn::Scope;
use crate::{Error, Result};
use candle_core::Tensor;
use std::ops::Range;

/// Which elements of an event a coupling transforms; the others condition them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// The second half along the event's first axis (features or channels); the first if `swap`.
    Halves {
        /// Whether to transform the first half instead.
        swap: bool,
    },
    /// Every second element along the event's first axis, from the first or, if `odd`, the second.
    Alternating {
        /// Whether to transform elements 1, 3, ... instead of 0, 2, ...
        odd: bool,
    },
    /// The squares of one colour of each (..., H, W) image, those with an even sum of row and column
    /// unless `odd`.
    Checkerboard {
        /// Whether to transform the other colour.
        odd: bool,
    },
    /// These elements (row-major), or channels of a coupling over channels: true is transformed.
    Custom(Vec<bool>),
}

impl Mask {
    /// Which elements of an event of `shape` are transformed, in row-major order.
    ///
    /// # Errors
    /// When the shape has no such mask.
    pub fn transformed(&self, shape: &[usize]) -> Result<Vec<bool>> {
        let n: usize = shape.iter().product();
        let first = shape.first().copied().unwrap_or(1);
        let inner = n / first.max(1);
        match self {
            Self::Halves { swap } => Ok((0..n).map(|i| (i / inner >= first.div_ceil(2)) != *swap).collect()),
            Self::Alternating { odd } => Ok((0..n).map(|i| (i / inner % 2 == 1) == *odd).collect()),
            Self::Checkerboard { odd } => {
                let [.., height, width] = shape else {
                    let message =
                        format!("a checkerboard mask needs rows and columns, but the event's shape is {shape:?}");
                    return Err(Error::Config(message));
                };
                Ok((0..n).map(|i| ((i / width % height + i % width) % 2 == 1) == *odd).collect())
            }
            Self::Custom(mask) if mask.len() == n => Ok(mask.clone()),
            Self::Custom(mask) => Err(Error::Config(format!(
                "the mask has {} elements, but an event of shape {shape:?} has {n}",
                mask.len()
            ))),
        }
    }
}

/// The split of an event into a kept and a moved part, of elements or of whole channels.
#[derive(Debug)]
pub(super) struct Split {
    /// The numbers of elements or channels of either part.
    pub(super) kept: usize,
    pub(super) moved: usize,
    /// (T) or (H, W) of a channel; none of an element.
    positions: Vec<usize>,
    order: Order,
}

#[derive(Debug)]
enum Order {
    KeptFirst,
    MovedFirst,
    /// Indices that bring the kept part to the front, and those that undo it.
    Scattered(Tensor, Tensor),
}

impl Split {
    /// The split of elements, or of channels of these `positions`, of which those that are true move.
    pub(super) fn new(transformed: &[bool], positions: &[usize], scope: &Scope) -> Result<Self> {
        let (moved, kept): (Vec<u32>, Vec<u32>) = (0..transformed.len() as u32).partition(|&i| transformed[i as usize]);
        let order = if transformed.is_sorted() {
            Order::KeptFirst
        } else if transformed.iter().rev().is_sorted() {
            Order::MovedFirst
        } else {
            let front = [kept.clone(), moved.clone()].concat();
            let mut back = vec![0u32; front.len()];
            front.iter().enumerate().for_each(|(at, &i)| back[i as usize] = at as u32);
            Order::Scattered(Tensor::new(front, scope.device())?, Tensor::new(back, scope.device())?)
        };
        Ok(Self { kept: kept.len(), moved: moved.len(), positions: positions.to_vec(), order })
    }

    /// The shape of a part of `count` elements or channels.
    pub(super) fn shape(&self, batch: usize, count: usize) -> Vec<usize> {
        [&[batch, count], &self.positions[..]].concat()
    }

    /// The range of the kept elements in what [`Self::gather`] gives.
    pub(super) fn kept_range(&self) -> Range<usize> {
        let (kept, moved) = self.sizes();
        if matches!(self.order, Order::MovedFirst) { moved..moved + kept } else { 0..kept }
    }

    /// That of the moved elements.
    pub(super) fn moved_range(&self) -> Range<usize> {
        let (kept, moved) = self.sizes();
        if matches!(self.order, Order::MovedFirst) { 0..moved } else { kept..kept + moved }
    }

    /// Whether each element of an event moves, in row-major order.
    pub(super) fn moved_elements(&self) -> Result<Vec<bool>> {
        let (kept, moved) = (vec![false; self.kept], vec![true; self.moved]);
        let channels = match &self.order {
            Order::KeptFirst => [kept, moved].concat(),
            Order::MovedFirst => [moved, kept].concat(),
            Order::Scattered(_, back) => {
                let sorted = [kept, moved].concat();
                back.to_vec1::<u32>()?.into_iter().map(|i| sorted[i as usize]).collect()
            }
        };
        let each: usize = self.positions.iter().product();
        Ok(channels.into_iter().flat_map(|moved| std::iter::repeat_n(moved, each)).collect())
    }

    fn sizes(&self) -> (usize, usize) {
        let each: usize = self.positions.iter().product();
        (self.kept * each, self.moved * each)
    }

    /// (B, event...) to (B, N) with each part contiguous.
    pub(super) fn gather(&self, v: &Tensor) -> Result<Tensor> {
        let Order::Scattered(front, _) = &self.order else { return Ok(v.flatten_from(1)?) };
        self.reordered(v, front)
    }

    /// Undoes [`Self::gather`], but for the shape.
    pub(super) fn scatter(&self, v: Tensor) -> Result<Tensor> {
        let Order::Scattered(_, back) = &self.order else { return Ok(v) };
        self.reordered(&v, back)
    }

    fn reordered(&self, v: &Tensor, order: &Tensor) -> Result<Tensor> {
        let v = v.reshape((v.dim(0)?, self.kept + self.moved, ()))?.contiguous()?;
        Ok(v.index_select(order, 1)?.flatten_from(1)?)
    }

    /// Joins both parts in the order of [`Self::gather`].
    pub(super) fn join(&self, kept: &Tensor, moved: &Tensor) -> Result<Tensor> {
        Ok(match &self.order {
            Order::MovedFirst => Tensor::cat(&[moved, kept], 1)?,
            Order::KeptFirst | Order::Scattered(..) => Tensor::cat(&[kept, moved], 1)?,
        })
    }
}
