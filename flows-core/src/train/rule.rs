//! One step of each optimiser for one weight: a fused pass for the CPU, and a composition of tensor operations.

use super::slices::{CHUNK, Updatable, assign, with_mut, with_mut_and};
use crate::Result;
use crate::ops::kernel::dispatch;
use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;

/// The update of a weight p with gradient g, with the coefficients of one step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// `g = g + l2 p`, `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
    /// `p = keep p - rate m / (root sqrt(v) + eps)`.
    Adam { beta1: f64, beta2: f64, eps: f64, l2: f64, keep: f64, rate: f64, root: f64 },
    /// `m` as above, `v = max(beta2 v, |g|)`, `p = p - rate m / (v + eps)`.
    Adamax { beta1: f64, beta2: f64, eps: f64, rate: f64 },
    /// `m = momentum m + g`, `p = p - rate m`, or with `nesterov` `p = p - rate (g + momentum m)`.
    Momentum { momentum: f64, nesterov: bool, rate: f64 },
    /// `p = p - rate g`.
    Plain { rate: f64 },
}

impl Rule {
    /// Updates `var` and its moments in place, fused where there is a fused pass.
    pub(super) fn apply(&self, var: &Var, grad: &Tensor, moments: &[Tensor]) -> Result<()> {
        match (var.device(), var.dtype()) {
            (Device::Cpu, DType::F32) => self.fused::<f32>(var, grad, moments),
            (Device::Cpu, DType::F64) => self.fused::<f64>(var, grad, moments),
            _ => self.composed(var, grad, moments),
        }
    }

    pub(super) fn fused<T: Updatable>(&self, var: &Var, grad: &Tensor, moments: &[Tensor]) -> Result<()> {
        let c = T::from_f64;
        match (*self, moments) {
            (Self::Adam { beta1, beta2, eps, l2, keep, rate, root }, [m, v]) => {
                let (b1, a1, b2, a2) = (c(beta1), c(1.0 - beta1), c(beta2), c(1.0 - beta2));
                let (eps, l2, keep, rate, root) = (c(eps), c(l2), c(keep), c(rate), c(root));
                two_moments(
                    var,
                    grad,
                    m,
                    v,
                    #[inline(always)]
                    |p: &mut T, m: &mut T, v: &mut T, g: T| {
                        let g = g + *p * l2;
                        *m = *m * b1 + g * a1;
                        *v = *v * b2 + g * g * a2;
                        *p = *p * keep - *m * rate / (v.sqrt() * root + eps);
                    },
                )?;
            }
            (Self::Adamax { beta1, beta2, eps, rate }, [m, v]) => {
                let (b1, a1, b2, eps, rate) = (c(beta1), c(1.0 - beta1), c(beta2), c(eps), c(rate));
                two_moments(
                    var,
                    grad,
                    m,
                    v,
                    #[inline(always)]
                    |p: &mut T, m: &mut T, v: &mut T, g: T| {
                        *m = *m * b1 + g * a1;
                        *v = (*v * b2).larger(g.abs());
                        *p -= *m * rate / (*v + eps);
                    },
                )?;
            }
            (Self::Momentum { momentum, nesterov, rate }, [m]) => {
                let (momentum, rate) = (c(momentum), c(rate));
                with_mut_and(var, grad, |p, g| {
                    with_mut(m, |m: &mut [T]| {
                        let update = |((p, m), g): ((&mut [T], &mut [T]), &[T])| {
                            for ((p, m), g) in p.iter_mut().zip(m).zip(g) {
                                *m = *m * momentum + *g;
                                *p -= if nesterov { (*m * momentum + *g) * rate } else { *m * rate };
                            }
                        };
                        if p.len() <= CHUNK {
                            update(((p, m), g));
                        } else {
                            let chunks = p.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK));
                            chunks.zip(g.par_chunks(CHUNK)).for_each(update);
                        }
                        Ok(())
                    })
                })?;
            }
            (Self::Plain { rate }, []) => {
                let rate = c(rate);
                with_mut_and(var, grad, |p, g: &[T]| {
                    let update = |(p, g): (&mut [T], &[T])| p.iter_mut().zip(g).for_each(|(p, g)| *p -= *g * rate);
                    if p.len() <= CHUNK {
                        update((p, g));
                    } else {
                        p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).for_each(update);
                    }
                    Ok(())
                })?;
            }
            _ => return Err(moments_missing()),
        }
        Ok(())
    }

    pub(super) fn composed(&self, var: &Var, grad: &Tensor, moments: &[Tensor]) -> Result<()> {
        let p = var.as_detached_tensor();
        let mean = |m: &Tensor, grad: &Tensor, beta: f64| m.affine(beta, 0.0)? + grad.affine(1.0 - beta, 0.0)?;
        match (*self, moments) {
            (Self::Adam { beta1, beta2, eps, l2, keep, rate, root }, [m, v]) => {
                let grad = &(grad + p.affine(l2, 0.0)?)?;
                assign(m, &mean(m, grad, beta1)?)?;
                assign(v, &(v.affine(beta2, 0.0)? + grad.sqr()?.affine(1.0 - beta2, 0.0)?)?)?;
                let change = (m.affine(rate, 0.0)? / v.sqrt()?.affine(root, eps)?)?;
                var.set(&(p.affine(keep, 0.0)? - change)?)?;
            }
            (Self::Adamax { beta1, beta2, eps, rate }, [m, v]) => {
                assign(m, &mean(m, grad, beta1)?)?;
                assign(v, &v.affine(beta2, 0.0)?.maximum(&grad.abs()?)?)?;
                var.set(&(p - (m.affine(rate, 0.0)? / v.affine(1.0, eps)?)?)?)?;
            }
            (Self::Momentum { momentum, nesterov, rate }, [m]) => {
                assign(m, &(m.affine(momentum, 0.0)? + grad)?)?;
                let direction = if nesterov { (m.affine(momentum, 0.0)? + grad)? } else { m.clone() };
                var.set(&(p - direction.affine(rate, 0.0)?)?)?;
            }
            (Self::Plain { rate }, []) => var.set(&(p - grad.affine(rate, 0.0)?)?)?,
            _ => return Err(moments_missing()),
        }
        Ok(())
    }
}

/// One pass over a weight, its two moments and its gradient, divided among the threads.
fn two_moments<T: Updatable>(
    var: &Var,
    grad: &Tensor,
    m: &Tensor,
    v: &Tensor,
    update: impl Fn(&mut T, &mut T, &mut T, T) + Sync,
) -> candle_core::Result<()> {
    with_mut_and(var, grad, |p, g: &[T]| {
        with_mut(m, |m| {
            with_mut(v, |v| {
                let run = |p: &mut [T], m: &mut [T], v: &mut [T], g: &[T]| {
                    dispatch(
                        #[inline(always)]
                        || {
                            for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
                                update(p, m, v, *g);
                            }
                        },
                    );
                };
                if p.len() <= CHUNK {
                    run(p, m, v, g);
                } else {
                    let chunks = p.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK));
                    chunks.zip(g.par_chunks(CHUNK)).for_each(|(((p, m), v), g)| run(p, m, v, g));
                }
                Ok(())
            })
        })
    })
}

fn moments_missing() -> crate::Error {
    crate::Error::Internal("a weight does not have the moments that its optimiser needs".into())
}
