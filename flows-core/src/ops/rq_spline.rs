//! The monotone rational-quadratic spline: value and log-derivative in one pass, backward in another.

use super::cpu::{self, Real};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Shape, Tensor};
use rayon::prelude::*;

/// What happens at the ends of a spline's interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Slope 1 at both ends, and the identity outside.
    Linear,
    /// Free slopes; nothing outside: log-derivative minus infinity.
    Closed,
    /// The same free slope at both ends: a map of the circle onto itself.
    Periodic,
}

/// The spline's settings, the same for all elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RqSplineSettings {
    /// Number of bins K.
    pub bins: usize,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
    /// What happens at the ends.
    pub ends: Ends,
    /// Least width and height of a bin, as a share of the interval.
    pub min_bin: f64,
    /// Least slope at a knot.
    pub min_slope: f64,
}

impl RqSplineSettings {
    /// Numbers for each element: K widths, K heights and the free slopes.
    pub fn parameters(&self) -> usize {
        2 * self.bins
            + match self.ends {
                Ends::Linear => self.bins - 1,
                Ends::Closed => self.bins + 1,
                Ends::Periodic => self.bins,
            }
    }

    /// The raw slope that becomes slope 1: `ln(e^(1 - min_slope) - 1)`.
    pub fn raw_unit_slope(&self) -> f64 {
        ((1.0 - self.min_slope).exp() - 1.0).ln()
    }

    /// `(f(x), log|f'(x)|)` for one x; `scratch` holds 2 K numbers.
    pub(crate) fn forward_at<T: Real>(self, x: T, raw: &[T], scratch: &mut [T]) -> (T, T) {
        let (widths, heights) = scratch.split_at_mut(self.bins);
        RqSpline { settings: self, direction: Direction::Forward }.at(x, raw, widths, heights)
    }

    /// Which raw slope belongs to `knot`; none where the slope is fixed at 1.
    fn slope_index(&self, knot: usize) -> Option<usize> {
        match self.ends {
            Ends::Linear if knot == 0 || knot == self.bins => None,
            Ends::Linear => Some(knot - 1),
            Ends::Closed => Some(knot),
            Ends::Periodic => Some(knot % self.bins),
        }
    }
}

/// Which way a kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the base to the data.
    Forward,
    /// From the data to the base.
    Inverse,
}

/// `(f(x), log|f'(x)|)`, both (B, N), of the spline f or its inverse.
///
/// `parameters` are (B, N, P) or (1, N, P): raw widths, heights and slopes. Widths and heights are
/// `min_bin + (1 - K min_bin) softmax(raw)` of the interval, slopes `min_slope + softplus(raw)`.
/// Inside bin k, with `s = h/w` and `xi = (x - x_k)/w`,
///
/// ```text
/// y = y_k + h (s xi^2 + d_k xi (1-xi)) / (s + (d_k + d_{k+1} - 2s) xi (1-xi))
/// ```
///
/// Durkan et al., Neural Spline Flows, 2019, equations 4 to 8.
///
/// # Errors
/// When shapes or types do not agree.
pub fn rq_spline(
    x: &Tensor,
    parameters: &Tensor,
    settings: RqSplineSettings,
    direction: Direction,
) -> Result<(Tensor, Tensor)> {
    let (batch, n) = x.dims2()?;
    match parameters.dims3()? {
        (rows, columns, p) if (rows == batch || rows == 1) && columns == n && p == settings.parameters() => {}
        _ => {
            let want = format!("({batch}, {n}, {})", settings.parameters());
            return Err(Error::shape("the parameters of the spline", parameters.dims(), want));
        }
    }
    let op = RqSpline { settings, direction };
    if x.device().is_cpu() && x.dtype() == parameters.dtype() && matches!(x.dtype(), DType::F32 | DType::F64) {
        let packed = x.contiguous()?.apply_op2(&parameters.contiguous()?, op)?;
        cpu::unpack(&packed, x.shape())
    } else {
        op.plain(x, parameters)
    }
}

#[derive(Clone, Copy, Debug)]
struct RqSpline {
    settings: RqSplineSettings,
    direction: Direction,
}

/// Elements that one task of the thread pool takes.
const CHUNK: usize = 256;

