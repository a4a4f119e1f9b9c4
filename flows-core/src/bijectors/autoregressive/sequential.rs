//! The forward direction of an autoregressive layer, dimension by dimension, without gradients.

use super::Map;
use crate::bijectors::univariate::Univariate;
use crate::nn::{Steps, with_steps};
use crate::ops::cpu::{Real, with_slice, with_slices};
use crate::{Error, Result};
use candle_core::{Shape, Tensor};
use rayon::prelude::*;

/// Rows that one task takes through the whole network, few enough that the units stay in the cache.
pub(super) const ROWS: usize = 64;
/// Rows at a time for families evaluated on tensors, whose cost is per tensor.
const ROWS_ON_TENSORS: usize = 1024;

/// Rows that one task computes.
struct Block<'a, T> {
    z: &'a [T],
    /// The context's term of the network's first layer.
    given: Option<&'a [T]>,
    x: &'a mut [T],
    log_det: &'a mut [T],
}

impl Map {
    /// `(x, log|det dx/dz|)`, (B, D) and (B), without a graph; `given` is the context's term of the network's first
    /// layer.
    pub(super) fn solve<T: Real>(&self, z: &Tensor, given: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let (batch, d) = z.dims2()?;
        let given: Vec<Tensor> = given.map(Tensor::contiguous).transpose()?.into_iter().collect();
        let (mut x, mut log_det) = (vec![T::zero(); batch * d], vec![T::zero(); batch]);
        with_steps::<T, _>(&self.made, |steps| {
            with_slices::<T, _>(&given, |given| {
                with_slice::<T, _>(z, |z| {
                    let sequence = self.made.sequence();
                    let rows = if self.univariate.pointwise().is_some() { ROWS } else { ROWS_ON_TENSORS };
                    let width = steps.first_width();
                    let inputs = z.chunks(rows * d).enumerate();
                    let outputs = x.chunks_mut(rows * d).zip(log_det.chunks_mut(rows));
                    let blocks = inputs.zip(outputs).map(|((i, z), (x, log_det))| {
                        let given = given.first().map(|given| &given[i * rows * width..][..log_det.len() * width]);
                        Block { z, given, x, log_det }
                    });
                    let blocks: Vec<_> = blocks.collect();
                    let run = |block| self.solve_rows(steps, &sequence, block);
                    match self.univariate.pointwise() {
                        Some(_) => blocks.into_par_iter().try_for_each(run),
                        None => blocks.into_iter().try_for_each(run),
                    }
                })
            })??
        })?;
        Ok((T::tensor(x, z.shape())?, T::tensor(log_det, &Shape::from(batch))?))
    }

    fn solve_rows<T: Real>(
        &self,
        steps: &Steps<'_, T>,
        sequence: &[usize],
        Block { z, given, x, log_det }: Block<'_, T>,
    ) -> Result<()> {
        let (d, rows, pointwise) = (sequence.len(), log_det.len(), self.univariate.pointwise());
        let mut at = vec![T::zero(); rows];
        steps.forward(rows, given, |i, raw, out| {
            let dimension = sequence[i];
            at.iter_mut().zip(z[dimension..].iter().step_by(d)).for_each(|(at, &z)| *at = z);
            match pointwise {
                Some(kernel) => kernel.forward(&at, raw, out, log_det),
                None => on_tensors(self.univariate.as_ref(), &at, raw, out, log_det)?,
            }
            x[dimension..].iter_mut().step_by(d).zip(&*out).for_each(|(x, &out)| *x = out);
            Ok::<_, Error>(())
        })
    }
}

/// As [`Pointwise::forward`](crate::bijectors::univariate::Pointwise), for any family.
fn on_tensors<T: Real>(univariate: &dyn Univariate, z: &[T], raw: &[T], x: &mut [T], log_det: &mut [T]) -> Result<()> {
    let n = z.len();
    let z = T::tensor(z.to_vec(), &Shape::from((n, 1)))?;
    let raw = T::tensor(raw.to_vec(), &Shape::from((raw.len() / n, n)))?;
    let (value, log) = univariate.forward(&z, &raw.t()?.contiguous()?.unsqueeze(1)?)?;
    with_slice::<T, _>(&value, |value| x.copy_from_slice(value))?;
    with_slice::<T, _>(&log, |log| log_det.iter_mut().zip(log).for_each(|(sum, &log)| *sum += log))?;
    Ok(())
}
