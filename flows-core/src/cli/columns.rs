//! Matching columns of data to those of a model.

use super::plural;
use crate::data::{Dataset, Examples};
use crate::flows::TableConfig;
use crate::{Error, Result};
use candle_core::Tensor;

/// The columns of a model's events and contexts, in the model's order.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Number of event columns.
    pub features: usize,
    /// Names of the event columns, if they have names.
    pub names: Option<&'a [String]>,
    /// Number of context columns.
    pub context: usize,
    /// Names of the context columns, if they have names.
    pub context_names: Option<&'a [String]>,
}

impl<'a> From<&'a TableConfig> for Columns<'a> {
    fn from(config: &'a TableConfig) -> Self {
        Self {
            features: config.features(),
            names: config.columns(),
            context: config.context().unwrap_or(0),
            context_names: config.context_columns(),
        }
    }
}

impl Columns<'_> {
    /// `rows`, a part of `data`, with its columns in the model's order; errors call the data `source`.
    ///
    /// # Errors
    /// When the columns are not the model's.
    pub fn of(&self, data: &Dataset, rows: &Examples, source: &str) -> Result<Examples> {
        let (got, context) = (rows.features(), rows.context_width().unwrap_or(0));
        let Self { features, context: given, .. } = *self;
        if (got, context) != (features, given) {
            let remedy = if given > 0 {
                format!(
                    "the model is over {features} given a context of {given}: name the context columns by --context"
                )
            } else {
                format!("the model is over {features} without a context: give data with the same columns")
            };
            let beside = if context > 0 { format!(" and a context of {context}") } else { String::new() };
            return Err(Error::Data(format!("{source} has {}{beside}, but {remedy}", plural(got, "column"))));
        }
        let x = in_order(&rows.x, data.columns.as_deref(), self.names, source)?;
        let context = rows.context.as_ref().map(|c| self.context_of(c, data.context_columns.as_deref(), source));
        Ok(Examples { x, context: context.transpose()? })
    }

    /// A context whose columns have these `names`, with its columns in the model's order; errors call it `source`.
    ///
    /// # Errors
    /// When the columns are not the model's.
    pub fn context_of(&self, context: &Tensor, names: Option<&[String]>, source: &str) -> Result<Tensor> {
        in_order(context, names, self.context_names, source)
    }
}

/// `x` (B, D), whose columns have these `names`, with its columns in the order of `wanted`; unchanged if either has no
/// names.
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
        let remedy = "give the same columns, or no header to match them by position";
        return Err(Error::Data(format!("{source} has the columns `{names}`, but the model `{wanted}`; {remedy}")));
    }
    let mut order = vec![0; names.len()];
    for (from, to) in pairs {
        order[to] = from as u32;
    }
    Ok(x.index_select(&Tensor::new(order, x.device())?, 1)?)
}
