//! The inputs and the outputs of the network that belong to each column, and the cells of a table as it sees them.

use super::cell::Cell;
use super::column::{Column, Content};
use super::margin::LOGISTIC_STD;
use crate::Result;
use crate::ops::{Ends, RqSplineSettings};
use std::ops::Range;

/// The columns with their places among the network's inputs and outputs.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) columns: Vec<Column>,
    pub(super) places: Vec<Place>,
    /// The columns of real and of whole numbers.
    pub(super) numbers: Vec<usize>,
    pub(super) wholes: Vec<usize>,
    pub(super) spline: RqSplineSettings,
    /// The numbers of inputs and of outputs.
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// Where a column is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) inputs: Range<usize>,
    /// Its flow's shift, raw log-scale and spline; empty for a category.
    pub(super) flow: Range<usize>,
    /// The logits of its classes; empty if there is only one.
    pub(super) classes: Range<usize>,
}

/// The cells of some rows.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// (B, D).
    pub(super) classes: Vec<u32>,
    pub(super) offsets: Vec<f64>,
    /// Of real numbers, (B, numbers).
    pub(super) z: Vec<f64>,
    /// Of whole numbers, (B, wholes) each.
    pub(super) edges: [Vec<f64>; 2],
    /// What the network sees, (B, inputs).
    pub(super) inputs: Vec<f64>,
}

/// The network's flow parameters before the spline's.
pub(super) const AFFINE: usize = 2;

/// A spline acts on this interval on both sides of 0; 7 in 10,000 rows of the logistic distribution are outside.
pub(super) const BOUND: f64 = 8.0;

/// The network sees no value farther out than this many standard deviations.
const CLIP: f64 = 8.0;

/// The network's inputs for a number: its value along the margin, and its rank.
const FEATURES: usize = 2;

impl Layout {
    pub(super) fn new(columns: Vec<Column>, bins: usize) -> Self {
        let ends = Ends::Linear;
        let spline = RqSplineSettings { bins, low: -BOUND, high: BOUND, ends, min_bin: 1e-3, min_slope: 1e-3 };
        let flow = AFFINE + spline.parameter_count();
        let (mut inputs, mut outputs) = (0, 0);
        let place = |column: &Column| {
            let is_category = matches!(column.content, Content::Category { .. });
            let classes = column.classes();
            let (flow, features) = if is_category { (0, 0) } else { (flow, FEATURES) };
            // A category of one value has an input too, so that every column has one.
            let seen = if classes > 1 || is_category { classes } else { 0 };
            let logits = if classes > 1 { classes } else { 0 };
            let place = Place {
                inputs: inputs..inputs + features + seen,
                flow: outputs..outputs + flow,
                classes: outputs + flow..outputs + flow + logits,
            };
            (inputs, outputs) = (place.inputs.end, place.classes.end);
            place
        };
        let places: Vec<Place> = columns.iter().map(place).collect();
        let which = |is: fn(&Content) -> bool| (0..columns.len()).filter(|&i| is(&columns[i].content)).collect();
        let numbers = which(|content| matches!(content, Content::Number(_)));
        let wholes = which(|content| matches!(content, Content::Whole(_)));
        Self { columns, places, numbers, wholes, spline, inputs, outputs }
    }

    /// The column of each input and of each output.
    pub(super) fn groups(&self) -> [Vec<usize>; 2] {
        let groups = |width: fn(&Place) -> usize| {
            let widths = self.places.iter().map(width).enumerate();
            widths.flat_map(|(column, width)| std::iter::repeat_n(column, width)).collect()
        };
        [groups(|place| place.inputs.len()), groups(|place| place.flow.len() + place.classes.len())]
    }

    /// The outputs at which every column has its margin alone: the logarithms of shares, and the identity.
    pub(super) fn start(&self) -> Vec<f64> {
        let slope = self.spline.raw_unit_slope();
        let mut start = vec![0.0; self.outputs];
        for (column, place) in self.columns.iter().zip(&self.places) {
            if !place.flow.is_empty() {
                start[place.flow.start + AFFINE + 2 * self.spline.bins..place.flow.end].fill(slope);
            }
            start[place.classes.clone()].iter_mut().zip(&column.shares).for_each(|(logit, share)| *logit = share.ln());
        }
        start
    }

    /// Writes what the network sees of a cell.
    pub(super) fn encode(&self, column: usize, cell: Cell, mut write: impl FnMut(usize, f64)) {
        let place = &self.places[column];
        let features = if place.flow.is_empty() { 0 } else { FEATURES };
        if let (true, Some(z)) = (features > 0, cell.z) {
            write(0, (z / LOGISTIC_STD).clamp(-CLIP, CLIP));
            // The rank, with variance 1: tanh(z / 2) = 2 F(z) - 1.
            write(1, 3f64.sqrt() * (0.5 * z).tanh());
        }
        if place.inputs.len() > features {
            write(features + cell.class, 1.0);
        }
    }

    /// The cells of rows of a table.
    pub(super) fn cells(&self, x: &[f64]) -> Result<Cells> {
        let d = self.columns.len();
        let rows = x.len() / d;
        let mut cells = Cells { inputs: vec![0.0; rows * self.inputs], ..Cells::default() };
        for (row, x) in x.chunks(d).enumerate() {
            for (column, &x) in x.iter().enumerate() {
                let cell = self.columns[column].cell(row, x)?;
                cells.classes.push(cell.class as u32);
                cells.offsets.push(cell.offset);
                match self.columns[column].content {
                    Content::Category { .. } => {}
                    Content::Number(_) => cells.z.push(cell.z.unwrap_or(0.0)),
                    Content::Whole(_) => {
                        cells.edges[0].push(cell.edges[0]);
                        cells.edges[1].push(cell.edges[1]);
                    }
                }
                let inputs = &mut cells.inputs[row * self.inputs + self.places[column].inputs.start..];
                self.encode(column, cell, |i, value| inputs[i] = value);
            }
        }
        Ok(cells)
    }
}
