//! IDX files, the format of MNIST, plain or compressed with gzip.

use super::Images;
use crate::{Error, Result};
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::Path;

const REMEDY: &str = "fetch the file again";

/// The largest number of bytes that is read: 8 GiB.
const MOST: u64 = 8 << 30;

/// Reads the sizes and values of a file of unsigned bytes.
fn read(path: &Path) -> Result<(Vec<usize>, Vec<u8>)> {
    let file = std::fs::File::open(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
    let mut start = std::io::BufReader::new(file);
    let mut bytes = Vec::new();
    let packed = std::io::BufRead::fill_buf(&mut start).is_ok_and(|start| start.starts_with(&[0x1f, 0x8b]));
    let read = match packed {
        true => GzDecoder::new(start).take(MOST).read_to_end(&mut bytes),
        false => start.take(MOST).read_to_end(&mut bytes),
    };
    read.map_err(|e| Error::file(path, format!("is damaged or cut short ({e}); {REMEDY}")))?;
    let [0, 0, kind, rank, rest @ ..] = bytes.as_slice() else {
        return Err(Error::file(path, format!("is no IDX file; {REMEDY}")));
    };
    if *kind != 8 {
        return Err(Error::file(path, format!("is an IDX file of type {kind}, not of unsigned bytes (8)")));
    }
    let rank = usize::from(*rank);
    if rest.len() < 4 * rank {
        return Err(Error::file(path, format!("is cut short; {REMEDY}")));
    }
    let (sizes, values) = rest.split_at(4 * rank);
    let sizes: Vec<usize> =
        sizes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let count = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if count != Some(values.len()) {
        let message = format!("declares {sizes:?} bytes, but has {}; {REMEDY}", values.len());
        return Err(Error::file(path, message));
    }
    Ok((sizes, values.to_vec()))
}

/// Reads the images of a file with three sizes (N, H, W) or four (N, C, H, W).
pub(super) fn images(path: &Path) -> Result<Images> {
    let (sizes, values) = read(path)?;
    let shape = match sizes[..] {
        [_, height, width] => [1, height, width],
        [_, channels, height, width] => [channels, height, width],
        _ => return Err(Error::file(path, format!("has sizes {sizes:?}, but images have three or four"))),
    };
    Images::new(shape, values).map_err(|e| Error::file(path, e))
}

/// Reads the classes of images.
pub(super) fn labels(path: &Path) -> Result<Vec<u32>> {
    let (sizes, values) = read(path)?;
    match sizes[..] {
        [_] => Ok(values.into_iter().map(u32::from).collect()),
        _ => Err(Error::file(path, format!("has sizes {sizes:?}, but labels have one"))),
    }
}
