//! Images in NumPy's `.npy` format.

use super::Images;
use flows_core::{Error, Result};
use npyz::{NpyFile, Order};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

const WANTED: &str = "save unsigned bytes of shape (N, H, W), (N, H, W, C) or (N, C, H, W), C being 1 or 3: \
                      np.save(path, images.astype(\"u1\"))";

/// The images of an array of unsigned bytes.
pub(super) fn images(path: &Path) -> Result<Images> {
    let bad = |what: String| Error::file(path, format!("{what}; {WANTED}"));
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
    let length = file.metadata().map_err(|e| Error::file(path, e))?.len();
    let npy = NpyFile::new(BufReader::new(file)).map_err(|e| bad(format!("is no .npy file that can be read ({e})")))?;
    let kind = npy.dtype().descr();
    if !matches!(kind.trim_matches(['\'', '|', '<', '>']), "u1") {
        return Err(bad(format!("holds numbers of type {kind}")));
    }
    let sizes: Vec<usize> = npy.shape().iter().map(|&size| size as usize).collect();
    if npy.order() != Order::C && sizes.len() > 1 {
        return Err(bad("is in Fortran's order".into()));
    }
    let (shape, last) = match sizes[..] {
        [_, height, width] => ([1, height, width], false),
        [_, height, width, channels @ (1 | 3)] => ([channels, height, width], true),
        [_, channels @ (1 | 3), height, width] => ([channels, height, width], false),
        _ => return Err(bad(format!("has shape {sizes:?}"))),
    };
    let count = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
    if count.is_none_or(|count| count > length) {
        return Err(bad("is cut short".into()));
    }
    let values: Vec<u8> = npy.into_vec().map_err(|e| bad(format!("is cut short or damaged ({e})")))?;
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
