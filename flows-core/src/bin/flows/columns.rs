//! Which columns of the data are which of the model's.

use flows_core::cli::{in_order, plural};
use flows_core::data::{Dataset, Examples};
use flows_core::flows::Flow;
use flows_core::{Error, Result};

/// `rows`, a part of `data`, with the columns that the model is over and is given, in its order.
pub fn matched(flow: &Flow, data: &Dataset, rows: &Examples, source: &str) -> Result<Examples> {
    let config = flow.config();
    let (got, context) = (rows.features(), rows.context_width().unwrap_or(0));
    let (want, given) = (config.features, config.context.unwrap_or(0));
    if (got, context) != (want, given) {
        let remedy = if given > 0 {
            format!("the model is over {want} given a context of {given}: name the context's columns by --context")
        } else {
            format!("the model is over {want} without a context: give data of the same columns")
        };
        let beside = if context > 0 { format!(" beside a context of {context}") } else { String::new() };
        return Err(Error::Data(format!("{source} has {}{beside}, but {remedy}", plural(got, "column"))));
    }
    let x = in_order(&rows.x, data.columns.as_deref(), config.columns.as_deref(), source)?;
    let names = (data.context_columns.as_deref(), config.context_columns.as_deref());
    let context = rows.context.as_ref().map(|c| in_order(c, names.0, names.1, source)).transpose()?;
    Ok(Examples { x, context })
}
