//! A randomly augmented minibatch.

use super::Images;
use super::warp::Map;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::ops::Range;

/// A minibatch of images to be mirrored and warped, by maps that were drawn for all of them.
///
/// Only the rows that are asked for are computed, so that each rank and thread augments its own rows, and the result
/// does not depend on how rows are divided.
#[derive(Clone, Debug)]
pub struct Augmented<'a> {
    pub(super) images: &'a Images,
    pub(super) indices: &'a [u32],
    /// Whether each image is mirrored.
    pub(super) mirrored: Vec<bool>,
    /// The map of each image; empty if images are not warped.
    pub(super) maps: Vec<Map>,
}

impl Augmented<'_> {
    /// The augmented images of some rows of the minibatch, (B, C, H, W) as u8.
    ///
    /// # Errors
    /// When there are no such rows, or an index is out of range.
    pub fn rows(&self, rows: Range<usize>) -> Result<Tensor> {
        let (Some(indices), Some(mirrored)) = (self.indices.get(rows.clone()), self.mirrored.get(rows.clone())) else {
            return Err(Error::Data(format!("there are no rows {rows:?} in a batch of {}", self.indices.len())));
        };
        let mut mirrored = mirrored.iter();
        let images = self.images.tensor(indices, || mirrored.next() == Some(&true))?;
        let Some(maps) = self.maps.get(rows) else { return Ok(images) };
        let (shape, values) = (self.images.shape(), images.flatten_all()?.to_vec1::<u8>()?);
        let each = shape.iter().product();
        let warped: Vec<u8> = values.chunks(each).zip(maps).flat_map(|(image, map)| map.apply(shape, image)).collect();
        Ok(Tensor::from_vec(warped, images.shape(), &Device::Cpu)?)
    }
}
