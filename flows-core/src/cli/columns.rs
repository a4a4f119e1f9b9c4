//! Columns of data by their names.

use crate::{Error, Result};
use candle_core::Tensor;

/// The columns of `x` (B, D), which `source` names so, in the order of the names that are wanted; as they are where
/// either have no names.
///
/// # Errors
/// When the names are not the same.
pub fn in_order(x: &Tensor, names: Option<&[String]>, wanted: Option<&[String]>, source: &str) -> Result<Tensor> {
    let (Some(names), Some(wanted)) = (names, wanted) else { return Ok(x.clone()) };
    let sorted = |names: &[String]| {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|&i| &names[i]);
        order
    };
    let pairs: Vec<(usize, usize)> = sorted(names).into_iter().zip(sorted(wanted)).collect();
    if names.len() != wanted.len() || pairs.iter().any(|&(from, to)| names[from] != wanted[to]) {
        let (names, wanted) = (names.join("`, `"), wanted.join("`, `"));
        let remedy = "give the same columns, or no header to have them taken in their order";
        return Err(Error::Data(format!("{source} has the columns `{names}`, but the model `{wanted}`; {remedy}")));
    }
    let mut order = vec![0; names.len()];
    for (from, to) in pairs {
        order[to] = from as u32;
    }
    Ok(x.index_select(&Tensor::new(order, x.device())?, 1)?)
}
