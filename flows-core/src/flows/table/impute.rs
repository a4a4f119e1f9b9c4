//! Draws of the missing cells of a table, given the others.

use super::proposal::Proposal;
use super::{MixedDensity, TableDensity, TableModel};
use crate::data::Examples;
use crate::distributions::{Distribution, draw, score};
use crate::evaluate::ImportanceWeights;
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Candidates that are evaluated at once.
const BLOCK: usize = 4096;

/// The most cells of all draws together: two GiB.
const MOST_DRAWN: usize = 1 << 28;

/// The most cells of the candidates of a row.
const MOST_CANDIDATES: usize = 1 << 24;

/// Rows with their missing cells drawn.
#[derive(Clone, Debug)]
pub struct Imputation {
    /// The rows, (B, D) in f64, as often as draws were asked for.
    pub draws: Vec<Tensor>,
    /// The number of rows with a missing cell.
    pub incomplete: usize,
    /// Of these, the rows whose draws are exactly from the model's conditional density.
    pub exact: usize,
    /// Of the others, by their indices, the effective number of candidates that a draw was chosen from.
    pub effective: Vec<(usize, f64)>,
}

/// A row with missing cells.
struct Incomplete<'a> {
    index: usize,
    /// What messages call it.
    name: u64,
    cells: &'a [f64],
    context: Option<Tensor>,
}

/// What is found for a row: draws of all its cells, and the effective number of candidates if they are not exact.
type Found = (Vec<Vec<f64>>, Option<f64>);

