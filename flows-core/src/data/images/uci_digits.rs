//! A small set of handwritten digits, embedded in the crate.

use super::Images;
use crate::{Error, Result};
use flate2::read::GzDecoder;
use std::io::Read;

/// The digits, one byte per pixel, followed by their classes, compressed with gzip.
const PACKED: &[u8] = include_bytes!("uci_digits.gz");

const COUNT: usize = 1797;

/// Height and width of a digit.
pub(super) const SIDE: usize = 8;

/// 1,797 digits written by 13 people, light on black, (1, 8, 8), in the original order, with classes 0 to 9. A value is
/// 16 times the number of inked points among 4 x 4 of the scan, at most 255, so that 4 bits represent it.
///
/// The test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI Machine
/// Learning Repository, <https://doi.org/10.24432/C50P49>, as distributed by scikit-learn; licensed under CC BY 4.0
/// (<https://creativecommons.org/licenses/by/4.0/>). The file holds the same numbers in another format.
///
/// # Errors
/// Never, unless the crate is damaged.
pub fn uci_digits() -> Result<Images> {
    let mut bytes = Vec::new();
    let read = GzDecoder::new(PACKED).read_to_end(&mut bytes);
    read.map_err(|e| Error::Data(format!("the digits of the crate cannot be unpacked ({e})")))?;
    let classes = bytes.split_off((COUNT * SIDE * SIDE).min(bytes.len()));
    let values = bytes.into_iter().map(|ink| ink.saturating_mul(16)).collect();
    let images = Images::new([1, SIDE, SIDE], values)?;
    let labels = classes.into_iter().map(u32::from).collect();
    images.with_labels(labels, (0..10).map(|digit| digit.to_string()).collect())
}
