//! Tensors in files.

use super::graph::{Described, Place};
use super::{Checkpoint, Fault};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

/// A tensor in a checkpoint, whose numbers are read from the file when they are asked for.
#[derive(Clone, Debug)]
pub struct StoredTensor<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) name: String,
    pub(super) described: &'a Described,
}

/// How many bytes that are read to get at numbers far apart, such as those of a column, count as one.
const SPARSE: u64 = 64;

/// The place of a tensor's numbers in its storage.
struct Extent {
    /// The number of elements.
    count: usize,
    /// The first byte, and the number of bytes to the last.
    start: u64,
    length: u64,
    /// Whether the elements follow one another.
    is_contiguous: bool,
}

impl StoredTensor<'_> {
    /// The name, relative to the entry that it was asked of; parts are joined by dots.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.described.dims
    }

    /// The type of its numbers; booleans are 0 and 1 in `u8`.
    ///
    /// # Errors
    /// When they are of a type that cannot be read, such as complex or quantised numbers; the message names the tensor.
    pub fn dtype(&self) -> Result<DType> {
        self.described.element.dtype.ok_or_else(|| {
            let name = self.described.element.name;
            let remedy = "convert it before it is saved, such as by tensor.float()";
            self.error(&format!("has {name} numbers, which are not supported; {remedy}"))
        })
    }

    /// Reads it, to the CPU.
    ///
    /// # Errors
    /// When its type is not supported, or the file can no longer be read or is damaged.
    pub fn read(&self) -> Result<Tensor> {
        let dtype = self.dtype()?;
        let read =
            self.numbers().map_err(|fault| self.error(&format!("cannot be read ({fault}); download it again")))?;
        match read.len() {
            0 => Ok(Tensor::zeros(self.shape(), dtype, &Device::Cpu)?),
            _ => Ok(Tensor::from_raw_buffer(&read, dtype, self.shape(), &Device::Cpu)?),
        }
    }

    /// The number of bytes that reading it counts for: those of its numbers, unless many more lie between them.
    pub(super) fn cost(&self) -> u64 {
        let cost = |extent: Extent| (extent.count as u64 * self.described.element.size).max(extent.length / SPARSE);
        self.extent().map_or(0, cost)
    }

    /// Checks that its storage has all its numbers.
    pub(super) fn check(&self) -> std::result::Result<(), Fault> {
        self.extent().map(|_| ()).map_err(|fault| Fault(format!("`{}`: {fault}", self.name)))
    }

    fn error(&self, what: &str) -> Error {
        Error::file(&self.checkpoint.path, format!("the tensor `{}` {what}", self.name))
    }

    fn extent(&self) -> std::result::Result<Extent, Fault> {
        let Described { storage, element, offset, dims, strides } = self.described;
        let storage = &self.checkpoint.contents.graph.storages[*storage as usize];
        let count = dims.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
        // The index of the last element, relative to the first.
        let last = dims.iter().zip(strides).try_fold(0u64, |at, (size, stride)| {
            at.checked_add((size.saturating_sub(1) as u64).checked_mul(*stride as u64)?)
        });
        let bytes = |n: u64| n.checked_mul(element.size);
        let start = bytes(*offset);
        let (Some(count), Some(start)) = (count, start) else {
            return Err(format!("a shape of {dims:?} is too large").into());
        };
        if count == 0 {
            return Ok(Extent { count, start: 0, length: 0, is_contiguous: true });
        }
        // Elements may not be repeated, which would make much of little.
        let length = last.and_then(|last| bytes(last.checked_add(1)?));
        let (end, needed) = (length.and_then(|length| start.checked_add(length)), bytes(count as u64));
        match (length, end, needed, storage.size()) {
            (Some(length), Some(end), Some(needed), Some(there)) if end <= there && needed <= length => {
                let mut expected = 1;
                let is_contiguous = dims.iter().zip(strides).rev().all(|(size, stride)| {
                    let fits = *size == 1 || *stride == expected;
                    expected *= size;
                    fits
                });
                Ok(Extent { count, start, length, is_contiguous })
            }
            _ => {
                let stored = storage.count;
                let message = format!(
                    "the shape {dims:?} with the strides {strides:?} needs more than the {stored} numbers stored"
                );
                Err(message.into())
            }
        }
    }

    /// The bytes of its numbers, in order.
    fn numbers(&self) -> std::result::Result<Vec<u8>, Fault> {
        let Extent { count, start, length, is_contiguous } = self.extent()?;
        let contents = &self.checkpoint.contents;
        let storage = &contents.graph.storages[self.described.storage as usize];
        let bytes = match (storage.place, &contents.records) {
            _ if length == 0 => Vec::new(),
            (Place::Keyed, Some(records)) => records.read(&storage.key, start, length)?,
            (Place::Keyed, None) => return Err("it is not in the file".into()),
            (Place::File(at), _) => contents.source.read(at.saturating_add(start), length)?,
            (Place::Latin1 { start: at, length: coded }, _) => {
                let bytes = latin1(&contents.source.read(at, coded)?)?;
                let range = start as usize..start.saturating_add(length) as usize;
                bytes.get(range).ok_or("it is truncated")?.to_vec()
            }
        };
        if is_contiguous {
            return Ok(bytes);
        }
        let Described { element, dims, strides, .. } = self.described;
        let size = element.size as usize;
        let mut ordered = Vec::with_capacity(count * size);
        // The indices count up like a clock, the last axis first.
        let (mut index, mut at) = (vec![0; dims.len()], 0);
        for _ in 0..count {
            ordered.extend_from_slice(bytes.get(at * size..(at + 1) * size).ok_or("it is truncated")?);
            for axis in (0..dims.len()).rev() {
                index[axis] += 1;
                at += strides[axis];
                if index[axis] < dims[axis] {
                    break;
                }
                at -= strides[axis] * dims[axis];
                index[axis] = 0;
            }
        }
        Ok(ordered)
    }
}

/// The bytes that the characters of a text stand for.
pub(super) fn latin1(text: &[u8]) -> std::result::Result<Vec<u8>, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| "a string is not UTF-8")?;
    let bytes =
        text.chars().map(|c| u8::try_from(c).map_err(|_| Fault::from("a string has other characters than bytes")));
    bytes.collect()
}
