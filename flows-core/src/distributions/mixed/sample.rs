//! Sampling, column by column, every unit of the network once.

use super::heads::log_scale;
use super::layout::{AFFINE, Layout};
use super::tail::straight;
use crate::nn::{Made, Steps, with_steps};
use crate::ops::Direction;
use crate::ops::cpu::{Real, with_slices};
use crate::{Error, Result, Rng};
use candle_core::Tensor;
use rayon::prelude::*;

/// Rows that one task takes through the whole network.
const ROWS: usize = 64;

/// Rows whose leading columns are given, as (rows, columns).
#[derive(Clone, Copy)]
pub(super) struct Prefix<'a> {
    pub(super) values: &'a [f64],
    pub(super) columns: usize,
    /// If this is given, NaN from a column on asks for a draw, of another class than that of the column here.
    pub(super) never: Option<(usize, &'a [Option<usize>])>,
}

/// The rows that one task samples.
struct Block<'a, T> {
    /// The number of the first one.
    start: usize,
    /// What the context adds to the network's first layer.
    context: Option<&'a [T]>,
    /// Two numbers of the uniform distribution for each cell.
    uniform: &'a [f64],
    out: &'a mut [f64],
}

/// `count` rows, (count, D); `context` is the context's term of the network's first layer, which with the network's
/// weights is on the CPU.
pub(super) fn sample<T: Real>(
    layout: &Layout,
    made: &Made,
    count: usize,
    context: Option<&Tensor>,
    prefix: Prefix<'_>,
    rng: &mut Rng,
) -> Result<Vec<f64>> {
    let d = layout.columns.len();
    let uniform: Vec<f64> = (0..2 * d * count).map(|_| rng.draw(&rand_distr::Open01)).collect();
    let mut out = vec![0.0; count * d];
    let context: Vec<Tensor> = context.map(Tensor::contiguous).transpose()?.into_iter().collect();
    with_steps::<T, _>(made, |steps| {
        with_slices::<T, _>(&context, |context| {
            let width = steps.first_width();
            let blocks = out.par_chunks_mut(ROWS * d).zip(uniform.par_chunks(2 * ROWS * d)).enumerate();
            blocks.try_for_each(|(i, (out, uniform))| {
                let rows = out.len() / d;
                let context = context.first().map(|context| &context[i * ROWS * width..][..rows * width]);
                sample_block(layout, steps, prefix, Block { start: i * ROWS, context, uniform, out })
            })
        })?
    })?;
    Ok(out)
}

fn sample_block<T: Real>(layout: &Layout, steps: &Steps<'_, T>, prefix: Prefix<'_>, block: Block<'_, T>) -> Result<()> {
    let Block { start, context, uniform, out } = block;
    let d = layout.columns.len();
    let rows = out.len() / d;
    steps.forward(rows, context, |column, raw, inputs| {
        if column < prefix.columns {
            let given = prefix.values[start * prefix.columns + column..].iter().step_by(prefix.columns);
            out[column..].iter_mut().step_by(d).zip(given).for_each(|(out, &x)| *out = x);
        }
        let open: Vec<usize> = match prefix.never {
            _ if column >= prefix.columns => (0..rows).collect(),
            Some((first, _)) if column >= first => (0..rows).filter(|&row| out[row * d + column].is_nan()).collect(),
            _ => Vec::new(),
        };
        if !open.is_empty() {
            let uniform = |row: usize, which: usize| uniform[2 * (row * d + column) + which];
            let never = prefix.never.and_then(|(_, never)| never[column]);
            let drawn = draw(layout, column, raw, rows, never, uniform);
            open.into_iter().for_each(|row| out[row * d + column] = drawn[row]);
        }
        for row in 0..rows {
            let cell = layout.columns[column].cell(start + row, out[row * d + column])?;
            layout.encode(column, cell, |i, value| inputs[i * rows + row] = T::of(value));
        }
        Ok::<_, Error>(())
    })
}

/// The values of a column, given the network's outputs for it, (outputs, rows); none is of the class `never`.
fn draw<T: Real>(
    layout: &Layout,
    column: usize,
    raw: &[T],
    rows: usize,
    never: Option<usize>,
    uniform: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let place = &layout.places[column];
    let flow = place.flow.len();
    let at = |output: usize, row: usize| raw[output * rows + row].wide();
    let class = |row: usize| {
        let logits = (0..place.classes.len()).map(|class| match never == Some(class) {
            true => f64::NEG_INFINITY,
            false => at(flow + class, row),
        });
        let top = logits.clone().fold(f64::NEG_INFINITY, f64::max);
        let mut left = uniform(row, 0) * logits.clone().map(|logit| (logit - top).exp()).sum::<f64>();
        let inside = logits.map(|logit| (logit - top).exp()).position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a little at the end.
        let last = || (0..place.classes.len()).rev().find(|class| never != Some(*class));
        inside.or_else(last).unwrap_or(0)
    };
    let classes: Vec<usize> = (0..rows).map(class).collect();
    let mut z = vec![0.0; rows];
    if flow > 0 {
        let flowing: Vec<usize> = (0..rows).filter(|&row| classes[row] == 0).collect();
        let logit = |u: f64| (u / (1.0 - u)).ln();
        let y: Vec<f64> = flowing.iter().map(|&row| straight(logit(uniform(row, 1)))).collect();
        let spline: Vec<f64> =
            flowing.iter().flat_map(|&row| (AFFINE..flow).map(move |output| at(output, row))).collect();
        let values = layout.spline.values(Direction::Inverse, &y, &spline);
        for (&row, value) in flowing.iter().zip(values) {
            z[row] = value * log_scale(at(1, row)).0.exp() + at(0, row);
        }
    }
    (0..rows).map(|row| layout.columns[column].value(classes[row], z[row])).collect()
}