impl CustomOp2 for RqSpline {
    fn name(&self) -> &'static str {
        "rq-spline"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let packed = match s1 {
            CpuStorage::F32(_) => Real::storage(self.evaluate::<f32>(Real::slice(s1, l1)?, Real::slice(s2, l2)?)),
            _ => Real::storage(self.evaluate::<f64>(Real::slice(s1, l1)?, Real::slice(s2, l2)?)),
        };
        Ok((packed, Shape::from(2 * l1.shape().elem_count())))
    }

    fn bwd(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        match x.dtype() {
            DType::F32 => self.backward::<f32>(x, parameters, grad),
            _ => self.backward::<f64>(x, parameters, grad),
        }
    }
}

/// One bin of one element's spline, and where it came from.
///
/// In f64 for f32 too: a bin is the difference of two knots, its inverse that of two squares, and in
/// f32 a narrow or steep bin would keep few digits of either. The time goes into exponentials and
/// memory, which stay in f32.
struct Bin {
    index: usize,
    x: f64,
    y: f64,
    /// The point from the bin's start, along x or y.
    offset: f64,
    width: f64,
    height: f64,
    slopes: [f64; 2],
}

/// Value, log-derivative, and what their gradients need, at a point of a bin.
struct Point {
    xi: f64,
    slope: f64,
    quotient: f64,
    denominator: f64,
    numerator: f64,
    derivative: f64,
}

impl Bin {
    fn point(&self, xi: f64) -> Point {
        let [d0, d1] = self.slopes;
        let s = self.height / self.width;
        let q = xi * (1.0 - xi);
        let quotient = s * xi * xi + d0 * q;
        let denominator = s + (d0 + d1 - 2.0 * s) * q;
        let numerator = d1 * xi * xi + 2.0 * s * q + d0 * (1.0 - xi) * (1.0 - xi);
        let derivative = s * s * numerator / (denominator * denominator);
        Point { xi, slope: s, quotient, denominator, numerator, derivative }
    }

    /// The xi whose value is that of the point: the root of the quadratic in the form that does not cancel.
    fn solve(&self) -> f64 {
        let [d0, d1] = self.slopes;
        let s = self.height / self.width;
        let dy = self.offset;
        let excess = dy * (d0 + d1 - 2.0 * s);
        let a = self.height * (s - d0) + excess;
        let b = self.height * d0 - excess;
        let c = -s * dy;
        let root = (b * b - 4.0 * a * c).max(0.0).sqrt();
        (2.0 * c / (-b - root)).clamp(0.0, 1.0)
    }
}

fn softplus<T: Real>(x: T) -> T {
    x.max(T::zero()) + (-x.abs()).exp().ln_1p()
}

fn sigmoid<T: Real>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

impl RqSpline {
    fn interval<T: Real>(&self) -> (T, T) {
        (T::of(self.settings.low), T::of(self.settings.high))
    }

    /// Turns raw widths or heights into shares of the interval, in place; keeps the softmax.
    fn shares<T: Real>(&self, raw: &[T], softmax: &mut [T]) -> (f64, f64) {
        let top = raw.iter().fold(T::neg_infinity(), |m, &v| m.max(v));
        let mut sum = T::zero();
        for (p, &v) in softmax.iter_mut().zip(raw) {
            *p = (v - top).exp();
            sum += *p;
        }
        let norm = T::one() / sum;
        softmax.iter_mut().for_each(|p| *p *= norm);
        (self.settings.min_bin, 1.0 - self.settings.min_bin * self.settings.bins as f64)
    }

    /// The bin that holds `at`, an x in forward and a y in inverse direction.
    fn bin<T: Real>(&self, at: T, raw: &[T], widths: &mut [T], heights: &mut [T]) -> Bin {
        let RqSplineSettings { bins: k, low, high, .. } = self.settings;
        let (least, rest) = self.shares(&raw[..k], widths);
        self.shares(&raw[k..2 * k], heights);
        let search = if self.direction == Direction::Forward { &*widths } else { &*heights };
        // An end of the interval may be a little farther out in f32.
        let at = at.wide().clamp(low, high);
        let share = |p: T| (high - low) * (least + rest * p.wide());
        let mut index = 0;
        let mut knot = low + share(search[0]);
        while index + 1 < k && at >= knot {
            index += 1;
            knot += share(search[index]);
        }
        // The ends are exact, so that neighbouring bins and the tails meet without a gap.
        let edges = |p: &[T]| {
            let start = p[..index].iter().fold(low, |sum, &p| sum + share(p));
            let end = if index + 1 == k { high } else { start + share(p[index]) };
            (start, end - start)
        };
        let (x, width) = edges(widths);
        let (y, height) = edges(heights);
        let offset = at - if self.direction == Direction::Forward { x } else { y };
        let slope = |knot| match self.settings.slope_index(knot) {
            None => 1.0,
            Some(j) => self.settings.min_slope + softplus(raw[2 * k + j]).wide(),
        };
        Bin { index, x, y, offset, width, height, slopes: [slope(index), slope(index + 1)] }
    }

