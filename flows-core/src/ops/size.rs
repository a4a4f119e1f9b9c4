//! Limits on the size of tensors.

use crate::{Error, Result};

/// The largest number of elements of a tensor, and of all weights of a model together: 4 GiB in f32.
pub(crate) const MOST: usize = 1 << 30;

/// The largest width of a layer, so that vectors of one number for each unit stay small.
pub(crate) const WIDEST: usize = 1 << 24;

/// Checks the width of a layer, given as a product: a width that is far too large comes from a mistyped setting.
///
/// # Errors
/// When it is larger than [`WIDEST`].
pub(crate) fn check_width(what: &str, factors: &[usize]) -> Result<()> {
    let width = factors.iter().map(|n| *n as f64).product::<f64>();
    if width > WIDEST as f64 {
        return Err(Error::Config(format!("{what} has a layer of width {width:e}: choose at most {WIDEST}")));
    }
    Ok(())
}

/// The number of elements of a tensor of this shape, which may come from a mistyped setting.
///
/// # Errors
/// When there are more than [`MOST`].
pub(crate) fn elements(dims: &[usize]) -> Result<usize> {
    let product = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    product.filter(|n| *n <= MOST).ok_or_else(|| {
        Error::Config(format!("a tensor of shape {dims:?} is too large: choose sizes of at most {MOST} elements"))
    })
}
