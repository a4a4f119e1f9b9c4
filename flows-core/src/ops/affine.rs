//! The affine transformer: value and log-scale in one pass, the backward pass in another.

use super::Direction;
use super::cpu::Real;
use super::pairs::{self, ChunkGradient, Evaluated, Pairwise};
use super::simd::dispatch;
use super::transformer::{Transformer, transform};
use crate::{Result, ops};
use candle_core::Tensor;

/// An affine map, and its log-scale s as a function of a raw parameter r.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// `x = z e^s + t`, s = r.
    Exp,
    /// `x = z e^s + t`, s = b tanh(r / b), so that |s| < b.
    Bounded(f64),
    /// `x = (z + t) e^s`, s = ln sigmoid(r + o).
    Sigmoid(f64),
    /// `x = z e^s + t (1 - e^s)`, s = ln sigmoid(r + o).
    Gate(f64),
}

/// Where the shift is added.
#[derive(Clone, Copy)]
enum Form {
    /// After scaling: `x = z e^s + t`.
    After,
    /// Before scaling: `x = (z + t) e^s`.
    Before,
    /// The shift is the fixed point: `x = (z - t) e^s + t`.
    Around,
}

/// The map, or its inverse, of x (B, N), and its log-derivative, given shifts t and raw scales r:
/// parameters (B, N, 2) or (1, N, 2).
///
/// A value that overflows is 0, with log-derivative minus infinity and a finite gradient.
///
/// # Errors
/// When shapes do not agree.
pub(crate) fn affine(x: &Tensor, parameters: &Tensor, scale: Scale, direction: Direction) -> Result<(Tensor, Tensor)> {
    transform(AffineKernel { scale, direction }, x, parameters)
}

/// Writes the x of as many z, shifts and raw scales, and adds the log-scales to `log`.
pub(crate) fn affine_forward<T: Real>(scale: Scale, z: &[T], [shifts, raw]: [&[T]; 2], x: &mut [T], log: &mut [T]) {
    let kernel = AffineKernel { scale, direction: Direction::Forward };
    dispatch(
        #[inline(always)]
        || {
            kernel.specialised(
                #[inline(always)]
                |kernel| {
                    let (outputs, parameters) = (x.iter_mut().zip(log.iter_mut()), shifts.iter().zip(raw));
                    for ((x, log), (&z, (&shift, &raw))) in outputs.zip(z.iter().zip(parameters)) {
                        let (value, s) = kernel.at(z, [shift, raw]);
                        *x = value;
                        *log += s;
                    }
                },
            );
        },
    );
    if !all_finite(x) {
        for (i, (x, log)) in x.iter_mut().zip(log).enumerate() {
            refuse(z[i], [shifts[i], raw[i]], x, log);
        }
    }
}

/// Whether all numbers are finite; without a branch in its loop.
fn all_finite<T: Real>(values: &[T]) -> bool {
    dispatch(
        #[inline(always)]
        || {
            let mut all = true;
            for value in values {
                all &= value.abs() <= T::max_value();
            }
            all
        },
    )
}

