//! Examples and their contexts.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::ops::Range;

/// Examples and, for conditional models, their contexts.
#[derive(Clone, Debug)]
pub struct Examples {
    /// The examples, shape (n, columns), or (n, event...).
    pub x: Tensor,
    /// Their contexts, shape (n, context columns).
    pub context: Option<Tensor>,
}

impl From<&Tensor> for Examples {
    fn from(x: &Tensor) -> Self {
        Self { x: x.clone(), context: None }
    }
}

impl From<(&Tensor, &Tensor)> for Examples {
    /// Examples with their contexts.
    fn from((x, context): (&Tensor, &Tensor)) -> Self {
        Self { x: x.clone(), context: Some(context.clone()) }
    }
}

impl Examples {
    /// The number of examples.
    pub fn len(&self) -> usize {
        self.x.dims().first().copied().unwrap_or(0)
    }

    /// The number of columns of `x`.
    pub fn features(&self) -> usize {
        width(&self.x)
    }

    /// The number of columns of the context, if there is one.
    pub fn context_width(&self) -> Option<usize> {
        self.context.as_ref().map(width)
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The examples at the given indices, in that order.
    ///
    /// # Errors
    /// When an index is not below [`Examples::len`].
    pub fn select(&self, indices: &[u32]) -> Result<Self> {
        if let Some(index) = indices.iter().find(|&&i| i as usize >= self.len()) {
            return Err(Error::Data(format!("there is no example {index}: there are {}, counted from 0", self.len())));
        }
        let indices = Tensor::from_slice(indices, indices.len(), self.x.device())?;
        self.map(|t| Ok(t.index_select(&indices, 0)?))
    }

    /// The examples in this range of rows.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        self.map(|t| Ok(t.narrow(0, rows.start, rows.len())?))
    }

    /// The examples in order, so many at a time; the last may be fewer.
    pub(crate) fn chunks(&self, most: usize) -> impl Iterator<Item = Result<Self>> + '_ {
        let starts = (0..self.len()).step_by(most.max(1));
        starts.map(move |start| self.rows(start..self.len().min(start + most)))
    }

    /// The columns of the contexts, if there are any, and then those of the examples, in f64 on the CPU.
    ///
    /// # Errors
    /// When an example is no row.
    pub(crate) fn columns(&self) -> Result<Vec<Vec<f64>>> {
        let mut all = Vec::new();
        for part in self.context.iter().chain([&self.x]) {
            all.extend(columns(part)?);
        }
        Ok(all)
    }

    pub(super) fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { x: f(&self.x)?, context: self.context.as_ref().map(&f).transpose()? })
    }
}

/// The columns of rows (B, D), in f64 on the CPU.
pub(crate) fn columns(rows: &Tensor) -> Result<Vec<Vec<f64>>> {
    Ok(rows.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.t()?.to_vec2()?)
}

fn width(x: &Tensor) -> usize {
    x.dims().last().copied().unwrap_or(0)
}
