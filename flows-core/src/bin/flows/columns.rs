//! Which columns of the data are which of the model's.

use candle_core::Tensor;
use flows_core::cli::plural;
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

/// The columns of `x` in the order of the names that are wanted; as they are where either have no names.
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
