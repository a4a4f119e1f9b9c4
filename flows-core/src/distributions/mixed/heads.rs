//! The log-probabilities of cells from the network's outputs, as one operation with a hand-written backward pass.

use super::layout::{AFFINE, Cells, Layout, Place};
use super::tail::Bent;
use crate::ops::Direction;
use crate::ops::cpu::with_slice;
use crate::ops::kernel::{Backward, Functions, Precomputed, Real, with_elements};
use candle_core::{DType, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// `log P(class) + 1{continuous} log p(y) + log|dy/dz|` of every cell, (B, D), from the network's outputs (B, W);
/// derivatives of the margins are not in it.
///
/// With the shift m and the log-scale s of a column's flow, `y = spline((z - m) e^-s)`, with [`Bent`] tails, has the
/// logistic distribution.
pub(super) fn log_probs(layout: &Arc<Layout>, cells: Cells, raw: &Tensor) -> Result<Tensor> {
    let heads = Heads { layout: layout.clone(), cells, kept: Vec::new() };
    match raw.dtype() {
        DType::F32 => heads.run::<f32>(&raw.contiguous()?),
        _ => heads.run::<f64>(&raw.contiguous()?),
    }
}

/// The operation, and its backward pass.
#[derive(Debug)]
struct Heads {
    layout: Arc<Layout>,
    cells: Cells,
    /// Of each block, after the forward pass.
    kept: Vec<Splines>,
}

/// The values of the splines of a block, of the real numbers and of the whole ones.
#[derive(Debug)]
struct Splines {
    numbers: Vec<f64>,
    wholes: Vec<f64>,
}

/// Rows of a task.
const ROWS: usize = 32;

/// The log-scales of flows are within this bound.
const MAX_LOG_SCALE: f64 = 8.0;

/// The log-scale of a raw number, and its derivative.
#[inline(always)]
pub(super) fn log_scale<T: Real>(raw: T) -> (T, T) {
    let bound = T::of(MAX_LOG_SCALE);
    let share = (raw / bound).fast_tanh();
    (bound * share, T::one() - share * share)
}

/// A cell with a flow.
struct Flowing<'a> {
    row: usize,
    column: usize,
    class: usize,
    place: &'a Place,
    /// Its number among the cells of its kind.
    index: usize,
}

/// The flows of n cells, of parameters of type T, and the points, of type U, at which they are evaluated.
struct Flows<'a, T, U> {
    cells: Vec<Flowing<'a>>,
    /// `(z - m) e^-s`: one for each cell, or all lower edges and then all upper ones.
    points: Vec<U>,
    /// The splines' raw parameters, (n, P).
    raw: Vec<T>,
    log_scales: Vec<U>,
    /// The derivatives of log-scales with respect to the raw ones.
    slopes: Vec<U>,
}

/// Some rows of the table with the network's outputs for them.
struct Block<'a, T> {
    layout: &'a Layout,
    raw: &'a [T],
    classes: &'a [u32],
    z: &'a [f64],
    edges: [&'a [f64]; 2],
}

/// A softmax at one class.
struct Softmax<'a, T> {
    logits: &'a [T],
    log_sum: T,
}

impl<'a, T: Real> Softmax<'a, T> {
    #[inline(always)]
    fn new(logits: &'a [T]) -> Self {
        let top = logits.iter().fold(T::neg_infinity(), |top, &v| if v > top { v } else { top });
        let sum = logits.iter().fold(T::zero(), |sum, &v| sum + (v - top).fast_exp());
        Self { logits, log_sum: top + sum.fast_ln() }
    }

    /// The log-probability of a class; 0 where there is only one.
    fn log_prob(&self, class: usize) -> T {
        self.logits.get(class).map_or(T::zero(), |&logit| logit - self.log_sum)
    }

    /// Adds the gradient with respect to the logits, given that with respect to a class's log-probability.
    fn add_gradient(&self, class: usize, grad: T, out: &mut [T]) {
        for (i, (out, &logit)) in out.iter_mut().zip(self.logits).enumerate() {
            let own = if i == class { T::one() } else { T::zero() };
            *out += grad * (own - (logit - self.log_sum).fast_exp());
        }
    }
}

