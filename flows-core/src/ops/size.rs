//! How large a tensor may be.

use crate::{Error, Result};

/// The most elements of a tensor, and of the weights of a model together: 4 GiB in f32.
pub(crate) const MOST: usize = 1 << 30;

/// The widest that a layer may be: what is made for each of its units, and of a batch, is small then.
pub(crate) const WIDEST: usize = 1 << 24;

/// Passes unless a layer of this width is a mistyped setting.
///
/// # Errors
/// When it is wider than [`WIDEST`], or so wide that its width is no number.
pub(crate) fn check_width(what: &str, factors: &[usize]) -> Result<()> {
    let width = factors.iter().map(|n| *n as f64).product::<f64>();
    if width > WIDEST as f64 {
        return Err(Error::Config(format!("{what} has a layer of width {width:e}: choose at most {WIDEST}")));
    }
    Ok(())
}

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