    fn outside<T: Real>(&self, at: T) -> bool {
        let (low, high) = self.interval::<T>();
        !(at >= low && at <= high)
    }

    fn evaluate<T: Real>(&self, x: &[T], parameters: &[T]) -> Vec<T> {
        let (k, p) = (self.settings.bins, self.settings.parameters());
        let columns = parameters.len() / p;
        let mut packed = vec![T::zero(); 2 * x.len()];
        let (values, logs) = packed.split_at_mut(x.len());
        let chunks = x.par_chunks(CHUNK).zip(values.par_chunks_mut(CHUNK)).zip(logs.par_chunks_mut(CHUNK));
        chunks.enumerate().for_each(|(chunk, ((x, values), logs))| {
            let (mut widths, mut heights) = (vec![T::zero(); k], vec![T::zero(); k]);
            for (i, &at) in x.iter().enumerate() {
                let row = (chunk * CHUNK + i) % columns;
                (values[i], logs[i]) = self.at(at, &parameters[row * p..(row + 1) * p], &mut widths, &mut heights);
            }
        });
        packed
    }

    fn at<T: Real>(&self, at: T, raw: &[T], widths: &mut [T], heights: &mut [T]) -> (T, T) {
        if self.outside(at) {
            let (low, high) = self.interval::<T>();
            return match self.settings.ends {
                _ if at.is_nan() => (at, at),
                Ends::Linear => (at, T::zero()),
                Ends::Closed | Ends::Periodic => (at.max(low).min(high), T::neg_infinity()),
            };
        }
        let bin = self.bin(at, raw, widths, heights);
        let (value, log) = match self.direction {
            Direction::Forward => {
                let point = bin.point(bin.offset / bin.width);
                (bin.y + bin.height * point.quotient / point.denominator, point.derivative.ln())
            }
            Direction::Inverse => {
                let point = bin.point(bin.solve());
                (bin.x + point.xi * bin.width, -point.derivative.ln())
            }
        };
        (T::of(value), T::of(log))
    }

    fn backward<T: Real>(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (p, n) = (self.settings.parameters(), x.elem_count());
        let shared = parameters.elem_count() < n * p;
        let columns = parameters.elem_count() / p;
        let (gx, gp) = cpu::with_slice::<T, _>(grad, |grad| {
            cpu::with_slice::<T, _>(x, |x| {
                cpu::with_slice::<T, _>(parameters, |parameters| self.gradients(x, parameters, grad))
            })
        })???;
        let gp = if shared { sum_rows(&gp, columns * p) } else { gp };
        Ok((Some(T::tensor(gx, x.shape())?), Some(T::tensor(gp, parameters.shape())?)))
    }

    /// Gradients for x and, an element a row even where rows are shared, for the parameters.
    fn gradients<T: Real>(&self, x: &[T], parameters: &[T], grad: &[T]) -> (Vec<T>, Vec<T>) {
        let (k, p) = (self.settings.bins, self.settings.parameters());
        let columns = parameters.len() / p;
        let (gvalues, glogs) = grad.split_at(x.len());
        let mut gx = vec![T::zero(); x.len()];
        let mut gp = vec![T::zero(); x.len() * p];
        gx.par_chunks_mut(CHUNK).zip(gp.par_chunks_mut(CHUNK * p)).enumerate().for_each(|(chunk, (gx, gp))| {
            let mut scratch = Scratch { widths: vec![T::zero(); k], heights: vec![T::zero(); k] };
            for (i, (gx, gp)) in gx.iter_mut().zip(gp.chunks_mut(p)).enumerate() {
                let at = chunk * CHUNK + i;
                let row = at % columns;
                let raw = &parameters[row * p..(row + 1) * p];
                *gx = self.gradient(x[at], raw, gvalues[at], glogs[at], &mut scratch, gp);
            }
        });
        (gx, gp)
    }

