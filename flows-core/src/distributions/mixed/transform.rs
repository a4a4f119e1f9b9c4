//! Probability integral transforms: where values lie in their distributions.

use super::column::Content;
use super::heads::log_scale;
use super::layout::{AFFINE, Layout};
use super::tail::Bent;
use crate::Result;
use crate::ops::Direction;
use rayon::prelude::*;

/// `P(X_i < x_i) + u P(X_i = x_i)` for each cell of rows x, given the cells before it, from the network's outputs (B, W) and
/// uniform numbers u.
pub(super) fn transforms(layout: &Layout, x: &[f64], raw: &[f64], uniform: &[f64]) -> Result<Vec<f64>> {
    let d = layout.columns.len();
    let of_row = |row: usize| -> Result<Vec<f64>> {
        let raw = &raw[row * layout.outputs..(row + 1) * layout.outputs];
        let of_cell = |column: usize| {
            let at = row * d + column;
            let [below, up_to] = probabilities(layout, column, row, x[at], raw)?;
            Ok((below + uniform[at] * (up_to - below)).clamp(0.0, 1.0))
        };
        (0..d).map(of_cell).collect()
    };
    Ok((0..x.len() / d).into_par_iter().map(of_row).collect::<Result<Vec<_>>>()?.concat())
}

/// The probabilities of less than x, and of x or less. Categories are in the order of their codes, and missing cells come
/// after all numbers.
fn probabilities(layout: &Layout, column: usize, row: usize, x: f64, raw: &[f64]) -> Result<[f64; 2]> {
    let (of, place) = (&layout.columns[column], &layout.places[column]);
    let cell = of.cell(row, x)?;
    let shares = softmax(&raw[place.classes.clone()]);
    let distribution = |z: &[f64]| -> Vec<f64> {
        let parameters = &raw[place.flow.clone()];
        let inverse = (-log_scale(parameters[1]).0).exp();
        let points: Vec<f64> = z.iter().map(|z| (z - parameters[0]) * inverse).collect();
        let splines = parameters[AFFINE..].repeat(points.len());
        let values = layout.spline.values(Direction::Forward, &points, &splines);
        values[..points.len()].iter().map(|&y| 1.0 / (1.0 + (-Bent::at(y).value).exp())).collect()
    };
    let (numeric, flow) = match &of.content {
        Content::Category { .. } => {
            let below: f64 = shares[..cell.class].iter().sum();
            return Ok([below, below + shares[cell.class]]);
        }
        _ if of.is_missing(cell.class) => return Ok([1.0 - shares[cell.class], 1.0]),
        Content::Number(numeric) => {
            let bounds = numeric.margin.bounds;
            let flow = match (bounds.contain(x), bounds.lower) {
                (true, _) => distribution(&[numeric.margin.forward(x).0])[0],
                (false, Some(lower)) if x <= lower => 0.0,
                (false, _) => 1.0,
            };
            (numeric, [flow; 2])
        }
        Content::Whole(numeric) => {
            let found = distribution(&cell.edges);
            (numeric, [found[0], found[1]])
        }
    };
    let atoms = numeric.atoms.iter().zip(&shares[1..]).enumerate();
    let below: f64 =
        atoms.filter(|(i, (atom, _))| **atom < x && cell.class != i + 1).map(|(_, (_, share))| share).sum();
    let own = if cell.class > 0 { shares[cell.class] } else { 0.0 };
    Ok([shares[0] * flow[0] + below, shares[0] * flow[1] + below + own])
}

/// The shares of classes; of one class, all.
fn softmax(logits: &[f64]) -> Vec<f64> {
    if logits.is_empty() {
        return vec![1.0];
    }
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - top).exp()).sum();
    logits.iter().map(|logit| (logit - top).exp() / sum).collect()
}
