//! Images in NumPy's `.npy` format.

use super::Images;
use crate::data::npy;
use crate::{Error, Result};
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const WANTED: &str = "save unsigned bytes of shape (N, H, W), (N, H, W, C) or (N, C, H, W), C being 1 or 3: \
                      np.save(path, images.astype(\"u1\"))";

fn bad(path: &Path, what: impl Display) -> Error {
    Error::file(path, format!("{what}; {WANTED}"))
}

/// An array of images whose header has been read.
struct Array {
    /// The number of bytes.
    count: usize,
    /// Positioned at the first byte after the header.
    file: File,
    /// Channels, height and width.
    shape: [usize; 3],
    /// Whether the channels come last.
    last: bool,
}

impl Array {
    fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
        let length = file.metadata().map_err(|e| Error::file(path, e))?.len();
        let (header, _) = npy::header(path, &mut file)?;
        if header.dtype.trim_start_matches(['|', '<', '>']) != "u1" {
            return Err(bad(path, format!("holds numbers of type `{}`", header.dtype)));
        }
        if header.fortran && header.shape.len() > 1 {
            return Err(bad(path, "is in Fortran's order"));
        }
        let (shape, last) = match header.shape[..] {
            [_, height, width] => ([1, height, width], false),
            [_, height, width, channels @ (1 | 3)] => ([channels, height, width], true),
            [_, channels @ (1 | 3), height, width] => ([channels, height, width], false),
            _ => return Err(bad(path, format!("has shape {:?}", header.shape))),
        };
        if header.count() as u64 > length {
            return Err(bad(path, "is cut short"));
        }
        Ok(Self { count: header.count(), file, shape, last })
    }
}

/// Whether the header of an array describes images.
pub(super) fn is_images(path: &Path) -> bool {
    Array::open(path).is_ok()
}

/// Reads the images of an array of unsigned bytes.
pub(super) fn images(path: &Path) -> Result<Images> {
    let Array { count, mut file, shape, last } = Array::open(path)?;
    let mut values = vec![0; count];
    file.read_exact(&mut values).map_err(|e| bad(path, format!("is cut short or damaged ({e})")))?;
    let [channels, height, width] = shape;
    let values = match last {
        false => values,
        true => {
            let image = |image: &[u8]| -> Vec<u8> {
                (0..channels).flat_map(|c| image[c..].iter().step_by(channels).copied()).collect()
            };
            values.chunks((height * width * channels).max(1)).flat_map(image).collect()
        }
    };
    Images::new(shape, values).map_err(|e| Error::file(path, e))
}