    /// The gradient for one x; that for its raw parameters goes into `gp`.
    fn gradient<T: Real>(&self, at: T, raw: &[T], gvalue: T, glog: T, scratch: &mut Scratch<T>, gp: &mut [T]) -> T {
        if self.outside(at) {
            return if self.settings.ends == Ends::Linear { gvalue } else { T::zero() };
        }
        let (gvalue, glog, k) = (gvalue.wide(), glog.wide(), self.settings.bins);
        let bin = self.bin(at, raw, &mut scratch.widths, &mut scratch.heights);
        let xi = match self.direction {
            Direction::Forward => bin.offset / bin.width,
            Direction::Inverse => bin.solve(),
        };
        let Point { slope: s, quotient: m, denominator: den, numerator: num, derivative, .. } = bin.point(xi);
        let [d0, d1] = bin.slopes;
        let (w, h) = (bin.width, bin.height);
        let q = xi * (1.0 - xi);
        let bend = 1.0 - 2.0 * q;
        let log_xi = 2.0 * (d1 * xi + s * (1.0 - 2.0 * xi) - d0 * (1.0 - xi)) / num
            - 2.0 * (d0 + d1 - 2.0 * s) * (1.0 - 2.0 * xi) / den;
        // The inverse x(y) has dx/dy = 1/f' and dx/dparameter = -(df/dparameter)/f': its gradient is
        // the forward one at the same point with these two weights.
        let (gy, gl, gat) = match self.direction {
            Direction::Forward => (gvalue, glog, None),
            Direction::Inverse => {
                let total = (gvalue - glog * log_xi / w) / derivative;
                (-total, -glog, Some(total))
            }
        };
        let inverse_den2 = 1.0 / (den * den);
        let g_xi = gy * h * s * num * inverse_den2 + gl * log_xi;
        let g_s =
            gy * h * (xi * xi * den - m * bend) * inverse_den2 + gl * (2.0 / s + 2.0 * q / num - 2.0 * bend / den);
        let g_d0 = gy * h * q * (den - m) * inverse_den2 + gl * ((1.0 - xi) * (1.0 - xi) / num - 2.0 * q / den);
        let g_d1 = -gy * h * m * q * inverse_den2 + gl * (xi * xi / num - 2.0 * q / den);
        let g_width = -(g_xi * xi + g_s * s) / w;
        let g_height = gy * m / den + g_s / w;
        self.shares_gradient(&scratch.widths, bin.index, -g_xi / w, g_width, &mut gp[..k]);
        self.shares_gradient(&scratch.heights, bin.index, gy, g_height, &mut gp[k..2 * k]);
        for (knot, g) in [(bin.index, g_d0), (bin.index + 1, g_d1)] {
            if let Some(j) = self.settings.slope_index(knot) {
                gp[2 * k + j] += T::of(g) * sigmoid(raw[2 * k + j]);
            }
        }
        T::of(gat.unwrap_or(g_xi / w))
    }

    /// From the gradients of a bin's start and size to those of the raw shares.
    fn shares_gradient<T: Real>(&self, softmax: &[T], index: usize, g_start: f64, g_size: f64, out: &mut [T]) {
        let RqSplineSettings { bins: k, low, high, min_bin, .. } = self.settings;
        // The last bin ends at `high` exactly: its size is the interval less its start.
        let (g_before, g_own) = if index + 1 == k { (g_start - g_size, 0.0) } else { (g_start, g_size) };
        let scale = (high - low) * (1.0 - min_bin * k as f64);
        let before: f64 = softmax[..index].iter().map(|p| p.wide()).sum();
        let mean = (before * g_before + softmax[index].wide() * g_own) * scale;
        for (j, (out, &p)) in out.iter_mut().zip(softmax).enumerate() {
            let g = match j.cmp(&index) {
                std::cmp::Ordering::Less => g_before,
                std::cmp::Ordering::Equal => g_own,
                std::cmp::Ordering::Greater => 0.0,
            };
            *out = T::of(p.wide() * (g * scale - mean));
        }
    }

