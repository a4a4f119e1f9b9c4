//! Named parts side by side.

use super::dependent::Dependent;
use super::onto::{Map, Onto};
use super::{Part, Support, count};
use crate::ops::sum_event;
use crate::shape::{batch_shape, check_shape};
use crate::{Error, Result};
use candle_core::Tensor;

/// See [`super::Support::Named`].
#[derive(Debug)]
pub(super) struct Named(pub(super) Vec<Piece>);

/// A part.
#[derive(Debug)]
pub(super) enum Piece {
    /// Independent of the others.
    Alone(Onto),
    /// So many elements with bounds that depend on earlier parts.
    Dependent(usize, Dependent),
}

impl Piece {
    fn shapes(&self) -> [&[usize]; 2] {
        match self {
            Self::Alone(onto) => [&onto.latent, &onto.data],
            Self::Dependent(n, _) => [std::slice::from_ref(n); 2],
        }
    }
}

impl Named {
    /// The parts of v (B, N), latents or data, each with what is behind it.
    fn split(&self, v: &Tensor, which: usize) -> Result<Vec<(&Piece, Tensor)>> {
        let (batch, mut start) = (v.dim(0)?, 0);
        let part = |piece: &'_ Piece, start: &mut usize| -> Result<Tensor> {
            let shape = piece.shapes()[which];
            let size = shape.iter().product();
            *start += size;
            Ok(v.narrow(1, *start - size, size)?.reshape(batch_shape(batch, shape))?)
        };
        self.0.iter().map(|piece| Ok((piece, part(piece, &mut start)?))).collect()
    }
}

/// Parts behind each other, (B, N), and the sum of their log-determinants.
fn join(parts: &[Tensor], log_dets: Vec<Tensor>) -> Result<(Tensor, Tensor)> {
    let total = log_dets.into_iter().map(Ok).reduce(|a, b| Ok((a? + b?)?));
    let total = total.unwrap_or_else(|| Err(crate::Error::Internal("a support without parts".into())))?;
    Ok((Tensor::cat(parts, 1)?, total))
}

impl Map for Named {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let batch = z.dim(0)?;
        let (mut values, mut log_dets) = (Vec::with_capacity(self.0.len()), Vec::with_capacity(self.0.len()));
        for (piece, z) in self.split(z, 0)? {
            let (x, log_det) = match piece {
                Piece::Alone(onto) => onto.forward(&z)?,
                Piece::Dependent(_, dependent) => {
                    let (x, log) = dependent.forward(&z, &values)?;
                    (x, sum_event(&log)?)
                }
            };
            values.push(x.reshape((batch, ()))?);
            log_dets.push(log_det);
        }
        join(&values, log_dets)
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, mut earlier, mut marks) = (x.dim(0)?, Vec::with_capacity(self.0.len()), Vec::new());
        for (piece, x) in self.split(x, 1)? {
            let mark = match piece {
                Piece::Alone(onto) => onto.map.outside(&x)?,
                Piece::Dependent(_, dependent) => dependent.outside(&x, &earlier)?,
            };
            marks.push(mark.reshape((batch, ()))?);
            earlier.push(x.reshape((batch, ()))?);
        }
        Ok(Tensor::cat(&marks, 1)?)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, mut earlier) = (x.dim(0)?, Vec::with_capacity(self.0.len()));
        let (mut values, mut log_dets) = (Vec::with_capacity(self.0.len()), Vec::with_capacity(self.0.len()));
        for (piece, x) in self.split(x, 1)? {
            let (z, log_det) = match piece {
                Piece::Alone(onto) => onto.map.inverse(&x)?,
                Piece::Dependent(_, dependent) => {
                    let (z, log) = dependent.inverse(&x, &earlier)?;
                    (z, sum_event(&log)?)
                }
            };
            values.push(z.reshape((batch, ()))?);
            log_dets.push(log_det);
            earlier.push(x.reshape((batch, ()))?);
        }
        join(&values, log_dets)
    }
}

impl Support {
    /// The part of this name of x (B, N), in its own shape (B, ...).
    ///
    /// # Errors
    /// When the support is not [`Self::Named`], has no such part, or x is of another shape.
    pub fn part(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let parts = self.parts(x)?;
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        let unknown = format!("there is no part `{name}`: choose one of {}", names.join(", "));
        parts.into_iter().find(|(other, _)| *other == name).map(|(_, part)| part).ok_or(Error::Config(unknown))
    }

    /// All parts of x (B, N) with their names, each in its own shape (B, ...).
    ///
    /// # Errors
    /// When the support is not [`Self::Named`], or x is of another shape.
    pub fn parts(&self, x: &Tensor) -> Result<Vec<(&str, Tensor)>> {
        let Self::Named { parts } = self else {
            return Err(Error::Config(format!("{self} has no named parts: make one of `Support::named`")));
        };
        let batch = check_shape("x", x, &self.shape())?;
        let mut start = 0;
        let part = |part: &Part, start: &mut usize| -> Result<Tensor> {
            let shape = part.support.shape();
            let values = x.narrow(1, *start, count(&shape))?.reshape(batch_shape(batch, &shape))?;
            *start += count(&shape);
            Ok(values)
        };
        parts.iter().map(|p| Ok((p.name.as_str(), part(p, &mut start)?))).collect()
    }
}