/// Replaces a value that has overflowed; a NaN that follows from another stays.
#[cold]
fn refuse<T: Real>(x: T, [shift, raw]: [T; 2], value: &mut T, log: &mut T) {
    if !value.is_finite() && ![x, shift, raw].iter().any(|v| v.is_nan()) {
        (*value, *log) = (T::zero(), T::neg_infinity());
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct AffineKernel {
    pub(super) scale: Scale,
    pub(super) direction: Direction,
}

impl AffineKernel {
    /// Calls `f` with the kinds of scale and direction as constants.
    #[inline(always)]
    fn specialised(self, f: impl FnOnce(Self)) {
        use Direction::{Forward, Inverse};
        let kernel = |scale, direction| Self { scale, direction };
        match (self.scale, self.direction) {
            (Scale::Exp, Forward) => f(kernel(Scale::Exp, Forward)),
            (Scale::Exp, Inverse) => f(kernel(Scale::Exp, Inverse)),
            (Scale::Bounded(b), Forward) => f(kernel(Scale::Bounded(b), Forward)),
            (Scale::Bounded(b), Inverse) => f(kernel(Scale::Bounded(b), Inverse)),
            (Scale::Sigmoid(o), Forward) => f(kernel(Scale::Sigmoid(o), Forward)),
            (Scale::Sigmoid(o), Inverse) => f(kernel(Scale::Sigmoid(o), Inverse)),
            (Scale::Gate(o), Forward) => f(kernel(Scale::Gate(o), Forward)),
            (Scale::Gate(o), Inverse) => f(kernel(Scale::Gate(o), Inverse)),
        }
    }

    /// s and ds/dr.
    #[inline(always)]
    fn log_scale<T: Real>(self, raw: T) -> (T, T) {
        match self.scale {
            Scale::Exp => (raw, T::one()),
            Scale::Bounded(bound) => {
                let t = (raw / T::of(bound)).fast_tanh();
                (t * T::of(bound), T::one() - t * t)
            }
            Scale::Sigmoid(offset) | Scale::Gate(offset) => {
                let raw = T::zero() - (raw + T::of(offset));
                (T::zero() - raw.fast_softplus(), raw.fast_sigmoid())
            }
        }
    }

    #[inline(always)]
    fn form(self) -> Form {
        match self.scale {
            Scale::Exp | Scale::Bounded(_) => Form::After,
            Scale::Sigmoid(_) => Form::Before,
            Scale::Gate(_) => Form::Around,
        }
    }

    #[inline(always)]
    pub(super) fn at<T: Real>(self, x: T, [shift, raw]: [T; 2]) -> (T, T) {
        let (s, _) = self.log_scale(raw);
        match (self.direction, self.form()) {
            (Direction::Forward, Form::After) => (x * s.fast_exp() + shift, s),
            (Direction::Forward, Form::Before) => ((x + shift) * s.fast_exp(), s),
            (Direction::Forward, Form::Around) => ((x - shift) * s.fast_exp() + shift, s),
            (Direction::Inverse, Form::After) => ((x - shift) * (T::zero() - s).fast_exp(), T::zero() - s),
            (Direction::Inverse, Form::Before) => (x * (T::zero() - s).fast_exp() - shift, T::zero() - s),
            (Direction::Inverse, Form::Around) => ((x - shift) * (T::zero() - s).fast_exp() + shift, T::zero() - s),
        }
    }

    /// The gradients with respect to x, shift and raw scale.
    #[inline(always)]
    pub(super) fn gradient<T: Real>(self, x: T, [shift, raw]: [T; 2], [gvalue, glog]: [T; 2]) -> [T; 3] {
        let (s, slope) = self.log_scale(raw);
        match (self.direction, self.form()) {
            (Direction::Forward, Form::After) => {
                let gx = gvalue * s.fast_exp();
                [gx, gvalue, (gx * x + glog) * slope]
            }
            (Direction::Forward, Form::Before) => {
                let gx = gvalue * s.fast_exp();
                [gx, gx, (gx * (x + shift) + glog) * slope]
            }
            (Direction::Forward, Form::Around) => {
                let gx = gvalue * s.fast_exp();
                [gx, gvalue - gx, (gx * (x - shift) + glog) * slope]
            }
            (Direction::Inverse, Form::After) => {
                let gx = gvalue * (T::zero() - s).fast_exp();
                [gx, T::zero() - gx, T::zero() - (gx * (x - shift) + glog) * slope]
            }
            (Direction::Inverse, Form::Before) => {
                let gx = gvalue * (T::zero() - s).fast_exp();
                [gx, T::zero() - gvalue, T::zero() - (gx * x + glog) * slope]
            }
            (Direction::Inverse, Form::Around) => {
                let gx = gvalue * (T::zero() - s).fast_exp();
                [gx, gvalue - gx, T::zero() - (gx * (x - shift) + glog) * slope]
            }
        }
    }
}

impl AffineKernel {
    /// The value and log-derivative as a composition of candle's operations.
    pub(super) fn composed(self, x: &Tensor, shift: &Tensor, raw: Tensor) -> Result<(Tensor, Tensor)> {
        let s = match self.scale {
            Scale::Exp => raw,
            Scale::Bounded(bound) => ((raw / bound)?.tanh()? * bound)?,
            Scale::Sigmoid(offset) | Scale::Gate(offset) => ops::log_sigmoid(&(raw + offset)?)?,
        };
        let s = if self.direction == Direction::Forward { s } else { s.neg()? };
        let value = match (self.direction, self.form()) {
            (Direction::Forward, Form::After) => ((x * s.exp()?)? + shift)?,
            (Direction::Forward, Form::Before) => ((x + shift)? * s.exp()?)?,
            (Direction::Inverse, Form::After) => ((x - shift)? * s.exp()?)?,
            (Direction::Inverse, Form::Before) => ((x * s.exp()?)? - shift)?,
            (_, Form::Around) => (((x - shift)? * s.exp()?)? + shift)?,
        };
        Ok((value, s))
    }
}

impl<T: Real> Pairwise<T> for AffineKernel {
    #[inline(always)]
    fn at(self, x: T, pair: [T; 2]) -> (T, T) {
        self.at(x, pair)
    }

    #[inline(always)]
    fn gradient(self, x: T, pair: [T; 2], grads: [T; 2]) -> [T; 3] {
        self.gradient(x, pair, grads)
    }

    #[inline(always)]
    fn specialised(self, f: impl FnOnce(Self)) {
        self.specialised(f);
    }
}

impl Transformer for AffineKernel {
    const NAME: &'static str = "affine";

    fn parameter_count(&self) -> usize {
        2
    }

    fn evaluate<T: Real>(&self, x: &[T], parameters: &[T]) -> Vec<T> {
        let finish = |Evaluated { x, pairs, values, logs }: Evaluated<'_, T>| {
            if !all_finite(values) {
                for ((&x, &pair), (value, log)) in x.iter().zip(pairs).zip(values.iter_mut().zip(logs)) {
                    refuse(x, pair, value, log);
                }
            }
        };
        pairs::evaluate(x, parameters, *self, finish)
    }

    fn gradients<T: Real>(&self, x: &[T], parameters: &[T], output: &[T], grad: &[T]) -> (Vec<T>, Vec<T>) {
        let logs = &output[x.len()..];
        let finish = |ChunkGradient { start, x, pairs }: ChunkGradient<'_, T>| {
            if !(all_finite(x) && all_finite(pairs.as_flattened())) {
                for ((x, pair), log) in x.iter_mut().zip(pairs).zip(&logs[start..]) {
                    if *log == T::neg_infinity() {
                        (*x, *pair) = (T::zero(), [T::zero(); 2]);
                    }
                }
            }
        };
        pairs::gradients(x, parameters, grad, *self, finish)
    }

    fn plain(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let shift = parameters.narrow(2, 0, 1)?.squeeze(2)?.broadcast_as(x.shape())?;
        let raw = parameters.narrow(2, 1, 1)?.squeeze(2)?.broadcast_as(x.shape())?;
        self.composed(x, &shift, raw)
    }
}

