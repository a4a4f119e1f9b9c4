//! IDX files, the format of MNIST, plain or compressed with gzip.

use super::array::Array;
use crate::{Error, Result};
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::Path;

const REMEDY: &str = "fetch the file again";

/// The largest number of bytes that is read: 8 GiB.
pub(super) const MOST: u64 = 8 << 30;

/// Whether a file is an IDX file by its name, such as `train-images.idx3-ubyte.gz`.
pub(super) fn is_idx(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
    let is_type = |word: &&str| ["ubyte", "byte", "short", "int", "float", "double"].contains(word);
    let dimensions = words.iter().position(|word| ["idx1", "idx2", "idx3", "idx4"].contains(word));
    name.ends_with(".idx") || dimensions.is_some_and(|at| words.get(at + 1).is_none_or(is_type))
}

/// Reads the array in a file.
pub(super) fn read(path: &Path) -> Result<Array> {
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
    let (dtype, size) = match kind {
        0x08 => ("|u1", 1),
        0x09 => ("|i1", 1),
        0x0b => (">i2", 2),
        0x0c => (">i4", 4),
        0x0d => (">f4", 4),
        0x0e => (">f8", 8),
        _ => return Err(Error::file(path, format!("is an IDX file of numbers of an unknown type {kind}; {REMEDY}"))),
    };
    let rank = usize::from(*rank);
    if rest.len() < 4 * rank {
        return Err(Error::file(path, format!("is cut short; {REMEDY}")));
    }
    let (sizes, values) = rest.split_at(4 * rank);
    let shape: Vec<usize> =
        sizes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let length = shape.iter().try_fold(size, |product: usize, &size| product.checked_mul(size));
    if length != Some(values.len()) {
        let of = if size == 1 { String::new() } else { format!(" numbers of {size}") };
        let message = format!("declares {shape:?}{of} bytes, but has {}; {REMEDY}", values.len());
        return Err(Error::file(path, message));
    }
    Ok(Array { path: path.into(), dtype: dtype.into(), shape, fortran: false, bytes: values.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_format() {
        let names = "train-images-idx3-ubyte t10k-labels.idx1-ubyte.gz qmnist-test-labels-idx2-int.gz a.idx a-idx3";
        assert!(names.split(' ').all(|name| is_idx(name.as_ref())));
        assert!(["idx3.png", "frame-idx1.jpg", "idx", "a.gz"].iter().all(|name| !is_idx(name.as_ref())));
    }
}