/// Draws each missing cell, NaN, of rows `draws` times given the others of its row. Messages call a row, counted from 0, by
/// its `row_name`.
///
/// A mixed table draws column by column, each given those before it. That is exact where no known cell comes after a
/// missing one in the model's order. Elsewhere there are `candidates`, each with the weight that the known cells after
/// the first missing one have given the candidate, of which draws are chosen in proportion to their weights (sampling,
/// importance resampling; Rubin, 1987). A flow draws the cells of a row without any known exactly. Elsewhere its
/// candidates are from a Student-t distribution around a linear regression of the missing columns on the known ones, with
/// the weights `p(x) / q(x)` for the flow's density p and that distribution's q.
///
/// A cell is drawn as one that is not missing; that it was missing tells nothing of its value. The weights of a mixed table
/// are the model's probabilities of the known cells, which include that these are not missing.
///
/// # Errors
/// When a context has a missing cell that the model has no probability of, the known cells of a row are impossible, or there
/// are too many draws or candidates.
pub fn impute(
    model: &TableModel,
    rows: &Examples,
    counts: [usize; 2],
    row_name: &dyn Fn(usize) -> u64,
    rng: &mut Rng,
) -> Result<Imputation> {
    match model.detached() {
        TableDensity::Mixed(mixed) => fill(rows, counts, &mixed.context_misses(), row_name, |incomplete| {
            let generators: Vec<Rng> = incomplete.iter().map(|_| rng.fork()).collect();
            let each = |(row, mut rng): (&Incomplete<'_>, Rng)| of_mixed(mixed, row, counts, &mut rng);
            incomplete.par_iter().zip(generators).map(each).collect()
        }),
        TableDensity::Flow(flow) => by_flow(flow, rows, counts, row_name, rng),
    }
}

/// The imputation by a flow.
pub(super) fn by_flow(
    flow: &dyn Distribution,
    rows: &Examples,
    counts: [usize; 2],
    row_name: &dyn Fn(usize) -> u64,
    rng: &mut Rng,
) -> Result<Imputation> {
    fill(rows, counts, &[], row_name, |incomplete| of_flow(flow, rows, incomplete, counts, rng))
}

/// The rows as `find` fills them; `may_miss` tells which columns of the context may have missing cells, by default none.
fn fill(
    rows: &Examples,
    [draws, candidates]: [usize; 2],
    may_miss: &[bool],
    row_name: &dyn Fn(usize) -> u64,
    find: impl FnOnce(&[Incomplete<'_>]) -> Result<Vec<Found>>,
) -> Result<Imputation> {
    if draws == 0 || candidates < 2 {
        let message = "one draw of a cell (--draws) and two candidates (--candidates) are the least";
        return Err(Error::Config(message.into()));
    }
    let width = rows.features().max(1);
    let most = [MOST_DRAWN / rows.len().saturating_mul(width).max(1), MOST_CANDIDATES / width].map(|most| most.max(2));
    for (flag, given, most) in [("draws", draws, most[0]), ("candidates", candidates, most[1])] {
        if given > most {
            return Err(Error::Config(format!(
                "{given} {flag} take too much memory: lower --{flag} to {most} or less"
            )));
        }
    }
    let cells = rows.x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let context = |index: usize| rows.context.as_ref().map(|context| context.narrow(0, index, 1)).transpose();
    if let Some(context) = &rows.context {
        let cells = context.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let is_unknown = |(i, cell): (usize, &f64)| cell.is_nan() && may_miss.get(i) != Some(&true);
        if let Some(row) = cells.iter().position(|cells| cells.iter().enumerate().any(is_unknown)) {
            return Err(Error::Data(format!(
                "row {}: a cell of the context is missing, of which the model has no density: fill it in",
                row_name(row)
            )));
        }
    }
    let mut incomplete = Vec::new();
    for (index, cells) in cells.iter().enumerate().filter(|(_, cells)| cells.iter().any(|cell| cell.is_nan())) {
        incomplete.push(Incomplete { index, name: row_name(index), cells, context: context(index)? });
    }
    let found = find(&incomplete)?;
    let d = cells.first().map_or(0, Vec::len);
    let filled = |which: usize| {
        let mut cells = cells.clone();
        for (row, (draws, _)) in incomplete.iter().zip(&found) {
            cells[row.index].clone_from(&draws[which]);
        }
        Ok(Tensor::from_vec(cells.concat(), (rows.len(), d), &Device::Cpu)?)
    };
    let effective: Vec<(usize, f64)> =
        incomplete.iter().zip(&found).filter_map(|(row, (_, effective))| Some((row.index, (*effective)?))).collect();
    Ok(Imputation {
        draws: (0..draws).map(filled).collect::<Result<_>>()?,
        incomplete: incomplete.len(),
        exact: incomplete.len() - effective.len(),
        effective,
    })
}

/// The draws chosen from candidates, whose log-weights these are, and the effective number of candidates.
pub(super) fn chosen(
    row: u64,
    candidates: &[Vec<f64>],
    log_weights: Vec<f64>,
    draws: usize,
    rng: &mut Rng,
) -> Result<Found> {
    // NaN, or infinite.
    let has_no_weight = |log: &f64| log.is_nan() || *log == f64::INFINITY;
    let any_without = log_weights.iter().any(has_no_weight);
    let log_weights: Vec<f64> =
        log_weights.into_iter().map(|log| if has_no_weight(&log) { f64::NEG_INFINITY } else { log }).collect();
    if log_weights.iter().all(|log| *log == f64::NEG_INFINITY) {
        let what = match any_without {
            true => "has no finite density of any candidate for it, given cells so far from its data",
            false => "finds what is known of it impossible",
        };
        return Err(Error::Data(format!("row {row}: the model {what}: correct or remove the row")));
    }
    let weights = ImportanceWeights::new(log_weights);
    let shares = weights.normalized();
    let mut choose = |_| {
        let mut left = rng.uniform();
        let inside = shares.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        // Rounding may leave a little at the end.
        let last = || shares.iter().rposition(|share| *share > 0.0).unwrap_or(0);
        candidates[inside.unwrap_or_else(last)].clone()
    };
    Ok(((0..draws).map(&mut choose).collect(), Some(weights.effective_sample_size())))
}

/// A row so many times, as a tensor, with its context.
fn repeated(row: &Incomplete<'_>, count: usize) -> Result<(Tensor, Option<Tensor>)> {
    let x = Tensor::from_vec(row.cells.repeat(count), (count, row.cells.len()), &Device::Cpu)?;
    Ok((x, row.context.as_ref().map(|context| context.repeat((count, 1))).transpose()?))
}

fn of_mixed(
    mixed: &MixedDensity,
    row: &Incomplete<'_>,
    [draws, candidates]: [usize; 2],
    rng: &mut Rng,
) -> Result<Found> {
    let first = row.cells.iter().position(|cell| cell.is_nan()).unwrap_or(0);
    let later: Vec<usize> = (first..row.cells.len()).filter(|&column| !row.cells[column].is_nan()).collect();
    let count = if later.is_empty() { draws } else { candidates };
    let (mut filled, mut log_weights) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for start in (0..count).step_by(BLOCK) {
        let (x, context) = repeated(row, BLOCK.min(count - start))?;
        let x = mixed.fill(&x, context.as_ref(), rng)?;
        filled.extend(x.to_device(&Device::Cpu)?.to_vec2::<f64>()?);
        if !later.is_empty() {
            let terms = mixed.log_prob_columns(&x, context.as_ref())?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
            log_weights.extend(terms.iter().map(|terms| later.iter().map(|&column| terms[column]).sum::<f64>()));
        }
    }
    if later.is_empty() { Ok((filled, None)) } else { chosen(row.name, &filled, log_weights, draws, rng) }
}

fn of_flow(
    flow: &dyn Distribution,
    rows: &Examples,
    incomplete: &[Incomplete<'_>],
    [draws, candidates]: [usize; 2],
    rng: &mut Rng,
) -> Result<Vec<Found>> {
    let mut found: Vec<Option<Found>> = incomplete.iter().map(|_| None).collect();
    let mut by_pattern: BTreeMap<Vec<bool>, Vec<usize>> = BTreeMap::new();
    for (i, row) in incomplete.iter().enumerate() {
        by_pattern.entry(row.cells.iter().map(|cell| cell.is_nan()).collect()).or_default().push(i);
    }
    let needs_proposal = by_pattern.keys().any(|missing| !missing.iter().all(|missing| *missing));
    let proposal = if needs_proposal { Some(Proposal::of(flow, rows.context.as_ref(), rng)?) } else { None };
    let dtype = rows.x.dtype();
    for (missing, of_pattern) in by_pattern {
        let conditional = match &proposal {
            Some(proposal) if !missing.iter().all(|missing| *missing) => proposal.given(&missing),
            _ => {
                for i in of_pattern {
                    let context = incomplete[i].context.as_ref().map(|c| c.repeat((draws, 1))).transpose()?;
                    let x = draw(flow, draws, context.as_ref(), rng)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
                    found[i] = Some((x.to_vec2()?, None));
                }
                continue;
            }
        };
        for some in of_pattern.chunks((16 * BLOCK / candidates).max(1)) {
            let (mut cells, mut log_q, mut contexts) = (Vec::new(), Vec::new(), Vec::new());
            for &i in some {
                let row = &incomplete[i];
                let context = row.context.as_ref().map(|c| c.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>());
                let drawn = conditional.draw(&context.transpose()?.unwrap_or_default(), row.cells, candidates, rng);
                cells.extend(drawn.iter().map(|(cells, _)| cells.clone()));
                log_q.extend(drawn.iter().map(|(_, log_q)| *log_q));
                contexts.extend(row.context.as_ref().map(|context| context.repeat((candidates, 1))).transpose()?);
            }
            let shape = (cells.len(), missing.len());
            let x =
                Tensor::from_vec(cells.concat(), shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(rows.x.device())?;
            let context = if contexts.is_empty() { None } else { Some(Tensor::cat(&contexts, 0)?) };
            let log_p = score(flow, &x, context.as_ref())?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            let log_weights: Vec<f64> = log_p.iter().zip(&log_q).map(|(p, q)| p - q).collect();
            let parts = cells.chunks(candidates).zip(log_weights.chunks(candidates));
            for (&i, (cells, log_weights)) in some.iter().zip(parts) {
                found[i] = Some(chosen(incomplete[i].name, cells, log_weights.to_vec(), draws, rng)?);
            }
        }
    }
    Ok(found.into_iter().flatten().collect())
}