#[cfg(test)]
mod tests {
    use super::super::transformer::check;
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn overflow_is_refused_and_a_nan_stays() -> Result<()> {
        let inf = f32::INFINITY;
        // x, shift and raw scale: the scale overflows, alone and in a product, then the product, x and the shift.
        let cases = [
            ([0.0, 1.0, 500.0], true),
            ([2.0, 1.0, 500.0], true),
            ([1e30, 0.0, 60.0], true),
            ([inf, 0.0, 0.0], true),
            ([2.0, inf, 0.0], true),
            ([2.0, 1.0, 3.0], false),
            ([2.0, 1.0, -500.0], false),
        ];
        for (case, refused) in cases {
            let [x, shift, raw] = case;
            let x = Var::new(&[[x]], &Device::Cpu)?;
            let parameters = Var::new(&[[[shift, raw]]], &Device::Cpu)?;
            let (value, log) = affine(&x, &parameters, Scale::Exp, Direction::Forward)?;
            let gradients = (value.sum_all()? + log.sum_all()?)?.backward()?;
            let (value, log) = (value.flatten_all()?.to_vec1::<f32>()?[0], log.flatten_all()?.to_vec1::<f32>()?[0]);
            assert!(value.is_finite() && (log == -inf) == refused, "{case:?}: {value} {log}");
            let mut at = ([0.0], [0.0]);
            affine_forward(Scale::Exp, &x.flatten_all()?.to_vec1()?, [&[shift], &[raw]], &mut at.0, &mut at.1);
            assert_eq!((at.0[0], at.1[0]), (value, log), "{case:?}");
            for var in [&x, &parameters] {
                let gradient = gradients.get(var).map_or_else(|| var.zeros_like(), |g| Ok(g.clone()))?;
                let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
                assert!(gradient.iter().all(|g| g.is_finite()), "{case:?}: {gradient:?}");
            }
        }
        for i in 0..3 {
            let mut v = [1f32, 0.5, 0.2];
            v[i] = f32::NAN;
            let (x, parameters) =
                (Tensor::new(&[[v[0]]], &Device::Cpu)?, Tensor::new(&[[[v[1], v[2]]]], &Device::Cpu)?);
            for direction in [Direction::Forward, Direction::Inverse] {
                let (value, log) = affine(&x, &parameters, Scale::Exp, direction)?;
                assert!(value.to_vec2::<f32>()?[0][0].is_nan() && log.to_vec2::<f32>()?[0][0] != -inf);
            }
        }
        Ok(())
    }

    #[test]
    fn the_kernel_is_the_plain_composition() -> Result<()> {
        for scale in [Scale::Exp, Scale::Bounded(2.0), Scale::Sigmoid(2.0), Scale::Gate(1.5)] {
            for direction in [Direction::Forward, Direction::Inverse] {
                for shape in [[1, 1, 1], [5, 3, 5], [5, 3, 1], [900, 7, 1], [900, 7, 900]] {
                    check(AffineKernel { scale, direction }, shape, [-2.0, 2.0], 1e-11, 1e-4)?;
                }
            }
        }
        Ok(())
    }
}
