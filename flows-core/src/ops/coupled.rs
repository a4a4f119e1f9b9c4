//! Affine maps of a part of each row, given shifts and scales in halves: values and log-determinants of whole
//! rows in one pass, the backward pass in another.

use super::Direction;
use super::affine::{AffineKernel, Scale};
use super::cpu::Real;
use super::operation::{Kernel, Operation, View, with_elements};
use super::simd::dispatch;
use crate::{Error, Result, ops};
use candle_core::{D, DType, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// How the transformed part z of a row becomes x, and the order of the parameters of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coupled {
    /// `x = z / s - t`, `s = sigmoid(max(r, -7) + 2)`; parameters: all r, then all t. Glow's affine coupling as
    /// published, whose inverse is `z = (x + t) s`, except that s is at least 1/150, since sampling divides by it.
    Sigmoid,
    /// The same with `s = sigmoid(max(r, -2) + 2)`, which is at least 1/2.
    Bounded,
    /// `x = z - t`; parameters: all t.
    Shift,
    /// `x = z e^s + t`, or as the scale says; parameters: all t, then all r.
    Affine(Scale),
}

/// The map, or its inverse, of the `moved` elements of each row of x (B, N), given parameters (B, P), with the other
/// elements unchanged; and log|det|, (B), accumulated in f64.
///
/// # Errors
/// When shapes or types do not agree.
pub fn coupled(
    x: &Tensor,
    parameters: &Tensor,
    moved: Range<usize>,
    map: Coupled,
    direction: Direction,
) -> Result<(Tensor, Tensor)> {
    let (batch, n) = x.dims2()?;
    if moved.is_empty() || moved.end > n || batch == 0 {
        return Err(Error::shape("the rows of a coupling", x.dims(), format!("(B, N) that have elements {moved:?}")));
    }
    let width = moved.len() * map.parameter_count();
    if parameters.dims() != [batch, width] || parameters.dtype() != x.dtype() {
        let want = format!("({batch}, {width}) of type {:?}", x.dtype());
        return Err(Error::shape("the parameters of a coupling", parameters.dims(), want));
    }
    let coupling = Coupling { start: moved.start, end: moved.end, map, direction };
    if !(x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)) {
        return coupling.plain(x, parameters);
    }
    let packed = x.contiguous()?.apply_op2(&parameters.contiguous()?, Operation(coupling))?;
    Ok((packed.narrow(1, 0, n)?, packed.narrow(1, n, 1)?.squeeze(1)?))
}

impl Coupled {
    /// Parameters of each transformed element.
    fn parameter_count(self) -> usize {
        if self == Self::Shift { 1 } else { 2 }
    }

    /// The lower bound of a sigmoid's r.
    const fn least(self) -> f64 {
        if matches!(self, Self::Bounded) { -2.0 } else { -7.0 }
    }

    /// r, or its lower bound if that is larger; a NaN stays.
    #[inline(always)]
    fn bounded<T: Real>(self, r: T) -> T {
        if r < T::of(self.least()) { T::of(self.least()) } else { r }
    }
}

#[derive(Clone, Copy)]
struct Coupling {
    /// The transformed elements.
    start: usize,
    end: usize,
    map: Coupled,
    direction: Direction,
}

/// A row and its parameters.
struct Row<'a, T> {
    x: &'a [T],
    parameters: &'a [T],
}

impl Coupling {
    /// Calls `f` with the map and the direction as constants, so that its loops have no branches.
    #[inline(always)]
    fn specialised(self, f: impl FnOnce(Self)) {
        use {Coupled::*, Direction::*};
        let kernel = |map, direction| Self { map, direction, ..self };
        match (self.map, self.direction) {
            (Sigmoid, Forward) => f(kernel(Sigmoid, Forward)),
            (Sigmoid, Inverse) => f(kernel(Sigmoid, Inverse)),
            (Bounded, Forward) => f(kernel(Bounded, Forward)),
            (Bounded, Inverse) => f(kernel(Bounded, Inverse)),
            (Shift, Forward) => f(kernel(Shift, Forward)),
            (Shift, Inverse) => f(kernel(Shift, Inverse)),
            (Affine(Scale::Exp), Forward) => f(kernel(Affine(Scale::Exp), Forward)),
            (Affine(Scale::Exp), Inverse) => f(kernel(Affine(Scale::Exp), Inverse)),
            (Affine(Scale::Bounded(b)), Forward) => f(kernel(Affine(Scale::Bounded(b)), Forward)),
            (Affine(Scale::Bounded(b)), Inverse) => f(kernel(Affine(Scale::Bounded(b)), Inverse)),
            (Affine(Scale::Sigmoid(o)), Forward) => f(kernel(Affine(Scale::Sigmoid(o)), Forward)),
            (Affine(Scale::Sigmoid(o)), Inverse) => f(kernel(Affine(Scale::Sigmoid(o)), Inverse)),
            (Affine(Scale::Gate(o)), Forward) => f(kernel(Affine(Scale::Gate(o)), Forward)),
            (Affine(Scale::Gate(o)), Inverse) => f(kernel(Affine(Scale::Gate(o)), Inverse)),
        }
    }