    /// The same as a composition of candle's operations, for other devices and as the tests' reference.
    fn plain(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let RqSplineSettings { bins: k, low, high, ends, min_bin, min_slope } = self.settings;
        let (batch, n) = x.dims2()?;
        let parameters = parameters.broadcast_as((batch, n, self.settings.parameters()))?.contiguous()?;
        let inside = x.ge(low)?.mul(&x.le(high)?)?;
        let at = x.clamp(low, high)?;
        // Edges and sizes of the bins along one axis, (B, N, K) each.
        let sum_before = strictly_upper(k, x)?;
        let axis = |start: usize| -> Result<(Tensor, Tensor)> {
            let shares = candle_nn::ops::softmax(&parameters.narrow(2, start, k)?, D::Minus1)?;
            let size = ((shares * (1.0 - min_bin * k as f64))? + min_bin)?.affine(high - low, 0.0)?;
            let start = size.reshape((batch * n, k))?.matmul(&sum_before)?.reshape((batch, n, k))?.affine(1.0, low)?;
            Ok((start, size))
        };
        let (x0, width) = axis(0)?;
        let (y0, height) = axis(k)?;
        let free = (super::softplus(&parameters.narrow(2, 2 * k, self.settings.parameters() - 2 * k)?)? + min_slope)?;
        let slopes = match ends {
            Ends::Linear => {
                let one = Tensor::ones((batch, n, 1), x.dtype(), x.device())?;
                Tensor::cat(&[&one, &free, &one], 2)?
            }
            Ends::Closed => free,
            Ends::Periodic => Tensor::cat(&[&free, &free.narrow(2, 0, 1)?], 2)?,
        };
        let starts = if self.direction == Direction::Forward { &x0 } else { &y0 };
        let inner = starts.narrow(2, 1, k - 1)?.detach();
        let index =
            at.unsqueeze(2)?.broadcast_ge(&inner)?.to_dtype(DType::F32)?.sum_keepdim(2)?.to_dtype(DType::U32)?;
        let pick = |t: &Tensor, index: &Tensor| -> Result<Tensor> { Ok(t.contiguous()?.gather(index, 2)?.squeeze(2)?) };
        let (x0, width, y0, height) =
            (pick(&x0, &index)?, pick(&width, &index)?, pick(&y0, &index)?, pick(&height, &index)?);
        let (d0, d1) = (pick(&slopes.narrow(2, 0, k)?, &index)?, pick(&slopes.narrow(2, 1, k)?, &index)?);
        let s = (&height / &width)?;
        let twist = ((&d0 + &d1)? - (&s * 2.0)?)?;
        let xi = match self.direction {
            Direction::Forward => ((&at - &x0)? / &width)?,
            Direction::Inverse => {
                let dy = (&at - &y0)?;
                let excess = (&dy * &twist)?;
                let a = ((&height * (&s - &d0)?)? + &excess)?;
                let b = ((&height * &d0)? - &excess)?;
                let c = (&s * &dy)?.neg()?;
                // The discriminant is at least (h d)^2 > 0 up to rounding.
                let root = (b.sqr()? - (a * &c)?.affine(4.0, 0.0)?)?.maximum(f64::MIN_POSITIVE)?.sqrt()?;
                ((c * 2.0)? / (b.neg()? - root)?)?
            }
        };
        let rest = xi.affine(-1.0, 1.0)?;
        let q = (&xi * &rest)?;
        let quotient = ((&s * xi.sqr()?)? + (&d0 * &q)?)?;
        let denominator = (&s + (&twist * &q)?)?;
        let numerator = (((&d1 * xi.sqr()?)? + (&s * &q)?.affine(2.0, 0.0)?)? + (&d0 * rest.sqr()?)?)?;
        let log = ((numerator.log()? + (s.log()? * 2.0)?)? - (denominator.log()? * 2.0)?)?;
        let (value, log) = match self.direction {
            Direction::Forward => ((y0 + ((height * quotient)? / denominator)?)?, log),
            Direction::Inverse => ((x0 + (xi * width)?)?, log.neg()?),
        };
        match ends {
            Ends::Linear => Ok((inside.where_cond(&value, x)?, inside.where_cond(&log, &log.zeros_like()?)?)),
            Ends::Closed | Ends::Periodic => {
                let never = (log.zeros_like()? + f64::NEG_INFINITY)?;
                Ok((inside.where_cond(&value, &at.detach())?, inside.where_cond(&log, &never)?))
            }
        }
    }
}

struct Scratch<T> {
    widths: Vec<T>,
    heights: Vec<T>,
}

/// Adds rows of `width` numbers, in an order that does not depend on the number of threads.
fn sum_rows<T: Real>(rows: &[T], width: usize) -> Vec<T> {
    let mut sum = vec![T::zero(); width];
    for row in rows.chunks(width) {
        sum.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
    }
    sum
}

/// The (k, k) matrix that turns sizes into the sums of those before.
fn strictly_upper(k: usize, like: &Tensor) -> Result<Tensor> {
    let ones: Vec<f64> = (0..k * k).map(|i| if i / k < i % k { 1.0 } else { 0.0 }).collect();
    Ok(Tensor::from_vec(ones, (k, k), like.device())?.to_dtype(like.dtype())?)
}

#[cfg(test)]
#[path = "rq_spline_tests.rs"]
mod tests;