/// `ln(e^a + e^b)` for a finite a.
pub(super) fn log_add<T: Real>(a: T, b: T) -> T {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    high + (low - high).fast_exp().fast_ln_1p()
}

/// `ln(S(b) - S(a))` for a < b and the logistic function S: `ln S(b) + ln S(-a) + ln(1 - e^(a - b))`, in which nothing
/// cancels.
pub(super) fn log_interval(a: f64, b: f64) -> f64 {
    // Edges that rounding has made equal.
    let width = (b - a).max(f64::MIN_POSITIVE);
    let rest = if width > 0.7 { (-(-width).exp()).ln_1p() } else { (-(-width).exp_m1()).ln() };
    rest - (-b).fast_softplus() - a.fast_softplus()
}

/// The derivatives of [`log_interval`] with respect to a and b.
fn interval_slopes(a: f64, b: f64) -> [f64; 2] {
    let rest = if b > a { 1.0 / (b - a).exp_m1() } else { 0.0 };
    [-a.fast_sigmoid() - rest, (-b).fast_sigmoid() + rest]
}

impl<T: Real> Block<'_, T> {
    fn rows(&self) -> usize {
        self.raw.len() / self.layout.outputs
    }

    fn outputs(&self, row: usize, range: &Range<usize>) -> &[T] {
        &self.raw[row * self.layout.outputs..][range.clone()]
    }

    /// The flows of some columns at these z, where cells have them.
    fn flows<U: Real>(&self, columns: &[usize], z: &[&[f64]]) -> Flows<'_, T, U> {
        let p = self.layout.spline.parameter_count();
        let cells: Vec<Flowing<'_>> = (0..self.rows() * columns.len())
            .map(|index| {
                let (row, column) = (index / columns.len(), columns[index % columns.len()]);
                Flowing { row, column, class: self.class(row, column), place: &self.layout.places[column], index }
            })
            .filter(|cell| self.layout.columns[cell.column].flows_in(cell.class))
            .collect();
        let n = cells.len();
        let mut flows = Flows {
            points: vec![U::zero(); n * z.len()],
            raw: Vec::with_capacity(n * p),
            log_scales: Vec::with_capacity(n),
            slopes: Vec::with_capacity(n),
            cells,
        };
        for (i, cell) in flows.cells.iter().enumerate() {
            let outputs = self.outputs(cell.row, &cell.place.flow);
            let (s, slope) = log_scale(U::of(outputs[1].wide()));
            let (shift, inverse) = (U::of(outputs[0].wide()), (-s).fast_exp());
            for (points, z) in flows.points.chunks_mut(n).zip(z) {
                points[i] = (U::of(z[cell.index]) - shift) * inverse;
            }
            flows.raw.extend_from_slice(&outputs[AFFINE..]);
            flows.log_scales.push(s);
            flows.slopes.push(slope);
        }
        flows
    }

    fn class(&self, row: usize, column: usize) -> usize {
        self.classes[row * self.layout.columns.len() + column] as usize
    }

    /// Writes the log-probabilities, (rows, D), and returns the values of splines.
    fn evaluate(&self, terms: &mut [T]) -> Splines {
        let mut kept = Splines { numbers: Vec::new(), wholes: Vec::new() };
        let d = self.layout.columns.len();
        for row in 0..self.rows() {
            for (column, place) in self.layout.places.iter().enumerate() {
                let class = self.class(row, column);
                terms[row * d + column] = Softmax::new(self.outputs(row, &place.classes)).log_prob(class);
            }
        }
        let (numbers, wholes) = (&self.layout.numbers, &self.layout.wholes);
        if !numbers.is_empty() {
            let flows = self.flows::<T>(numbers, &[self.z]);
            let values = self.layout.spline.values(Direction::Forward, &flows.points, &flows.raw);
            let (y, logs) = values.split_at(flows.points.len());
            for (i, cell) in flows.cells.iter().enumerate() {
                let Bent { value, log_derivative, .. } = Bent::at(y[i]);
                let density = log_derivative - (value.fast_softplus() + (-value).fast_softplus());
                terms[cell.row * d + cell.column] += density + logs[i] - flows.log_scales[i];
            }
            kept.numbers = y.iter().map(|y| y.wide()).collect();
        }
        if !wholes.is_empty() {
            let flows = self.flows::<f64>(wholes, &self.edges);
            let mut values = self.layout.spline.values(Direction::Forward, &flows.points, &flows.raw);
            values.truncate(flows.points.len());
            let (low, high) = values.split_at(flows.points.len() / 2);
            for (i, cell) in flows.cells.iter().enumerate() {
                let by_flow = T::of(log_interval(Bent::at(low[i]).value, Bent::at(high[i]).value));
                let term = &mut terms[cell.row * d + cell.column];
                // An atom is a value of the flow too.
                *term = match cell.class {
                    0 => *term + by_flow,
                    _ => log_add(*term, self.softmax(cell).log_prob(0) + by_flow),
                };
            }
            kept.wholes = values;
        }
        kept
    }

    /// Writes the gradient with respect to the outputs, given that with respect to the log-probabilities.
    fn differentiate(&self, kept: &Splines, grad: &[T], out: &mut [T]) {
        let (d, width) = (self.layout.columns.len(), self.layout.outputs);
        let (numbers, wholes) = (&self.layout.numbers, &self.layout.wholes);
        // The gradients of classes, but for atoms of whole numbers, whose log-probability is not all of the term's.
        for row in 0..self.rows() {
            for (column, place) in self.layout.places.iter().enumerate() {
                let class = self.class(row, column);
                let out = &mut out[row * width..][place.classes.clone()];
                let is_mixed = class > 0 && self.layout.columns[column].flows_in(class);
                if !out.is_empty() && !is_mixed {
                    Softmax::new(self.outputs(row, &place.classes)).add_gradient(class, grad[row * d + column], out);
                }
            }
        }
        if !numbers.is_empty() {
            let flows = self.flows::<T>(numbers, &[self.z]);
            let n = flows.points.len();
            let mut given = vec![T::zero(); 2 * n];
            for (i, cell) in flows.cells.iter().enumerate() {
                let g = grad[cell.row * d + cell.column];
                let Bent { value, slope, log_slope, .. } = Bent::at(T::of(kept.numbers[i]));
                // d ln f / dy = -tanh(y / 2).
                given[i] = g * (log_slope - slope * (value * T::of(0.5)).fast_tanh());
                given[n + i] = g;
            }
            let gradients = self.layout.spline.gradients(Direction::Forward, &flows.points, &flows.raw, &given);
            self.add_flow_gradients(&flows, &gradients, &given[n..], out);
        }
        if !wholes.is_empty() {
            let flows = self.flows::<f64>(wholes, &self.edges);
            let n = flows.points.len() / 2;
            let mut given = vec![0.0; 4 * n];
            for (i, cell) in flows.cells.iter().enumerate() {
                let [a, b] = [kept.wholes[i], kept.wholes[n + i]].map(Bent::at);
                let (low, high) = (a.value, b.value);
                let mut g = grad[cell.row * d + cell.column];
                if cell.class > 0 {
                    let softmax = self.softmax(cell);
                    let of_atom = softmax.log_prob(cell.class);
                    let of_flow = softmax.log_prob(0) + T::of(log_interval(low, high));
                    // The share of the flow in the probability.
                    let share = (of_flow - of_atom).fast_sigmoid();
                    let out = &mut out[cell.row * width..][cell.place.classes.clone()];
                    softmax.add_gradient(cell.class, g * (T::one() - share), out);
                    softmax.add_gradient(0, g * share, out);
                    g *= share;
                }
                let slopes = interval_slopes(low, high);
                (given[i], given[n + i]) = (g.wide() * slopes[0] * a.slope, g.wide() * slopes[1] * b.slope);
            }
            let gradients = self.layout.spline.gradients(Direction::Forward, &flows.points, &flows.raw, &given);
            self.add_flow_gradients(&flows, &gradients, &vec![0.0; n], out);
        }
    }

    fn softmax(&self, cell: &Flowing<'_>) -> Softmax<'_, T> {
        Softmax::new(self.outputs(cell.row, &cell.place.classes))
    }

    /// Adds the gradients with respect to the flows' parameters, given those with respect to points and splines, and
    /// those of the log-densities, from which a number's log-scale is subtracted.
    fn add_flow_gradients<U: Real>(
        &self,
        flows: &Flows<'_, T, U>,
        (points, raw): &(Vec<U>, Vec<T>),
        densities: &[U],
        out: &mut [T],
    ) {
        let (n, p) = (flows.cells.len(), self.layout.spline.parameter_count());
        for (i, cell) in flows.cells.iter().enumerate() {
            let out = &mut out[cell.row * self.layout.outputs..][cell.place.flow.clone()];
            let inverse = (-flows.log_scales[i]).fast_exp();
            let (mut shift, mut scale) = (U::zero(), -densities[i]);
            for (at, g) in flows.points.chunks(n).zip(points.chunks(n)) {
                shift += -inverse * g[i];
                scale += -at[i] * g[i];
            }
            out[0] += T::of(shift.wide());
            out[1] += T::of((scale * flows.slopes[i]).wide());
            out[AFFINE..].iter_mut().zip(&raw[i * p..(i + 1) * p]).for_each(|(out, &g)| *out += g);
        }
    }
}

