//! How large a tensor may be.

use crate::{Error, Result};

/// The most elements of a tensor, and of the weights of a model together: 4 GiB in f32.
pub(crate) const MOST: usize = 1 << 30;

/// The number of elements of a tensor of this shape, which may have been asked for by a mistyped setting.
///
/// # Errors
/// When there are more than [`MOST`].
pub(crate) fn elements(dims: &[usize]) -> Result<usize> {
    let product = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    product.filter(|n| *n <= MOST).ok_or_else(|| {
        Error::Config(format!("a tensor of shape {dims:?} is too large: choose sizes of at most {MOST} elements"))
    })
}