    /// The value and log-derivative of an element.
    #[inline(always)]
    fn at<T: Real>(self, x: T, [a, b]: [T; 2]) -> (T, T) {
        match (self.map, self.direction) {
            (Coupled::Sigmoid | Coupled::Bounded, Direction::Inverse) => {
                let r = T::zero() - (self.map.bounded(a) + T::of(2.0));
                let log = T::zero() - r.fast_softplus();
                ((x + b) * log.fast_exp(), log)
            }
            (Coupled::Sigmoid | Coupled::Bounded, Direction::Forward) => {
                let log = (T::zero() - (self.map.bounded(a) + T::of(2.0))).fast_softplus();
                (x * log.fast_exp() - b, log)
            }
            (Coupled::Shift, Direction::Inverse) => (x + a, T::zero()),
            (Coupled::Shift, Direction::Forward) => (x - a, T::zero()),
            (Coupled::Affine(scale), direction) => AffineKernel { scale, direction }.at(x, [a, b]),
        }
    }

    /// The gradients with respect to x and the two parameters, given those with respect to value and log-derivative.
    #[inline(always)]
    fn gradient<T: Real>(self, x: T, [a, b]: [T; 2], gvalue: T, glog: T) -> [T; 3] {
        match (self.map, self.direction) {
            (Coupled::Sigmoid | Coupled::Bounded, Direction::Inverse) => {
                // d log s / da = 1 - s, and 0 at the bound.
                let s = (self.map.bounded(a) + T::of(2.0)).fast_sigmoid();
                let gx = gvalue * s;
                let slope = if a < T::of(self.map.least()) { T::zero() } else { T::one() - s };
                [gx, (gx * (x + b) + glog) * slope, gx]
            }
            (Coupled::Sigmoid | Coupled::Bounded, Direction::Forward) => {
                let r = T::zero() - (self.map.bounded(a) + T::of(2.0));
                let gx = gvalue * r.fast_softplus().fast_exp();
                let slope = if a < T::of(self.map.least()) { T::zero() } else { r.fast_sigmoid() };
                [gx, T::zero() - (gx * x + glog) * slope, T::zero() - gvalue]
            }
            (Coupled::Shift, Direction::Inverse) => [gvalue, gvalue, T::zero()],
            (Coupled::Shift, Direction::Forward) => [gvalue, T::zero() - gvalue, T::zero()],
            (Coupled::Affine(scale), direction) => {
                AffineKernel { scale, direction }.gradient(x, [a, b], [gvalue, glog])
            }
        }
    }

    /// The transformed elements of a row.
    fn moved(self) -> Range<usize> {
        self.start..self.end
    }

    /// Parameters of a row.
    fn width(self) -> usize {
        self.moved().len() * self.map.parameter_count()
    }

    /// Both parameters of the transformed elements; where there is one, the second is the first again.
    fn halves<T>(self, parameters: &[T]) -> [&[T]; 2] {
        let moved = self.moved().len();
        [&parameters[..moved], &parameters[parameters.len() - moved..]]
    }

