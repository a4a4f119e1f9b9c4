//! Columns of data by their names.

use super::plural;
use crate::data::{Dataset, Examples};
use crate::{Error, Result};
use candle_core::Tensor;

/// The columns that a model is over and is given, in its order.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// How many it is over.
    pub features: usize,
    /// Their names, if they have any.
    pub names: Option<&'a [String]>,
    /// How many it is given.
    pub context: usize,
    /// Their names likewise.
    pub context_names: Option<&'a [String]>,
}

impl Columns<'_> {
    /// `rows`, a part of `data`, which comes from `source`, with the columns in the order of the model.
    ///
    /// # Errors
    /// When they are others.
    pub fn of(&self, data: &Dataset, rows: &Examples, source: &str) -> Result<Examples> {
        let (got, context) = (rows.features(), rows.context_width().unwrap_or(0));
        let Self { features, context: given, .. } = *self;
        if (got, context) != (features, given) {
            let remedy = if given > 0 {
                format!(
                    "the model is over {features} given a context of {given}: name the context's columns by --context"
                )
            } else {
                format!("the model is over {features} without a context: give data of the same columns")
            };
            let beside = if context > 0 { format!(" beside a context of {context}") } else { String::new() };
            return Err(Error::Data(format!("{source} has {}{beside}, but {remedy}", plural(got, "column"))));
        }
        let x = in_order(&rows.x, data.columns.as_deref(), self.names, source)?;
        let context = rows.context.as_ref().map(|c| self.context_of(c, data.context_columns.as_deref(), source));
        Ok(Examples { x, context: context.transpose()? })
    }

    /// The columns of a context, which `source` names so, in the order of the model.
    ///
    /// # Errors
    /// When they are others.
    pub fn context_of(&self, context: &Tensor, names: Option<&[String]>, source: &str) -> Result<Tensor> {
        in_order(context, names, self.context_names, source)
    }
}

/// The columns of `x` (B, D), which `source` names so, in the order of the names that are wanted; as they are where
/// either have no names.
fn in_order(x: &Tensor, names: Option<&[String]>, wanted: Option<&[String]>, source: &str) -> Result<Tensor> {
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
