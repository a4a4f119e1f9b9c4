//! Densities and draws of many rows, without a graph and on all threads.

use super::checks::check_rows;
use super::{Distribution, Given};
use crate::ops::has_gpu;
use crate::{Error, Result, Rng};
use candle_core::Tensor;
use rayon::prelude::*;
use std::ops::Range;

/// Rows per task: few enough for a network's activations to stay in the cache.
pub(crate) const BLOCK: usize = 128;

/// [`Distribution::log_prob`] of any number of rows for inference: no graph is
/// built, and blocks of rows are evaluated in parallel.
///
/// # Errors
/// Same as [`Distribution::log_prob`].
pub fn score(distribution: &dyn Distribution, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
    let rows = x.dims().first().copied().unwrap_or(0);
    check_rows(context, rows)?;
    let distribution = distribution.detached().unwrap_or(distribution);
    let [log_prob] = in_blocks(rows, x.device().is_cpu(), |block| {
        let part = |t: &Tensor| t.narrow(0, block.start, block.len());
        Ok([distribution.log_prob(&part(x)?, context.map(part).transpose()?.as_ref())?])
    })?;
    Ok(log_prob)
}

/// [`Distribution::sample`] of any number of rows for inference: no graph is built,
/// and blocks of rows are drawn in parallel, each with its own generator.
///
/// # Errors
/// Same as [`Distribution::sample`], or when `count` is 0.
pub fn draw(distribution: &dyn Distribution, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
    let [x] = draw_blocks(distribution, count, context, rng, |distribution, rows, context, rng| {
        Ok([distribution.sample(rows, context, rng)?])
    })?;
    Ok(x)
}

/// [`Distribution::sample_with_log_prob`] of any number of rows, drawn as by [`draw`].
///
/// # Errors
/// Same as [`draw`].
pub fn draw_with_log_prob(
    distribution: &dyn Distribution,
    count: usize,
    context: Option<&Tensor>,
    rng: &mut Rng,
) -> Result<(Tensor, Tensor)> {
    let [x, log_prob] = draw_blocks(distribution, count, context, rng, |distribution, rows, context, rng| {
        Ok(distribution.sample_with_log_prob(rows, context, rng)?.into())
    })?;
    Ok((x, log_prob))
}

/// `count` draws for each row of the contexts (N, ...), as (N, count, event...), drawn as by [`draw`]; each context is
/// [given](Distribution::given) once.
///
/// # Errors
/// Same as [`draw`].
pub fn draw_given(distribution: &dyn Distribution, count: usize, contexts: &Tensor, rng: &mut Rng) -> Result<Tensor> {
    let generators: Vec<Rng> = (0..contexts.dim(0)?).map(|_| rng.fork()).collect();
    let on_cpu = distribution.device().is_cpu() && !has_gpu();
    let each = |(i, mut rng): (usize, Rng)| {
        draw(&Given::new(distribution, &contexts.narrow(0, i, 1)?)?, count, None, &mut rng)
    };
    let draws: Vec<Tensor> = match on_cpu {
        true => generators.into_par_iter().enumerate().map(each).collect::<Result<_>>()?,
        false => generators.into_iter().enumerate().map(each).collect::<Result<_>>()?,
    };
    if draws.is_empty() {
        return Err(Error::Data("there is no context: give at least one row".into()));
    }
    Ok(Tensor::stack(&draws, 0)?)
}

/// The results of `sample` for blocks of rows, each with its own generator.
fn draw_blocks<const N: usize>(
    distribution: &dyn Distribution,
    count: usize,
    context: Option<&Tensor>,
    rng: &mut Rng,
    sample: impl Fn(&dyn Distribution, usize, Option<&Tensor>, &mut Rng) -> Result<[Tensor; N]> + Sync,
) -> Result<[Tensor; N]> {
    check_rows(context, count)?;
    let distribution = distribution.detached().unwrap_or(distribution);
    let generators: Vec<Rng> = (0..count.div_ceil(BLOCK)).map(|_| rng.fork()).collect();
    let sample = |rows: Range<usize>, rng: &mut Rng| {
        let context = context.map(|c| c.narrow(0, rows.start, rows.len())).transpose()?;
        sample(distribution, rows.len(), context.as_ref(), rng)
    };
    // On a GPU each thread has its own stream, and streams are not synchronised: draw on this thread there. One row
    // tells on which device the draws are.
    let on_cpu = !has_gpu() || count <= BLOCK || sample(0..1, &mut generators[0].clone())?[0].device().is_cpu();
    in_blocks(count, on_cpu, |block| sample(block.clone(), &mut generators[block.start / BLOCK].clone()))
}

/// The results of `f` for blocks of rows, concatenated.
fn in_blocks<const N: usize>(
    rows: usize,
    side_by_side: bool,
    f: impl Fn(Range<usize>) -> Result<[Tensor; N]> + Sync,
) -> Result<[Tensor; N]> {
    if rows == 0 {
        return Err(Error::Data("there are no rows: give at least one".into()));
    }
    let block = |i: usize| Ok(f(i * BLOCK..rows.min((i + 1) * BLOCK))?.map(|t| t.detach()));
    let blocks = rows.div_ceil(BLOCK);
    let parts: Vec<[Tensor; N]> = match side_by_side {
        true => (0..blocks).into_par_iter().map(block).collect::<Result<_>>()?,
        false => (0..blocks).map(block).collect::<Result<_>>()?,
    };
    let joined = (0..N).map(|i| Ok(Tensor::cat(&parts.iter().map(|part| &part[i]).collect::<Vec<_>>(), 0)?));
    let joined = joined.collect::<Result<Vec<_>>>()?;
    joined.try_into().map_err(|_| Error::Internal("blocks with an unexpected number of results".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::{Flow, FlowConfig, RealNvp};
    use crate::testing::{difference, perturb};

    #[test]
    fn blocks_concatenate_to_the_whole() -> Result<()> {
        let rng = &mut Rng::seed(0);
        let flow = Flow::new(FlowConfig::new(3, RealNvp::default()).with_context(2), rng)?;
        perturb(flow.parameters(), 0.2, rng)?;
        let context = rng.normal_tensor((300, 2), flow.parameters().dtype(), flow.parameters().device())?;
        let x = draw(&flow, 300, Some(&context), rng)?;
        assert_eq!(x.dims(), [300, 3]);
        let scores = score(&flow, &x, Some(&context))?;
        assert!(difference(&flow.log_prob(&x, Some(&context))?, &scores)? < 1e-5);
        assert!(!scores.track_op());
        let again = |seed| draw(&flow, 300, Some(&context), &mut Rng::seed(seed));
        assert!(difference(&again(1)?, &again(1)?)? == 0.0 && difference(&again(1)?, &again(2)?)? > 0.0);
        assert!(draw(&flow, 0, None, rng).is_err() && score(&flow, &x.narrow(0, 0, 0)?, None).is_err());
        Ok(())
    }
}