    fn rows<'a, T: Real>(
        self,
        x: &'a [T],
        parameters: &'a [T],
        n: usize,
    ) -> impl IndexedParallelIterator<Item = Row<'a, T>> {
        let rows = x.par_chunks(n).zip(parameters.par_chunks(self.width()));
        rows.map(|(x, parameters)| Row { x, parameters })
    }

    /// Rows of n values, each followed by its log-determinant.
    fn evaluate<T: Real>(self, x: &[T], parameters: &[T], n: usize) -> Vec<T> {
        let Self { start, end, .. } = self;
        let mut out = vec![T::zero(); x.len() / n * (n + 1)];
        let write = |logs: &mut Vec<T>, (out, row): (&mut [T], Row<'_, T>)| {
            out[..start].copy_from_slice(&row.x[..start]);
            out[end..n].copy_from_slice(&row.x[end..]);
            let (out, log_det) = out.split_at_mut(n);
            let ([a, b], x, values) = (self.halves(row.parameters), &row.x[start..end], &mut out[start..end]);
            logs.resize(x.len(), T::zero());
            dispatch(
                #[inline(always)]
                || {
                    self.specialised(
                        #[inline(always)]
                        |kernel| {
                            let outputs = values.iter_mut().zip(logs.iter_mut());
                            let inputs = x.iter().zip(a.iter().zip(b));
                            for ((value, log), (&x, (&a, &b))) in outputs.zip(inputs) {
                                (*value, *log) = kernel.at(x, [a, b]);
                            }
                        },
                    );
                },
            );
            log_det[0] = T::of(logs.iter().map(|log| log.wide()).sum());
        };
        out.par_chunks_mut(n + 1).zip(self.rows(x, parameters, n)).for_each_init(Vec::new, write);
        out
    }

    /// The gradients with respect to x and the parameters.
    fn backward<T: Real>(self, x: &[T], parameters: &[T], grad: &[T], n: usize) -> [Vec<T>; 2] {
        let Self { start, end, .. } = self;
        let (mut gx, mut gp) = (vec![T::zero(); x.len()], vec![T::zero(); parameters.len()]);
        let inputs = self.rows(x, parameters, n).zip(grad.par_chunks(n + 1));
        let outputs = gx.par_chunks_mut(n).zip(gp.par_chunks_mut(self.width()));
        outputs.zip(inputs).for_each(|((gx, gp), (row, grad))| {
            gx[..start].copy_from_slice(&grad[..start]);
            gx[end..].copy_from_slice(&grad[end..n]);
            let ([a, b], glog) = (self.halves(row.parameters), grad[n]);
            let inputs = row.x[start..end].iter().zip(a.iter().zip(b)).zip(&grad[start..end]);
            let gx = &mut gx[start..end];
            let (ga, gb) = gp.split_at_mut(gx.len());
            dispatch(
                #[inline(always)]
                || {
                    self.specialised(
                        #[inline(always)]
                        |kernel| {
                            let gx = gx.iter_mut().zip(ga);
                            if gb.is_empty() {
                                for ((gx, ga), ((&x, (&a, &b)), &g)) in gx.zip(inputs) {
                                    [*gx, *ga, _] = kernel.gradient(x, [a, b], g, glog);
                                }
                                return;
                            }
                            for ((gx, ga), (gb, ((&x, (&a, &b)), &g))) in gx.zip(gb.iter_mut().zip(inputs)) {
                                [*gx, *ga, *gb] = kernel.gradient(x, [a, b], g, glog);
                            }
                        },
                    );
                },
            );
        });
        [gx, gp]
    }

    /// The same as a composition of candle's operations, for other devices and as the tests' reference.
    fn plain(self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let (n, moved) = (x.dim(1)?, self.end - self.start);
        let part = x.narrow(1, self.start, moved)?;
        let half = |i: usize| parameters.narrow(1, i * moved, moved);
        let (value, log) = match (self.map, self.direction) {
            (Coupled::Sigmoid | Coupled::Bounded, direction) => {
                let log = ops::log_sigmoid(&(half(0)?.maximum(self.map.least())? + 2.0)?)?;
                match direction {
                    Direction::Inverse => (((part + half(1)?)? * log.exp()?)?, log),
                    Direction::Forward => (((part * log.neg()?.exp()?)? - half(1)?)?, log.neg()?),
                }
            }
            (Coupled::Shift, Direction::Inverse) => ((&part + half(0)?)?, part.zeros_like()?),
            (Coupled::Shift, Direction::Forward) => ((&part - half(0)?)?, part.zeros_like()?),
            (Coupled::Affine(scale), direction) => {
                AffineKernel { scale, direction }.composed(&part, &half(0)?, half(1)?)?
            }
        };
        let (before, behind) = (x.narrow(1, 0, self.start)?, x.narrow(1, self.end, n - self.end)?);
        let parts = [before, value, behind].into_iter().filter(|part| part.elem_count() > 0).collect::<Vec<_>>();
        Ok((Tensor::cat(&parts, 1)?, log.sum(D::Minus1)?))
    }
}