impl Heads {
    fn block<'a, T>(&'a self, i: usize, raw: &'a [T]) -> Block<'a, T> {
        let layout = &*self.layout;
        let (start, rows) = (i * ROWS, raw.len() / layout.outputs);
        fn part<V>(values: &[V], start: usize, rows: usize, width: usize) -> &[V] {
            &values[start * width..(start + rows) * width]
        }
        let [low, high] = &self.cells.edges;
        let wholes = layout.wholes.len();
        Block {
            layout,
            raw,
            classes: part(&self.cells.classes, start, rows, layout.columns.len()),
            z: part(&self.cells.z, start, rows, layout.numbers.len()),
            edges: [part(low, start, rows, wholes), part(high, start, rows, wholes)],
        }
    }

    fn run<T: Real>(mut self, raw: &Tensor) -> Result<Tensor> {
        let (d, (rows, width)) = (self.layout.columns.len(), raw.dims2()?);
        let mut terms = vec![T::zero(); rows * d];
        let kept = with_slice::<T, _>(raw, |values| {
            let blocks = terms.par_chunks_mut(ROWS * d).zip(values.par_chunks(ROWS * width)).enumerate();
            blocks.map(|(i, (terms, raw))| self.block(i, raw).evaluate(terms)).collect()
        })?;
        let shape = Shape::from((rows, d));
        if !raw.track_op() {
            return T::tensor(terms, &shape);
        }
        self.kept = kept;
        raw.apply_op1(Precomputed::new((T::storage(terms), shape), self))
    }

    fn differentiate<T: Real>(&self, raw: &[T], grad: &[T]) -> Vec<T> {
        let (d, width) = (self.layout.columns.len(), self.layout.outputs);
        let mut out = vec![T::zero(); raw.len()];
        let given = raw.par_chunks(ROWS * width).zip(grad.par_chunks(ROWS * d)).zip(&self.kept);
        let blocks = out.par_chunks_mut(ROWS * width).zip(given).enumerate();
        blocks.for_each(|(i, (out, ((raw, grad), kept)))| self.block(i, raw).differentiate(kept, grad, out));
        out
    }

    fn gradient<T: Real>(&self, raw: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let out = with_elements::<T, _, _>([raw, grad], |[raw, grad]| self.differentiate(raw, grad))?;
        T::tensor(out, raw.shape())
    }
}

impl Backward<1> for Heads {
    const NAME: &'static str = "mixed-table";

    fn gradients(&self, [raw]: [&Tensor; 1], _: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(match raw.dtype() {
            DType::F32 => self.gradient::<f32>(raw, grad)?,
            _ => self.gradient::<f64>(raw, grad)?,
        })])
    }
}