impl Kernel<2> for Coupling {
    const NAME: &'static str = "coupled";

    fn value<T: Real>(&self, [x, parameters]: [View<'_, T>; 2]) -> candle_core::Result<(Vec<T>, Shape)> {
        let (batch, n) = x.shape.dims2()?;
        Ok((self.evaluate(x.values, parameters.values, n), Shape::from((batch, n + 1))))
    }

    fn gradients<T: Real>(
        &self,
        [x, parameters]: [&Tensor; 2],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let n = x.dim(1)?;
        let [gx, gp] = with_elements([x, parameters, grad], |[x, parameters, grad]: [&[T]; 3]| {
            self.backward(x, parameters, grad, n)
        })?;
        Ok([Some(T::tensor(gx, x.shape())?), Some(T::tensor(gp, parameters.shape())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};

    const MAPS: [Coupled; 7] = [
        Coupled::Sigmoid,
        Coupled::Bounded,
        Coupled::Shift,
        Coupled::Affine(Scale::Exp),
        Coupled::Affine(Scale::Bounded(2.0)),
        Coupled::Affine(Scale::Sigmoid(1.0)),
        Coupled::Affine(Scale::Gate(1.5)),
    ];

    #[test]
    fn the_kernel_is_the_plain_composition_and_directions_undo_each_other() -> Result<()> {
        let mut rng = Rng::seed(0);
        for (batch, n, moved) in
            [(1, 1, 0..1), (3, 7, 4..7), (2, 40, 0..40), (5, 21, 1..21), (2, 9, 0..4), (2, 40, 3..31)]
        {
            for map in MAPS {
                let mut draw = |columns: usize| rng.normal_tensor((batch, columns), DType::F64, &Device::Cpu);
                let x = Var::from_tensor(&draw(n)?)?;
                // Some are below the lower bound.
                let parameters = Var::from_tensor(&(draw(moved.len() * map.parameter_count())? * 4.0)?)?;
                let weigh = draw(n)?;
                for direction in [Direction::Forward, Direction::Inverse] {
                    let run = |(value, log_det): (Tensor, Tensor)| -> Result<Vec<Tensor>> {
                        let grads = ((&value * &weigh)?.sum_all()? + log_det.sin()?.sum_all()?)?.backward()?;
                        let get = |var: &Var| grads.get(var).cloned().map_or_else(|| var.zeros_like(), Ok);
                        Ok(vec![value, log_det, get(&x)?, get(&parameters)?])
                    };
                    let coupling = Coupling { start: moved.start, end: moved.end, map, direction };
                    let plain = run(coupling.plain(&x, &parameters)?)?;
                    let fused = run(coupled(&x, &parameters, moved.clone(), map, direction)?)?;
                    for (plain, fused) in plain.iter().zip(&fused) {
                        assert!(difference(plain, fused)? < 1e-10, "{map:?} {direction:?}");
                    }
                }
                let (z, log_det) = coupled(&x, &parameters, moved.clone(), map, Direction::Inverse)?;
                let (back, back_log_det) = coupled(&z, &parameters, moved.clone(), map, Direction::Forward)?;
                assert!(difference(&x, &back)? < 1e-10 && difference(&log_det, &back_log_det.neg()?)? < 1e-12);
            }
        }
        // The largest scales of sampling.
        for (map, most) in [(Coupled::Sigmoid, 1.0 + 5f64.exp()), (Coupled::Bounded, 2.0)] {
            let parameters = Tensor::new(&[[-1e9, 0.0]], &Device::Cpu)?;
            let (x, _) =
                coupled(&Tensor::ones((1, 1), DType::F64, &Device::Cpu)?, &parameters, 0..1, map, Direction::Forward)?;
            assert!((x.flatten_all()?.to_vec1::<f64>()?[0] - most).abs() < 1e-9, "{map:?}");
        }
        let x = Tensor::zeros((2, 4), DType::F32, &Device::Cpu)?;
        for (parameters, moved) in [((2, 5), 2..4), ((1, 4), 2..4), ((2, 0), 4..4), ((2, 4), 3..5)] {
            let parameters = Tensor::zeros(parameters, DType::F32, &Device::Cpu)?;
            assert!(coupled(&x, &parameters, moved, Coupled::Affine(Scale::Exp), Direction::Forward).is_err());
        }
        Ok(())
    }
}
